"""The LSTM as a Python loop in plain PyTorch: the oracle, with every option."""

from __future__ import annotations

from torch.nn.functional import linear

from recurra.kernels.loop import RecurrentNoise, RecurrentWeights, Resets, run_loop
from recurra.kernels.state import LSTMState
from recurra.shapes import Float, Int, Tensor

__all__ = ["lstm_reference"]


def lstm_reference(
    x: Float[Tensor, "B T F"],
    state: LSTMState,
    weights: RecurrentWeights,
    *,
    lengths: Int[Tensor, " B"] | None = None,
    resets: Resets | None = None,
    reverse: bool = False,
    noise: RecurrentNoise | None = None,
) -> tuple[Float[Tensor, "B T H"], LSTMState]:
    """See `lstm_recurrence` for the equations and the arguments."""
    noise = noise or RecurrentNoise()

    def step(x: Tensor, state: LSTMState) -> tuple[Tensor, LSTMState]:
        read = state.h if noise.dropout is None else state.h * noise.dropout
        gates = linear(x, weights.w_ih, weights.b_ih) + linear(read, weights.w_hh, weights.b_hh)
        i, f, g, o = gates.chunk(4, 1)
        c = f.sigmoid() * state.c + i.sigmoid() * g.tanh()
        h = o.sigmoid() * c.tanh()
        return h, LSTMState(h, c)

    return run_loop(step, x, state, lengths=lengths, resets=resets, reverse=reverse, zoneout=noise.zoneout)
