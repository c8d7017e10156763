"""Elman's simple recurrent network, with tanh or relu."""

from __future__ import annotations

from typing import Any, ClassVar

from recurra.cells.standard import StandardCell
from recurra.kernels.elman.operator import elman_recurrence
from recurra.kernels.loop import RecurrentNoise, RecurrentWeights, Resets
from recurra.kernels.state import ElmanState
from recurra.shapes import Tensor

__all__ = ["ElmanCell", "ElmanReluCell"]


class ElmanCell(StandardCell):
    """Elman's simple recurrent network with tanh (torch.nn.RNN); see `elman_recurrence` for the equation.

    The arguments are those of `StandardCell`.

    Source: Elman 1990.
    """

    state_type: ClassVar[type[Any]] = ElmanState
    operation: ClassVar[str] = "elman"
    gates: ClassVar[int] = 1
    nonlinearity: ClassVar[str] = "tanh"

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
    ) -> tuple[Tensor, ElmanState]:
        return elman_recurrence(
            x,
            state,
            weights,
            nonlinearity=self.nonlinearity,
            lengths=lengths,
            resets=resets,
            reverse=reverse,
            noise=noise,
            backend=self.backend,
        )


class ElmanReluCell(ElmanCell):
    """Elman's network with relu in place of tanh (torch.nn.RNN(nonlinearity="relu"))."""

    nonlinearity: ClassVar[str] = "relu"
