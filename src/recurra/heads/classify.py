"""One class of several: softmax and cross-entropy."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, Self

import numpy as np
import polars as pl
import torch

from recurra.config import HeadSettings, Settings
from recurra.errors import DataError, SettingsError, nearest
from recurra.heads.head import RowHead
from recurra.heads.label_set import LabelSet
from recurra.metrics.classification import classification_metrics
from recurra.metrics.intervals import classification_intervals
from recurra.shapes import Float, Int, Tensor

__all__ = ["ClassifyHead"]

MISSING = -1
"""Number of a target that is not there; such rows bring no loss."""


class ClassifyHead(RowHead):
    r"""One class a row: \(p = \mathrm{softmax}(o)\), loss \(-\sum_c w_y q_c \log p_c\).

    The smoothed target is \(q_c = (1 - \epsilon)[c = y] + \epsilon / C\); the mean over a batch is weighted by
    \(w_y\), as `torch.nn.CrossEntropyLoss` does.

    Args:
        name: the target column.
        labels: the classes.
        settings: label smoothing and class weights.
    """

    task: ClassVar[str] = "classify"
    monitor = "accuracy"
    score = "accuracy"

    def __init__(self, name: str, labels: LabelSet, settings: HeadSettings) -> None:
        super().__init__(name)
        self.labels = labels
        self.smoothing = settings.label_smoothing
        self.weights = _weights(labels, settings)

    @classmethod
    def fit(cls, name: str, values: Iterable[pl.Series], settings: Settings) -> Self:
        """Count the classes; see `Head.fit`."""
        labels = _count(values)
        if len(labels) < 2:
            held = f"only the class {labels.names[0]!r}" if labels.names else "no class at all"
            raise DataError(
                f"The training rows hold {held} in column {name!r}: two or more are needed to learn to tell them apart. "
                "Check the target column, the split and data.ignore_labels, or give a table with more classes."
            )
        return cls(name, labels, settings.head)

    @property
    def output_size(self) -> int:
        """One output a class."""
        return len(self.labels)

    @classmethod
    def ignored(cls, values: pl.Series, labels: Sequence[str]) -> pl.Series:
        """True where the class is one of `labels`."""
        return values.cast(pl.String).str.strip_chars().is_in(list(labels)).fill_null(value=False)

    def problems(self, values: pl.Series) -> dict[int, str]:
        """Classes that the training rows do not have."""
        missing = self.missing(values)
        return {
            row: self.labels.problem(text, self.name)
            for row, (text, gone) in enumerate(zip(LabelSet.texts(values), missing, strict=True))
            if text is not None and not gone and text not in self.labels
        }

    def encode(self, values: pl.Series) -> np.ndarray:
        """(N,) int64 class numbers, -1 where the target is missing or unknown."""
        texts = LabelSet.texts(values)
        return np.fromiter((self.labels.number(text) for text in texts), np.int64, len(texts))

    def loss(self, outputs: Float[Tensor, "B C"], targets: Int[Tensor, " B"]) -> Float[Tensor, ""]:
        """Weighted mean cross-entropy of the rows that have a target; zero when none has."""
        weights = None if self.weights is None else self.weights.to(outputs)
        total: Tensor = torch.nn.functional.cross_entropy(
            outputs, targets, weight=weights, ignore_index=MISSING, label_smoothing=self.smoothing, reduction="sum"
        )
        real = targets != MISSING
        share = real.sum() if weights is None else weights[targets.clamp(min=0)].mul(real).sum()
        return total / share.where(share > 0, 1)

    def probabilities(self, outputs: np.ndarray) -> np.ndarray:
        """(N, C) softmax, in float64."""
        shifted = np.exp(outputs.astype(np.float64) - outputs.max(axis=1, keepdims=True))
        result: np.ndarray = shifted / shifted.sum(axis=1, keepdims=True)
        return result

    def predict(self, outputs: np.ndarray, *, top: int | None = None, rows: pl.DataFrame | None = None) -> pl.DataFrame:  # noqa: ARG002
        """Columns `label`, `probability`, and with `top` also `top_labels`, `top_probabilities`."""
        probabilities = self.probabilities(outputs)
        values = self.labels.values()
        best = probabilities.argmax(axis=1)
        columns = [
            pl.Series("label", [values[c] for c in best.tolist()], dtype=self.labels.dtype),
            pl.Series("probability", probabilities[np.arange(len(best)), best]),
        ]
        if top is not None:
            order = np.argsort(-probabilities, axis=1, kind="stable")[:, :top]
            columns.append(pl.Series("top_labels", [[values[c] for c in row] for row in order], dtype=pl.List(self.labels.dtype)))
            columns.append(pl.Series("top_probabilities", np.take_along_axis(probabilities, order, 1).tolist(), dtype=pl.List(pl.Float64)))
        return pl.DataFrame(columns)

    def right(self, outputs: np.ndarray, targets: np.ndarray) -> np.ndarray:
        """True where the most probable class is the target."""
        found: np.ndarray = self.probabilities(outputs).argmax(axis=1) == targets
        return found

    def metrics(self, outputs: np.ndarray, targets: np.ndarray) -> dict[str, float]:
        """Accuracy, F1, log loss, calibration error and, where defined, ROC AUC."""
        return classification_metrics(self.probabilities(outputs), targets)

    def intervals(self, outputs: np.ndarray, targets: np.ndarray, settings: Settings) -> dict[str, tuple[float, float]]:
        """Intervals of the metrics; see `Head.intervals`."""
        return classification_intervals(
            self.probabilities(outputs),
            targets,
            samples=settings.evaluation.bootstrap_samples,
            confidence=settings.evaluation.confidence,
            seed=settings.training.seed,
        )

    def describe(self) -> str:
        """The number of classes."""
        return f"{len(self.labels):,} classes"

    def state(self) -> dict[str, Any]:
        """Labels, smoothing and weights."""
        return {"labels": self.labels.state()}

    @classmethod
    def from_state(cls, name: str, state: Mapping[str, Any], settings: HeadSettings) -> Self:
        """The head that `state()` described."""
        return cls(name, LabelSet.from_state(state["labels"]), settings)


def _count(chunks: Iterable[pl.Series]) -> LabelSet:
    kinds: list[str] = []

    def texts() -> Iterable[str]:
        for chunk in chunks:
            kinds.append(LabelSet.kind_of(chunk.dtype))
            yield from (text for text in LabelSet.texts(chunk) if text)

    found = list(texts())
    return LabelSet.count(found, kinds[0] if kinds else "text")  # type: ignore[arg-type]


def _weights(labels: LabelSet, settings: HeadSettings) -> Tensor | None:
    """(C,) weights of the classes.

    "balanced" is rows / (classes x rows of the class), so that their mean over the training rows is one.
    Source: King & Zeng 2001, as scikit-learn's class_weight="balanced".
    """
    chosen = settings.class_weights
    if chosen == "none":
        return None
    if chosen == "balanced":
        counts = torch.tensor(labels.counts, dtype=torch.float64)
        return counts.sum() / (len(labels) * counts)
    for label in chosen:
        if label not in labels.names:
            raise SettingsError(
                f"head.class_weights names {label!r}, which is no class of the training rows.{nearest(label, labels.names)}"
            )
    return torch.tensor([chosen.get(name, 1.0) for name in labels.names], dtype=torch.float64)
