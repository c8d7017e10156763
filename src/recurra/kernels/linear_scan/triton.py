"""The linear scan on a GPU, and its gradient: another linear scan, in the other direction.

A program has one row, a block of units, and a chunk of the steps, which it reads tile by tile: within a tile by an associative
scan over pairs (a, b), the step from h to a h + b; from tile to tile by the state. With rows and units enough to fill the
device, the chunk is the whole sequence. With fewer there are more chunks: one pass finds the pair that each chunk comes to, a
second carries the state from chunk to chunk, and a third scans.

Nothing is divided, so a may be zero or negative; products of a over one chunk have to stay finite.
"""

from __future__ import annotations

from typing import Any

from recurra.kernels.linear_scan.compiled import Arguments
from recurra.kernels.triton.language import blocks, jit, launch, power_of_two, tl
from recurra.shapes import Tensor

__all__ = ["backward", "forward"]

TILE_STEPS = 32
"""Steps of a tile."""

TILE_UNITS = 64
"""Most units of a tile."""

PROGRAMS = 256
"""Programs that fill a device: about two for each multiprocessor of an A100 or H100. Not tuned."""


def forward(given: Arguments, b: Tensor) -> tuple[Tensor, Tensor]:
    """Outputs (B, T, H) and the state after the last step (B, H)."""
    given = _prepared(given)
    output, last = given.a.new_empty(given.a.shape), given.a.new_empty(given.state.shape)
    _scan(_forward_kernel, given, given.state, _pairs(given, _dense(b), adjoint=False), output=output, last=last)
    return output, last


