"""Long short-term memory with peepholes."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import nn

from recurra.cells.standard import StandardCell
from recurra.kernels.peephole_lstm.operator import peephole_lstm_recurrence
from recurra.kernels.peephole_lstm.reference import PeepholeLSTMWeights
from recurra.kernels.state import LSTMState
from recurra.shapes import Tensor

__all__ = ["PeepholeLSTMCell"]


class PeepholeLSTMCell(StandardCell):
    """Long short-term memory whose gates see the memory cells; see `peephole_lstm_recurrence` for the equations.

    What differs from torch.nn.LSTM: input and forget gate read a unit's memory before the step and the output gate that
    after it, each with one weight a unit. With the scheme "orthogonal" the peepholes start at zero, as a plain LSTM.
    Gate order and the names of the other weights are torch's. The arguments are those of `StandardCell`.

    Parameters: 4H(F + H + 2) + 3H. A step of a row: 8H(F + H) floating-point operations in its products, and 6H in the
    peepholes.

    Attributes:
        weight_ci: (H,) peepholes of the input gate.
        weight_cf: (H,) peepholes of the forget gate.
        weight_co: (H,) peepholes of the output gate.

    Source: Gers & Schmidhuber 2000; Graves 2013, equations 7 to 11.
    """

    state_type: ClassVar[type[Any]] = LSTMState
    operation: ClassVar[str] = "peephole_lstm"
    recurrence: ClassVar[Callable[..., tuple[Tensor, Any]]] = peephole_lstm_recurrence
    gates: ClassVar[int] = 4
    forget_gate: ClassVar[int | None] = 1

    def _add_weights(self) -> None:
        super()._add_weights()
        self.weight_ci = nn.Parameter(torch.empty(self.hidden_size))
        self.weight_cf = nn.Parameter(torch.empty(self.hidden_size))
        self.weight_co = nn.Parameter(torch.empty(self.hidden_size))

    def reset_parameters(self) -> None:
        """Draw the weights anew, as `initialization` says."""
        super().reset_parameters()
        bound = 1.0 / math.sqrt(self.hidden_size) if self.initialization.scheme == "torch" else 0.0
        for peephole in (self.weight_ci, self.weight_cf, self.weight_co):
            nn.init.uniform_(peephole, -bound, bound)

    def _weights(self, weight_hh: Tensor) -> PeepholeLSTMWeights:
        return PeepholeLSTMWeights(self.weight_ih, weight_hh, self.bias_ih, self.bias_hh, self.weight_ci, self.weight_cf, self.weight_co)
