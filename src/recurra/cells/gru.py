"""The gated recurrent unit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from recurra.cells.standard import StandardCell
from recurra.kernels.gru.operator import gru_recurrence
from recurra.kernels.state import GRUState
from recurra.shapes import Tensor

__all__ = ["GRUCell"]


class GRUCell(StandardCell):
    """Gated recurrent unit in torch's form (torch.nn.GRU); see `gru_recurrence` for the equations.

    Gates stand in the weights in torch's order: reset, update, new. The arguments are those of `StandardCell`.

    Parameters: 3H(F + H + 2). A step of a row: 6H(F + H) floating-point operations in its products.

    Source: Cho et al. 2014, with the reset gate behind the recurrent product; `GRUResetBeforeCell` is theirs.
    """

    state_type: ClassVar[type[Any]] = GRUState
    operation: ClassVar[str] = "gru"
    recurrence: ClassVar[Callable[..., tuple[Tensor, Any]]] = gru_recurrence
    gates: ClassVar[int] = 3
