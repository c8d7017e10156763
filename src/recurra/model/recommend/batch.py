"""What the network of a recommendation reads: clicks side by side, the answers, and the items that they are compared with."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import numpy as np
import numpy.typing as npt
import torch

from recurra.data.store import offsets_of
from recurra.shapes import Bool, Float, Int, Tensor

Numbers = npt.NDArray[np.int64]

__all__ = ["DISTANCES", "MOST_SEEN", "ClickBatch", "Seen", "distance_numbers"]

DISTANCES = 8
"""Numbers of how long ago a click was: 1, 2, 3 to 4, 5 to 8, ... clicks."""
MOST_SEEN = 64
"""Clicks of a session, the last ones, of which it matters how long ago they were."""


def distance_numbers(clicks: Numbers) -> Numbers:
    """Numbers (from 0) of distances in clicks (1 for the last one)."""
    return np.minimum(np.ceil(np.log2(clicks)).astype(np.int64), DISTANCES - 1)


@dataclass(frozen=True)
class Seen:
    """The clicks that were there when each question was put, the last 64 of them.

    Attributes:
        questions: (P,) ascending.
        items: (P,) numbers of the items clicked.
        distances: (P,) numbers of how long ago; see `distance_numbers`.
    """

    questions: Int[Tensor, " P"]
    items: Int[Tensor, " P"]
    distances: Int[Tensor, " P"]

    @classmethod
    def before(cls, positions: Numbers, counts: Numbers, values: Numbers, *, among: Numbers | None = None) -> Seen:
        """The clicks up to some positions.

        Args:
            positions: (N,) of the last click before each question, in `values`.
            counts: (N,) clicks of its session up to there.
            values: items, sessions end to end.
            among: ascending; clicks on other items are left out.
        """
        counts = np.minimum(counts, MOST_SEEN)
        offsets = offsets_of(counts)
        questions = np.repeat(np.arange(len(positions)), counts)
        back = np.arange(offsets[-1]) - offsets[questions]
        items = values[positions[questions] - back]
        if among is not None:
            kept = among[np.minimum(np.searchsorted(among, items), len(among) - 1)] == items
            questions, items, back = questions[kept], items[kept], back[kept]
        return cls(torch.from_numpy(questions), torch.from_numpy(items), torch.from_numpy(distance_numbers(back + 1)))

    def part(self, begin: int, end: int) -> Seen:
        """Of the questions from `begin` to before `end`, counted anew."""
        first, last = torch.searchsorted(self.questions, torch.tensor([begin, end], device=self.questions.device)).tolist()
        return Seen(self.questions[first:last] - begin, self.items[first:last], self.distances[first:last])

    def to(self, device: torch.device | str) -> Seen:
        """The same on another device."""
        return Seen(self.questions.to(device), self.items.to(device), self.distances.to(device))


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
        seen: earlier clicks that change the scores of their items; None where none do. Of a training batch only those on `rows`.
    """

    items: Int[Tensor, "B T"]
    lengths: Int[Tensor, " B"]
    asked: Int[Tensor, " N"]
    answers: Int[Tensor, " N"]
    reset: Bool[Tensor, "B T"] | None = None
    gaps: Int[Tensor, "B T"] | None = None
    rows: Int[Tensor, " K"] | None = None
    log_weights: Float[Tensor, " K"] | None = None
    seen: Seen | None = None

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
