"""The layer-normalized GRU as a Python loop in plain PyTorch: its weights, and the oracle with every option."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch.nn.functional import linear

from recurra.kernels.loop import RecurrentNoise, Resets, run_loop
from recurra.kernels.normalization import normalize
from recurra.kernels.state import GRUState
from recurra.shapes import Float, Int, Tensor

__all__ = ["LayerNormGRUWeights", "layernorm_gru_reference"]


class LayerNormGRUWeights(NamedTuple):
    """Weights of one layer and direction, gates in torch's order r, z, n.

    Attributes:
        w_ih: (3*H, F) weights of the input.
        w_hh: (3*H, H) weights of the hidden state.
        b_ih: (3*H,) biases after the normalization of the input's product.
        b_hh: (3*H,) biases after the normalization of the hidden state's product.
        gain_ih: (3*H,) gains of the input's product.
        gain_hh: (3*H,) gains of the hidden state's product.
    """

    w_ih: Float[Tensor, "3*H F"]
    w_hh: Float[Tensor, "3*H H"]
    b_ih: Float[Tensor, " 3*H"]
    b_hh: Float[Tensor, " 3*H"]
    gain_ih: Float[Tensor, " 3*H"]
    gain_hh: Float[Tensor, " 3*H"]


def layernorm_gru_reference(
    x: Float[Tensor, "B T F"],
    state: GRUState,
    weights: LayerNormGRUWeights,
    *,
    lengths: Int[Tensor, " B"] | None = None,
    resets: Resets | None = None,
    reverse: bool = False,
    noise: RecurrentNoise | None = None,
) -> tuple[Float[Tensor, "B T H"], GRUState]:
    """See `layernorm_gru_recurrence` for the equations and the arguments."""
    noise = noise or RecurrentNoise()
    hidden_size = weights.w_hh.shape[1]

    def normalized(product: Tensor, gain: Tensor, bias: Tensor) -> Tensor:
        """Both gates as one vector, the new values as another."""
        parts = [normalize(product[:, part], gain[part], bias[part]) for part in (slice(2 * hidden_size), slice(2 * hidden_size, None))]
        return torch.cat(parts, 1)

    def step(x: Tensor, state: GRUState) -> tuple[Tensor, GRUState]:
        read = state.h if noise.dropout is None else state.h * noise.dropout
        from_x = normalized(linear(x, weights.w_ih), weights.gain_ih, weights.b_ih)
        from_h = normalized(linear(read, weights.w_hh), weights.gain_hh, weights.b_hh)
        (r_x, z_x, n_x), (r_h, z_h, n_h) = from_x.chunk(3, 1), from_h.chunk(3, 1)
        z = (z_x + z_h).sigmoid()
        n = (n_x + (r_x + r_h).sigmoid() * n_h).tanh()
        h = (1 - z) * n + z * state.h
        return h, GRUState(h)

    return run_loop(step, x, state, lengths=lengths, resets=resets, reverse=reverse, zoneout=noise.zoneout)
