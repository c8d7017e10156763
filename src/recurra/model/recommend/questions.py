"""Questions about whole sessions, in batches of sessions of like length; and the ranking that answers them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import torch

from recurra.data.cases import Cases
from recurra.data.store import Ragged, offsets_of
from recurra.metrics.ranking import Ranking, rank
from recurra.model.recommend.batch import ClickBatch, Seen
from recurra.model.recommend.network import SCORES, RecommendNetwork

__all__ = ["QuestionBatches", "rank_cases"]

Numbers = npt.NDArray[np.int64]
ROWS, STEPS = 1_024, 16_384
"""Most sessions of a batch, and most of its steps, padding included."""


class QuestionBatches:
    """Batches of whole sessions, each read up to its last question.

    Clicks on items that the model does not know are stepped over: a question is put after the last known click before it.

    Args:
        cases: the questions.
        gaps: (S,) numbers of the time gaps of all clicks; None where the network does not read them.
    """

    def __init__(self, cases: Cases, gaps: Numbers | None = None) -> None:
        sessions = cases.sessions
        known = sessions.values >= 0
        before = offsets_of(known.astype(np.int64))  # known clicks before each click, of all sessions end to end
        starts = before[sessions.offsets]
        self._sessions = Ragged(sessions.values[known].astype(np.int64), starts)
        self._gaps = None if gaps is None else Ragged(gaps[known], starts)
        self._step = before[sessions.offsets[cases.session] + cases.position] - starts[cases.session] - 1
        self._cases, self._answers = cases, cases.answers
        read = np.zeros(len(sessions), np.int64)
        np.maximum.at(read, cases.session, self._step + 1)
        self._read = read
        asked = np.unique(cases.session)
        order = asked[np.argsort(read[asked], kind="stable")]
        self._batches = list(_batches(order, read[order]))
        self._by_session = np.argsort(cases.session, kind="stable")
        self._first = np.searchsorted(cases.session[self._by_session], np.arange(len(sessions) + 1))

    def __len__(self) -> int:
        return len(self._batches)

    def __iter__(self) -> Iterator[ClickBatch]:
        return (self.batch(number)[0] for number in range(len(self)))

    def batch(self, number: int) -> tuple[ClickBatch, Numbers]:
        """One batch, and (N,) the numbers of its questions among all."""
        sessions = self._batches[number]
        lengths = self._read[sessions]
        width = max(1, int(lengths.max()))
        real = np.arange(width) < lengths[:, None]
        places = np.where(real, self._sessions.offsets[sessions][:, None] + np.arange(width), 0)
        counts = self._first[sessions + 1] - self._first[sessions]
        offsets = offsets_of(counts)
        chosen = self._by_session[np.arange(offsets[-1]) + np.repeat(self._first[sessions] - offsets[:-1], counts)]
        rows, step = np.repeat(np.arange(len(sessions)), counts), self._step[chosen]
        values = self._sessions.values if len(self._sessions.values) else np.zeros(1, np.int64)
        gaps = None if self._gaps is None else torch.from_numpy(np.where(real, self._gaps.values[places], 0))
        batch = ClickBatch(
            torch.from_numpy(np.where(real, values[places], 0)),
            torch.from_numpy(lengths),
            torch.from_numpy(np.where(step < 0, -1, rows * width + step)),
            torch.from_numpy(self._answers[chosen]),
            gaps=gaps,
            seen=Seen.before(self._sessions.offsets[sessions[rows]] + step, step + 1, self._sessions.values),
        )
        return batch, chosen


def _batches(order: Numbers, lengths: Numbers) -> Iterator[Numbers]:
    """Sessions in order of length, cut where a batch is full."""
    begin = 0
    while begin < len(order):
        size = 1
        limit = min(ROWS, len(order) - begin)
        while size < limit and max(1, int(lengths[begin + size])) * (size + 1) <= STEPS:
            size += 1
        yield order[begin : begin + size]
        begin += size


def rank_cases(network: RecommendNetwork, cases: Cases, *, gaps: Numbers | None = None, top: int = 20) -> Ranking:
    """Rank all items for every question, in bounded memory.

    Args:
        network: in evaluation mode or not; it is left as it was.
        cases: N questions.
        gaps: (S,) numbers of the time gaps of all clicks, where the network reads them.
        top: recommended items that are kept.

    Returns:
        The ranking of the questions in their order, with the items of a session masked and not.
    """
    was_training, device = network.training, next(network.parameters()).device
    network.eval()
    batches, parts, numbers = QuestionBatches(cases, gaps), [], []
    size = max(1, SCORES // len(network.scoring.weight))
    with torch.inference_mode():
        for number in range(len(batches)):
            batch, chosen = batches.batch(number)
            batch = batch.to(device)
            vectors, seen = network.vectors(batch), batch.seen
            assert seen is not None
            for begin in range(0, len(chosen), size):
                some = chosen[begin : begin + size]
                scores = network.scores(vectors[begin : begin + size], seen.part(begin, begin + size)).float().cpu().numpy()
                parts.append(rank(scores, cases.answers[some], sessions=cases.session[some], seen=cases.prefixes(some), top=top))
                numbers.append(some)
    network.train(was_training)
    order = np.argsort(np.concatenate(numbers), kind="stable")
    found = Ranking.concatenate(parts)
    masked = None if found.masked_ranks is None else found.masked_ranks[order]
    return Ranking(found.ranks[order], masked, found.top[order], found.answers[order], found.sessions[order])
