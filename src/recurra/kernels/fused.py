"""torch's fused recurrent operations over rows of different lengths: what the three aten kernels share.

Three ways, equal in value:

* all rows full: the operation as it is;
* *padded*: all rows run to the end and what comes after a row's last real step is thrown away. The hidden state there
  is read from the output; the LSTM's memory cells are not put out at every step, so its padded steps stand still. A step
  stands still when its gates are driven so far that the sigmoid is exactly 0 or 1: one more input feature is 1 in the
  padding and 0 elsewhere, and its weights are `STANDSTILL` for the gates to open, minus that for the gates to close.
  Gradients through such a step are exactly zero, and one along the frozen cells;
* *packed*: torch's PackedSequence, which reads real steps only but does so step by step, outside oneDNN's fused LSTM.

Measured on two cores of a Xeon with AVX-512, training step, B=64, T=50, F=H=128, both directions, one thread: padded takes
the time of full rows plus a tenth (LSTM, GRU) to a quarter (Elman), packed 3 to 4 times that at 95% real steps and still
twice that at 55%. They meet at about 20% (B=64, T=200) and 10% (B=256, T=100).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from recurra.kernels.lengths import reverse_rows
from recurra.kernels.loop import RecurrentWeights
from recurra.shapes import Float, Int, Tensor

__all__ = ["PADDED_SHARE", "STANDSTILL", "FusedOperation", "run_fused"]

STANDSTILL = 1e4
"""Far beyond any sum a gate sees in padding (inputs are zero there, hidden units under one), and finite in float16."""

PADDED_SHARE = 0.2
"""Least share of real steps at which running the padding too is faster than packing, on a CPU."""


class FusedOperation(NamedTuple):
    """One of torch's operations and how its padded steps stand still.

    Attributes:
        call: `(x, batch_sizes, state tensors (1, B, H), weights) -> (output, *state tensors)`. x is packed data, or
            (T, B, F) when batch_sizes is None. The first tensor of the state is the last step's output.
        standstill: for every gate, +1 to hold it open in padding, -1 to hold it closed, 0 to leave it, so that all
            tensors of the state but the first come out of the padding as they went in and the output is zero there;
            empty when the state has no other tensor.
    """

    call: Callable[[Tensor, Tensor | None, list[Tensor], RecurrentWeights], Sequence[Tensor]]
    standstill: tuple[int, ...] = ()


def run_fused(
    operation: FusedOperation,
    x: Float[Tensor, "B T F"],
    state: tuple[Float[Tensor, "B H"], ...],
    weights: RecurrentWeights,
    *,
    lengths: Int[Tensor, " B"] | None,
    reverse: bool,
) -> tuple[Float[Tensor, "B T H"], tuple[Float[Tensor, "B H"], ...]]:
    """The operation over all rows: outputs (zero in the padding) and the state after each row's last real step.

    Under autocast on a CPU it runs in the weights' own precision: oneDNN's bfloat16 LSTM is slower than its float32 one
    where there are no matrix tiles, and its float16 LSTM fails.
    """
    if x.device.type == "cpu" and torch.is_autocast_enabled("cpu"):
        exact = weights.w_hh.dtype
        with torch.autocast("cpu", enabled=False):
            state = tuple(field.to(exact) for field in state)
            return run_fused(operation, x.to(exact), state, weights, lengths=lengths, reverse=reverse)
    if lengths is None or bool((lengths == x.shape[1]).all()):
        x = x.transpose(0, 1)
        output, *last = operation.call(x.flip(0) if reverse else x, None, _with_layer(state), weights)
        return (output.flip(0) if reverse else output).transpose(0, 1), tuple(field[0] for field in last)
    steps = int(lengths.sum())
    lengths = lengths.to(x.device)
    if steps == 0 or (x.device.type == "cpu" and steps >= PADDED_SHARE * x.shape[0] * x.shape[1]):
        return _run_padded(operation, x, state, weights, lengths=lengths, reverse=reverse)
    if not reverse:
        return _run_packed(operation, x, state, weights, lengths)
    output, after = _run_packed(operation, reverse_rows(x, lengths), state, weights, lengths)
    return reverse_rows(output, lengths), after


def _run_padded(
    operation: FusedOperation, x: Tensor, state: tuple[Tensor, ...], weights: RecurrentWeights, *, lengths: Tensor, reverse: bool
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """All rows to the end. One gather cleans the padding, reverses and puts time first; another undoes it."""
    batch_size, steps, features = x.shape
    there, back = _gather_order(lengths, steps, reverse=reverse)
    rows = x.flatten(0, 1)
    padding = x.new_zeros(1, features + bool(operation.standstill))
    if operation.standstill:
        rows, weights = torch.nn.functional.pad(rows, (0, 1)), _with_standstill(operation, weights)
        padding[0, -1] = 1.0
    x = torch.cat([rows, padding]).index_select(0, there).view(steps, batch_size, -1)
    output, _, *frozen = operation.call(x, None, _with_layer(state), weights)
    hidden = output[(lengths - 1).clamp_min(0), torch.arange(batch_size, device=x.device)]
    hidden = torch.where((lengths == 0)[:, None], state[0].to(hidden.dtype), hidden)
    after = (hidden, *(field[0] for field in frozen))
    if operation.standstill and not reverse:
        return output.transpose(0, 1), after
    rows = torch.cat([output.flatten(0, 1), output.new_zeros(1, output.shape[2])])
    return rows.index_select(0, back).view(batch_size, steps, -1), after


def _gather_order(lengths: Tensor, steps: int, *, reverse: bool) -> tuple[Tensor, Tensor]:
    """For every (step, row) the place of its input in (B*T) rows, and for every (row, step) that of its output in (T*B).

    Padding is read from one more row at the end.
    """
    batch_size = len(lengths)
    time, row = torch.arange(steps, device=lengths.device), torch.arange(batch_size, device=lengths.device)
    real = time[:, None] < lengths
    source = lengths - 1 - time[:, None] if reverse else time[:, None].expand(-1, batch_size)
    outside = steps * batch_size
    there = torch.where(real, row * steps + source, outside)
    back = torch.where(real, source * batch_size + row, outside).T
    return there.flatten(), back.flatten()


def _with_standstill(operation: FusedOperation, weights: RecurrentWeights) -> RecurrentWeights:
    """One more input feature, which holds the gates of padded steps."""
    gates = torch.tensor(operation.standstill, dtype=weights.w_ih.dtype, device=weights.w_ih.device) * STANDSTILL
    column = gates.repeat_interleave(weights.w_hh.shape[1])[:, None]
    return weights._replace(w_ih=torch.cat([weights.w_ih, column], 1))


def _run_packed(
    operation: FusedOperation, x: Tensor, state: tuple[Tensor, ...], weights: RecurrentWeights, lengths: Tensor
) -> tuple[Tensor, tuple[Tensor, ...]]:
    # Empty rows are not allowed in a PackedSequence: they sort to the end and stay out of it.
    ordered, rows = lengths.cpu().sort(descending=True, stable=True)
    count = int((ordered > 0).sum())
    rows = rows[:count].to(x.device)
    packed = pack_padded_sequence(x.index_select(0, rows), ordered[:count], batch_first=True)
    chosen = [field.index_select(0, rows) for field in state]
    output, *last = operation.call(packed.data, packed.batch_sizes, _with_layer(chosen), weights)
    padded, _ = pad_packed_sequence(PackedSequence(output, packed.batch_sizes), batch_first=True, total_length=x.shape[1])
    full = padded.new_zeros(len(x), *padded.shape[1:]).index_copy(0, rows, padded)
    after = [before.to(field.dtype).index_copy(0, rows, field[0]) for before, field in zip(state, last, strict=True)]
    return full, tuple(after)


def _with_layer(state: Sequence[Tensor]) -> list[Tensor]:
    """As layers of one: what torch takes (1, B, H)."""
    return [field.unsqueeze(0).contiguous() for field in state]
