"""The sLSTM as a Python loop in plain PyTorch: the oracle, with every option."""

from __future__ import annotations

import math

import torch
from torch.nn.functional import linear, logsigmoid

from recurra.kernels.loop import RecurrentNoise, RecurrentWeights, Resets, run_loop
from recurra.kernels.state import SLSTMState
from recurra.shapes import Float, Int, Tensor

__all__ = ["slstm_reference"]

Memory = tuple[Tensor, Tensor, Tensor]
"""c, n and m: the memory c e^m, normalized by n e^m."""


def slstm_reference(
    x: Float[Tensor, "B T F"],
    state: SLSTMState,
    weights: RecurrentWeights,
    *,
    lengths: Int[Tensor, " B"] | None = None,
    resets: Resets | None = None,
    reverse: bool = False,
    noise: RecurrentNoise | None = None,
) -> tuple[Float[Tensor, "B T H"], SLSTMState]:
    """See `slstm_recurrence` for the equations and the arguments."""
    noise = noise or RecurrentNoise()
    kept_h, kept_memory = noise.zoneout or (0.0, 0.0)

    def step(x: Tensor, state: SLSTMState) -> tuple[Tensor, SLSTMState]:
        read = state.h if noise.dropout is None else state.h * noise.dropout
        i, f, g, o = (linear(x, weights.w_ih, weights.b_ih) + _from_heads(read, weights.w_hh) + weights.b_hh).chunk(4, 1)
        g = g.tanh()
        memory = _add((state.c, state.n, state.m + logsigmoid(f)), (g, torch.ones_like(g), i))
        h = o.sigmoid() * memory[0] / memory[1]
        if isinstance(kept_memory, float) and kept_memory:
            memory = _add((state.c, state.n, state.m + math.log(kept_memory)), (*memory[:2], memory[2] + math.log1p(-kept_memory)))
        return h, SLSTMState(h, *memory)

    # A share of the memory that is not a mask is an expectation, which c, n and m do not have one by one: the step takes it.
    kept = 0.0 if isinstance(kept_memory, float) else kept_memory
    zoneout = (kept_h, kept, kept, kept) if noise.zoneout else ()
    return run_loop(step, x, state, lengths=lengths, resets=resets, reverse=reverse, zoneout=zoneout)


def _from_heads(h: Float[Tensor, "B H"], w_hh: Float[Tensor, "4*H D"]) -> Float[Tensor, "B 4*H"]:
    """The recurrent product; every head of D units reads itself alone."""
    size = w_hh.shape[1]
    by_head = torch.einsum("bkd,gked->bgke", h.reshape(h.shape[0], -1, size), w_hh.reshape(4, -1, size, size))
    return by_head.flatten(1)


def _add(a: Memory, b: Memory) -> Memory:
    """The sum of two memories, at the scale of the larger. An empty one (n = 0) has no scale; b is not empty."""
    scale = torch.where(a[1] > 0, a[2], b[2])
    m = torch.maximum(scale, b[2])
    from_a, from_b = (scale - m).exp(), (b[2] - m).exp()
    return from_a * a[0] + from_b * b[0], from_a * a[1] + from_b * b[1], m
