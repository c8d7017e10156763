"""The layer-normalized LSTM on a GPU.

A step's products are normalized over all gates, so it is run in passes over the units: the products and their sum, the squares
about the mean, the gates and the memory's sum, the squares about its mean, the hidden state. A program has whole rows, and so
all that a mean is of.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.nn.functional import linear

from recurra.kernels.layernorm_lstm.reference import LayerNormLSTMWeights
from recurra.kernels.loop import RecurrentNoise, Resets, run_loop
from recurra.kernels.normalization import EPSILON, normalize
from recurra.kernels.state import LSTMState
from recurra.kernels.triton.call import Arguments, Gradients, d_weights, grid, run_arguments, state_gradients, work_states, zeros_in_padding
from recurra.kernels.triton.functions import (
    block_of_rows,
    carry_back,
    gate_products,
    kept,
    leave,
    read_hidden,
    sigmoid,
    step_of,
    tanh,
    write_last,
)
from recurra.kernels.triton.language import jit, launch, tl
from recurra.kernels.triton.operator import run_triton
from recurra.shapes import Float, Int, Tensor

__all__ = ["backward", "composed", "forward", "layernorm_lstm_triton"]


def layernorm_lstm_triton(
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

    def gates(x: Tensor) -> Tensor:
        return normalize(linear(x, weights.w_ih), weights.gain_ih, weights.b_ih) + weights.b_hh

    norms = torch.cat([weights.gain_hh, weights.gain_c, weights.bias_c])
    options: dict[str, Any] = {"lengths": lengths, "resets": resets, "reverse": reverse, "noise": noise}
    return run_triton("layernorm_lstm", gates, x, state, weights.w_hh, norms=norms, **options)


def forward(given: Arguments, output: Tensor, last: Tensor, saved: Tensor | None) -> None:
    """Fill the outputs, the last states and, unless None, what each real step saves.

    These are planes of H numbers, normalized products of the four gates, i, f, g, o, c before; and behind all of them three
    numbers a step, 1/deviation of the products, mean and 1/deviation of the memory.
    """
    planes, statistics = (None, None) if saved is None else _parts(given, saved)
    work = {**work_states(given), "products": given.gates.new_empty(len(given.gates), 4 * given.hidden_size)}
    tensors = {"gates": given.gates.contiguous(), "norms": given.norms, "output": output, "last": last}
    launch(_forward_kernel, grid(given), **tensors, saved=planes, statistics=statistics, EPSILON=EPSILON, **work, **run_arguments(given))


def backward(given: Arguments, output: Tensor, saved: Tensor, d_output: Tensor, d_last: Tensor) -> Gradients:
    """Gradients of everything that `forward` was given."""
    planes, statistics = _parts(given, saved)
    d_gates, d_products = (zeros_in_padding(given, *given.gates.shape) for _ in range(2))
    d_squashed = zeros_in_padding(given, *output.shape)
    states = state_gradients(given, d_last)
    filled = {"d_gates": d_gates, "d_products": d_products, "d_squashed": d_squashed, **states}
    read = {"norms": given.norms, "saved": planes, "statistics": statistics, "d_output": d_output.contiguous()}
    launch(_backward_kernel, grid(given), **read, **filled, **run_arguments(given))
    d_norms = _d_norms(planes, statistics, d_gates, d_squashed)
    return Gradients(d_gates, d_weights(given, output, d_products), d_norms, *states.values())


def composed(
    gates: Tensor, state: LSTMState, w_hh: Tensor, norms: Tensor, *, noise: RecurrentNoise, **options: Any
) -> tuple[Tensor, LSTMState]:
    """The same recurrence of operations that can be differentiated again."""
    gain_hh, gain_c, bias_c = norms.split([len(w_hh), len(w_hh) // 4, len(w_hh) // 4])

    def step(gates: Tensor, state: LSTMState) -> tuple[Tensor, LSTMState]:
        read = state.h if noise.dropout is None else state.h * noise.dropout
        i, f, g, o = (gates + normalize(linear(read, w_hh), gain_hh, torch.zeros_like(gain_hh))).chunk(4, 1)
        c = f.sigmoid() * state.c + i.sigmoid() * g.tanh()
        h = o.sigmoid() * normalize(c, gain_c, bias_c).tanh()
        return h, LSTMState(h, c)

    return run_loop(step, gates, state, zoneout=noise.zoneout, **options)


def _parts(given: Arguments, saved: Tensor) -> tuple[Tensor, Tensor]:
    """Planes (B, T, 9, H), and statistics (B, T, 3)."""
    batch_size, steps = given.gates.shape[:2]
    split = batch_size * steps * 9 * given.hidden_size
    return saved[:split].view(batch_size, steps, 9, -1), saved[split:].view(batch_size, steps, 3)


def _d_norms(planes: Tensor, statistics: Tensor, d_gates: Tensor, d_squashed: Tensor) -> Tensor:
    """Gradients of the gains and of the memory's bias, of all steps at once."""
    *_, i, f, g, _, before = planes.unbind(2)
    _, mean, scale = statistics[..., None].unbind(2)
    memory = (f * before + i * g - mean) * scale
    d_gain = (d_gates * planes[:, :, :4].flatten(2)).sum((0, 1))
    return torch.cat([d_gain, (d_squashed * memory).sum((0, 1)), d_squashed.sum((0, 1))])


