"""Which rows make a batch: rows of similar length, so that little is padding, in an order that is random yet repeatable.

Numbers of rows only; `loader.py` turns them into batches.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

__all__ = ["LengthBuckets"]

Rows = npt.NDArray[np.int64]
Bounds = npt.NDArray[np.floating]

_JITTER = 0.1
"""Rows are sorted by length times a factor drawn anew each epoch from 1 ± half of this: rows within a tenth of each other
in length change places freely. Costs about half of it in padding."""


class LengthBuckets:
    """Batches of rows of similar length, reshuffled each epoch.

    Rows are sorted by their length times random noise and cut at fixed places, and the batches are shuffled. The k-th
    largest of the noisy lengths is at most the k-th largest length times the largest noise; the cuts are made for this
    bound, once. So every epoch has the same number of batches and none is over the budget, whatever the noise.

    Batches are of nearly equal size where the budget allows. A row longer than the whole budget is a batch of its own.
    Everything depends on the arguments and the epoch only.

    Args:
        lengths: (N,) steps of each row, 0 allowed. With several sequence inputs, the longest of theirs.
        batch_size: most rows of a batch.
        batch_tokens: most steps of a batch, padding included.
        seed: of the order.
        processes: how many share the work; each gets the same number of batches, and those of one step are of
            similar length, so that none waits for another.
        rank: which of them this is.
        shuffle: False for evaluation: longest rows first, the same order each time, no noise.

    Raises:
        ValueError: there are no rows, or an argument is out of range.
    """

    def __init__(
        self,
        lengths: npt.ArrayLike,
        *,
        batch_size: int,
        batch_tokens: int,
        seed: int = 0,
        processes: int = 1,
        rank: int = 0,
        shuffle: bool = True,
    ) -> None:
        self.lengths = np.asarray(lengths, dtype=np.int64)
        if len(self.lengths) == 0 or min(batch_size, batch_tokens) < 1 or not 0 <= rank < processes:
            raise ValueError(
                f"batches need at least one row, a positive batch_size and batch_tokens and 0 <= rank < processes; given "
                f"{len(self.lengths)} rows, batch_size={batch_size}, batch_tokens={batch_tokens}, rank={rank}, processes={processes}"
            )
        self.seed = seed
        self.processes = processes
        self.rank = rank
        self.shuffle = shuffle
        self._jitter = _JITTER if shuffle else 0.0
        longest = -np.sort(-self.lengths) * ((1 + self._jitter / 2) / (1 - self._jitter / 2))
        self._cuts = _divide(_even_cuts(longest, batch_size, batch_tokens), processes)
        self._steps = math.ceil((len(self._cuts) - 1) / processes)

    def __len__(self) -> int:
        """Batches of an epoch and process; the same in every epoch."""
        return self._steps

    def batches(self, epoch: int) -> list[Rows]:
        """This process's batches of an epoch, each the numbers of its rows.

        Where the batches cannot be divided evenly (each is a single row), some processes get one that another has too.
        """
        order = self._order(epoch)
        steps = np.arange(self._steps)
        if self.shuffle:
            steps = self._noise(epoch, 1).permutation(steps)
        chosen = (steps * self.processes + self.rank) % (len(self._cuts) - 1)
        starts, stops = self._cuts[chosen].tolist(), self._cuts[chosen + 1].tolist()
        return [order[start:stop] for start, stop in zip(starts, stops, strict=True)]

    def padding_waste(self, epoch: int = 0) -> float:
        """Share of the steps of an epoch's batches, over all processes, that is padding."""
        lengths = self.lengths[self._order(epoch)]
        longest = np.maximum.reduceat(lengths, self._cuts[:-1])
        padded = int((longest * np.diff(self._cuts)).sum())
        return 1.0 - int(lengths.sum()) / padded if padded else 0.0

    def _order(self, epoch: int) -> Rows:
        """All rows, longest first but for the noise."""
        if not self.shuffle:
            return np.argsort(-self.lengths, kind="stable")
        factors = self._noise(epoch, 0).random(len(self.lengths))
        factors -= 0.5
        factors *= self._jitter
        factors += 1.0
        # Half a step more, so that empty rows too come in random order.
        return np.argsort(-(self.lengths + 0.5) * factors)

    def _noise(self, epoch: int, purpose: int) -> np.random.Generator:
        return np.random.Generator(np.random.Philox(np.random.SeedSequence([self.seed, epoch, purpose])))


def _cut(longest: Bounds, batch_size: int, batch_tokens: int) -> list[int]:
    """Where batches begin and end, taking from the longest rows on as many as fit."""
    cuts = [0]
    while cuts[-1] < len(longest):
        fitting = int(batch_tokens // max(longest[cuts[-1]], 1.0))
        cuts.append(min(cuts[-1] + max(1, min(batch_size, fitting)), len(longest)))
    return cuts


def _even_cuts(longest: Bounds, batch_size: int, batch_tokens: int) -> Rows:
    """The fewest batches, with the smallest batch size that still makes so few: no tiny one is left over."""
    cuts = _cut(longest, batch_size, batch_tokens)
    low, high = 1, batch_size
    while low < high:
        middle = (low + high) // 2
        tried = _cut(longest, middle, batch_tokens)
        if len(tried) == len(cuts):
            cuts, high = tried, middle
        else:
            low = middle + 1
    return np.asarray(cuts)


def _divide(cuts: Rows, processes: int) -> Rows:
    """Halve the largest batches until their number is a multiple of the processes, where there are rows enough."""
    missing = -(len(cuts) - 1) % processes
    while missing:
        sizes = np.diff(cuts)
        largest = np.argsort(-sizes, kind="stable")[:missing]
        largest = largest[sizes[largest] > 1]
        if len(largest) == 0:
            break
        cuts = np.sort(np.concatenate([cuts, cuts[largest] + sizes[largest] // 2]))
        missing -= len(largest)
    return cuts
