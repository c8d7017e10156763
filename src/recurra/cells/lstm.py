"""Long short-term memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from recurra.cells.standard import StandardCell
from recurra.kernels.lstm.operator import lstm_recurrence
from recurra.kernels.state import LSTMState
from recurra.shapes import Tensor

__all__ = ["LSTMCell"]


class LSTMCell(StandardCell):
    """Long short-term memory with forget gates (torch.nn.LSTM); see `lstm_recurrence` for the equations.

    Gates stand in the weights in torch's order: input, forget, cell, output. The arguments are those of `StandardCell`.

    Parameters: 4H(F + H + 2). A step of a row: 8H(F + H) floating-point operations in its products.

    Source: Hochreiter & Schmidhuber 1997; Gers, Schmidhuber & Cummins 2000.
    """

    state_type: ClassVar[type[Any]] = LSTMState
    operation: ClassVar[str] = "lstm"
    recurrence: ClassVar[Callable[..., tuple[Tensor, Any]]] = lstm_recurrence
    gates: ClassVar[int] = 4
    forget_gate: ClassVar[int | None] = 1
