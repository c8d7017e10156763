"""Whether one set of predictions beats another on the same rows: paired bootstrap of the difference.

Two intervals that overlap say little about the difference; both models are measured on the same rows, and what is hard for one is
mostly hard for the other. So each resample of the rows measures both, and the interval is that of the difference.

Source: Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, chapter 10 (paired samples).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from recurra.config import EvaluationSettings
from recurra.evaluation.results import MAIN_METRIC, Task
from recurra.metrics.intervals import bootstrap, label_statistics, number_statistics

__all__ = ["Comparison", "compare"]


@dataclass(frozen=True)
class Comparison:
    """The gain of a model over a baseline in one metric, measured on the same rows.

    Attributes:
        metric: name of the metric.
        gain: how much better the model is, in the metric's unit; positive is better, for errors too.
        low: lower bound of the gain's interval.
        high: upper bound of the gain's interval.
        confidence: level of the interval.
        rival: name of the baseline.
    """

    metric: str
    gain: float
    low: float
    high: float
    confidence: float
    rival: str = "tfidf_linear"

    @property
    def verdict(self) -> Literal["better", "even", "worse"]:
        """Better or worse when the whole interval lies on that side of zero, else even."""
        return "better" if self.low > 0 else "worse" if self.high < 0 else "even"


def compare(
    task: Task,
    model: np.ndarray,
    baseline: np.ndarray,
    targets: np.ndarray,
    *,
    settings: EvaluationSettings | None = None,
    seed: int = 0,
) -> Comparison | None:
    """The paired comparison of a model's predictions with a baseline's, in the task's `MAIN_METRIC`.

    Args:
        task: what is predicted.
        model: (N,) predicted classes, (N, L) predicted labels as 0 and 1, or (N,) predicted numbers.
        baseline: the same of the baseline.
        targets: the same of the truth; -1 or NaN where missing.
        settings: number of resamples and level of confidence.
        seed: of the resamples.

    Returns:
        The comparison; None when intervals are switched off, no row has a target, or the metric is undefined.
    """
    settings = settings or EvaluationSettings()
    known = np.isfinite(targets) if task == "regress" else targets >= 0
    rows = known if known.ndim == 1 else known.any(axis=1)
    model, baseline, targets = model[rows], baseline[rows], targets[rows]
    if not settings.bootstrap_samples or not len(targets):
        return None
    name = MAIN_METRIC[task]
    first, second = (_metric(task, predictions, targets) for predictions in (model, baseline))
    sign = -1.0 if task == "regress" else 1.0

    def gain(counts: np.ndarray) -> dict[str, np.ndarray]:
        return {name: sign * (first(counts)[name] - second(counts)[name])}

    bounds = bootstrap(gain, len(targets), samples=settings.bootstrap_samples, confidence=settings.confidence, seed=seed)
    point = float(gain(np.ones((1, len(targets))))[name][0])
    if name not in bounds or not np.isfinite(point):
        return None
    return Comparison(name, point, *bounds[name], settings.confidence)


def _metric(task: Task, predictions: np.ndarray, targets: np.ndarray) -> Callable[[np.ndarray], dict[str, np.ndarray]]:
    if task == "labels":
        return label_statistics(predictions, targets)
    if task == "regress":
        return number_statistics(predictions.astype(np.float64), targets.astype(np.float64))
    right = (predictions == targets).astype(np.float64)
    return lambda counts: {"accuracy": counts @ right / len(right)}
