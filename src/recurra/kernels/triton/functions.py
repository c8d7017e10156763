"""Functions inside kernels that the gated recurrences share.

A program has a block of rows and runs all their steps. What one step leaves to the next, the hidden state, goes through global
memory between two barriers, because each unit reads every other. The recurrent weights are read again at each step: they stay
in the device's second-level cache.

A row's hidden state has two slabs, written in turn, so that no warp overwrites what another still reads; the third has the state
that resets begin with. Which of the two is current is the parity of the row's own steps, so that rows in their padding need nothing.
"""

from __future__ import annotations

from recurra.kernels.triton.language import jit, tl

__all__ = ["block_of_rows", "carry_back", "gate_products", "kept", "read_hidden", "sigmoid", "step_of", "tanh", "write_last"]


@jit
def sigmoid(x):
    """1 / (1 + e^-x)."""
    return 1.0 / (1.0 + tl.exp(-x))


@jit
def tanh(x):
    """By the sigmoid: exact to the last bit of 1, not of small results."""
    return 2.0 / (1.0 + tl.exp(-2.0 * x)) - 1.0


@jit
def block_of_rows(order, lengths, batch, steps, ROWS: tl.constexpr):
    """Numbers of this program's rows, and their lengths: zero for those past the last row. Rows of one block are of like lengths."""
    place = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    row = place
    length = steps
    if order is not None:
        row = tl.load(order + place, mask=place < batch, other=batch)
        length = tl.load(lengths + row, mask=row < batch, other=0).to(tl.int32)
    return row.to(tl.int64), tl.where(row < batch, length, 0)


@jit
def step_of(turn, longest, length, resets, row, steps, REVERSE: tl.constexpr):
    """The step that is read at a turn, where it is real, where it begins anew, and how many steps each row has read before."""
    step = longest - 1 - turn if REVERSE else turn
    count = length - 1 - step if REVERSE else step + tl.zeros_like(length)
    real = step < length
    again = tl.zeros_like(length) != 0
    if resets is not None:
        again = tl.load(resets + row * steps + step, mask=real, other=0) != 0
    return step, real, again, count


@jit
def read_hidden(h, row, again, count, batch, hidden: tl.constexpr):
    """Where each row's hidden state begins that the step reads."""
    return h + (tl.where(again, 2, count % 2) * batch + row) * hidden


@jit
def kept(zone, RATE: tl.constexpr, place, mask, dtype: tl.constexpr):
    """Share of the state before that zoneout keeps."""
    share = tl.full([1, 1], RATE, dtype)  # a bare number would be rounded to float32
    if zone is not None:
        share = tl.load(zone + place, mask=mask, other=0.0)
    return share


@jit
def gate_products(read, dropout, w_hh, row, real, head, first, hidden: tl.constexpr, size: tl.constexpr,
                  ROWS: tl.constexpr, COLUMNS: tl.constexpr, DEPTH: tl.constexpr, PRECISION: tl.constexpr):  # fmt: skip
    """Products of the recurrent weights of four gates for COLUMNS units of a head, from its `first` on."""
    column = first + tl.arange(0, COLUMNS)
    i = tl.zeros([ROWS, COLUMNS], w_hh.dtype.element_ty)
    f, g, o = i, i, i
    for at in range(0, size, DEPTH):
        k = at + tl.arange(0, DEPTH)
        source = head * size + k
        inside = real[:, None] & (k < size)[None, :]
        h = tl.load(read[:, None] + source[None, :], mask=inside, other=0.0)
        if dropout is not None:
            h *= tl.load(dropout + row[:, None] * hidden + source[None, :], mask=inside, other=0.0)
        weight = w_hh + (head * size + column)[None, :] * size + k[:, None]
        there = (k < size)[:, None] & (column < size)[None, :]
        gate = hidden * size
        i = tl.dot(h, tl.load(weight, mask=there, other=0.0), i, input_precision=PRECISION, out_dtype=i.dtype)
        f = tl.dot(h, tl.load(weight + gate, mask=there, other=0.0), f, input_precision=PRECISION, out_dtype=i.dtype)
        g = tl.dot(h, tl.load(weight + 2 * gate, mask=there, other=0.0), g, input_precision=PRECISION, out_dtype=i.dtype)
        o = tl.dot(h, tl.load(weight + 3 * gate, mask=there, other=0.0), o, input_precision=PRECISION, out_dtype=i.dtype)
    return i, f, g, o


