"""Elman's network by torch's fused operation. No recurrent dropout, zoneout or resets; see `recurra.kernels.fused` for lengths."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from recurra.kernels.fused import FusedOperation, run_fused
from recurra.kernels.loop import RecurrentWeights
from recurra.kernels.state import ElmanState
from recurra.shapes import Float, Int, Tensor

__all__ = ["elman_aten"]


def elman_aten(
    x: Float[Tensor, "B T F"],
    state: ElmanState,
    weights: RecurrentWeights,
    *,
    nonlinearity: str = "tanh",
    lengths: Int[Tensor, " B"] | None = None,
    reverse: bool = False,
) -> tuple[Float[Tensor, "B T H"], ElmanState]:
    """See `elman_recurrence` for the equations and the arguments."""
    output, last = run_fused(_OPERATIONS[nonlinearity], x, state, weights, lengths=lengths, reverse=reverse)
    return output, ElmanState(*last)


def _call_tanh(x: Tensor, batch_sizes: Tensor | None, state: list[Tensor], weights: RecurrentWeights) -> Sequence[Tensor]:
    train = torch.is_grad_enabled()
    if batch_sizes is None:
        return torch.rnn_tanh(x, state[0], weights, True, 1, 0.0, train, False, False)
    return torch.rnn_tanh(x, batch_sizes, state[0], weights, True, 1, 0.0, train, False)


def _call_relu(x: Tensor, batch_sizes: Tensor | None, state: list[Tensor], weights: RecurrentWeights) -> Sequence[Tensor]:
    train = torch.is_grad_enabled()
    if batch_sizes is None:
        return torch.rnn_relu(x, state[0], weights, True, 1, 0.0, train, False, False)
    return torch.rnn_relu(x, batch_sizes, state[0], weights, True, 1, 0.0, train, False)


_OPERATIONS = {"tanh": FusedOperation(_call_tanh), "relu": FusedOperation(_call_relu)}
