"""The baselines of answers.

* `no_answer`: there never is one. Only there where some questions have none.
* `sliding_window`: the window of the context that shares most with the question, each word weighted by how rare it is in the context.

Source: sliding window, Richardson et al. 2013, section 5.1 (algorithm 1), with its length, and when nothing is answered, chosen on the
validation part in place of choosing among given answers.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from recurra.config import EvaluationSettings
from recurra.data.questions import Question
from recurra.data.words import Cut, cut_tokens, places, series
from recurra.evaluation.results import Result
from recurra.metrics.answers import answer_intervals, answer_metrics, answer_scores, answerable, best_threshold, refused

__all__ = ["AnswerBaseline", "answer_baselines"]

WIDTHS = (1, 2, 3, 5, 8, 12, 16, 24, 32)
"""Tokens of an answer that are tried on the validation part, beside those of the whole sentence."""
SENTENCE = 0
"""In place of a width: the sentence around the best window."""
_ENDS = frozenset(".!?。！？")


@dataclass(frozen=True, eq=False)
class AnswerBaseline:
    """A baseline on one part.

    Attributes:
        name: no_answer or sliding_window.
        description: what it is, in half a sentence.
        metrics: as those of the network.
        intervals: by name of the metric.
        answers: to each question, "" for none.
        seconds: that it took; None where nothing was to do.
    """

    name: str
    description: str
    metrics: dict[str, float]
    intervals: dict[str, tuple[float, float]]
    answers: list[str]
    seconds: float | None

    def result(self) -> Result:
        """As the report takes it."""
        return Result(self.name, self.description, self.metrics, self.intervals, self.seconds)


def answer_baselines(
    validation: Sequence[Question], measured: Sequence[Question], *, cut: Cut, settings: EvaluationSettings, seed: int = 0
) -> dict[str, AnswerBaseline]:
    """Both baselines on a part.

    Args:
        validation: questions that choose length and threshold of the window.
        measured: questions to answer.
        cut: how texts are cut into tokens.
        settings: resamples and confidence of the intervals.
        seed: of the resamples.
    """
    references = [each.texts for each in measured]
    characters = cut == "character"

    def figures(answers: list[str]) -> tuple[dict[str, float], dict[str, tuple[float, float]], list[str]]:
        options = {"samples": settings.bootstrap_samples, "seed": seed}
        intervals = answer_intervals(answers, references, characters=characters, confidence=settings.confidence, **options)
        return answer_metrics(answers, references, characters=characters), intervals, answers

    found = {}
    if not answerable(references).all() or not answerable([each.texts for each in validation]).all():
        found["no_answer"] = AnswerBaseline("no_answer", "no question has an answer", *figures([""] * len(measured)), None)
    started = time.perf_counter()
    width, threshold = _choose(validation, cut)
    found_ = _answers(measured, cut, width)
    none = refused(_nothing(found_), threshold)
    answers = ["" if refuse else text for (text, _), refuse in zip(found_, none, strict=True)]
    length = "the sentence" if width == SENTENCE else f"{width} tokens"
    description = f"{length} around the words that share most with the question, where they share enough"
    found["sliding_window"] = AnswerBaseline("sliding_window", description, *figures(answers), time.perf_counter() - started)
    return found


def _choose(questions: Sequence[Question], cut: Cut) -> tuple[int, float]:
    """Length and threshold of the largest F1."""
    references = [each.texts for each in questions]
    known = answerable(references)
    best, chosen = -1.0, (SENTENCE, 1.0)
    for width in (SENTENCE, *WIDTHS):
        found = _answers(questions, cut, width)
        overlap = answer_scores([text for text, _ in found], references, characters=cut == "character")[1]
        nothing = _nothing(found)
        threshold = best_threshold(nothing, overlap, known)
        value = float(np.where(refused(nothing, threshold), ~known, np.where(known, overlap, 0.0)).mean())
        if value > best:
            best, chosen = value, (width, threshold)
    return chosen


def _nothing(found: Sequence[tuple[str, float]]) -> np.ndarray:
    """From scores to what a threshold is chosen for: 1 where nothing is shared, and less the more is."""
    return np.exp([-score for _, score in found])


def _answers(questions: Sequence[Question], cut: Cut, width: int) -> list[tuple[str, float]]:
    """The best window's text of each question, and its score."""
    asked = cut_tokens(series([each.question.lower() for each in questions]), cut).to_list()
    contexts = [each.context for each in questions]
    read = cut_tokens(series(contexts), cut).to_list()
    return [_slide(set(words), text, tokens, width) for words, text, tokens in zip(asked, contexts, read, strict=True)]


def _slide(question: set[str], context: str, tokens: list[str], width: int) -> tuple[str, float]:
    words = [token.lower() for token in tokens]
    if not words:
        return "", 0.0
    counts = Counter(words)
    weights = np.array([math.log(1.0 + 1.0 / counts[word]) if word in question and any(map(str.isalnum, word)) else 0.0 for word in words])
    # A window as long as the question, wherever its middle lies; windows at the ends are cut off.
    half = max(len(question) // 2, 1)
    sums = np.concatenate([[0.0], np.cumsum(weights)])
    middle = np.arange(len(words))
    scores = sums[np.minimum(middle + half + 1, len(words))] - sums[np.maximum(middle - half, 0)]
    best = int(scores.argmax())
    first, last = _sentence(tokens, best) if width == SENTENCE else _around(best, width, len(tokens))
    where = places(context, tokens)
    return context[where[first][0] : where[last][1]], float(scores[best])


def _around(middle: int, width: int, length: int) -> tuple[int, int]:
    first = min(max(middle - width // 2, 0), max(length - width, 0))
    return first, min(first + width, length) - 1


def _sentence(tokens: list[str], middle: int) -> tuple[int, int]:
    first = next((place + 1 for place in range(middle - 1, -1, -1) if tokens[place] in _ENDS), 0)
    last = next((place for place in range(middle, len(tokens)) if tokens[place] in _ENDS), len(tokens) - 1)
    return min(first, last), last
