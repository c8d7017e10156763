"""What stands beside a model of text to text: the source itself, and the target of the training row whose source is most alike."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from recurra.config import EvaluationSettings
from recurra.evaluation.results import Result
from recurra.metrics.translation import text_intervals, text_metrics

__all__ = ["TextBaseline", "fit_baselines", "nearest_targets"]

BLOCK = 256
"""Sources that are compared with all training rows at a time."""


@dataclass(frozen=True, eq=False)
class TextBaseline:
    """A baseline on one part.

    Attributes:
        name: copy or nearest.
        description: what it is, in half a sentence.
        metrics: as those of the network that need no probabilities.
        intervals: by name of the metric.
        texts: that it gives.
        seconds: that it took.
    """

    name: str
    description: str
    metrics: dict[str, float]
    intervals: dict[str, tuple[float, float]]
    texts: Sequence[str]
    seconds: float

    def result(self) -> Result:
        """As the report takes it."""
        return Result(self.name, self.description, self.metrics, self.intervals, self.seconds)


def fit_baselines(
    train: tuple[Sequence[str], Sequence[str]],
    sources: Sequence[str],
    references: Sequence[str],
    *,
    settings: EvaluationSettings,
    seed: int = 0,
) -> dict[str, TextBaseline]:
    """Measure both baselines.

    Args:
        train: sources and targets of the training rows; the first `evaluation.baseline_rows` are looked at.
        sources: of the rows that are measured.
        references: their targets.
        settings: of the evaluation.
        seed: of the resamples.
    """
    found = {}
    known = tuple(list(texts)[: settings.baseline_rows] for texts in train)
    for name, description in (
        ("copy", "the source as it is"),
        ("nearest", f"the target of the training row with the most similar source (TF-IDF), of {len(known[0]):,}"),
    ):
        started = time.perf_counter()
        texts = list(sources) if name == "copy" else nearest_targets(known[0], known[1], sources)
        seconds = time.perf_counter() - started
        intervals = text_intervals(texts, references, samples=settings.bootstrap_samples, confidence=settings.confidence, seed=seed)
        found[name] = TextBaseline(name, description, text_metrics(texts, references), intervals, texts, seconds)
    return found


def nearest_targets(known: Sequence[str], targets: Sequence[str], sources: Sequence[str]) -> list[str]:
    """For each source the target of the known one with the largest cosine of their TF-IDF vectors, the first of those equally near.

    Words are runs of letters and digits; where no known source has any, runs of characters, as in Chinese.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer

    try:
        vectorizer = TfidfVectorizer(token_pattern=r"(?u)\w+", sublinear_tf=True, dtype=np.float32)  # noqa: S106
        vectors = vectorizer.fit_transform(known).T.tocsc()
    except ValueError:  # no word in any of them
        vectorizer = TfidfVectorizer(analyzer="char", dtype=np.float32)
        vectors = vectorizer.fit_transform(known).T.tocsc()
    found: list[str] = []
    for start in range(0, len(sources), BLOCK):
        block = vectorizer.transform(sources[start : start + BLOCK])
        found += [targets[place] for place in np.asarray((block @ vectors).argmax(axis=1)).ravel().tolist()]
    return found
