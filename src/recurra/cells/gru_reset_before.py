"""The gated recurrent unit as first published: the reset gate acts before the recurrent product."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from recurra.cells.standard import StandardCell
from recurra.kernels.gru_reset_before.operator import gru_reset_before_recurrence
from recurra.kernels.state import GRUState
from recurra.shapes import Tensor

__all__ = ["GRUResetBeforeCell"]


class GRUResetBeforeCell(StandardCell):
    """Gated recurrent unit whose new values read `W_hn (r h)`; see `gru_reset_before_recurrence` for the equations.

    torch.nn.GRU has no such form: it computes `r (W_hn h)`, one product for all gates. Names, shapes and gate order of
    the weights are torch's, and still weights of one are wrong for the other. The arguments are those of `StandardCell`.

    Parameters: 3H(F + H + 2). A step of a row: 6H(F + H) floating-point operations in its products, in two that wait for
    each other.

    Source: Cho et al. 2014, equations 5 to 8.
    """

    state_type: ClassVar[type[Any]] = GRUState
    operation: ClassVar[str] = "gru_reset_before"
    recurrence: ClassVar[Callable[..., tuple[Tensor, Any]]] = gru_reset_before_recurrence
    gates: ClassVar[int] = 3
