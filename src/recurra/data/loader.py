"""From encoded columns and batches of row numbers to `Batch` objects, made ahead of time in a background thread."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from recurra.data.batch import Batch, Sequence
from recurra.data.buckets import LengthBuckets
from recurra.data.store import Array, Ragged
from recurra.shapes import Tensor

__all__ = ["Loader", "Noise"]

MISSING = -1
"""What fills targets up to the longest of a batch."""
Noise = Callable[[Ragged, np.random.Generator], Ragged]
"""What an `Augmentation` is to the loader."""


class Loader:
    """Iterates over the batches of one epoch at a time.

    The noise of a batch depends on the seed of the buckets, the epoch and the number of the batch, and on nothing
    else: an epoch resumed in the middle goes on exactly as it would have. Each full pass moves to the next epoch;
    a pass left early starts anew with the next `iter`, unless `load_state_dict` says otherwise.

    Args:
        inputs: by feature name, `Ragged` for a sequence feature, (N, ...) numbers for a static one.
        buckets: which rows make a batch.
        targets: by head name, (N, ...) numbers, or `Ragged` numbers, which are padded with `MISSING`.
        rows: (M,) the rows of the columns that the buckets' numbers stand for (one part of a split); all when not given.
        augment: noise by feature name.
        prefetch: batches made ahead.

    Attributes:
        epoch: the epoch that the next `iter` goes through.
        buckets: as given.
    """

    def __init__(
        self,
        inputs: Mapping[str, Ragged | Array],
        buckets: LengthBuckets,
        *,
        targets: Mapping[str, Array | Ragged] | None = None,
        rows: npt.NDArray[np.int64] | None = None,
        augment: Mapping[str, Noise] | None = None,
        prefetch: int = 4,
    ) -> None:
        self.buckets = buckets
        self.epoch = 0
        self._inputs = dict(inputs)
        self._targets = dict(targets or {})
        self._rows = rows
        self._augment = dict(augment or {})
        self._prefetch = max(prefetch, 1)
        self._start = 0
        self._position = 0
        self._waited = self._elapsed = 0.0
        unknown = self._augment.keys() - {name for name, column in self._inputs.items() if isinstance(column, Ragged)}
        if unknown:
            raise ValueError(f"noise is given for {sorted(unknown)}, which are no sequence features of {sorted(self._inputs)}")

    def __len__(self) -> int:
        """Batches of a whole epoch."""
        return len(self.buckets)

    def __iter__(self) -> Iterator[Batch]:
        batches = self.buckets.batches(self.epoch)
        self._position, self._start = self._start, 0
        pending: deque[Future[Batch]] = deque()
        begun, waited = time.perf_counter(), self._waited
        maker = ThreadPoolExecutor(1, thread_name_prefix="recurra-loader")
        try:
            elapsed = self._elapsed
            submitted = self._position
            while self._position < len(batches):
                while submitted < len(batches) and len(pending) < self._prefetch:
                    pending.append(maker.submit(self._make, batches[submitted], self.epoch, submitted))
                    submitted += 1
                asked = time.perf_counter()
                batch = pending.popleft().result()
                now = time.perf_counter()
                waited += now - asked
                self._waited, self._elapsed = waited, elapsed + now - begun
                self._position += 1
                yield batch
            self._elapsed = elapsed + time.perf_counter() - begun
        finally:
            maker.shutdown(wait=True, cancel_futures=True)
        self.epoch, self._position = self.epoch + 1, 0

    @property
    def waiting_share(self) -> float:
        """Share of the time of all passes in which the consumer waited for a batch to be ready."""
        return self._waited / self._elapsed if self._elapsed else 0.0

    def set_epoch(self, epoch: int) -> None:
        """The epoch that the next `iter` goes through; from its start, unless it is the one that was loaded."""
        if epoch != self.epoch:
            self.epoch, self._start, self._position = epoch, 0, 0

    def state_dict(self) -> dict[str, int]:
        """Where the consumer stands: the epoch, and how many of its batches have been handed out."""
        return {"epoch": self.epoch, "position": self._position}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The next `iter` goes on after the batches that had been handed out."""
        self.epoch = int(state["epoch"])
        self._start = self._position = int(state["position"])

    def _make(self, numbers: npt.NDArray[np.int64], epoch: int, position: int) -> Batch:
        """One batch. Runs in the thread; reads the columns only."""
        rows = numbers if self._rows is None else self._rows[numbers]
        inputs: dict[str, Sequence | Tensor] = {}
        for index, (name, column) in enumerate(self._inputs.items()):
            if isinstance(column, Ragged):
                chosen = column.take(rows)
                if name in self._augment:
                    chosen = self._augment[name](chosen, self._generator(epoch, position, index))
                values, lengths = chosen.pad()
                inputs[name] = Sequence(_tensor(values), torch.from_numpy(lengths))
            else:
                inputs[name] = _tensor(column[rows])
        targets = {name: _target(target, rows) for name, target in self._targets.items()}
        return Batch(inputs, targets, torch.from_numpy(np.array(rows, np.int64)))

    def _generator(self, epoch: int, position: int, feature: int) -> np.random.Generator:
        number = position * self.buckets.processes + self.buckets.rank
        return np.random.Generator(np.random.Philox(np.random.SeedSequence([self.buckets.seed, epoch, number, feature])))


def _target(column: Array | Ragged, rows: npt.NDArray[np.int64]) -> Tensor:
    return _tensor(column.rows(rows, fill=MISSING)[0] if isinstance(column, Ragged) else column[rows])


def _tensor(array: Array) -> Tensor:
    """Whole numbers and truth values as int64, all others as float32: what embeddings, losses and weights expect."""
    return torch.from_numpy(array.astype(np.int64 if array.dtype.kind in "iub" else np.float32))
