"""Long short-term memory."""

from __future__ import annotations

from typing import Any, ClassVar

import torch

from recurra.cells.standard import StandardCell
from recurra.kernels.loop import RecurrentNoise, RecurrentWeights, Resets
from recurra.kernels.lstm.operator import lstm_recurrence
from recurra.kernels.state import LSTMState
from recurra.shapes import Tensor

__all__ = ["LSTMCell"]


class LSTMCell(StandardCell):
    """Long short-term memory with forget gates (torch.nn.LSTM); see `lstm_recurrence` for the equations.

    Gates stand in the weights in torch's order: input, forget, cell, output. The arguments are those of `StandardCell`.

    Source: Hochreiter & Schmidhuber 1997; Gers, Schmidhuber & Cummins 2000.
    """

    state_type: ClassVar[type[Any]] = LSTMState
    operation: ClassVar[str] = "lstm"
    gates: ClassVar[int] = 4

    def _set_forget_bias(self, value: float) -> None:
        forget = slice(self.hidden_size, 2 * self.hidden_size)
        with torch.no_grad():
            self.bias_ih[forget] = value
            self.bias_hh[forget] = 0.0

    def _run(
        self,
        x: Tensor,
        state: Any,
        weights: RecurrentWeights,
        *,
        lengths: Tensor | None,
        resets: Resets | None,
        reverse: bool,
        noise: RecurrentNoise | None,
    ) -> tuple[Tensor, LSTMState]:
        return lstm_recurrence(x, state, weights, lengths=lengths, resets=resets, reverse=reverse, noise=noise, backend=self.backend)
