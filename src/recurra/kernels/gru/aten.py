"""The GRU by torch's fused operation. No recurrent dropout, zoneout or resets; see `recurra.kernels.fused` for lengths."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from recurra.kernels.fused import FusedOperation, run_fused
from recurra.kernels.loop import RecurrentWeights
from recurra.kernels.state import GRUState
from recurra.shapes import Float, Int, Tensor

__all__ = ["gru_aten"]


def gru_aten(
    x: Float[Tensor, "B T F"],
    state: GRUState,
    weights: RecurrentWeights,
    *,
    lengths: Int[Tensor, " B"] | None = None,
    reverse: bool = False,
) -> tuple[Float[Tensor, "B T H"], GRUState]:
    """See `gru_recurrence` for the equations and the arguments."""
    output, last = run_fused(_OPERATION, x, state, weights, lengths=lengths, reverse=reverse)
    return output, GRUState(*last)


def _call(x: Tensor, batch_sizes: Tensor | None, state: list[Tensor], weights: RecurrentWeights) -> Sequence[Tensor]:
    train = torch.is_grad_enabled()
    if batch_sizes is None:
        return torch.gru(x, state[0], weights, True, 1, 0.0, train, False, False)
    return torch.gru(x, batch_sizes, state[0], weights, True, 1, 0.0, train, False)


_OPERATION = FusedOperation(_call)
