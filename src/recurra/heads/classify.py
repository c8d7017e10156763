"""One class of several: softmax and cross-entropy."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Self

import numpy as np
import polars as pl
import torch

from recurra.config import HeadSettings, Settings
from recurra.errors import DataError, SettingsError, nearest
from recurra.heads.head import RowHead
from recurra.heads.label_set import LabelSet
from recurra.heads.out_of_scope import OutOfScope, choose_threshold, scope_intervals, scope_metrics
from recurra.metrics.classification import classification_metrics, prediction_metrics
from recurra.metrics.intervals import classification_intervals, prediction_intervals
from recurra.shapes import Float, Int, Tensor

__all__ = ["ClassifyHead"]

MISSING = -1
"""Number of a target that is not there; such rows bring no loss."""


class ClassifyHead(RowHead):
    r"""One class a row: \(p = \mathrm{softmax}(o)\), loss \(-\sum_c w_c q_c \log p_c\).

    The smoothed target is \(q_c = (1 - \epsilon)[c = y] + \epsilon / C\); the mean over a batch is weighted by
    \(w_y\), as `torch.nn.CrossEntropyLoss` does.

    Rows may belong to none of the classes (`out_of_scope`). Where a threshold tells so, decisions and what is counted of them
    (accuracy, F1, confusion) know one class more than the network has; what is made of probabilities speaks of the C classes and the
    rows in scope.

    Args:
        name: the target column.
        labels: the classes.
        settings: label smoothing and class weights.
        out_of_scope: what is said of rows that belong to none of the classes; None where every row is given one.
    """

    task: ClassVar[str] = "classify"
    monitor = "accuracy"
    score = "accuracy"

    def __init__(self, name: str, labels: LabelSet, settings: HeadSettings, *, out_of_scope: OutOfScope | None = None) -> None:
        super().__init__(name)
        self.out_of_scope = out_of_scope
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
        labels, outside = _scope(labels, name, settings)
        return cls(name, labels, settings.head, out_of_scope=outside)

    @property
    def classes(self) -> list[str]:
        """Names of what a row can be given: the classes, and what is said of rows that belong to none where a threshold tells so."""
        return [*self.labels.names, *([self.out_of_scope.label] if self._by_threshold and self.out_of_scope is not None else [])]

    @property
    def _by_threshold(self) -> bool:
        return self.out_of_scope is not None and self.out_of_scope.by == "threshold"

    @property
    def _threshold(self) -> float | None:
        return None if self.out_of_scope is None else self.out_of_scope.threshold

    def _number(self, text: str | None) -> int:
        if self._by_threshold and self.out_of_scope is not None and text == self.out_of_scope.label:
            return len(self.labels)
        return self.labels.number(text)

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
            if text is not None and not gone and self._number(text) < 0
        }

    def encode(self, values: pl.Series) -> np.ndarray:
        """(N,) int64 class numbers, -1 where the target is missing or unknown; C where it is out of the scope of the C classes."""
        texts = LabelSet.texts(values)
        return np.fromiter((self._number(text) for text in texts), np.int64, len(texts))

    def loss(self, outputs: Float[Tensor, "B C"], targets: Int[Tensor, " B"]) -> Float[Tensor, ""]:
        """Weighted mean cross-entropy of the rows that have a target; zero when none has."""
        weights = None if self.weights is None else self.weights.to(outputs)
        targets = targets.where(targets < outputs.shape[1], MISSING)  # out of scope: there is no class to learn
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

    def said(self, outputs: np.ndarray) -> np.ndarray:
        """What is said of each row and how surely: the probabilities; (N, C + 1) where a threshold tells what is out of scope.

        The last number is then 1 - max p where max p is under the threshold, all others being 0, and 0 elsewhere.
        """
        found = self.probabilities(outputs)
        if self._threshold is None:
            return found
        best = found.max(axis=1)
        outside = best < self._threshold
        result: np.ndarray = np.concatenate([np.where(outside[:, None], 0.0, found), np.where(outside, 1.0 - best, 0.0)[:, None]], axis=1)
        return result

    def predict(self, outputs: np.ndarray, *, top: int | None = None, rows: pl.DataFrame | None = None) -> pl.DataFrame:  # noqa: ARG002
        """Columns `label`, `probability`, and with `top` also `top_labels`, `top_probabilities`.

        The probability of a row that a threshold tells to be out of scope is that of its best class being wrong; the best labels are
        always those of the classes.
        """
        probabilities, said = self.probabilities(outputs), self.said(outputs)
        values: list[Any] = self.labels.values()
        if self._threshold is not None and self.out_of_scope is not None:
            values = [*values, _in_kind(self.out_of_scope.label, self.labels)]
        best = said.argmax(axis=1)
        columns = [
            pl.Series("label", [values[c] for c in best.tolist()], dtype=self.labels.dtype),
            pl.Series("probability", said[np.arange(len(best)), best]),
        ]
        if top is not None:
            order = np.argsort(-probabilities, axis=1, kind="stable")[:, :top]
            columns.append(pl.Series("top_labels", [[values[c] for c in row] for row in order], dtype=pl.List(self.labels.dtype)))
            columns.append(pl.Series("top_probabilities", np.take_along_axis(probabilities, order, 1).tolist(), dtype=pl.List(pl.Float64)))
        return pl.DataFrame(columns)

    def settle(self, outputs: np.ndarray, targets: np.ndarray) -> None:
        """Choose the threshold, where one tells what is out of scope."""
        if not self._by_threshold or self.out_of_scope is None:
            return
        known = targets >= 0
        probabilities, targets = self.probabilities(outputs[known]), targets[known]
        best, outside = probabilities.argmax(axis=1), targets == len(self.labels)
        threshold = choose_threshold(probabilities.max(axis=1), best == targets, outside, keep=self.out_of_scope.keep)
        self.out_of_scope = replace(self.out_of_scope, threshold=threshold)

    def right(self, outputs: np.ndarray, targets: np.ndarray) -> np.ndarray:
        """True where what is said is the target."""
        found: np.ndarray = self.said(outputs).argmax(axis=1) == targets
        return found

    def metrics(self, outputs: np.ndarray, targets: np.ndarray) -> dict[str, float]:
        """Accuracy, F1, log loss, calibration error and, where defined, ROC AUC; where rows may be out of scope, also `scope_metrics`."""
        inside = self.in_scope(targets)
        found = classification_metrics(self.probabilities(outputs), inside) if (inside >= 0).any() or self._threshold is None else {}
        if self._outside is None:
            return found
        decisions = self.said(outputs).argmax(axis=1)
        counted = prediction_metrics(decisions[targets >= 0], targets[targets >= 0])
        return found | counted | scope_metrics(decisions, targets, self._outside)

    def in_scope(self, targets: np.ndarray) -> np.ndarray:
        """Targets with -1 where a row belongs to none of the C classes."""
        found: np.ndarray = np.where(targets < len(self.labels), targets, MISSING)
        return found

    def measured(self, targets: np.ndarray) -> np.ndarray:
        """Targets as decisions are counted against: rows out of scope are left out until there is a threshold."""
        return self.in_scope(targets) if self._threshold is None else targets

    @property
    def _outside(self) -> int | None:
        """Number of the class that stands for none of the others, where rows are given it."""
        if self.out_of_scope is None:
            return None
        if self.out_of_scope.by == "class":
            return self.labels.number(self.out_of_scope.label)
        return None if self._threshold is None else len(self.labels)

    def intervals(self, outputs: np.ndarray, targets: np.ndarray, settings: Settings) -> dict[str, tuple[float, float]]:
        """Intervals of the metrics; see `Head.intervals`."""
        samples, confidence, seed = settings.evaluation.bootstrap_samples, settings.evaluation.confidence, settings.training.seed
        inside, found = self.in_scope(targets), {}
        if (inside >= 0).any() or self._threshold is None:
            found = classification_intervals(self.probabilities(outputs), inside, samples=samples, confidence=confidence, seed=seed)
        if self._outside is None:
            return found
        decisions, known = self.said(outputs).argmax(axis=1), targets >= 0
        found |= prediction_intervals(decisions[known], targets[known], samples=samples, confidence=confidence, seed=seed)
        return found | scope_intervals(decisions, targets, self._outside, samples=samples, confidence=confidence, seed=seed)

    def describe(self) -> str:
        """The number of classes, and how rows are told that belong to none."""
        text, outside = f"{len(self.labels):,} classes", self.out_of_scope
        if outside is None:
            return text
        if outside.by == "class":
            return f"{text}, {outside.label!r} for what belongs to none of the others"
        where = "" if outside.threshold is None else f" under a probability of {outside.threshold:.3f}"
        return f"{text}, or {outside.label!r}{where}"

    def state(self) -> dict[str, Any]:
        """Labels, and what is said of rows that belong to none."""
        outside = {} if self.out_of_scope is None else {"out_of_scope": self.out_of_scope.state()}
        return {"labels": self.labels.state(), **outside}

    @classmethod
    def from_state(cls, name: str, state: Mapping[str, Any], settings: HeadSettings) -> Self:
        """The head that `state()` described."""
        outside = OutOfScope.from_state(state["out_of_scope"]) if "out_of_scope" in state else None
        return cls(name, LabelSet.from_state(state["labels"]), settings, out_of_scope=outside)


def _count(chunks: Iterable[pl.Series]) -> LabelSet:
    kinds: list[str] = []

    def texts() -> Iterable[str]:
        for chunk in chunks:
            kinds.append(LabelSet.kind_of(chunk.dtype))
            yield from (text for text in LabelSet.texts(chunk) if text)

    found = list(texts())
    return LabelSet.count(found, kinds[0] if kinds else "text")  # type: ignore[arg-type]


def _scope(labels: LabelSet, name: str, settings: Settings) -> tuple[LabelSet, OutOfScope | None]:
    """The classes that are learnt, and what is said of rows that belong to none of them.

    Raises:
        SettingsError: there is no training row with the label that is to be a class, or predictions could not hold it.
        DataError: without it no two classes are left.
    """
    chosen = settings.out_of_scope
    if chosen.label is None:
        return labels, None
    by = ("class" if chosen.label in labels else "threshold") if chosen.by == "auto" else chosen.by
    if by == "class" and chosen.label not in labels:
        raise SettingsError(
            f"out_of_scope.by=class learns the label {chosen.label!r}, which no training row has in column {name!r}."
            f"{nearest(chosen.label, labels.names)} Give such rows, or set out_of_scope.by=threshold."
        )
    if by == "threshold":
        _in_kind(chosen.label, labels)
        labels = labels.without(chosen.label)
        if len(labels) < 2:
            raise DataError(
                f"Without {chosen.label!r}, the training rows hold {len(labels)} class in column {name!r}: two or more are needed."
            )
    return labels, OutOfScope(chosen.label, by, chosen.keep)


def _in_kind(label: str, labels: LabelSet) -> Any:
    """A label that is none of the classes, in their type."""
    if labels.kind == "text":
        return label
    try:
        if labels.kind == "integer":
            return int(label)
    except ValueError:
        pass
    raise SettingsError(
        f"out_of_scope.label={label!r} cannot stand among labels that are {'whole numbers' if labels.kind == 'integer' else 'truth values'}: "
        + ("give a whole number." if labels.kind == "integer" else "make the labels texts.")
    )


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