@jit
def _forward_kernel(gates, w_hh, norms, h, memory, products, dropout, zone_h, zone_memory, order, lengths, resets, output, last, saved,
                    statistics, batch, steps, hidden: tl.constexpr, size: tl.constexpr, REVERSE: tl.constexpr, ZONEOUT: tl.constexpr,
                    RATE_H: tl.constexpr, RATE_MEMORY: tl.constexpr, EPSILON: tl.constexpr,
                    ROWS: tl.constexpr, COLUMNS: tl.constexpr, DEPTH: tl.constexpr, PRECISION: tl.constexpr):  # fmt: skip
    row, length = block_of_rows(order, lengths, batch, steps, ROWS)
    longest = tl.max(length, 0)
    product = products + (row * (4 * hidden))[:, None]
    for turn in range(longest):
        step, real, again, count = step_of(turn, longest, length, resets, row, steps, REVERSE)
        read = read_hidden(h, row, again, count, batch, hidden)
        written = h + (((count + 1) % 2) * batch + row) * hidden
        place = (row * steps + step)[:, None]
        total = tl.zeros([ROWS], w_hh.dtype.element_ty)
        for first in range(0, hidden, COLUMNS):
            i, f, g, o = gate_products(read, dropout, w_hh, row, real, 0, first, hidden, size, ROWS, COLUMNS, DEPTH, PRECISION)
            unit = first + tl.arange(0, COLUMNS)[None, :]
            inside = real[:, None] & (unit < hidden)
            tl.store(product + unit, i, mask=inside)
            tl.store(product + hidden + unit, f, mask=inside)
            tl.store(product + 2 * hidden + unit, g, mask=inside)
            tl.store(product + 3 * hidden + unit, o, mask=inside)
            total += tl.sum(i + f + g + o, 1)
        tl.debug_barrier()
        mean = (total / (4 * hidden))[:, None]
        squares = tl.zeros([ROWS], w_hh.dtype.element_ty)
        for first in range(0, 4 * hidden, COLUMNS):
            unit = first + tl.arange(0, COLUMNS)[None, :]
            inside = real[:, None] & (unit < 4 * hidden)
            away = tl.where(inside, tl.load(product + unit, mask=inside, other=0.0) - mean, 0.0)
            squares += tl.sum(away * away, 1)
        scale = (1.0 / tl.sqrt(squares / (4 * hidden) + EPSILON))[:, None]
        # Other warps may still read the products, which the memory and the output gate take the place of from here on.
        tl.debug_barrier()
        total = tl.zeros([ROWS], w_hh.dtype.element_ty)
        for first in range(0, hidden, COLUMNS):
            unit = first + tl.arange(0, COLUMNS)[None, :]
            inside = real[:, None] & (unit < hidden)
            i = (tl.load(product + unit, mask=inside, other=0.0) - mean) * scale
            f = (tl.load(product + hidden + unit, mask=inside, other=0.0) - mean) * scale
            g = (tl.load(product + 2 * hidden + unit, mask=inside, other=0.0) - mean) * scale
            o = (tl.load(product + 3 * hidden + unit, mask=inside, other=0.0) - mean) * scale
            plane = saved + place * (9 * hidden) + unit if saved is not None else product
            if saved is not None:
                tl.store(plane, i, mask=inside)
                tl.store(plane + hidden, f, mask=inside)
                tl.store(plane + 2 * hidden, g, mask=inside)
                tl.store(plane + 3 * hidden, o, mask=inside)
            gate = gates + place * (4 * hidden) + unit
            i = sigmoid(i * _gain(norms, unit, hidden) + tl.load(gate, mask=inside, other=0.0))
            f = sigmoid(f * _gain(norms + hidden, unit, hidden) + tl.load(gate + hidden, mask=inside, other=0.0))
            g = tanh(g * _gain(norms + 2 * hidden, unit, hidden) + tl.load(gate + 2 * hidden, mask=inside, other=0.0))
            o = sigmoid(o * _gain(norms + 3 * hidden, unit, hidden) + tl.load(gate + 3 * hidden, mask=inside, other=0.0))
            before = tl.load(memory + (again * batch + row)[:, None] * hidden + unit, mask=inside, other=0.0)
            c = tl.where(inside, f * before + i * g, 0.0)
            total += tl.sum(c, 1)
            tl.store(product + unit, c, mask=inside)
            tl.store(product + 3 * hidden + unit, o, mask=inside)
            if saved is not None:
                tl.store(plane + 4 * hidden, i, mask=inside)
                tl.store(plane + 5 * hidden, f, mask=inside)
                tl.store(plane + 6 * hidden, g, mask=inside)
                tl.store(plane + 7 * hidden, o, mask=inside)
                tl.store(plane + 8 * hidden, before, mask=inside)
        tl.debug_barrier()
        if saved is not None:
            tl.store(statistics + place * 3, scale, mask=real[:, None])
        mean = (total / hidden)[:, None]
        squares = tl.zeros([ROWS], w_hh.dtype.element_ty)
        for first in range(0, hidden, COLUMNS):
            unit = first + tl.arange(0, COLUMNS)[None, :]
            inside = real[:, None] & (unit < hidden)
            away = tl.where(inside, tl.load(product + unit, mask=inside, other=0.0) - mean, 0.0)
            squares += tl.sum(away * away, 1)
        scale = (1.0 / tl.sqrt(squares / hidden + EPSILON))[:, None]
        if saved is not None:
            tl.store(statistics + place * 3 + 1, mean, mask=real[:, None])
            tl.store(statistics + place * 3 + 2, scale, mask=real[:, None])
        for first in range(0, hidden, COLUMNS):
            unit = first + tl.arange(0, COLUMNS)[None, :]
            inside = real[:, None] & (unit < hidden)
            c = tl.load(product + unit, mask=inside, other=0.0)
            o = tl.load(product + 3 * hidden + unit, mask=inside, other=0.0)
            new = o * tanh((c - mean) * scale * _gain(norms + 4 * hidden, unit, hidden) + _gain(norms + 5 * hidden, unit, hidden))
            if ZONEOUT:
                old = tl.load(read[:, None] + unit, mask=inside, other=0.0)
                before = tl.load(memory + (again * batch + row)[:, None] * hidden + unit, mask=inside, other=0.0)
                new += kept(zone_h, RATE_H, place * hidden + unit, inside, new.dtype) * (old - new)
                c += kept(zone_memory, RATE_MEMORY, place * hidden + unit, inside, c.dtype) * (before - c)
            tl.store(output + place * hidden + unit, new, mask=inside)
            tl.store(written[:, None] + unit, new, mask=inside)
            tl.store(memory + row[:, None] * hidden + unit, c, mask=inside)
        tl.debug_barrier()
    write_last(h, memory, last, row, length, batch, hidden, 2, COLUMNS)


