"""The batches of a recommendation: windows of session-parallel streams to train on, whole sessions to validate on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from recurra.config import Settings
from recurra.data.cases import Cases
from recurra.data.sessions import Sessions
from recurra.data.streams import Streams
from recurra.features.items import ItemVocabulary, gap_numbers
from recurra.model.recommend.batch import ClickBatch, Seen
from recurra.model.recommend.questions import QuestionBatches
from recurra.training.recommend.negatives import Negatives
from recurra.training.streams import StreamBatches

__all__ = ["QuestionLoader", "StreamLoader"]


class StreamLoader(StreamBatches[ClickBatch]):
    """Windows of the training sessions, with their negatives.

    A session of n clicks is n - 1 steps: each click but the last, with the click after it as its answer. What a batch holds
    depends on the seed, the epoch and its number alone.

    Args:
        sessions: encoded; one of a single click has no step.
        items: their vocabulary.
        settings: `recommend`, `training.batch_size` and `training.seed` are read.

    Raises:
        ValueError: no session has two clicks.
    """

    def __init__(self, sessions: Sessions, items: ItemVocabulary, settings: Settings) -> None:
        chosen = settings.recommend
        self._items = sessions.items.values.astype(np.int64)
        offsets = sessions.items.offsets
        self._gaps = gap_numbers(sessions.times, offsets) if chosen.time_gaps else None
        self._repeats = chosen.repeats
        self._seed = settings.training.seed
        super().__init__(
            Streams(offsets[:-1], np.diff(offsets) - 1, rows=settings.training.batch_size, window=chosen.window, seed=self._seed)
        )
        self._negatives: Negatives | None = None
        if chosen.negatives != "all":
            logq = chosen.logq if chosen.loss == "cross_entropy" else 0.0
            self._negatives = Negatives(items.counts, drawn=chosen.negatives, alpha=chosen.alpha, logq=logq)

    def make(self, number: int) -> ClickBatch:
        """One batch; see `StreamBatches`."""
        window = self.streams[number]
        real = np.arange(window.positions.shape[1]) < window.lengths[:, None]
        items = np.where(real, self._items[window.positions], 0)
        answers = self._items[window.positions[real] + 1]
        gaps = None if self._gaps is None else torch.from_numpy(np.where(real, self._gaps[window.positions], 0))
        rows = log_weights = found = None
        if self._negatives is not None:
            # a click that is the answer of one step and read at the next is one: counted twice, frequent items weigh too little
            own = self._items[np.unique(np.concatenate([window.positions[real], window.positions[real] + 1]))]
            random = np.random.Generator(np.random.Philox(np.random.SeedSequence([self._seed, self.epoch, number])))
            found = self._negatives.rows(own, random)
            rows = torch.from_numpy(found)
            if self._negatives.logq:
                log_weights = torch.from_numpy(self._negatives.log_weights(found, len(own)))
        seen = None
        if self._repeats:
            seen = Seen.before(window.positions[real], window.inside[real] + 1, self._items, among=found)
        return ClickBatch(
            torch.from_numpy(items),
            torch.from_numpy(window.lengths),
            torch.from_numpy(np.flatnonzero(real)),
            torch.from_numpy(answers),
            torch.from_numpy(window.reset),
            gaps,
            rows,
            log_weights,
            seen,
        )


class QuestionLoader:
    """The batches of a held-out part, always in the same order; see `QuestionBatches`.

    Args:
        cases: the questions.
        gaps: (S,) numbers of the time gaps, where the network reads them.
    """

    def __init__(self, cases: Cases, gaps: npt.NDArray[np.int64] | None = None) -> None:
        self._batches = QuestionBatches(cases, gaps)

    def __len__(self) -> int:
        return len(self._batches)

    def __iter__(self) -> Iterator[ClickBatch]:
        return iter(self._batches)

    def set_epoch(self, epoch: int) -> None:
        """All epochs are alike."""

    def state_dict(self) -> dict[str, int]:
        """Nothing: a validation is not interrupted in the middle."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Nothing to go to."""
