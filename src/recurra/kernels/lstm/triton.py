"""The LSTM on a GPU, for what torch's fused operation lacks: recurrent dropout, zoneout, resets."""

from __future__ import annotations

from typing import Any

import torch

from recurra.kernels.loop import RecurrentNoise, RecurrentWeights, Resets
from recurra.kernels.lstm.reference import lstm_reference
from recurra.kernels.state import LSTMState
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

__all__ = ["backward", "composed", "forward", "lstm_triton"]


def lstm_triton(
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

    def gates(x: Tensor) -> Tensor:
        return torch.nn.functional.linear(x, weights.w_ih, weights.b_ih + weights.b_hh)

    options: dict[str, Any] = {"lengths": lengths, "resets": resets, "reverse": reverse, "noise": noise}
    return run_triton("lstm", gates, x, state, weights.w_hh, **options)


def forward(given: Arguments, output: Tensor, last: Tensor, saved: Tensor | None) -> None:
    """Fill the outputs, the last states and, unless None, the planes i, f, g, o and c before of each real step."""
    tensors = {"gates": given.gates.contiguous(), "output": output, "last": last, "saved": saved}
    launch(_forward_kernel, grid(given), **tensors, **work_states(given), **run_arguments(given))


def backward(given: Arguments, output: Tensor, saved: Tensor, d_output: Tensor, d_last: Tensor) -> Gradients:
    """Gradients of everything that `forward` was given."""
    return launch_backward(_backward_kernel, given, (output, saved, d_output, d_last))


def composed(gates: Tensor, state: LSTMState, w_hh: Tensor, norms: None, **options: Any) -> tuple[Tensor, LSTMState]:
    """The same recurrence of operations that can be differentiated again."""
    found: tuple[Tensor, LSTMState] = from_gates(lstm_reference, gates, state, w_hh, **options)
    return found


@jit
def _forward_kernel(gates, w_hh, h, memory, dropout, zone_h, zone_memory, order, lengths, resets, output, last, saved, batch, steps,
                    hidden: tl.constexpr, size: tl.constexpr, REVERSE: tl.constexpr, ZONEOUT: tl.constexpr,
                    RATE_H: tl.constexpr, RATE_MEMORY: tl.constexpr,
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
                i = sigmoid(i + tl.load(gate, mask=inside, other=0.0))
                f = sigmoid(f + tl.load(gate + hidden, mask=inside, other=0.0))
                g = tanh(g + tl.load(gate + 2 * hidden, mask=inside, other=0.0))
                o = sigmoid(o + tl.load(gate + 3 * hidden, mask=inside, other=0.0))
                before = tl.load(memory + (again * batch + row)[:, None] * hidden + unit, mask=inside, other=0.0)
                c = f * before + i * g
                new = o * tanh(c)
                if saved is not None:
                    plane = saved + place * (5 * hidden) + unit
                    tl.store(plane, i, mask=inside)
                    tl.store(plane + hidden, f, mask=inside)
                    tl.store(plane + 2 * hidden, g, mask=inside)
                    tl.store(plane + 3 * hidden, o, mask=inside)
                    tl.store(plane + 4 * hidden, before, mask=inside)
                if ZONEOUT:
                    old = tl.load(read[:, None] + unit, mask=inside, other=0.0)
                    new += kept(zone_h, RATE_H, place * hidden + unit, inside, new.dtype) * (old - new)
                    c += kept(zone_memory, RATE_MEMORY, place * hidden + unit, inside, c.dtype) * (before - c)
                tl.store(output + place * hidden + unit, new, mask=inside)
                tl.store(written[:, None] + unit, new, mask=inside)
                tl.store(memory + row[:, None] * hidden + unit, c, mask=inside)
        tl.debug_barrier()
    write_last(h, memory, last, row, length, batch, hidden, 2, COLUMNS)


@jit
def _backward_kernel(saved, w_hh, dropout, zone_h, zone_memory, order, lengths, resets, d_output, d_gates, d_states, d_begin,
                     batch, steps, hidden: tl.constexpr, size: tl.constexpr, REVERSE: tl.constexpr, ZONEOUT: tl.constexpr,
                     RATE_H: tl.constexpr, RATE_MEMORY: tl.constexpr,
                     ROWS: tl.constexpr, COLUMNS: tl.constexpr, DEPTH: tl.constexpr, PRECISION: tl.constexpr):  # fmt: skip
    row, length = block_of_rows(order, lengths, batch, steps, ROWS)
    longest = tl.max(length, 0)
    for turn in range(longest):
        step, real, again, _count = step_of(longest - 1 - turn, longest, length, resets, row, steps, REVERSE)
        place = (row * steps + step)[:, None]
        for first in range(0, hidden, COLUMNS):
            unit = first + tl.arange(0, COLUMNS)[None, :]
            inside = real[:, None] & (unit < hidden)
            plane = saved + place * (5 * hidden) + unit
            i = tl.load(plane, mask=inside, other=0.0)
            f = tl.load(plane + hidden, mask=inside, other=0.0)
            g = tl.load(plane + 2 * hidden, mask=inside, other=0.0)
            o = tl.load(plane + 3 * hidden, mask=inside, other=0.0)
            before = tl.load(plane + 4 * hidden, mask=inside, other=0.0)
            state = d_states + (row * 2)[:, None] * hidden + unit
            d_h = tl.load(state, mask=inside, other=0.0) + tl.load(d_output + place * hidden + unit, mask=inside, other=0.0)
            d_c = tl.load(state + hidden, mask=inside, other=0.0)
            d_before = tl.zeros_like(d_c)
            if ZONEOUT:
                share = kept(zone_h, RATE_H, place * hidden + unit, inside, d_h.dtype)
                tl.store(state, share * d_h, mask=inside)
                d_h -= share * d_h
                share = kept(zone_memory, RATE_MEMORY, place * hidden + unit, inside, d_c.dtype)
                d_before = share * d_c
                d_c -= d_before
            squashed = tanh(f * before + i * g)
            d_c += d_h * o * (1.0 - squashed * squashed)
            gate = d_gates + place * (4 * hidden) + unit
            tl.store(gate, d_c * g * i * (1.0 - i), mask=inside)
            tl.store(gate + hidden, d_c * before * f * (1.0 - f), mask=inside)
            tl.store(gate + 2 * hidden, d_c * i * (1.0 - g * g), mask=inside)
            tl.store(gate + 3 * hidden, d_h * squashed * o * (1.0 - o), mask=inside)
            leave(d_before + d_c * f, state + hidden, d_begin, row, 1, unit, inside, again, hidden, 2)
        tl.debug_barrier()
        carry_back(d_gates, w_hh, dropout, d_states, d_begin, row, step, steps, real, again, hidden, size, 2, ZONEOUT,
                   ROWS, COLUMNS, DEPTH, PRECISION)  # fmt: skip
        tl.debug_barrier()
