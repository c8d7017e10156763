"""The LSTM by torch's fused operation. No recurrent dropout, zoneout or resets; see `recurra.kernels.fused` for lengths."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from recurra.kernels.fused import FusedOperation, run_fused
from recurra.kernels.loop import RecurrentWeights
from recurra.kernels.state import LSTMState
from recurra.shapes import Float, Int, Tensor

__all__ = ["lstm_aten"]


def lstm_aten(
    x: Float[Tensor, "B T F"],
    state: LSTMState,
    weights: RecurrentWeights,
    *,
    lengths: Int[Tensor, " B"] | None = None,
    reverse: bool = False,
) -> tuple[Float[Tensor, "B T H"], LSTMState]:
    """See `lstm_recurrence` for the equations and the arguments."""
    output, last = run_fused(_OPERATION, x, state, weights, lengths=lengths, reverse=reverse)
    return output, LSTMState(*last)


def _call(x: Tensor, batch_sizes: Tensor | None, state: list[Tensor], weights: RecurrentWeights) -> Sequence[Tensor]:
    # "train" only decides whether oneDNN keeps what the backward pass needs, so gradients work in evaluation mode as well.
    train = torch.is_grad_enabled()
    if batch_sizes is None:
        return torch.lstm(x, state, weights, True, 1, 0.0, train, False, False)
    return torch.lstm(x, batch_sizes, state, weights, True, 1, 0.0, train, False)


# In the padding the input and output gates are closed and the forget gate is open: c stays, h is zero.
_OPERATION = FusedOperation(_call, standstill=(-1, 1, 0, -1))
