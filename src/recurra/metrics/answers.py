"""Exact match and F1 of answers as the SQuAD v2 script counts them, their intervals, and the threshold of "no answer".

An answer and its references are compared without case, punctuation, English articles and the width of blanks. Of several references the
best one counts. A question none of whose references holds a word has no answer, and only an empty answer is right there.

Source: Rajpurkar et al. 2016, section 6.1; Rajpurkar et al. 2018, section 5 (threshold chosen by the largest F1).
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Sequence

import numpy as np

from recurra.metrics.intervals import Intervals, bootstrap
from recurra.shapes import Bool, Float

__all__ = [
    "answer_intervals",
    "answer_metrics",
    "answer_scores",
    "best_threshold",
    "exact_match",
    "fitted_threshold",
    "normalized_answer",
    "overlap_f1",
    "refused",
]

SMALLEST = 1e-9
"""Probability below which none is told from another, so that its log-odds stay within reach of the others."""
LARGEST = 50.0
"""Log-odds of a threshold beyond which it is 0 or 1."""
_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalized_answer(text: str) -> str:
    """In lower case, without ASCII punctuation and the articles a, an and the, with single blanks."""
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split())


def exact_match(answer: str, reference: str) -> float:
    """1 where both are the same once normalized, else 0."""
    return float(normalized_answer(answer) == normalized_answer(reference))


def overlap_f1(answer: str, reference: str, *, characters: bool = False) -> float:
    """F1 of the words of an answer against those of a reference, each as often as it stands there.

    Where one of them has no words, 1 if the other has none either, else 0.

    Args:
        answer: what was given.
        reference: what is right.
        characters: count characters that are no blank in place of words, for texts without blanks: not in SQuAD, and not the F1 of
            CMRC 2018, which counts the longest run that both share.
    """
    given, right = (_units(text, characters) for text in (answer, reference))
    if not given or not right:
        return float(given == right)
    shared = sum((Counter(given) & Counter(right)).values())
    return 2.0 * shared / (len(given) + len(right))


def _units(text: str, characters: bool) -> list[str]:
    words = normalized_answer(text).split()
    return list("".join(words)) if characters else words


def answer_scores(
    answers: Sequence[str], references: Sequence[Sequence[str]], *, characters: bool = False
) -> tuple[Float[np.ndarray, " N"], Float[np.ndarray, " N"]]:
    """Exact match and F1 of each question, against the best of its references.

    Args:
        answers: N answers; an empty one says that there is none.
        references: those of each question; none, or only empty ones, where there is no answer.
        characters: see `overlap_f1`.
    """
    exact, overlap = np.zeros(len(answers)), np.zeros(len(answers))
    for row, (answer, given) in enumerate(zip(answers, references, strict=True)):
        right = [reference for reference in given if normalized_answer(reference)] or [""]
        exact[row] = max(exact_match(answer, reference) for reference in right)
        overlap[row] = max(overlap_f1(answer, reference, characters=characters) for reference in right)
    return exact, overlap


def answerable(references: Sequence[Sequence[str]]) -> Bool[np.ndarray, " N"]:
    """Which questions have an answer: a reference that holds a word."""
    return np.array([any(normalized_answer(reference) for reference in given) for given in references], bool)


def answer_metrics(answers: Sequence[str], references: Sequence[Sequence[str]], *, characters: bool = False) -> dict[str, float]:
    """Figures of answers.

    Args:
        answers: N answers, as for `answer_scores`.
        references: as for `answer_scores`.
        characters: see `overlap_f1`.

    Returns:
        `f1` and `exact_match` over all questions; where both kinds are there, over those with an answer (`answered_f1`,
        `answered_exact_match`) and the share of those without that were told so (`unanswered_accuracy`).
    """
    exact, overlap = answer_scores(answers, references, characters=characters)
    return {
        name: float(values[0]) for name, values in _statistics(exact, overlap, answerable(references), np.ones((1, len(exact)))).items()
    }


def answer_intervals(
    answers: Sequence[str],
    references: Sequence[Sequence[str]],
    *,
    characters: bool = False,
    samples: int = 1_000,
    confidence: float = 0.95,
    seed: int = 0,
) -> Intervals:
    """Bootstrap intervals over questions of the figures of `answer_metrics`."""
    exact, overlap = answer_scores(answers, references, characters=characters)
    known = answerable(references)
    return bootstrap(
        lambda counts: _statistics(exact, overlap, known, counts), len(exact), samples=samples, confidence=confidence, seed=seed
    )


def _statistics(exact: np.ndarray, overlap: np.ndarray, known: np.ndarray, counts: np.ndarray) -> dict[str, np.ndarray]:
    """(S,) figures of each way in which the questions were drawn, (S, N) times each."""
    total = counts.sum(axis=1)
    found = {"f1": counts @ overlap / total, "exact_match": counts @ exact / total}
    if known.all() or not known.any():
        return found
    with np.errstate(invalid="ignore", divide="ignore"):
        with_answer, without = counts @ known, counts @ ~known
        return found | {
            "answered_f1": counts @ (overlap * known) / with_answer,
            "answered_exact_match": counts @ (exact * known) / with_answer,
            "unanswered_accuracy": counts @ (exact * ~known) / without,
        }


def refused(nothing: Float[np.ndarray, " N"], threshold: float) -> Bool[np.ndarray, " N"]:
    """Which questions are given no answer: where the probability of none is the threshold or more. With 1 all are answered, also those
    whose probability of none rounds to 1.
    """
    none: np.ndarray = np.asarray(nothing) >= threshold
    return none & (threshold < 1.0)


def best_threshold(nothing: Float[np.ndarray, " N"], overlap: Float[np.ndarray, " N"], known: Bool[np.ndarray, " N"]) -> float:
    """The probability of no answer from which on none should be given, so that the mean F1 is largest.

    Questions are answered as `refused` has it. Of equally good thresholds the middle one between two
    questions; 1 where every question should be answered, 0 where none should.

    Args:
        nothing: probability that there is no answer.
        overlap: F1 that the best answer would have.
        known: which questions have an answer.
    """
    order = np.argsort(nothing, kind="stable")
    value = np.where(known, overlap, 0.0)[order] - (~known)[order]  # what answering one more question brings
    gains = np.concatenate([[0.0], np.cumsum(value)])
    sorted_ = nothing[order]
    same = np.concatenate([[False], sorted_[1:] == sorted_[:-1], [False]])  # a threshold cannot divide equal probabilities
    gains[same] = -np.inf
    best = int(gains.argmax())
    if best == len(order):
        return 1.0
    return 0.0 if best == 0 else float((sorted_[best - 1] + sorted_[best]) / 2.0)


def fitted_threshold(nothing: Float[np.ndarray, " N"], overlap: Float[np.ndarray, " N"], known: Bool[np.ndarray, " N"]) -> float:
    """The probability of no answer from which on an answer is expected to cost more than it brings.

    A logistic regression on the log-odds of no answer, in which a question with an answer weighs as much as its F1 and one without
    weighs 1, crosses a half where the two expect the same. It uses all questions, where `best_threshold` hangs on the few
    around the threshold, and is therefore steadier where questions are few.

    Source: calibration by logistic regression, Platt 1999; weights by what an error costs, Zadrozny et al. 2003; together, ours.

    Args:
        nothing: probability that there is no answer.
        overlap: F1 that the best answer would have.
        known: which questions have an answer.

    Returns:
        The threshold; 1 where every question should be answered, 0 where none should.
    """
    from sklearn.linear_model import LogisticRegression

    weights = np.where(known, overlap, 1.0)
    counted = weights > 0.0
    always = float(weights[known].sum() > weights[~known].sum())
    if not (known & counted).any() or known.all():
        return always
    odds = np.log(np.maximum(nothing, SMALLEST)) - np.log(np.maximum(1.0 - nothing, SMALLEST))
    fitted = LogisticRegression().fit(odds[counted, None], known[counted], sample_weight=weights[counted])
    slope, offset = float(fitted.coef_[0, 0]), float(fitted.intercept_[0])
    return always if slope >= 0.0 else float(1.0 / (1.0 + np.exp(np.clip(offset / slope, -LARGEST, LARGEST))))
