"""Sequences end to end in B rows, read window by window with carried state: which positions, and where a sequence begins.

Session-parallel batches (Hidasi et al. 2016, section 3.1.1) and the rows of a language model (one long text cut into B) are
the same thing. Only positions and resets are here; what stands at a position, the caller knows.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from recurra.data.store import offsets_of

__all__ = ["StreamWindow", "Streams"]

Numbers = npt.NDArray[np.int64]
HALVED, DEVIATION, SHORTEST = 0.05, 5.0, 5
"""Of random windows: how often they are half as long, how far their lengths scatter, and the shortest."""


@dataclass(frozen=True, eq=False)
class StreamWindow:
    """What all rows read in one batch.

    Attributes:
        positions: (B, T) of the steps, as numbered by the caller's `starts`; 0 beyond a row's end.
        lengths: (B,) steps of each row; short only where a row comes to its end.
        inside: (B, T) steps of each step's sequence before it; 0 beyond a row's end.
        reset: (B, T) true where a sequence begins: what was carried is forgotten before the step is read.
    """

    positions: Numbers
    lengths: Numbers
    inside: Numbers
    reset: npt.NDArray[np.bool_]


class Streams:
    """The windows of an epoch. Every step of every sequence is read once.

    The sequences are put in order (drawn anew each epoch), end to end, and cut into rows of about the same number of steps:
    between sequences, or anywhere. Row b of one window goes on where row b of the window before it ended. An epoch depends on
    the seed and its number alone, and costs memory by the number of sequences, not of steps.

    Args:
        starts: (N,) position of each sequence's first step.
        lengths: (N,) steps of each sequence; those without any are passed over.
        rows: B; fewer where there are fewer sequences to cut between.
        window: T, steps of a window.
        whole: cut between sequences only. False for one long text: a row then begins inside a sequence, and starts anew there.
        shuffle: draw the order of the sequences anew each epoch; else it is that given.
        random_windows: lengths of windows scatter about T, so that the edges of back-propagation move: normal with deviation 5
            about T, or about T / 2 in one of twenty windows, and at least 5 (Merity et al. 2017, section 5.1).
        seed: of order and lengths.

    Raises:
        ValueError: there is no step, or a number is below 1.
    """

    def __init__(
        self,
        starts: npt.ArrayLike,
        lengths: npt.ArrayLike,
        *,
        rows: int,
        window: int,
        whole: bool = True,
        shuffle: bool = True,
        random_windows: bool = False,
        seed: int = 0,
    ) -> None:
        if rows < 1 or window < 1:
            raise ValueError(f"rows and window must be 1 or more, not {rows} and {window}.")
        all_lengths = np.asarray(lengths, np.int64)
        kept = np.flatnonzero(all_lengths > 0)
        if not len(kept):
            raise ValueError("There is no step to read: every sequence is empty.")
        self._starts = np.asarray(starts, np.int64)[kept]
        self._lengths = all_lengths[kept]
        self.steps = int(self._lengths.sum())
        self.rows = min(rows, len(kept)) if whole else min(rows, self.steps)
        self.window = window
        self._whole = whole
        self._shuffle = shuffle
        self._random_windows = random_windows
        self._seed = seed
        self._epoch = -1
        self._lay(0)

    def set_epoch(self, epoch: int) -> None:
        """Lay out an epoch, counted from 0."""
        self._lay(epoch)

    def __len__(self) -> int:
        """Windows of the present epoch."""
        return len(self._edges) - 1

    def __getitem__(self, number: int) -> StreamWindow:
        """Window `number` of the present epoch."""
        first, last = int(self._edges[number]), int(self._edges[number + 1])
        begin, end = self._cuts[:-1] + first, self._cuts[1:]
        lengths = np.clip(end - begin, 0, last - first)
        real = np.arange(last - first) < lengths[:, None]
        steps = np.where(real, begin[:, None] + np.arange(last - first), 0)
        place = np.searchsorted(self._ends, steps, side="right")
        inside = steps - (self._ends[place] - self._ordered[place])
        reset = (inside == 0) & real
        if first == 0:
            reset[:, 0] = True
        return StreamWindow(np.where(real, self._first[place] + inside, 0), lengths, np.where(real, inside, 0), reset)

    def __iter__(self) -> Iterator[StreamWindow]:
        return (self[number] for number in range(len(self)))

    def _lay(self, epoch: int) -> None:
        if epoch == self._epoch:
            return
        self._epoch = epoch
        random = np.random.Generator(np.random.Philox(np.random.SeedSequence([self._seed, epoch])))
        order = random.permutation(len(self._lengths)) if self._shuffle else np.arange(len(self._lengths))
        self._first, self._ordered = self._starts[order], self._lengths[order]
        self._ends = np.cumsum(self._ordered)
        even = np.arange(self.rows + 1) * self.steps // self.rows
        self._cuts = _nearest_ends(offsets_of(self._ordered), even) if self._whole else even
        self._edges = self._windows(int(np.diff(self._cuts).max()), random)

    def _windows(self, steps: int, random: np.random.Generator) -> Numbers:
        """Where the windows of the longest row begin, and where the last one ends."""
        if not self._random_windows:
            return np.minimum(np.arange(-(-steps // self.window) + 1) * self.window, steps)
        count = 2 * steps // max(SHORTEST, self.window // 2) + 20
        base = np.where(random.random(count) < HALVED, self.window / 2, self.window)
        edges = offsets_of(np.maximum(SHORTEST, np.rint(random.normal(base, DEVIATION))).astype(np.int64))
        while edges[-1] < steps:
            edges = np.concatenate([edges, edges[-1] + edges[1:]])
        return np.append(edges[edges < steps], steps)


def _nearest_ends(offsets: Numbers, wanted: Numbers) -> Numbers:
    """Ends of sequences next to the wanted cuts, each row keeping a sequence at least."""
    places = np.searchsorted(offsets, wanted)
    before = np.maximum(places - 1, 0)
    places = np.where(wanted - offsets[before] < offsets[np.minimum(places, len(offsets) - 1)] - wanted, before, places)
    rows = len(wanted) - 1
    steps = np.arange(rows + 1)
    places[0], places[-1] = 0, len(offsets) - 1
    # no row may be empty: each cut lies one sequence at least behind the one before it, and leaves one for each row after it
    places = np.maximum.accumulate(places - steps) + steps
    places = np.minimum(places, len(offsets) - 1 - (rows - steps))
    return offsets[places]
