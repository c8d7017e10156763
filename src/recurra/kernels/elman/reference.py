"""Elman's network as a Python loop in plain PyTorch: the oracle, with every option."""

from __future__ import annotations

from torch.nn.functional import linear

from recurra.kernels.loop import RecurrentNoise, RecurrentWeights, Resets, run_loop
from recurra.kernels.state import ElmanState
from recurra.shapes import Float, Int, Tensor

__all__ = ["elman_reference"]


def elman_reference(
    x: Float[Tensor, "B T F"],
    state: ElmanState,
    weights: RecurrentWeights,
    *,
    nonlinearity: str = "tanh",
    lengths: Int[Tensor, " B"] | None = None,
    resets: Resets | None = None,
    reverse: bool = False,
    noise: RecurrentNoise | None = None,
) -> tuple[Float[Tensor, "B T H"], ElmanState]:
    """See `elman_recurrence` for the equations and the arguments."""
    noise = noise or RecurrentNoise()

    def step(x: Tensor, state: ElmanState) -> tuple[Tensor, ElmanState]:
        read = state.h if noise.dropout is None else state.h * noise.dropout
        total = linear(x, weights.w_ih, weights.b_ih) + linear(read, weights.w_hh, weights.b_hh)
        h = total.tanh() if nonlinearity == "tanh" else total.relu()
        return h, ElmanState(h)

    return run_loop(step, x, state, lengths=lengths, resets=resets, reverse=reverse, zoneout=noise.zoneout)
