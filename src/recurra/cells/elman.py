"""Elman's simple recurrent network, with tanh or relu."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar

from recurra.cells.standard import StandardCell
from recurra.kernels.elman.operator import elman_recurrence
from recurra.kernels.state import ElmanState
from recurra.shapes import Tensor

__all__ = ["ElmanCell", "ElmanReluCell"]


class ElmanCell(StandardCell):
    """Elman's simple recurrent network with tanh (torch.nn.RNN); see `elman_recurrence` for the equation.

    The arguments are those of `StandardCell`.

    Parameters: H(F + H + 2). A step of a row: 2H(F + H) floating-point operations in its products.

    Source: Elman 1990.
    """

    state_type: ClassVar[type[Any]] = ElmanState
    operation: ClassVar[str] = "elman"
    recurrence: ClassVar[Callable[..., tuple[Tensor, Any]]] = elman_recurrence
    gates: ClassVar[int] = 1


class ElmanReluCell(ElmanCell):
    """Elman's network with relu in place of tanh (torch.nn.RNN(nonlinearity="relu"))."""

    operation: ClassVar[str] = "elman_relu"
    recurrence: ClassVar[Callable[..., tuple[Tensor, Any]]] = partial(elman_recurrence, nonlinearity="relu")
