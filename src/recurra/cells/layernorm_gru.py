"""The gated recurrent unit with layer normalization inside the recurrence."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import nn

from recurra.cells.standard import StandardCell
from recurra.kernels.layernorm_gru.operator import layernorm_gru_recurrence
from recurra.kernels.layernorm_gru.reference import LayerNormGRUWeights
from recurra.kernels.state import GRUState
from recurra.shapes import Tensor

__all__ = ["LayerNormGRUCell"]


class LayerNormGRUCell(StandardCell):
    """Layer-normalized gated recurrent unit; see `layernorm_gru_recurrence` for the equations.

    What differs from torch.nn.GRU: both products are normalized at each step, the two gates together and the new values
    apart, with a gain a unit. Gate order and the names of the weights are torch's; `bias_ih` and `bias_hh` stand behind the
    normalization. Gains start at one, in every scheme. The arguments are those of `StandardCell`.

    Parameters: 3H(F + H + 4). A step of a row: 6H(F + H) floating-point operations in its products, and 6H numbers to
    normalize.

    Attributes:
        gain_ih: (3*H,).
        gain_hh: (3*H,).

    Source: Ba et al. 2016, supplementary material.
    """

    state_type: ClassVar[type[Any]] = GRUState
    operation: ClassVar[str] = "layernorm_gru"
    recurrence: ClassVar[Callable[..., tuple[Tensor, Any]]] = layernorm_gru_recurrence
    gates: ClassVar[int] = 3

    def _add_weights(self) -> None:
        super()._add_weights()
        self.gain_ih = nn.Parameter(torch.empty_like(self.bias_ih))
        self.gain_hh = nn.Parameter(torch.empty_like(self.bias_hh))

    def reset_parameters(self) -> None:
        """Draw the weights anew, as `initialization` says."""
        super().reset_parameters()
        nn.init.ones_(self.gain_ih)
        nn.init.ones_(self.gain_hh)

    def _weights(self, weight_hh: Tensor) -> LayerNormGRUWeights:
        return LayerNormGRUWeights(self.weight_ih, weight_hh, self.bias_ih, self.bias_hh, self.gain_ih, self.gain_hh)
