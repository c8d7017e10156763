"""The sLSTM on a GPU."""

from __future__ import annotations

import math
from typing import Any

import torch

from recurra.kernels.loop import RecurrentNoise, RecurrentWeights, Resets
from recurra.kernels.slstm.reference import slstm_reference
from recurra.kernels.state import SLSTMState
from recurra.kernels.triton.call import Arguments, Gradients, from_gates, grid, launch_backward, run_arguments, work_states
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

__all__ = ["backward", "composed", "forward", "slstm_triton"]


def slstm_triton(
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

    def gates(x: Tensor) -> Tensor:
        return torch.nn.functional.linear(x, weights.w_ih, weights.b_ih + weights.b_hh)

    options: dict[str, Any] = {"lengths": lengths, "resets": resets, "reverse": reverse, "noise": noise}
    return run_triton("slstm", gates, x, state, weights.w_hh, **options)


def forward(given: Arguments, output: Tensor, last: Tensor, saved: Tensor | None) -> None:
    """Fill the outputs, the last states and, unless None, the planes of each real step.

    These are the sums of i and f, then g, o, and c, n, m before.
    """
    tensors = {"gates": given.gates.contiguous(), "output": output, "last": last, "saved": saved}
    launch(_forward_kernel, grid(given), **tensors, **work_states(given), **_expectation(given), **run_arguments(given))


def backward(given: Arguments, output: Tensor, saved: Tensor, d_output: Tensor, d_last: Tensor) -> Gradients:
    """Gradients of everything that `forward` was given."""
    return launch_backward(_backward_kernel, given, (output, saved, d_output, d_last), **_expectation(given))


def composed(gates: Tensor, state: SLSTMState, w_hh: Tensor, norms: None, **options: Any) -> tuple[Tensor, SLSTMState]:
    """The same recurrence of operations that can be differentiated again."""
    found: tuple[Tensor, SLSTMState] = from_gates(slstm_reference, gates, state, w_hh, **options)
    return found


def _expectation(given: Arguments) -> dict[str, Any]:
    """Logarithms of the shares of the memory before and after, where zoneout takes their expectation."""
    rate = given.rate_memory if given.zone_memory is None else 0.0
    return {"EXPECTED": rate > 0.0, "LOG_OLD": math.log(rate or 1.0), "LOG_NEW": math.log1p(-rate)}


@jit
def _log_sigmoid(x):
    return tl.minimum(x, 0.0) - tl.log(1.0 + tl.exp(-tl.abs(x)))


@jit
def _add(c, n, m, more_c, more_n, more_m):
    """The sum of two memories c e^m, n e^m, at the scale of the larger; the first may be empty (n = 0) and has no scale then."""
    scale = tl.where(n > 0.0, m, more_m)
    top = tl.maximum(scale, more_m)
    first = tl.exp(scale - top)
    second = tl.exp(more_m - top)
    return first * c + second * more_c, first * n + second * more_n, top


@jit
def _add_back(d_c, d_n, d_m, c, n, m, more_c, more_n, more_m):
    """Gradients of the six that `_add` took; where both scales are equal each has half of the maximum's."""
    scale = tl.where(n > 0.0, m, more_m)
    top = tl.maximum(scale, more_m)
    first = tl.exp(scale - top)
    second = tl.exp(more_m - top)
    d_first = (d_c * c + d_n * n) * first
    d_second = (d_c * more_c + d_n * more_n) * second
    d_top = d_m - d_first - d_second
    share = tl.where(scale > more_m, 1.0, tl.where(scale == more_m, 0.5, 0.0)).to(d_top.dtype)
    d_first += share * d_top
    d_second += (1.0 - share) * d_top
    d_scale = tl.where(n > 0.0, d_first, 0.0)
    return first * d_c, first * d_n, d_scale, second * d_c, second * d_n, d_second + (d_first - d_scale)


@jit
def _forward_kernel(gates, w_hh, h, memory, dropout, zone_h, zone_memory, order, lengths, resets, output, last, saved, batch, steps,
                    hidden: tl.constexpr, size: tl.constexpr, REVERSE: tl.constexpr, ZONEOUT: tl.constexpr,
                    RATE_H: tl.constexpr, RATE_MEMORY: tl.constexpr,
                    EXPECTED: tl.constexpr, LOG_OLD: tl.constexpr, LOG_NEW: tl.constexpr,
                    ROWS: tl.constexpr, COLUMNS: tl.constexpr, DEPTH: tl.constexpr, PRECISION: tl.constexpr):  # fmt: skip
    row, length = block_of_rows(order, lengths, batch, steps, ROWS)
    longest = tl.max(length, 0)
    for turn in range(longest):
        step, real, again, count = step_of(turn, longest, length, resets, row, steps, REVERSE)
        read = read_hidden(h, row, again, count, batch, hidden)
        written = h + (((count + 1) % 2) * batch + row) * hidden
        place = (row * steps + step)[:, None]
        for head in range(hidden // size):
            for first in range(0, size, COLUMNS):
                i, f, g, o = gate_products(read, dropout, w_hh, row, real, head, first, hidden, size, ROWS, COLUMNS, DEPTH, PRECISION)
                column = first + tl.arange(0, COLUMNS)
                unit = (head * size + column)[None, :]
                inside = real[:, None] & (column < size)[None, :]
                gate = gates + place * (4 * hidden) + unit
                i += tl.load(gate, mask=inside, other=0.0)
                f += tl.load(gate + hidden, mask=inside, other=0.0)
                g = tanh(g + tl.load(gate + 2 * hidden, mask=inside, other=0.0))
                o = sigmoid(o + tl.load(gate + 3 * hidden, mask=inside, other=0.0))
                field = memory + (again * batch + row)[:, None] * hidden + unit
                old_c = tl.load(field, mask=inside, other=0.0)
                old_n = tl.load(field + 2 * batch * hidden, mask=inside, other=0.0)
                old_m = tl.load(field + 4 * batch * hidden, mask=inside, other=0.0)
                c, n, m = _add(old_c, old_n, old_m + _log_sigmoid(f), g, tl.full(g.shape, 1.0, g.dtype), i)
                new = o * c / n
                if saved is not None:
                    plane = saved + place * (7 * hidden) + unit
                    tl.store(plane, i, mask=inside)
                    tl.store(plane + hidden, f, mask=inside)
                    tl.store(plane + 2 * hidden, g, mask=inside)
                    tl.store(plane + 3 * hidden, o, mask=inside)
                    tl.store(plane + 4 * hidden, old_c, mask=inside)
                    tl.store(plane + 5 * hidden, old_n, mask=inside)
                    tl.store(plane + 6 * hidden, old_m, mask=inside)
                if EXPECTED:
                    c, n, m = _add(old_c, old_n, old_m + tl.full([1, 1], LOG_OLD, m.dtype), c, n, m + tl.full([1, 1], LOG_NEW, m.dtype))
                if ZONEOUT:
                    old = tl.load(read[:, None] + unit, mask=inside, other=0.0)
                    new += kept(zone_h, RATE_H, place * hidden + unit, inside, new.dtype) * (old - new)
                if zone_memory is not None:
                    share = tl.load(zone_memory + place * hidden + unit, mask=inside, other=0.0)
                    c += share * (old_c - c)
                    n += share * (old_n - n)
                    m += share * (old_m - m)
                tl.store(output + place * hidden + unit, new, mask=inside)
                tl.store(written[:, None] + unit, new, mask=inside)
                field = memory + row[:, None] * hidden + unit
                tl.store(field, c, mask=inside)
                tl.store(field + 2 * batch * hidden, n, mask=inside)
                tl.store(field + 4 * batch * hidden, m, mask=inside)
        tl.debug_barrier()
    write_last(h, memory, last, row, length, batch, hidden, 4, COLUMNS)


@jit
def _backward_kernel(saved, w_hh, dropout, zone_h, zone_memory, order, lengths, resets, d_output, d_gates, d_states, d_begin,
                     batch, steps, hidden: tl.constexpr, size: tl.constexpr, REVERSE: tl.constexpr, ZONEOUT: tl.constexpr,
                     RATE_H: tl.constexpr, RATE_MEMORY: tl.constexpr,
                     EXPECTED: tl.constexpr, LOG_OLD: tl.constexpr, LOG_NEW: tl.constexpr,
                     ROWS: tl.constexpr, COLUMNS: tl.constexpr, DEPTH: tl.constexpr, PRECISION: tl.constexpr):  # fmt: skip
    row, length = block_of_rows(order, lengths, batch, steps, ROWS)
    longest = tl.max(length, 0)
    for turn in range(longest):
        step, real, again, _count = step_of(longest - 1 - turn, longest, length, resets, row, steps, REVERSE)
        place = (row * steps + step)[:, None]
        for first in range(0, hidden, COLUMNS):
            unit = first + tl.arange(0, COLUMNS)[None, :]
            inside = real[:, None] & (unit < hidden)
            plane = saved + place * (7 * hidden) + unit
            i = tl.load(plane, mask=inside, other=0.0)
            f = tl.load(plane + hidden, mask=inside, other=0.0)
            g = tl.load(plane + 2 * hidden, mask=inside, other=0.0)
            o = tl.load(plane + 3 * hidden, mask=inside, other=0.0)
            old_c = tl.load(plane + 4 * hidden, mask=inside, other=0.0)
            old_n = tl.load(plane + 5 * hidden, mask=inside, other=0.0)
            old_m = tl.load(plane + 6 * hidden, mask=inside, other=0.0)
            state = d_states + (row * 4)[:, None] * hidden + unit
            d_h = tl.load(state, mask=inside, other=0.0) + tl.load(d_output + place * hidden + unit, mask=inside, other=0.0)
            d_c = tl.load(state + hidden, mask=inside, other=0.0)
            d_n = tl.load(state + 2 * hidden, mask=inside, other=0.0)
            d_m = tl.load(state + 3 * hidden, mask=inside, other=0.0)
            kept_c, kept_n, kept_m = tl.zeros_like(d_c), tl.zeros_like(d_c), tl.zeros_like(d_c)
            if ZONEOUT:
                share = kept(zone_h, RATE_H, place * hidden + unit, inside, d_h.dtype)
                tl.store(state, share * d_h, mask=inside)
                d_h -= share * d_h
            if zone_memory is not None:
                share = tl.load(zone_memory + place * hidden + unit, mask=inside, other=0.0)
                kept_c, kept_n, kept_m = share * d_c, share * d_n, share * d_m
                d_c, d_n, d_m = d_c - kept_c, d_n - kept_n, d_m - kept_m
            one = tl.full(g.shape, 1.0, g.dtype)
            decayed = old_m + _log_sigmoid(f)
            c, n, m = _add(old_c, old_n, decayed, g, one, i)
            if EXPECTED:
                kept_c, kept_n, kept_m, d_c, d_n, d_m = _add_back(
                    d_c, d_n, d_m, old_c, old_n, old_m + tl.full([1, 1], LOG_OLD, m.dtype), c, n, m + tl.full([1, 1], LOG_NEW, m.dtype)
                )
            d_c += d_h * o / n
            d_n -= d_h * o * c / (n * n)
            d_old_c, d_old_n, d_decayed, d_g, _d_one, d_i = _add_back(d_c, d_n, d_m, old_c, old_n, decayed, g, one, i)
            gate = d_gates + place * (4 * hidden) + unit
            tl.store(gate, d_i, mask=inside)
            tl.store(gate + hidden, d_decayed * sigmoid(-f), mask=inside)
            tl.store(gate + 2 * hidden, d_g * (1.0 - g * g), mask=inside)
            tl.store(gate + 3 * hidden, d_h * c / n * o * (1.0 - o), mask=inside)
            leave(kept_c + d_old_c, state + hidden, d_begin, row, 1, unit, inside, again, hidden, 4)
            leave(kept_n + d_old_n, state + 2 * hidden, d_begin, row, 2, unit, inside, again, hidden, 4)
            leave(kept_m + d_decayed, state + 3 * hidden, d_begin, row, 3, unit, inside, again, hidden, 4)
        tl.debug_barrier()
        carry_back(d_gates, w_hh, dropout, d_states, d_begin, row, step, steps, real, again, hidden, size, 4, ZONEOUT,
                   ROWS, COLUMNS, DEPTH, PRECISION)  # fmt: skip
        tl.debug_barrier()
