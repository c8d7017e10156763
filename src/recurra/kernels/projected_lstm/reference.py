"""The LSTM with a projected hidden state as a Python loop in plain PyTorch: its weights, and the oracle with every option."""

from __future__ import annotations

from typing import NamedTuple

from torch.nn.functional import linear

from recurra.kernels.loop import RecurrentNoise, Resets, run_loop
from recurra.kernels.state import LSTMState
from recurra.shapes import Float, Int, Tensor

__all__ = ["ProjectedLSTMWeights", "projected_lstm_reference"]


class ProjectedLSTMWeights(NamedTuple):
    """Weights of one layer and direction, gates in torch's order i, f, g, o; P is the width of the hidden state.

    Attributes:
        w_ih: (4*H, F) weights of the input.
        w_hh: (4*H, P) weights of the hidden state.
        b_ih: (4*H,) biases beside the input's product.
        b_hh: (4*H,) biases beside the hidden state's product.
        w_hr: (P, H) the projection.
    """

    w_ih: Float[Tensor, "4*H F"]
    w_hh: Float[Tensor, "4*H P"]
    b_ih: Float[Tensor, " 4*H"]
    b_hh: Float[Tensor, " 4*H"]
    w_hr: Float[Tensor, "P H"]


def projected_lstm_reference(
    x: Float[Tensor, "B T F"],
    state: LSTMState,
    weights: ProjectedLSTMWeights,
    *,
    lengths: Int[Tensor, " B"] | None = None,
    resets: Resets | None = None,
    reverse: bool = False,
    noise: RecurrentNoise | None = None,
) -> tuple[Float[Tensor, "B T P"], LSTMState]:
    """See `projected_lstm_recurrence` for the equations and the arguments."""
    noise = noise or RecurrentNoise()

    def step(x: Tensor, state: LSTMState) -> tuple[Tensor, LSTMState]:
        read = state.h if noise.dropout is None else state.h * noise.dropout
        gates = linear(x, weights.w_ih, weights.b_ih) + linear(read, weights.w_hh, weights.b_hh)
        i, f, g, o = gates.chunk(4, 1)
        c = f.sigmoid() * state.c + i.sigmoid() * g.tanh()
        h = linear(o.sigmoid() * c.tanh(), weights.w_hr)
        return h, LSTMState(h, c)

    return run_loop(step, x, state, lengths=lengths, resets=resets, reverse=reverse, zoneout=noise.zoneout)
