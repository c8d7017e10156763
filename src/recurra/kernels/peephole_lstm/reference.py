"""The LSTM with peepholes as a Python loop in plain PyTorch: its weights, and the oracle with every option."""

from __future__ import annotations

from typing import NamedTuple

from torch.nn.functional import linear

from recurra.kernels.loop import RecurrentNoise, Resets, run_loop
from recurra.kernels.state import LSTMState
from recurra.shapes import Float, Int, Tensor

__all__ = ["PeepholeLSTMWeights", "peephole_lstm_reference"]


class PeepholeLSTMWeights(NamedTuple):
    """Weights of one layer and direction, gates in torch's order i, f, g, o.

    Attributes:
        w_ih: (4*H, F) weights of the input.
        w_hh: (4*H, H) weights of the hidden state.
        b_ih: (4*H,) biases beside the input's product.
        b_hh: (4*H,) biases beside the hidden state's product.
        w_ci: (H,) peepholes of the input gate.
        w_cf: (H,) peepholes of the forget gate.
        w_co: (H,) peepholes of the output gate.
    """

    w_ih: Float[Tensor, "4*H F"]
    w_hh: Float[Tensor, "4*H H"]
    b_ih: Float[Tensor, " 4*H"]
    b_hh: Float[Tensor, " 4*H"]
    w_ci: Float[Tensor, " H"]
    w_cf: Float[Tensor, " H"]
    w_co: Float[Tensor, " H"]


def peephole_lstm_reference(
    x: Float[Tensor, "B T F"],
    state: LSTMState,
    weights: PeepholeLSTMWeights,
    *,
    lengths: Int[Tensor, " B"] | None = None,
    resets: Resets | None = None,
    reverse: bool = False,
    noise: RecurrentNoise | None = None,
) -> tuple[Float[Tensor, "B T H"], LSTMState]:
    """See `peephole_lstm_recurrence` for the equations and the arguments."""
    noise = noise or RecurrentNoise()

    def step(x: Tensor, state: LSTMState) -> tuple[Tensor, LSTMState]:
        read = state.h if noise.dropout is None else state.h * noise.dropout
        gates = linear(x, weights.w_ih, weights.b_ih) + linear(read, weights.w_hh, weights.b_hh)
        i, f, g, o = gates.chunk(4, 1)
        i = (i + weights.w_ci * state.c).sigmoid()
        f = (f + weights.w_cf * state.c).sigmoid()
        c = f * state.c + i * g.tanh()
        h = (o + weights.w_co * c).sigmoid() * c.tanh()
        return h, LSTMState(h, c)

    return run_loop(step, x, state, lengths=lengths, resets=resets, reverse=reverse, zoneout=noise.zoneout)