@jit
def _gain(norms, unit, hidden: tl.constexpr):
    return tl.load(norms + unit, mask=unit < hidden, other=0.0)


@jit
def _backward_kernel(saved, statistics, w_hh, norms, dropout, zone_h, zone_memory, order, lengths, resets, d_output, d_gates, d_products,
                     d_squashed, d_states, d_begin, batch, steps, hidden: tl.constexpr, size: tl.constexpr, REVERSE: tl.constexpr,
                     ZONEOUT: tl.constexpr, RATE_H: tl.constexpr, RATE_MEMORY: tl.constexpr,
                     ROWS: tl.constexpr, COLUMNS: tl.constexpr, DEPTH: tl.constexpr, PRECISION: tl.constexpr):  # fmt: skip
    """A normal form n = (p - mean) s passes back s (d_n - mean(d_n) - n mean(d_n n)), first for the memory, then for the products."""
    row, length = block_of_rows(order, lengths, batch, steps, ROWS)
    longest = tl.max(length, 0)
    for turn in range(longest):
        step, real, again, _count = step_of(longest - 1 - turn, longest, length, resets, row, steps, REVERSE)
        place = (row * steps + step)[:, None]
        numbers = statistics + place * 3
        scale = tl.load(numbers, mask=real[:, None], other=0.0)
        mean_c = tl.load(numbers + 1, mask=real[:, None], other=0.0)
        scale_c = tl.load(numbers + 2, mask=real[:, None], other=0.0)
        total = tl.zeros([ROWS], w_hh.dtype.element_ty)
        along = tl.zeros([ROWS], w_hh.dtype.element_ty)
        for first in range(0, hidden, COLUMNS):
            unit = first + tl.arange(0, COLUMNS)[None, :]
            inside = real[:, None] & (unit < hidden)
            normal = (_memory(saved + place * (9 * hidden) + unit, inside, hidden) - mean_c) * scale_c
            o = tl.load(saved + place * (9 * hidden) + 7 * hidden + unit, mask=inside, other=0.0)
            state = d_states + (row * 2)[:, None] * hidden + unit
            d_h = tl.load(state, mask=inside, other=0.0) + tl.load(d_output + place * hidden + unit, mask=inside, other=0.0)
            if ZONEOUT:
                share = kept(zone_h, RATE_H, place * hidden + unit, inside, d_h.dtype)
                tl.store(state, share * d_h, mask=inside)
                d_h -= share * d_h
            gain = _gain(norms + 4 * hidden, unit, hidden)
            squashed = tanh(normal * gain + _gain(norms + 5 * hidden, unit, hidden))
            tl.store(d_gates + place * (4 * hidden) + 3 * hidden + unit, d_h * squashed * o * (1.0 - o), mask=inside)
            d_inner = d_h * o * (1.0 - squashed * squashed)
            tl.store(d_squashed + place * hidden + unit, d_inner, mask=inside)
            d_normal = tl.where(inside, d_inner * gain, 0.0)
            total += tl.sum(d_normal, 1)
            along += tl.sum(d_normal * normal, 1)
        tl.debug_barrier()
        mean_d = (total / hidden)[:, None]
        mean_along = (along / hidden)[:, None]
        total = tl.zeros([ROWS], w_hh.dtype.element_ty)
        along = tl.zeros([ROWS], w_hh.dtype.element_ty)
        for first in range(0, hidden, COLUMNS):
            unit = first + tl.arange(0, COLUMNS)[None, :]
            inside = real[:, None] & (unit < hidden)
            plane = saved + place * (9 * hidden) + unit
            normal = (_memory(plane, inside, hidden) - mean_c) * scale_c
            d_normal = tl.load(d_squashed + place * hidden + unit, mask=inside, other=0.0) * _gain(norms + 4 * hidden, unit, hidden)
            state = d_states + (row * 2 + 1)[:, None] * hidden + unit
            d_c = tl.load(state, mask=inside, other=0.0)
            d_before = tl.zeros_like(d_c)
            if ZONEOUT:
                d_before = kept(zone_memory, RATE_MEMORY, place * hidden + unit, inside, d_c.dtype) * d_c
                d_c -= d_before
            d_c += scale_c * (d_normal - mean_d - normal * mean_along)
            i = tl.load(plane + 4 * hidden, mask=inside, other=0.0)
            f = tl.load(plane + 5 * hidden, mask=inside, other=0.0)
            g = tl.load(plane + 6 * hidden, mask=inside, other=0.0)
            before = tl.load(plane + 8 * hidden, mask=inside, other=0.0)
            gate = d_gates + place * (4 * hidden) + unit
            d_i = d_c * g * i * (1.0 - i)
            d_f = d_c * before * f * (1.0 - f)
            d_g = d_c * i * (1.0 - g * g)
            tl.store(gate, d_i, mask=inside)
            tl.store(gate + hidden, d_f, mask=inside)
            tl.store(gate + 2 * hidden, d_g, mask=inside)
            d_o = tl.load(gate + 3 * hidden, mask=inside, other=0.0)
            d_i *= _gain(norms, unit, hidden)
            d_f *= _gain(norms + hidden, unit, hidden)
            d_g *= _gain(norms + 2 * hidden, unit, hidden)
            d_o *= _gain(norms + 3 * hidden, unit, hidden)
            total += tl.sum(d_i + d_f + d_g + d_o, 1)
            along += tl.sum(
                d_i * tl.load(plane, mask=inside, other=0.0)
                + d_f * tl.load(plane + hidden, mask=inside, other=0.0)
                + d_g * tl.load(plane + 2 * hidden, mask=inside, other=0.0)
                + d_o * tl.load(plane + 3 * hidden, mask=inside, other=0.0),
                1,
            )
            leave(d_before + d_c * f, state, d_begin, row, 1, unit, inside, again, hidden, 2)
        tl.debug_barrier()
        mean_d = (total / (4 * hidden))[:, None]
        mean_along = (along / (4 * hidden))[:, None]
        for first in range(0, 4 * hidden, COLUMNS):
            unit = first + tl.arange(0, COLUMNS)[None, :]
            inside = real[:, None] & (unit < 4 * hidden)
            normal = tl.load(saved + place * (9 * hidden) + unit, mask=inside, other=0.0)
            gain = tl.load(norms + unit, mask=unit < 4 * hidden, other=0.0)
            d_normal = tl.load(d_gates + place * (4 * hidden) + unit, mask=inside, other=0.0) * gain
            tl.store(d_products + place * (4 * hidden) + unit, scale * (d_normal - mean_d - normal * mean_along), mask=inside)
        tl.debug_barrier()
        carry_back(d_products, w_hh, dropout, d_states, d_begin, row, step, steps, real, again, hidden, size, 2, ZONEOUT,
                   ROWS, COLUMNS, DEPTH, PRECISION)  # fmt: skip
        tl.debug_barrier()


@jit
def _memory(plane, inside, hidden: tl.constexpr):
    """The memory after the step, of what it saved."""
    i = tl.load(plane + 4 * hidden, mask=inside, other=0.0)
    f = tl.load(plane + 5 * hidden, mask=inside, other=0.0)
    g = tl.load(plane + 6 * hidden, mask=inside, other=0.0)
    return f * tl.load(plane + 8 * hidden, mask=inside, other=0.0) + i * g
