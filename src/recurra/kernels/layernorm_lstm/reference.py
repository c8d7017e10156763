"""The layer-normalized LSTM as a Python loop in plain PyTorch: its weights, and the oracle with every option."""

from __future__ import annotations

from typing import NamedTuple

from torch.nn.functional import linear

from recurra.kernels.loop import RecurrentNoise, Resets, run_loop
from recurra.kernels.normalization import normalize
from recurra.kernels.state import LSTMState
from recurra.shapes import Float, Int, Tensor

__all__ = ["LayerNormLSTMWeights", "layernorm_lstm_reference"]


class LayerNormLSTMWeights(NamedTuple):
    """Weights of one layer and direction, gates in torch's order i, f, g, o.

    Attributes:
        w_ih: (4*H, F) weights of the input.
        w_hh: (4*H, H) weights of the hidden state.
        b_ih: (4*H,) biases after the normalization of the input's product.
        b_hh: (4*H,) biases after the normalization of the hidden state's product.
        gain_ih: (4*H,) gains of the input's product.
        gain_hh: (4*H,) gains of the hidden state's product.
        gain_c: (H,) gains of the memory cells where the hidden state reads them.
        bias_c: (H,) biases beside these gains.
    """

    w_ih: Float[Tensor, "4*H F"]
    w_hh: Float[Tensor, "4*H H"]
    b_ih: Float[Tensor, " 4*H"]
    b_hh: Float[Tensor, " 4*H"]
    gain_ih: Float[Tensor, " 4*H"]
    gain_hh: Float[Tensor, " 4*H"]
    gain_c: Float[Tensor, " H"]
    bias_c: Float[Tensor, " H"]


def layernorm_lstm_reference(
    x: Float[Tensor, "B T F"],
    state: LSTMState,
    weights: LayerNormLSTMWeights,
    *,
    lengths: Int[Tensor, " B"] | None = None,
    resets: Resets | None = None,
    reverse: bool = False,
    noise: RecurrentNoise | None = None,
) -> tuple[Float[Tensor, "B T H"], LSTMState]:
    """See `layernorm_lstm_recurrence` for the equations and the arguments."""
    noise = noise or RecurrentNoise()

    def step(x: Tensor, state: LSTMState) -> tuple[Tensor, LSTMState]:
        read = state.h if noise.dropout is None else state.h * noise.dropout
        from_x = normalize(linear(x, weights.w_ih), weights.gain_ih, weights.b_ih)
        from_h = normalize(linear(read, weights.w_hh), weights.gain_hh, weights.b_hh)
        i, f, g, o = (from_x + from_h).chunk(4, 1)
        c = f.sigmoid() * state.c + i.sigmoid() * g.tanh()
        h = o.sigmoid() * normalize(c, weights.gain_c, weights.bias_c).tanh()
        return h, LSTMState(h, c)

    return run_loop(step, x, state, lengths=lengths, resets=resets, reverse=reverse, zoneout=noise.zoneout)
