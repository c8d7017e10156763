"""The baselines of a language model: n-grams with Kneser-Ney smoothing, and single tokens."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np

from recurra.config import EvaluationSettings
from recurra.evaluation.language.ngrams import KneserNey
from recurra.evaluation.results import Result
from recurra.metrics.language import token_intervals, token_metrics
from recurra.shapes import Float, Int

__all__ = ["LanguageBaseline", "fit_baselines"]

LONGEST = {"character": 6}
"""Tokens of the longest n-gram by kind of token; five of all other kinds."""


@dataclass(frozen=True, eq=False)
class LanguageBaseline:
    """A baseline on one part.

    Attributes:
        name: ngrams or unigram.
        description: what it is, in half a sentence.
        metrics: as those of the network, without the accuracy.
        intervals: by name of the metric.
        losses: (N - 1,) of each token but the first.
        seconds: that it took.
    """

    name: str
    description: str
    metrics: dict[str, float]
    intervals: dict[str, tuple[float, float]]
    losses: Float[np.ndarray, " N-1"]
    seconds: float

    def result(self) -> Result:
        """As the report takes it."""
        return Result(self.name, self.description, self.metrics, self.intervals, self.seconds)


def fit_baselines(
    train: Int[np.ndarray, " M"],
    measured: Int[np.ndarray, " N"],
    *,
    vocabulary_size: int,
    order: int,
    characters: int | None,
    settings: EvaluationSettings,
    seed: int = 0,
) -> dict[str, LanguageBaseline]:
    """Count n-grams of the training part and measure them on another one.

    Args:
        train: tokens to count.
        measured: tokens to predict.
        vocabulary_size: V.
        order: tokens of the longest n-gram.
        characters: of the measured text; None leaves bits per character out.
        settings: resamples and confidence of the intervals.
        seed: of the resamples.
    """
    found = {}
    for name, size, description in (
        ("ngrams", order, f"{order}-grams with modified Kneser-Ney smoothing"),
        ("unigram", 1, "how often each token stands in the training text"),
    ):
        started = time.perf_counter()
        losses = KneserNey(train, vocabulary_size, order=size).losses(measured)
        options = {"samples": settings.bootstrap_samples, "seed": seed}
        intervals = token_intervals(
            losses, np.zeros(len(losses), np.int64), characters=characters, confidence=settings.confidence, **options
        )
        intervals.pop("accuracy", None)
        metrics = token_metrics(losses, characters=characters)
        found[name] = LanguageBaseline(name, description, metrics, intervals, losses, time.perf_counter() - started)
    return found
