"""The gated recurrent unit."""

from __future__ import annotations

from typing import Any, ClassVar

from recurra.cells.standard import StandardCell
from recurra.kernels.gru.operator import gru_recurrence
from recurra.kernels.loop import RecurrentNoise, RecurrentWeights, Resets
from recurra.kernels.state import GRUState
from recurra.shapes import Tensor

__all__ = ["GRUCell"]


class GRUCell(StandardCell):
    """Gated recurrent unit in torch's form (torch.nn.GRU); see `gru_recurrence` for the equations.

    Gates stand in the weights in torch's order: reset, update, new. The arguments are those of `StandardCell`.

    Source: Cho et al. 2014.
    """

    state_type: ClassVar[type[Any]] = GRUState
    operation: ClassVar[str] = "gru"
    gates: ClassVar[int] = 3

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
    ) -> tuple[Tensor, GRUState]:
        return gru_recurrence(x, state, weights, lengths=lengths, resets=resets, reverse=reverse, noise=noise, backend=self.backend)
