"""The GRU as a Python loop in plain PyTorch: the oracle, with every option."""

from __future__ import annotations

from torch.nn.functional import linear

from recurra.kernels.loop import RecurrentNoise, RecurrentWeights, Resets, run_loop
from recurra.kernels.state import GRUState
from recurra.shapes import Float, Int, Tensor

__all__ = ["gru_reference"]


def gru_reference(
    x: Float[Tensor, "B T F"],
    state: GRUState,
    weights: RecurrentWeights,
    *,
    lengths: Int[Tensor, " B"] | None = None,
    resets: Resets | None = None,
    reverse: bool = False,
    noise: RecurrentNoise | None = None,
) -> tuple[Float[Tensor, "B T H"], GRUState]:
    """See `gru_recurrence` for the equations and the arguments."""
    noise = noise or RecurrentNoise()

    def step(x: Tensor, state: GRUState) -> tuple[Tensor, GRUState]:
        read = state.h if noise.dropout is None else state.h * noise.dropout
        from_x = linear(x, weights.w_ih, weights.b_ih)
        from_h = linear(read, weights.w_hh, weights.b_hh)
        (r_x, z_x, n_x), (r_h, z_h, n_h) = from_x.chunk(3, 1), from_h.chunk(3, 1)
        z = (z_x + z_h).sigmoid()
        n = (n_x + (r_x + r_h).sigmoid() * n_h).tanh()
        h = (1 - z) * n + z * state.h
        return h, GRUState(h)

    return run_loop(step, x, state, lengths=lengths, resets=resets, reverse=reverse, zoneout=noise.zoneout)
