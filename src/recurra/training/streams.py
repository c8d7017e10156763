"""Batches of streams that carry state: what the loaders of clicks and of tokens have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Generic, TypeVar

from recurra.data.streams import Streams

__all__ = ["StreamBatches"]

Batch = TypeVar("Batch")
AHEAD = 4
"""Batches made beforehand, in a thread of their own."""


class StreamBatches(ABC, Generic[Batch]):
    """The windows of an epoch in order, as batches made ahead of time.

    Args:
        streams: which positions make a window.

    Attributes:
        epoch: the present one, counted from 0.
    """

    def __init__(self, streams: Streams) -> None:
        self.streams = streams
        self.epoch = self._start = self._position = 0

    @abstractmethod
    def make(self, number: int) -> Batch:
        """The batch of window `number` of the present epoch, which depends on these and the seed alone. Runs in the thread."""

    def __len__(self) -> int:
        return len(self.streams)

    def set_epoch(self, epoch: int) -> None:
        """Go to the start of an epoch, counted from 0."""
        self.epoch, self._start, self._position = epoch, 0, 0
        self.streams.set_epoch(epoch)

    def state_dict(self) -> dict[str, int]:
        """The epoch, and how many of its batches have been handed out."""
        return {"epoch": self.epoch, "position": self._position}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on after the batches that had been handed out."""
        self.set_epoch(int(state["epoch"]))
        self._start = self._position = int(state["position"])

    def __iter__(self) -> Iterator[Batch]:
        self._position, self._start = self._start, 0
        pending: deque[Future[Batch]] = deque()
        maker = ThreadPoolExecutor(1, thread_name_prefix="recurra-streams")
        try:
            for number in range(self._position, len(self) + AHEAD):
                if number < len(self):
                    pending.append(maker.submit(self.make, number))
                if pending and (len(pending) > AHEAD or number >= len(self)):
                    batch = pending.popleft().result()
                    self._position += 1
                    yield batch
        finally:
            maker.shutdown(wait=True, cancel_futures=True)
