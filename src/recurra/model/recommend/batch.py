"""What the network of a recommendation reads: clicks side by side, the answers, and the items that they are compared with."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import torch

from recurra.shapes import Bool, Float, Int, Tensor

__all__ = ["ClickBatch"]


@dataclass(frozen=True)
class ClickBatch:
    """Clicks of B rows, and N questions about what comes next.

    Attributes:
        items: (B, T) numbers of the clicked items; 0 beyond a row's length, where they mean nothing.
        lengths: (B,) clicks of each row.
        asked: (N,) the click after which each question is put, counted row by row (b T + t); -1 before any click.
        answers: (N,) the item that comes next; -1 where the model does not know it, which is no answer to train on.
        reset: (B, T) true where a session begins inside a row; None where each row is one session.
        gaps: (B, T) numbers of the time since the click before; None where the network does not read them.
        rows: (K,) all items of the batch and the negatives, each once, ascending; None where all items are compared.
        log_weights: (K,) of these as negatives; None where they have none.
    """

    items: Int[Tensor, "B T"]
    lengths: Int[Tensor, " B"]
    asked: Int[Tensor, " N"]
    answers: Int[Tensor, " N"]
    reset: Bool[Tensor, "B T"] | None = None
    gaps: Int[Tensor, "B T"] | None = None
    rows: Int[Tensor, " K"] | None = None
    log_weights: Float[Tensor, " K"] | None = None

    def __len__(self) -> int:
        """Questions: what a loss is the mean of."""
        return len(self.answers)

    @property
    def steps(self) -> int:
        """Clicks of the batch."""
        return int(self.lengths.sum())

    def to(self, device: torch.device | str) -> ClickBatch:
        """The same batch on another device."""
        present = {each.name: value for each in fields(self) if (value := getattr(self, each.name)) is not None}
        return replace(self, **{name: value.to(device) for name, value in present.items()})
