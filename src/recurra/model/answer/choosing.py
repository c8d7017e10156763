"""From the scores of windows to one answer a question: windows brought together, the answer chosen, none where none is likelier."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np

from recurra.data.words import places
from recurra.model.answer.windows import Windows
from recurra.shapes import Float, Int

__all__ = ["Ranking", "expected_overlap", "rank"]


@dataclass(frozen=True)
class Ranking:
    """What the network says of one question.

    Attributes:
        nothing: probability that the context holds no answer.
        spans: (K, 2) first and last token of the context of its best answers, the one that is given first.
        probabilities: (K,) of exactly these spans.
    """

    nothing: float
    spans: Int[np.ndarray, "K 2"]
    probabilities: Float[np.ndarray, " K"]

    def characters(self, context: str, tokens: list[str]) -> list[tuple[int, int]]:
        """Where the answers stand in the context, as characters."""
        where = places(context, tokens)
        return [(where[first][0], where[last][1]) for first, last in self.spans.tolist()]


def rank(candidates: Float[np.ndarray, "N C"], windows: Windows, choose: Literal["probable", "overlap"]) -> list[Ranking]:
    """What is said of each question, the windows of a context brought together.

    The odds of a span against no answer are taken over as they are in its window (the largest where it lies in several), so that a
    context of one window keeps the network's own probabilities.

    Args:
        candidates: of `SpanHead.candidates`, a row a window.
        windows: that they are of.
        choose: the most probable span first, or the one of the largest expected overlap.
    """
    bounds = np.searchsorted(windows.question, np.arange(windows.questions() + 1))
    return [_ranking(candidates[begin:end], windows.start[begin:end], choose) for begin, end in pairwise(bounds)]


def _ranking(rows: np.ndarray, starts: np.ndarray, choose: str) -> Ranking:
    some = np.logaddexp.reduce(rows[:, 0], initial=-np.inf) if len(rows) else -np.inf
    odds: dict[tuple[int, int], float] = {}
    for start, row in zip(starts.tolist(), rows, strict=True):
        for first, last, value in row[1:].reshape(-1, 3).tolist():
            if value > -np.inf:
                key = (int(first) + start, int(last) + start)
                odds[key] = max(value, odds.get(key, -np.inf))
    total = np.logaddexp(some, 0.0)
    spans = np.array(list(odds), np.int64).reshape(-1, 2)
    probabilities = np.exp(np.array(list(odds.values())) - total)
    order = np.argsort(-probabilities, kind="stable")
    spans, probabilities = spans[order], probabilities[order]
    if choose == "overlap" and len(spans):
        order = np.argsort(-expected_overlap(spans, probabilities), kind="stable")
        spans, probabilities = spans[order], probabilities[order]
    return Ranking(float(np.exp(-total)), spans, probabilities)


def expected_overlap(spans: Int[np.ndarray, "K 2"], probabilities: Float[np.ndarray, " K"]) -> Float[np.ndarray, " K"]:
    """The mean F1 of the tokens of each span against all of them, weighted by their probabilities.

    Source: choosing by expected gain (minimum Bayes risk), Kumar & Byrne 2004, section 2; the gain is SQuAD's F1, of places.

    Args:
        spans: first and last token.
        probabilities: of the spans.
    """
    first, last = spans[:, 0], spans[:, 1]
    shared = np.minimum(last[:, None], last) - np.maximum(first[:, None], first) + 1
    lengths = last - first + 1
    f1 = 2.0 * np.maximum(shared, 0) / (lengths[:, None] + lengths)
    expected: np.ndarray = f1 @ probabilities
    return expected
