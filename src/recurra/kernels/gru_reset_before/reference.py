"""The GRU whose reset gate acts before the recurrent product, as a Python loop in plain PyTorch: the oracle, with every option."""

from __future__ import annotations

from torch.nn.functional import linear

from recurra.kernels.loop import RecurrentNoise, RecurrentWeights, Resets, run_loop
from recurra.kernels.state import GRUState
from recurra.shapes import Float, Int, Tensor

__all__ = ["gru_reset_before_reference"]


def gru_reset_before_reference(
    x: Float[Tensor, "B T F"],
    state: GRUState,
    weights: RecurrentWeights,
    *,
    lengths: Int[Tensor, " B"] | None = None,
    resets: Resets | None = None,
    reverse: bool = False,
    noise: RecurrentNoise | None = None,
) -> tuple[Float[Tensor, "B T H"], GRUState]:
    """See `gru_reset_before_recurrence` for the equations and the arguments."""
    noise = noise or RecurrentNoise()
    gates, new = slice(2 * weights.w_hh.shape[1]), slice(2 * weights.w_hh.shape[1], None)

    def step(x: Tensor, state: GRUState) -> tuple[Tensor, GRUState]:
        read = state.h if noise.dropout is None else state.h * noise.dropout
        from_x = linear(x, weights.w_ih, weights.b_ih)
        r, z = (from_x[:, gates] + linear(read, weights.w_hh[gates], weights.b_hh[gates])).sigmoid().chunk(2, 1)
        n = (from_x[:, new] + linear(r * read, weights.w_hh[new], weights.b_hh[new])).tanh()
        h = (1 - z) * n + z * state.h
        return h, GRUState(h)

    return run_loop(step, x, state, lengths=lengths, resets=resets, reverse=reverse, zoneout=noise.zoneout)
