"""Long short-term memory with layer normalization inside the recurrence."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import nn

from recurra.cells.standard import StandardCell
from recurra.kernels.layernorm_lstm.operator import layernorm_lstm_recurrence
from recurra.kernels.layernorm_lstm.reference import LayerNormLSTMWeights
from recurra.kernels.state import LSTMState
from recurra.shapes import Tensor

__all__ = ["LayerNormLSTMCell"]


class LayerNormLSTMCell(StandardCell):
    """Layer-normalized long short-term memory; see `layernorm_lstm_recurrence` for the equations.

    What differs from torch.nn.LSTM: both products and, where the hidden state reads it, the memory are normalized at each
    step, with a gain a unit. Gate order and the names of the weights are torch's; `bias_ih` and `bias_hh` stand behind the
    normalization. Gains start at one and `bias_c` at zero, in every scheme. The arguments are those of `StandardCell`.

    Parameters: 4H(F + H + 4) + 2H. A step of a row: 8H(F + H) floating-point operations in its products, and about 9H
    numbers to normalize.

    Attributes:
        gain_ih: (4*H,).
        gain_hh: (4*H,).
        gain_c: (H,).
        bias_c: (H,).

    Source: Ba et al. 2016, supplementary material.
    """

    state_type: ClassVar[type[Any]] = LSTMState
    operation: ClassVar[str] = "layernorm_lstm"
    recurrence: ClassVar[Callable[..., tuple[Tensor, Any]]] = layernorm_lstm_recurrence
    gates: ClassVar[int] = 4
    forget_gate: ClassVar[int | None] = 1

    def _add_weights(self) -> None:
        super()._add_weights()
        self.gain_ih = nn.Parameter(torch.empty_like(self.bias_ih))
        self.gain_hh = nn.Parameter(torch.empty_like(self.bias_hh))
        self.gain_c = nn.Parameter(torch.empty(self.hidden_size))
        self.bias_c = nn.Parameter(torch.empty(self.hidden_size))

    def reset_parameters(self) -> None:
        """Draw the weights anew, as `initialization` says."""
        super().reset_parameters()
        for gain in (self.gain_ih, self.gain_hh, self.gain_c):
            nn.init.ones_(gain)
        nn.init.zeros_(self.bias_c)

    def _weights(self, weight_hh: Tensor) -> LayerNormLSTMWeights:
        return LayerNormLSTMWeights(
            self.weight_ih, weight_hh, self.bias_ih, self.bias_hh, self.gain_ih, self.gain_hh, self.gain_c, self.bias_c
        )
