"""Four recommenders that need no network, each a few sparse products.

* `Popularity`: the items that were clicked most often. It does not look at the session.
* `MarkovChain`: what followed the last item most often.
* `ItemNeighbours`: items that stand in the same sessions as those clicked (cosine of co-occurrence).
* `SessionNeighbours`: what the most similar recent sessions hold.

Each learns from sessions by `fit` and scores every item by `scores`. An item of which they know nothing gets a negative score in the order
of popularity, so that a short list of neighbours is filled up with what is popular, below them. How much an item that the session already
holds is worth (`repeat`) differs from shop to shop and decides more than any other parameter, so `choose_repeat` picks it on validation
sessions; the others are fixed, chosen once on the validation parts of three data sets (see the experiment log).

Not inside: their figures (`baselines`).

Source: Hidasi and others, "Session-based Recommendations with Recurrent Neural Networks", ICLR 2016, section 4 (POP, Item-KNN); Jannach and
Ludewig, "When Recurrent Neural Networks meet the Neighborhood for Session-Based Recommendation", RecSys 2017, section 2.2 (session-kNN);
Ludewig and Jannach, "Evaluation of Session-based Recommendation Algorithms", 2018, section 3 (Markov chain, decay by place).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar, Self

import numpy as np

from recurra.data.cases import Cases
from recurra.data.store import Ragged
from recurra.metrics.ranking import ranks
from recurra.shapes import Float, Int

__all__ = ["LONGEST", "REPEATS", "SCORERS", "ItemNeighbours", "MarkovChain", "Popularity", "Scorer", "SessionNeighbours"]


class Scorer(ABC):
    """A recommender without a network."""

    description: ClassVar[str]
    repeat: float = 1.0
    """What the evidence for an item is multiplied with where the prefix holds it already."""

    def fit(self, sessions: Ragged, items: int) -> Self:
        """Learn from sessions.

        Args:
            sessions: item numbers from 0 in time order, the oldest session first; -1 (an unknown item) is skipped.
            items: V, items of the catalogue.
        """
        rows, values = _clicks(sessions)
        counts = np.bincount(values, minlength=items)
        # From -1 for what was never clicked to almost 0: below all evidence, whose scores are positive.
        self._background = (counts / (counts.max(initial=0) + 1.0) - 1.0).astype(np.float32)
        self._learn(rows, values)
        return self

    @abstractmethod
    def _learn(self, rows: np.ndarray, values: np.ndarray) -> None:
        """Learn from session and item of each known click, in order."""

    @abstractmethod
    def _evidence(self, prefixes: Ragged) -> Any:
        """(N, V) sparse positive scores of the items that there is evidence for."""

    def scores(self, prefixes: Ragged) -> Float[np.ndarray, "N V"]:
        """Scores of every item after each prefix (item numbers, -1 skipped); call it in blocks that fit into memory."""
        return self._filled(self._evidence(prefixes), prefixes, self.repeat)

    def choose_repeat(self, cases: Cases) -> Self:
        """Set `repeat` to the one of `REPEATS` with the highest NDCG at 20 on some clicks that are not measured later.

        Args:
            cases: of the validation part; of more than 2,000, a random choice is looked at.
        """
        rows = np.sort(np.random.default_rng(0).permutation(len(cases))[:_CHOSEN_ON])
        gains = dict.fromkeys(REPEATS, 0.0)
        for start in range(0, len(rows), _CHOSEN_ON // 8):
            block = rows[start : start + _CHOSEN_ON // 8]
            prefixes, answers = cases.prefixes(block, most=LONGEST), cases.answers[block]
            evidence = self._evidence(prefixes)
            for repeat in REPEATS:
                found = ranks(self._filled(evidence, prefixes, repeat), answers)
                gains[repeat] += float((1.0 / np.log2(1.0 + found))[found <= 20].sum())
        self.repeat = max(gains, key=lambda repeat: gains[repeat])
        return self

    def _filled(self, evidence: Any, prefixes: Ragged, repeat: float) -> np.ndarray:
        """(N, V) scores from the evidence, and the background where there is none."""
        found: np.ndarray = _weaken(evidence, prefixes, repeat).astype(np.float32).toarray()
        np.copyto(found, self._background, where=found <= 0)
        return found


class Popularity(Scorer):
    """The score of an item is how often it was clicked."""

    description = "the items clicked most often"

    def _learn(self, rows: np.ndarray, values: np.ndarray) -> None:
        pass

    def _evidence(self, prefixes: Ragged) -> Any:
        return _matrix([], [], [], (len(prefixes), len(self._background)))


class MarkovChain(Scorer):
    """The score of an item is how often it followed the last item of the prefix, as a share."""

    description = "what followed the last item most often"

    def _learn(self, rows: np.ndarray, values: np.ndarray) -> None:
        following = rows[1:] == rows[:-1]
        items = len(self._background)
        self._transitions = _matrix(np.ones(following.sum()), values[:-1][following], values[1:][following], (items, items))
        self._transitions = _scale_rows(self._transitions, 1.0 / np.maximum(_row_sums(self._transitions), 1.0))

    def _evidence(self, prefixes: Ragged) -> Any:
        return _weighted(prefixes, len(self._background), most=1) @ self._transitions


class ItemNeighbours(Scorer):
    """The score of an item is its similarity to the items of the prefix.

        similarity(i, j) = n_ij / sqrt((n_i + regularization) (n_j + regularization))

    with n_i the sessions that hold item i and n_ij those that hold both; the similarity of an item to itself is 0.

    Args:
        most: clicks of the prefix that count, the last ones; 1 looks at the last item alone.
        regularization: holds back items that were seen in few sessions.
        neighbours: most similar items that are kept of each item.
    """

    description = "items of the same sessions as the last ones (cosine of co-occurrence)"

    def __init__(self, *, most: int = 3, regularization: float = 20.0, neighbours: int = 200) -> None:
        self.most = most
        self.regularization = regularization
        self.neighbours = neighbours

    def _learn(self, rows: np.ndarray, values: np.ndarray) -> None:
        items = len(self._background)
        held = _held(rows, values, items)
        alone = np.sqrt(np.bincount(held.indices, minlength=items) + self.regularization)
        weights = np.divide(1.0, alone, out=np.zeros_like(alone), where=alone > 0)
        blocks = []
        for start in range(0, items, _ITEMS):
            together = (held[:, start : start + _ITEMS].T @ held).tocsr()
            blocks.append(self._nearest(_scale(together, weights[start : start + _ITEMS], weights), start))
        self._similar = _stack(blocks) if blocks else _matrix([], [], [], (0, 0))

    def _nearest(self, similar: Any, start: int) -> Any:
        """The most similar items of a block of items, without themselves."""
        rows = np.repeat(np.arange(similar.shape[0]), np.diff(similar.indptr))
        similar.data[rows + start == similar.indices] = 0
        similar.eliminate_zeros()
        return _largest(similar, self.neighbours)

    def _evidence(self, prefixes: Ragged) -> Any:
        return _weighted(prefixes, len(self._background), most=self.most, decay=True) @ self._similar


class SessionNeighbours(Scorer):
    """The score of an item is the summed similarity of the neighbour sessions that hold it.

        similarity(s, t) = sum of the weights of the items that s and t share / (|weights of s| sqrt(items of t))

    which is the cosine of the two sets of items where all weights are 1. Neighbours are the `neighbours` most similar of the `recent` latest
    sessions that share an item with the prefix.

    Args:
        neighbours: sessions that vote.
        recent: latest sessions among which they are looked for.
        most: clicks of the prefix that count, the last ones.
        decay: weigh a click by its place in the prefix, the last one most (1, then linearly less); else all alike.
    """

    description = "what the most similar recent sessions hold"

    def __init__(self, *, neighbours: int = 500, recent: int = 1_000, most: int = 5, decay: bool = True) -> None:
        self.neighbours = neighbours
        self.recent = recent
        self.most = most
        self.decay = decay

    def _learn(self, rows: np.ndarray, values: np.ndarray) -> None:
        self._held = _held(rows, values, len(self._background))
        lengths = np.sqrt(np.maximum(_row_sums(self._held), 1.0))
        self._sessions_of = _scale_rows(self._held, 1.0 / lengths).T.tocsr()

    def _evidence(self, prefixes: Ragged) -> Any:
        asked = _weighted(prefixes, len(self._background), most=self.most, decay=self.decay)
        norms = np.sqrt(np.maximum(_row_sums(asked.multiply(asked).tocsr()), 1e-12))
        similar = _scale_rows((asked @ self._sessions_of).tocsr(), 1.0 / norms)
        return _largest(_latest(similar, self.recent), self.neighbours) @ self._held


SCORERS: dict[str, type[Scorer]] = {
    "popularity": Popularity,
    "markov": MarkovChain,
    "item_neighbours": ItemNeighbours,
    "session_neighbours": SessionNeighbours,
}
"""By name, in the order of what they look at."""

REPEATS = (1.0, 0.5, 0.2, 0.05, 0.0)
"""Worths of an item that is there already, among which `choose_repeat` chooses."""
LONGEST = 200
"""Last clicks of a session that are looked at."""
_CHOSEN_ON = 2_048
_ITEMS = 4_096
"""Items whose similarities to all others are held at a time."""


def _clicks(sessions: Ragged) -> tuple[Int[np.ndarray, " S"], Int[np.ndarray, " S"]]:
    """Session and item of each known click."""
    values = np.asarray(sessions.values[sessions.offsets[0] : sessions.offsets[-1]], dtype=np.int64)
    rows = np.repeat(np.arange(len(sessions)), sessions.lengths)
    return rows[values >= 0], values[values >= 0]


def _weighted(prefixes: Ragged, items: int, *, most: int, decay: bool = False) -> Any:
    """(N, V) sparse weights of the last `most` known clicks of each prefix; an item that is there twice has its last place's weight."""
    rows, values = _clicks(prefixes)
    lengths = np.bincount(rows, minlength=len(prefixes))
    back = np.repeat(np.cumsum(lengths), lengths) - np.arange(len(rows)) - 1  # clicks between this one and the end
    kept = back < most
    rows, values, back = rows[kept], values[kept], back[kept]
    span = np.minimum(lengths, most)[rows]
    weights = (span - back) / span if decay else np.ones(len(rows))
    keys, last = np.unique((rows * items + values)[::-1], return_index=True)
    return _matrix(weights[::-1][last], keys // items, keys % items, (len(prefixes), items))


def _matrix(weights: Any, rows: Any, columns: Any, shape: tuple[int, int]) -> Any:
    from scipy.sparse import csr_array

    places = (np.asarray(rows, dtype=np.int64), np.asarray(columns, dtype=np.int64))
    return csr_array((np.asarray(weights, dtype=np.float32), places), shape=shape)


def _stack(blocks: list[Any]) -> Any:
    from scipy.sparse import vstack

    return vstack(blocks, format="csr")


def _held(rows: np.ndarray, values: np.ndarray, items: int) -> Any:
    """(sessions, V) one where the session holds the item; clicks of the same item in the same session are one."""
    matrix = _matrix(np.ones(len(rows)), rows, values, (int(rows.max(initial=-1)) + 1, items))
    matrix.sum_duplicates()
    matrix.data[:] = 1
    return matrix


def _weaken(scores: Any, prefixes: Ragged, factor: float) -> Any:
    """The scores of what each prefix holds, times a factor."""
    if factor == 1.0:
        return scores
    rows, values = _clicks(prefixes)
    held = _matrix(np.ones(len(rows)), rows, values, scores.shape)
    held.sum_duplicates()
    held.data[:] = 1.0 - factor
    return scores - scores.multiply(held)


def _row_sums(matrix: Any) -> np.ndarray:
    sums: np.ndarray = np.asarray(matrix.sum(axis=1)).ravel()
    return sums


def _scale_rows(matrix: Any, rows: np.ndarray) -> Any:
    return _scale(matrix, rows, np.ones(matrix.shape[1]))


def _scale(matrix: Any, rows: np.ndarray, columns: np.ndarray) -> Any:
    """The matrix with each row and each column multiplied by its weight."""
    scaled = matrix.tocsr(copy=True)
    scaled.data = (scaled.data * np.repeat(rows, np.diff(scaled.indptr)) * columns[scaled.indices]).astype(np.float32)
    return scaled


def _latest(matrix: Any, most: int) -> Any:
    """Of each row the entries in the last `most` columns that are filled."""
    matrix.sort_indices()
    ends = np.repeat(matrix.indptr[1:], np.diff(matrix.indptr))
    return _filtered(matrix, ends - np.arange(matrix.nnz) <= most)


def _largest(matrix: Any, most: int) -> Any:
    """Of each row the `most` largest entries; of equal ones those further to the right."""
    lengths = np.diff(matrix.indptr)
    if lengths.max(initial=0) <= most:
        return matrix
    kept = np.ones(matrix.nnz, dtype=bool)
    for row in np.flatnonzero(lengths > most):
        start, end = matrix.indptr[row], matrix.indptr[row + 1]
        kept[start:end][np.lexsort((matrix.indices[start:end], matrix.data[start:end]))[: end - start - most]] = False
    return _filtered(matrix, kept)


def _filtered(matrix: Any, kept: np.ndarray) -> Any:
    from scipy.sparse import csr_array

    offsets = np.concatenate([[0], np.cumsum(kept)])[matrix.indptr]
    return csr_array((matrix.data[kept], matrix.indices[kept], offsets), shape=matrix.shape)