def backward(given: Arguments, output: Tensor, d_output: Tensor, d_last: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gradients of a, b, the state and what resets begin with (empty where that is None)."""
    given, output = _prepared(given), output.contiguous()
    d_a, d_b = given.a.new_empty(given.a.shape), given.a.new_empty(given.a.shape)
    d_state = given.a.new_empty(given.state.shape)
    # One row of sums a chunk: a sum in an order of its own makes the same numbers every time.
    resetting = given.begin is not None
    d_begin = given.a.new_empty(len(given.a), _chunks(given) if resetting else 0, given.a.shape[2])
    pairs = _pairs(given, _dense(d_output), adjoint=True)
    gradients = {"d_a": d_a, "d_b": d_b, "d_state": d_state, "d_begin": d_begin if resetting else None}
    _scan(_backward_kernel, given, d_last.contiguous(), pairs, state=given.state, output=output, **gradients)
    return d_a, d_b, d_state, d_begin.sum(1) if resetting else d_begin.view(-1)


def _scan(kernel: Any, given: Arguments, first: Tensor, pairs: dict[str, Any], **tensors: Tensor | None) -> None:
    """Launch a scan that begins with `first`, and before it what finds the state that each chunk begins with."""
    batch_size, _, units = given.a.shape
    width, chunks = power_of_two(units, TILE_UNITS), _chunks(given)
    grid = (batch_size, blocks(units, width), chunks)
    begins = first
    if chunks > 1:
        factors, sums, begins = (first.new_empty(batch_size, chunks, units) for _ in range(3))
        launch(_chunk_kernel, grid, **pairs, factors=factors, sums=sums, BLOCK=width)
        launch(_carry_kernel, grid[:2], first=first, factors=factors, sums=sums, begins=begins, units=units, chunks=chunks, BLOCK=width)
    launch(kernel, grid, **pairs, begins=begins, **tensors, BLOCK=width)


def _pairs(given: Arguments, terms: Tensor, *, adjoint: bool) -> dict[str, Any]:
    """What every pass over the pairs (a, b) reads."""
    _, steps, units = given.a.shape
    # The adjoint goes one step further, to the initial state.
    count = steps + adjoint
    sizes = {"steps": steps, "units": units, "count": count, "chunk": blocks(blocks(count, TILE_STEPS), _chunks(given)) * TILE_STEPS}
    strides = {"a_row": given.a.stride(0), "a_step": given.a.stride(1), "terms_row": terms.stride(0), "terms_step": terms.stride(1)}
    where = {"begin": given.begin, "lengths": given.lengths, "resets": given.resets}
    return {"a": given.a, "terms": terms, **strides, **where, **sizes, "REVERSE": given.reverse, "ADJOINT": adjoint, "TILE": TILE_STEPS}


def _chunks(given: Arguments) -> int:
    """Chunks that the steps are cut into."""
    batch_size, steps, units = given.a.shape
    wanted = PROGRAMS // (batch_size * blocks(units, power_of_two(units, TILE_UNITS)))
    tiles = blocks(steps, TILE_STEPS)
    # Three passes read twice what one does, so two chunks gain nothing.
    return blocks(tiles, blocks(tiles, wanted)) if wanted > 2 and tiles > 2 else 1


def _prepared(given: Arguments) -> Arguments:
    """With every tensor laid out as the kernels read it."""
    lengths = None if given.lengths is None else given.lengths.to(given.a.device).contiguous()
    resets = None if given.resets is None else given.resets.contiguous()
    begin = None if resets is None else given.state.new_zeros(given.state.shape) if given.begin is None else given.begin.contiguous()
    return given._replace(a=_dense(given.a), state=given.state.contiguous(), begin=begin, lengths=lengths, resets=resets)


def _dense(x: Tensor) -> Tensor:
    """With the units of a step side by side; rows and steps may lie anywhere."""
    return x if x.stride(2) == 1 else x.contiguous()


@jit
def _combine(a, b, next_a, next_b):
    return a * next_a, next_a * b + next_b


@jit
def _length(lengths, steps, row):
    length = steps
    if lengths is not None:
        length = tl.load(lengths + row).to(tl.int32)
    return length


@jit
def _pair(a, a_row, a_step, terms, terms_row, terms_step, begin, resets, row, step, unit, length, steps, units,
          REVERSE: tl.constexpr, ADJOINT: tl.constexpr):  # fmt: skip
    """Factors and terms of a tile's steps (`step`, as they stand in the row); in padding the pair that changes nothing.

    h_t = a_t h_{t-1} + b_t, with h_{t-1} replaced by `begin` at a reset. The adjoint is g_t = a_{t+1} g_{t+1} + d_t: its factor is
    that of the step read after, which is 1 after the last and 0 at a reset.
    """
    real = (step >= 0) & (step < length)
    source = step
    if ADJOINT:
        source = step - 1 if REVERSE else step + 1
    there = (source >= 0) & (source < length)
    inside = unit[None, :] < units
    factor = tl.load(a + row * a_row + source.to(tl.int64)[:, None] * a_step + unit[None, :], mask=there[:, None] & inside, other=1.0)
    term = tl.load(
        terms + row * terms_row + step.to(tl.int64)[:, None] * terms_step + unit[None, :], mask=real[:, None] & inside, other=0.0
    )
    if resets is not None:
        again = (tl.load(resets + row * steps + source, mask=there, other=0) != 0)[:, None]
        if not ADJOINT:
            start = tl.load(begin + row * units + unit, mask=unit < units, other=0.0)
            term = tl.where(again, factor * start[None, :] + term, term)
        factor = tl.where(again, 0.0, factor)
    return factor, term


@jit
def _last_of(tile, TILE: tl.constexpr):
    """A tile's last step."""
    return tl.sum(tl.where(tl.arange(0, TILE)[:, None] == TILE - 1, tile, 0.0), 0)


@jit
def _chunk_kernel(a, a_row, a_step, terms, terms_row, terms_step, begin, lengths, resets, factors, sums, steps, units, count, chunk,
                  REVERSE: tl.constexpr, ADJOINT: tl.constexpr, TILE: tl.constexpr, BLOCK: tl.constexpr):  # fmt: skip
    """The pair that a chunk's steps come to."""
    row, number = tl.program_id(0).to(tl.int64), tl.program_id(2)
    unit = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    length = _length(lengths, steps, row)
    product = tl.full([BLOCK], 1.0, a.dtype.element_ty)
    total = tl.full([BLOCK], 0.0, a.dtype.element_ty)
    for first in range(number * chunk, tl.minimum((number + 1) * chunk, count), TILE):
        order = first + tl.arange(0, TILE)
        step = steps - 1 - order if REVERSE != ADJOINT else order
        factor, term = _pair(a, a_row, a_step, terms, terms_row, terms_step, begin, resets, row, step, unit, length, steps, units,
                             REVERSE, ADJOINT)  # fmt: skip
        factor, term = tl.associative_scan((factor, term), 0, _combine)
        product, total = _combine(product, total, _last_of(factor, TILE), _last_of(term, TILE))
    place = (row * tl.num_programs(2) + number) * units + unit
    tl.store(factors + place, product, mask=unit < units)
    tl.store(sums + place, total, mask=unit < units)


@jit
def _carry_kernel(first, factors, sums, begins, units, chunks, BLOCK: tl.constexpr):
    """The state that each chunk begins with."""
    row = tl.program_id(0).to(tl.int64)
    unit = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    carried = tl.load(first + row * units + unit, mask=unit < units, other=0.0)
    for number in range(chunks):
        place = (row * chunks + number) * units + unit
        tl.store(begins + place, carried, mask=unit < units)
        factor = tl.load(factors + place, mask=unit < units, other=1.0)
        carried = factor * carried + tl.load(sums + place, mask=unit < units, other=0.0)


@jit
def _forward_kernel(a, a_row, a_step, terms, terms_row, terms_step, begin, lengths, resets, begins, output, last, steps, units, count, chunk,
                    REVERSE: tl.constexpr, ADJOINT: tl.constexpr, TILE: tl.constexpr, BLOCK: tl.constexpr):  # fmt: skip
    row, number = tl.program_id(0).to(tl.int64), tl.program_id(2)
    unit = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = unit[None, :] < units
    length = _length(lengths, steps, row)
    carried = tl.load(begins + (row * tl.num_programs(2) + number) * units + unit, mask=unit < units, other=0.0)
    for first in range(number * chunk, tl.minimum((number + 1) * chunk, count), TILE):
        order = first + tl.arange(0, TILE)
        step = steps - 1 - order if REVERSE else order
        factor, term = _pair(a, a_row, a_step, terms, terms_row, terms_step, begin, resets, row, step, unit, length, steps, units,
                             REVERSE, ADJOINT)  # fmt: skip
        factor, term = tl.associative_scan((factor, term), 0, _combine)
        state = factor * carried[None, :] + term
        carried = _last_of(state, TILE)
        place = (row * steps + step)[:, None] * units + unit[None, :]
        tl.store(output + place, tl.where((step < length)[:, None], state, 0.0), mask=(order < steps)[:, None] & inside)
    if number == tl.num_programs(2) - 1:
        tl.store(last + row * units + unit, carried, mask=unit < units)


@jit
def _backward_kernel(a, a_row, a_step, terms, terms_row, terms_step, begin, lengths, resets, begins, state, output,
                     d_a, d_b, d_state, d_begin, steps, units, count, chunk,
                     REVERSE: tl.constexpr, ADJOINT: tl.constexpr, TILE: tl.constexpr, BLOCK: tl.constexpr):  # fmt: skip
    """With g the adjoint: d_b is g, d_a is g times the state that was read, d_begin is a g at resets, d_state what is left."""
    row, number = tl.program_id(0).to(tl.int64), tl.program_id(2)
    unit = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = unit[None, :] < units
    length = _length(lengths, steps, row)
    carried = tl.load(begins + (row * tl.num_programs(2) + number) * units + unit, mask=unit < units, other=0.0)
    initial = tl.load(state + row * units + unit, mask=unit < units, other=0.0)
    restarted = tl.full([BLOCK], 0.0, a.dtype.element_ty)
    for first in range(number * chunk, tl.minimum((number + 1) * chunk, count), TILE):
        order = first + tl.arange(0, TILE)
        step = order if REVERSE else steps - 1 - order
        factor, term = _pair(a, a_row, a_step, terms, terms_row, terms_step, begin, resets, row, step, unit, length, steps, units,
                             REVERSE, ADJOINT)  # fmt: skip
        factor, term = tl.associative_scan((factor, term), 0, _combine)
        adjoint = factor * carried[None, :] + term
        carried = _last_of(adjoint, TILE)
        real = (step >= 0) & (step < length)
        before = step + 1 if REVERSE else step - 1
        begun = (step == length - 1) if REVERSE else (step == 0)
        read = tl.load(
            output + (row * steps + before)[:, None] * units + unit[None, :], mask=(real & (begun == 0))[:, None] & inside, other=0.0
        )
        read = tl.where(begun[:, None], initial[None, :], read)
        if resets is not None:
            again = (tl.load(resets + row * steps + step, mask=real, other=0) != 0)[:, None]
            start = tl.load(begin + row * units + unit, mask=unit < units, other=0.0)
            read = tl.where(again, start[None, :], read)
            mine = tl.load(
                a + row * a_row + step.to(tl.int64)[:, None] * a_step + unit[None, :], mask=real[:, None] & again & inside, other=0.0
            )
            restarted += tl.sum(tl.where(again, mine * adjoint, 0.0), 0)
        place = (row * steps + step)[:, None] * units + unit[None, :]
        written = (order < steps)[:, None] & inside
        tl.store(d_a + place, tl.where(real[:, None], adjoint * read, 0.0), mask=written)
        tl.store(d_b + place, tl.where(real[:, None], adjoint, 0.0), mask=written)
    if d_begin is not None:
        tl.store(d_begin + (row * tl.num_programs(2) + number) * units + unit, restarted, mask=unit < units)
    if number == tl.num_programs(2) - 1:
        tl.store(d_state + row * units + unit, carried, mask=unit < units)