@jit
def write_last(h, memory, last, row, length, batch, hidden: tl.constexpr, FIELDS: tl.constexpr, COLUMNS: tl.constexpr):
    """The state after each row's last step, (B, fields, H)."""
    for first in range(0, hidden, COLUMNS):
        unit = first + tl.arange(0, COLUMNS)[None, :]
        inside = (row < batch)[:, None] & (unit < hidden)
        state = tl.load(h + ((length % 2) * batch + row)[:, None] * hidden + unit, mask=inside)
        tl.store(last + (row * FIELDS)[:, None] * hidden + unit, state, mask=inside)
        for field in tl.static_range(1, FIELDS):
            state = tl.load(memory + (2 * (field - 1) * batch + row)[:, None] * hidden + unit, mask=inside)
            tl.store(last + (row * FIELDS + field)[:, None] * hidden + unit, state, mask=inside)


@jit
def carry_back(d_products, w_hh, dropout, d_states, d_begin, row, step, steps, real, again, hidden: tl.constexpr, size: tl.constexpr,
               FIELDS: tl.constexpr, ADD: tl.constexpr,
               ROWS: tl.constexpr, COLUMNS: tl.constexpr, DEPTH: tl.constexpr, PRECISION: tl.constexpr):  # fmt: skip
    """Gradients of the hidden state that a step read, from those of its recurrent products; added to what is there if ADD."""
    place = row * steps + step
    for head in range(hidden // size):
        for first in range(0, size, COLUMNS):
            column = first + tl.arange(0, COLUMNS)
            total = tl.zeros([ROWS, COLUMNS], w_hh.dtype.element_ty)
            for gate in range(4):
                for at in range(0, size, DEPTH):
                    k = at + tl.arange(0, DEPTH)
                    unit = gate * hidden + head * size + k
                    gradient = tl.load(
                        d_products + place[:, None] * (4 * hidden) + unit[None, :], mask=real[:, None] & (k < size)[None, :], other=0.0
                    )
                    weight = tl.load(
                        w_hh + unit[:, None] * size + column[None, :], mask=(k < size)[:, None] & (column < size)[None, :], other=0.0
                    )
                    total = tl.dot(gradient, weight, total, input_precision=PRECISION, out_dtype=total.dtype)
            unit = (head * size + column)[None, :]
            inside = real[:, None] & (column < size)[None, :]
            if dropout is not None:
                total *= tl.load(dropout + row[:, None] * hidden + unit, mask=inside, other=0.0)
            state = d_states + (row * FIELDS)[:, None] * hidden + unit
            if ADD:
                total += tl.load(state, mask=inside, other=0.0)
            leave(total, state, d_begin, row, 0, unit, inside, again, hidden, FIELDS)


@jit
def leave(gradient, state, d_begin, row, field, unit, inside, again, hidden: tl.constexpr, FIELDS: tl.constexpr):
    """Hand the gradient of what a step read to the step before or, where it begins anew, to what it began with."""
    if d_begin is not None:
        begin = d_begin + (row * FIELDS + field)[:, None] * hidden + unit
        there = inside & again[:, None]
        tl.store(begin, tl.load(begin, mask=there, other=0.0) + gradient, mask=there)
        gradient = tl.where(again[:, None], 0.0, gradient)
    tl.store(state, gradient, mask=inside)
