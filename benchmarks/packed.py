"""`recurra`'s command line with torch's own operation on packed sequences under every LSTM and GRU: the same models as people write them with nn.LSTM."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from recurra.cells import GRUCell, LSTMCell, StandardCell
from recurra.cli import main
from recurra.layers import stack
from recurra.shapes import Tensor

OPERATIONS: dict[type, Any] = {LSTMCell: torch.lstm, GRUCell: torch.gru}


def read(cells: Sequence[Any], x: Tensor, before: Sequence[Any], lengths: Tensor | None, reset: Tensor | None) -> tuple[Tensor, list[Any]]:
    """One layer's outputs, the directions side by side, and the state of each, in place of what `Stack` reads a layer with."""
    first = cells[0]
    plain = isinstance(first, StandardCell) and not (first.recurrent_dropout or first.zoneout or first.weight_dropout)
    if type(first) not in OPERATIONS or not plain or reset is not None:
        raise SystemExit("nn.LSTM has no such options: take recipes of the plain LSTM or GRU.")
    weights = [parameter for cell in cells for parameter in (cell.weight_ih, cell.weight_hh, cell.bias_ih, cell.bias_hh)]
    rows, steps = x.shape[:2]
    # nn.LSTM takes no empty rows: as is usual, one step of padding is read, and thrown away.
    counted = torch.full((rows,), steps) if lengths is None else lengths.cpu()
    packed = pack_padded_sequence(x, counted.clamp(min=1), batch_first=True, enforce_sorted=False)
    fields = [torch.stack(field).index_select(1, packed.sorted_indices) for field in zip(*before, strict=True)]
    given = tuple(fields) if len(fields) > 1 else fields[0]
    data, *ends = OPERATIONS[type(first)](packed.data, packed.batch_sizes, given, weights, True, 1, 0.0, first.training, len(cells) == 2)
    output, _ = pad_packed_sequence(packed._replace(data=data), batch_first=True, total_length=steps)
    if lengths is not None:
        output = output * (counted > 0)[:, None, None]
    found = [end.index_select(1, packed.unsorted_indices) for end in ends]
    found = [
        torch.where((counted > 0)[:, None], end, torch.stack(field)) for end, field in zip(found, zip(*before, strict=True), strict=True)
    ]
    return output, [type(before[0])(*fields) for fields in zip(*found, strict=True)]


if __name__ == "__main__":
    assert callable(stack._read)  # what is replaced is there
    stack._read = read  # type: ignore[assignment]
    main()
