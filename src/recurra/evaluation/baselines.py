"""The two baselines every recurrent network is shown beside, trained on the same split.

* `majority` (classify, labels) or `mean` (regress): what can be said without looking at the input.
* `tfidf_linear`: a linear model on TF-IDF of words and word pairs (or characters), one-hot categories and scaled numbers. On
  short texts and few rows it is hard to beat, and it trains in seconds: a network that does not beat it does not pay.

Not inside: whether the network beats them (`comparison`), the features of the linear model (`linear_features`).
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from recurra.config import ColumnType, EvaluationSettings
from recurra.errors import EmptyData
from recurra.evaluation.linear_features import has_no_blanks, linear_features
from recurra.evaluation.results import Result, Task
from recurra.metrics.classification import prediction_metrics
from recurra.metrics.intervals import label_intervals, prediction_intervals, regression_intervals
from recurra.metrics.labels import label_prediction_metrics
from recurra.metrics.regression import regression_metrics

__all__ = ["Baseline", "Part", "train_baselines"]


@dataclass(frozen=True)
class Part:
    """The rows of one part.

    Attributes:
        inputs: (N, columns) raw input columns; missing values are null.
        targets: (N,) classes as integers, -1 where missing; (N, L) labels as 0 and 1, -1 where missing; or (N,) numbers, NaN where missing.
    """

    inputs: pl.DataFrame
    targets: np.ndarray


@dataclass(frozen=True)
class Baseline:
    """A trained baseline's figures on the test part.

    Attributes:
        name: majority, mean or tfidf_linear.
        description: what it is, in half a sentence.
        metrics: by name.
        intervals: (low, high) by name.
        predictions: of all test rows, in the form of the targets.
        seconds: time that training and predicting took; None for what was not trained by itself.
        rows: training rows it saw.
    """

    name: str
    description: str
    metrics: dict[str, float]
    intervals: dict[str, tuple[float, float]]
    predictions: np.ndarray
    seconds: float | None
    rows: int

    def result(self) -> Result:
        """What the report shows of it."""
        return Result(self.name, self.description, self.metrics, self.intervals, self.seconds)


def train_baselines(
    train: Part,
    test: Part,
    *,
    task: Task,
    column_types: Mapping[str, ColumnType],
    character_level: bool = False,
    settings: EvaluationSettings | None = None,
    seed: int = 0,
) -> dict[str, Baseline]:
    """Train both baselines and measure them on the test part.

    Args:
        train: rows to learn from; those without a target are left out.
        test: rows to measure on.
        task: classify, labels or regress.
        column_types: type of each input column.
        character_level: the network reads characters, so the linear model does too. It does so anyway where the text has no blanks
            between its words.
        settings: most training rows of the linear model (`baseline_rows`, a random choice of them), resamples and confidence.
        seed: of that choice and of the resamples.

    Returns:
        `majority` or `mean`, and `tfidf_linear`, which is left out where there is nothing to learn from: no input column that holds
        anything, or one class only.

    Raises:
        EmptyData: a part has no row with a target.
    """
    settings = settings or EvaluationSettings()
    train = _known_rows(train, "training")
    _known_rows(test, "test")

    def measured(name: str, description: str, predictions: np.ndarray, started: float, rows: int) -> Baseline:
        metrics, intervals = _figures(task, predictions, test.targets, settings, seed)
        return Baseline(name, description, metrics, intervals, predictions, time.perf_counter() - started, rows)

    started = time.perf_counter()
    name, description, constant = _constant(task, train.targets)
    predictions = np.broadcast_to(constant, test.targets.shape).copy()
    baselines = {name: measured(name, description, predictions, started, len(train.targets))}

    started = time.perf_counter()
    seen = _sample(train, settings.baseline_rows, seed)
    character_level = character_level or has_no_blanks(seen.inputs, column_types)
    features = linear_features(seen.inputs, test.inputs, column_types, character_level=character_level)
    if features is not None and (task != "classify" or len(np.unique(seen.targets)) > 1):
        predictions = _fit_and_predict(task, *features, seen.targets)
        description = f"{_MODELS[task]} on {_describe(column_types, character_level)}"
        baselines["tfidf_linear"] = measured("tfidf_linear", description, predictions, started, len(seen.targets))
    return baselines


_MODELS: dict[Task, str] = {
    "classify": "linear support vector machine",
    "labels": "one linear support vector machine per label",
    "regress": "ridge regression",
}


def _describe(column_types: Mapping[str, ColumnType], character_level: bool) -> str:
    kinds = set(column_types.values())
    words = "TF-IDF of 1 to 4 characters" if character_level and "text" in kinds else "TF-IDF of words and word pairs"
    parts = [words] if kinds & {"text", "tokens"} else []
    parts += [text for kind, text in (("category", "one-hot categories"), ("number", "scaled numbers")) if kind in kinds]
    return ", ".join(parts)


def _known_rows(part: Part, name: str) -> Part:
    """The rows that have a target."""
    targets = np.asarray(part.targets)
    known = np.isfinite(targets) if targets.dtype.kind == "f" else targets >= 0
    rows = known if known.ndim == 1 else known.any(axis=1)
    if not rows.any():
        raise EmptyData(f"The {name} part has no row with a target, so the baselines have nothing to go by.")
    return part if rows.all() else Part(part.inputs.filter(pl.Series(rows)), targets[rows])


def _sample(part: Part, rows: int, seed: int) -> Part:
    """At most `rows` rows, drawn at random and kept in their order."""
    if len(part.targets) <= rows:
        return part
    chosen = np.sort(np.random.default_rng(seed).choice(len(part.targets), rows, replace=False))
    return Part(part.inputs[chosen], part.targets[chosen])


def _constant(task: Task, targets: np.ndarray) -> tuple[str, str, Any]:
    """Name, description and the one prediction of the baseline that does not look at the input."""
    if task == "regress":
        return "mean", "mean of the training rows", targets.mean()
    if task == "labels":
        sets, counts = np.unique(np.maximum(targets, 0), axis=0, return_counts=True)
        return "majority", "most frequent set of labels of the training rows", sets[counts.argmax()]
    return "majority", "most frequent class of the training rows", np.bincount(targets).argmax()


def _fit_and_predict(task: Task, train: Any, test: Any, targets: np.ndarray) -> np.ndarray:
    from sklearn.linear_model import Ridge

    if task == "classify":
        return _classes(train, test, targets)
    if task == "labels":
        return np.stack([_one_label(train, test, column) for column in targets.T], axis=1)
    # Standardised, so that the penalty and the solver's tolerance mean the same whatever the target's unit.
    mean, deviation = targets.mean(), targets.std() or 1.0
    model = Ridge(alpha=1.0).fit(train, (targets - mean) / deviation)
    standard: np.ndarray = np.asarray(model.predict(test), dtype=np.float64)
    return standard * float(deviation) + float(mean)


def _one_label(train: Any, test: Any, column: np.ndarray) -> np.ndarray:
    """Predicted 0 or 1 of one label, learnt from the rows where it is known."""
    known = np.flatnonzero(column >= 0)
    values = np.unique(column[known])
    if len(values) < 2:
        return np.full(test.shape[0], values[0] if len(values) else 0, dtype=np.int64)
    return _classes(train[known], test, column[known])


def _classes(train: Any, test: Any, targets: np.ndarray) -> np.ndarray:
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.svm import LinearSVC

    with warnings.catch_warnings():
        # A baseline that stops at the iteration limit is as good for the purpose; the user cannot do anything about it.
        warnings.simplefilter("ignore", ConvergenceWarning)
        model = LinearSVC(C=1.0, random_state=0).fit(train, targets)
    return np.asarray(model.predict(test), dtype=np.int64)


def _figures(
    task: Task, predictions: np.ndarray, targets: np.ndarray, settings: EvaluationSettings, seed: int
) -> tuple[dict[str, float], dict[str, tuple[float, float]]]:
    metrics = {"classify": prediction_metrics, "labels": label_prediction_metrics, "regress": regression_metrics}[task]
    intervals = {"classify": prediction_intervals, "labels": label_intervals, "regress": regression_intervals}[task]
    bounds = intervals(predictions, targets, samples=settings.bootstrap_samples, confidence=settings.confidence, seed=seed)
    return metrics(predictions, targets), bounds
