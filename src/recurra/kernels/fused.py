"""torch's fused recurrent operations over rows of different lengths: what the three aten kernels share.

Three ways, equal in value:

* all rows full: the operation as it is;
* *padded*: all rows run to the end and what comes after a row's last real step is thrown away. The hidden state there
  is read from the output; the LSTM's memory cells are not put out at every step, so its padded steps stand still. A step
  stands still when its gates are driven so far that the sigmoid is exactly 0 or 1: one more input feature is 1 in the
  padding and 0 elsewhere, and its weights are `STANDSTILL` for the gates to open, minus that for the gates to close.
  Gradients through such a step are exactly zero, and one along the frozen cells;
* *packed*: torch's PackedSequence, which reads real steps only but does so step by step, outside oneDNN's fused LSTM.

On a CPU padded is 2 to 4 times faster than packed down to a fifth of real steps (measured; see ARCHITECTURE.md).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from recurra.kernels.lengths import last_step, real_steps, reverse_rows
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
        call: `(x or packed data, batch_sizes or None, state tensors (1, B, H), weights) -> (output, *state tensors)`.
            The first tensor of the state must be the last step's output.
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
        output, *last = operation.call(x.flip(1) if reverse else x, None, _with_layer(state), weights)
        return output.flip(1) if reverse else output, tuple(field[0] for field in last)
    if reverse:
        lengths = lengths.to(x.device)
        output, last_state = _run_varied(operation, reverse_rows(x, lengths), state, weights, lengths)
        return reverse_rows(output, lengths), last_state
    return _run_varied(operation, x, state, weights, lengths)


def _run_varied(
    operation: FusedOperation, x: Tensor, state: tuple[Tensor, ...], weights: RecurrentWeights, lengths: Tensor
) -> tuple[Tensor, tuple[Tensor, ...]]:
    steps = int(lengths.sum())
    if steps == 0 or (x.device.type == "cpu" and steps >= PADDED_SHARE * x.shape[0] * x.shape[1]):
        return _run_padded(operation, x, state, weights, lengths.to(x.device))
    return _run_packed(operation, x, state, weights, lengths)


def _run_padded(
    operation: FusedOperation, x: Tensor, state: tuple[Tensor, ...], weights: RecurrentWeights, lengths: Tensor
) -> tuple[Tensor, tuple[Tensor, ...]]:
    padding = ~real_steps(lengths, x.shape[1])[..., None]
    if operation.standstill:
        marker = torch.zeros(x.shape[2] + 1, dtype=x.dtype, device=x.device)
        marker[-1] = 1.0
        x = torch.where(padding, marker, torch.nn.functional.pad(x, (0, 1)))
        gates = torch.tensor(operation.standstill, dtype=x.dtype, device=x.device) * STANDSTILL
        column = gates.repeat_interleave(weights.w_hh.shape[1])[:, None]
        weights = weights._replace(w_ih=torch.cat([weights.w_ih, column.to(weights.w_ih.dtype)], 1))
    else:
        x = x.masked_fill(padding, 0.0)
    output, _, *frozen = operation.call(x, None, _with_layer(state), weights)
    hidden = last_step(output, lengths)
    hidden = torch.where((lengths == 0)[:, None], state[0].to(hidden.dtype), hidden)
    if not operation.standstill:
        output = output.masked_fill(padding, 0.0)
    return output, (hidden, *(field[0] for field in frozen))


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
