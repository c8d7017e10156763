"""Several labels at once: one yes-or-no decision a label."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, Self

import numpy as np
import polars as pl
import torch

from recurra.config import HeadSettings, Settings
from recurra.data.columns import split_labels
from recurra.errors import DataError, SettingsError, nearest
from recurra.heads.head import RowHead
from recurra.heads.label_set import LabelSet
from recurra.metrics.intervals import label_intervals
from recurra.metrics.labels import label_metrics, predicted_labels
from recurra.shapes import Float, Tensor

__all__ = ["LabelsHead"]

THRESHOLD = 0.5
"""Probability from which a label is predicted."""


class LabelsHead(RowHead):
    r"""Any number of labels a row: \(p_c = \sigma(o_c)\), loss the mean over rows and labels of the cross-entropy.

    Targets are lists of labels (in text, as JSON), or texts cut at `data.label_separator`. An empty text or list is a row without labels;
    only a null is a missing target. A label in `data.ignore_labels` is not learnt.

    Args:
        name: the target column.
        labels: the labels.
        separator: between the labels of one text.
        passed_over: labels that are passed over.
        settings: label smoothing and class weights.
    """

    task: ClassVar[str] = "labels"
    monitor = "micro_f1"
    score = "micro_f1"

    def __init__(self, name: str, labels: LabelSet, *, separator: str, passed_over: Iterable[str], settings: HeadSettings) -> None:
        super().__init__(name)
        self.labels = labels
        self.separator = separator
        self.passed_over = sorted(passed_over)
        self.smoothing = settings.label_smoothing
        self.weights = _positive_weights(labels, settings)

    @classmethod
    def fit(cls, name: str, values: Iterable[pl.Series], settings: Settings) -> Self:
        """Count the labels; see `Head.fit`."""
        if settings.out_of_scope.label is not None:
            raise SettingsError("out_of_scope is for one class a row: a row without labels is one that belongs to none. Leave it out.")
        separator, ignored = settings.data.label_separator, settings.data.ignore_labels
        found = (
            label for chunk in values for row in split_labels(chunk, separator).to_list() for label in row or () if label not in ignored
        )
        labels = LabelSet.count(found, "text")
        if not labels.names:
            raise DataError(f"No row has a label in column {name!r}. Check the target column and data.label_separator ({separator!r}).")
        return cls(name, labels, separator=separator, passed_over=ignored, settings=settings.head)

    @property
    def output_size(self) -> int:
        """One output a label."""
        return len(self.labels)

    @classmethod
    def missing(cls, values: pl.Series) -> pl.Series:
        """True where the target is null; an empty text is a row without labels."""
        return values.is_null()

    def problems(self, values: pl.Series) -> dict[int, str]:
        """Rows with a label that the training rows do not have."""
        found = {}
        for row, labels in enumerate(split_labels(values, self.separator).to_list()):
            unknown = [label for label in labels or () if label not in self.labels and label not in self.passed_over]
            if unknown:
                found[row] = self.labels.problem(unknown[0], self.name)
        return found

    def encode(self, values: pl.Series) -> np.ndarray:
        """(N, C) float32, 1 where a row has the label; a missing row is NaN."""
        targets = np.zeros((len(values), len(self.labels)), np.float32)
        for row, labels in enumerate(split_labels(values, self.separator).to_list()):
            if labels is None:
                targets[row] = np.nan
            else:
                targets[row, [self.labels.number(label) for label in labels if label in self.labels]] = 1.0
        return targets

    def loss(self, outputs: Float[Tensor, "B C"], targets: Float[Tensor, "B C"]) -> Float[Tensor, ""]:
        """Mean binary cross-entropy of the rows that have a target; zero when none has."""
        real = targets[:, 0].isfinite()
        outputs, targets = outputs[real], targets[real].to(outputs.dtype)
        smoothed = targets * (1 - self.smoothing) + self.smoothing / 2
        weights = None if self.weights is None else self.weights.to(outputs)
        total: Tensor = torch.nn.functional.binary_cross_entropy_with_logits(outputs, smoothed, pos_weight=weights, reduction="sum")
        return total / max(1, outputs.numel())

    def probabilities(self, outputs: np.ndarray) -> np.ndarray:
        """(N, C) sigmoids, in float64."""
        result: np.ndarray = 0.5 * (1.0 + np.tanh(0.5 * outputs.astype(np.float64)))
        return result

    def predict(self, outputs: np.ndarray, *, top: int | None = None, rows: pl.DataFrame | None = None) -> pl.DataFrame:  # noqa: ARG002
        """Columns `labels` and `probabilities` (lists of the predicted ones), and with `top` also `top_labels`, `top_probabilities`."""
        probabilities = self.probabilities(outputs)
        names = self.labels.names
        chosen = [np.flatnonzero(row >= THRESHOLD) for row in probabilities]
        columns = [
            pl.Series("labels", [[names[c] for c in row] for row in chosen], dtype=pl.List(pl.String)),
            pl.Series("probabilities", [p[row].tolist() for p, row in zip(probabilities, chosen, strict=True)], dtype=pl.List(pl.Float64)),
        ]
        if top is not None:
            order = np.argsort(-probabilities, axis=1, kind="stable")[:, :top]
            columns.append(pl.Series("top_labels", [[names[c] for c in row] for row in order], dtype=pl.List(pl.String)))
            columns.append(pl.Series("top_probabilities", np.take_along_axis(probabilities, order, 1).tolist(), dtype=pl.List(pl.Float64)))
        return pl.DataFrame(columns)

    def right(self, outputs: np.ndarray, targets: np.ndarray) -> np.ndarray:
        """True where exactly the labels of the row are predicted."""
        found: np.ndarray = (predicted_labels(self.probabilities(outputs), threshold=THRESHOLD) == targets).all(axis=1)
        return found

    def metrics(self, outputs: np.ndarray, targets: np.ndarray) -> dict[str, float]:
        """Micro and macro F1, share of rows with all labels right, share of wrong decisions."""
        return label_metrics(self.probabilities(outputs), _whole(targets), threshold=THRESHOLD)

    def intervals(self, outputs: np.ndarray, targets: np.ndarray, settings: Settings) -> dict[str, tuple[float, float]]:
        """Intervals of the metrics; see `Head.intervals`."""
        return label_intervals(
            predicted_labels(self.probabilities(outputs), threshold=THRESHOLD),
            _whole(targets),
            samples=settings.evaluation.bootstrap_samples,
            confidence=settings.evaluation.confidence,
            seed=settings.training.seed,
        )

    def describe(self) -> str:
        """The number of labels."""
        return f"{len(self.labels):,} labels, any number a row"

    def state(self) -> dict[str, Any]:
        """Labels, separator and ignored labels."""
        return {"labels": self.labels.state(), "separator": self.separator, "passed_over": self.passed_over}

    @classmethod
    def from_state(cls, name: str, state: Mapping[str, Any], settings: HeadSettings) -> Self:
        """The head that `state()` described."""
        return cls(
            name, LabelSet.from_state(state["labels"]), separator=state["separator"], passed_over=state["passed_over"], settings=settings
        )


def _whole(targets: np.ndarray) -> np.ndarray:
    """Encoded targets as the metrics take them: 0, 1, and -1 where missing."""
    return np.where(np.isfinite(targets), targets, -1).astype(np.int64)


def _positive_weights(labels: LabelSet, settings: HeadSettings) -> Tensor | None:
    """(C,) weights of the rows that have a label; "balanced" makes each label's mean weight over the counted labels one."""
    chosen = settings.class_weights
    if chosen == "none":
        return None
    if chosen == "balanced":
        counts = torch.tensor(labels.counts, dtype=torch.float64)
        return counts.mean() / counts
    for label in chosen:
        if label not in labels.names:
            raise SettingsError(
                f"head.class_weights names {label!r}, which is no label of the training rows.{nearest(label, labels.names)}"
            )
    return torch.tensor([chosen.get(name, 1.0) for name in labels.names], dtype=torch.float64)
