"""What the trainer iterates over: the batches of an epoch, each with the loader's position behind it."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Protocol, Self

import torch

__all__ = ["AnyBatch", "BatchLoader", "TrainingBatches"]


class AnyBatch(Protocol):
    """What a training needs of a batch, whatever the network reads in it: rows of a table, windows of series, clicks, tokens."""

    def __len__(self) -> int:
        """Rows, which the batch's loss is the mean over."""

    @property
    def steps(self) -> int:
        """Real steps in time (tokens) in it, of which the speed is told."""

    def to(self, device: torch.device) -> Self:
        """The same batch on another device."""


class BatchLoader(Iterable[AnyBatch], Protocol):
    """A source of batches that can be iterated again and again, and continued in the middle.

    `len` is the number of batches of the present epoch. `state_dict()` between two batches is the position after the
    last one handed out; iterating after `load_state_dict` gives the batches that follow it. `set_epoch` goes to the
    start of an epoch. Nothing is drawn from a global random generator.
    """

    def __len__(self) -> int: ...
    def set_epoch(self, epoch: int) -> None:
        """Go to the start of an epoch, counted from 0."""

    def state_dict(self) -> Mapping[str, Any]:
        """The position."""

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go to a position."""


class TrainingBatches:
    """The loader as the trainer sees it: pairs of a batch and the loader's position after it.

    Lightning asks for one batch more than it has trained on, so the position must travel with the batch. It has no
    length on purpose: Lightning would hold every epoch to the first one's, and buckets make epochs differ.

    Attributes:
        epoch: that the next iteration starts, unless `position` is set.
        position: where the next iteration goes on instead, once.
        count: batches of the present epoch, those before `position` included.
        waiting: seconds spent waiting for the loader so far.
    """

    def __init__(self, loader: BatchLoader, *, epoch: int = 0, position: Mapping[str, Any] | None = None) -> None:
        self.loader = loader
        self.epoch = epoch
        self.position = position
        self.count = 0
        self.waiting = 0.0

    def __iter__(self) -> Iterator[tuple[AnyBatch, Mapping[str, Any]]]:
        # nothing happens before the first batch is asked for: Lightning also makes iterators that it never uses
        if self.position is None:
            self.loader.set_epoch(self.epoch)
        else:
            self.loader.load_state_dict(self.position)
        self.position = None
        self.count = len(self.loader)
        iterator = iter(self.loader)
        while True:
            started = time.perf_counter()
            batch = next(iterator, None)
            self.waiting += time.perf_counter() - started
            if batch is None:
                return
            yield batch, dict(self.loader.state_dict())
