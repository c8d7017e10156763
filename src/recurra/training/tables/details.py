"""What a measured network is shown beside and what its report shows of it, by head: one output a row, or a tag a token (`tags`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from recurra.data.split import Part
from recurra.data.store import Columns, Ragged, Rows, take_rows
from recurra.evaluation import baselines as row_baselines
from recurra.evaluation.baselines import Baseline
from recurra.evaluation.comparison import Comparison, compare
from recurra.evaluation.errors import confident_errors, confident_label_errors, largest_errors
from recurra.evaluation.report import ClassResults, ErrorExample, LabelResults, NumberResults, TagResults
from recurra.evaluation.results import Task
from recurra.features.text import TextFeature
from recurra.heads import ClassifyHead, Head, LabelsHead, RegressHead, RowHead, TagHead
from recurra.metrics.classification import confusion, reliability, roc_curves
from recurra.metrics.labels import per_label, predicted_labels
from recurra.training.tables.prepare import Prepared
from recurra.training.tables.tags import tag_comparison, tag_examples, tag_results, train_tag_baselines

__all__ = ["Details", "Measured", "details", "train_baselines"]

SHOWN_ERRORS = 20
"""Most confident errors that the report shows."""
EXCERPT = 600
"""Characters of a row that the report gets."""


@dataclass(frozen=True)
class Measured:
    """The network on the held-out parts.

    Attributes:
        metrics: flat metrics by part, validation before test.
        part: the part that the report is about: test, or validation where there is no test part, or else train.
        rows: numbers of the rows of that part.
        outputs: results of the network for these rows.
        targets: encoded targets of these rows.
    """

    metrics: dict[str, dict[str, float]]
    part: Part
    rows: np.ndarray
    outputs: Rows
    targets: Rows

    def of(self, head: Head) -> Measured:
        """The same as one of several heads is measured: on the rows that have its target, its metrics under their own names."""
        if not isinstance(self.outputs, Columns) or not isinstance(self.targets, Columns):
            return self
        outputs, targets = self.outputs[head.name], self.targets[head.name]
        known = np.flatnonzero(head.known(outputs, targets))
        prefix = f"{head.name}."
        own = {
            part: {name.removeprefix(prefix): value for name, value in values.items() if name.startswith(prefix)}
            for part, values in self.metrics.items()
        }
        return replace(self, metrics=own, rows=self.rows[known], outputs=take_rows(outputs, known), targets=take_rows(targets, known))


@dataclass(frozen=True)
class Details:
    """What the report shows of the predictions.

    Attributes:
        task: that the report is of.
        comparison: with the baseline to beat.
        results: class by class, or what a task has in its place.
        errors: the most confident ones.
    """

    task: Task
    comparison: Comparison | None
    results: ClassResults | LabelResults | NumberResults | TagResults
    errors: list[ErrorExample]


def train_baselines(head: Head, prepared: Prepared, measured: Measured) -> dict[str, Baseline]:
    """The baselines of the head's task, trained on the same training rows and measured on the same rows."""
    if isinstance(head, TagHead):
        assert isinstance(measured.targets, Ragged)
        return train_tag_baselines(head, prepared, measured.rows, measured.targets)
    assert isinstance(head, RowHead)
    return _row_baselines(head, prepared, measured)


def details(head: Head, prepared: Prepared, measured: Measured, *, baselines: Mapping[str, Baseline]) -> Details:
    """What the report shows of a measured network."""
    if isinstance(head, TagHead):
        outputs, tags = measured.outputs, measured.targets
        assert isinstance(outputs, Ragged)
        assert isinstance(tags, Ragged)
        rival = baselines.get("window_linear")
        return Details(
            "token" if head.scheme.name == "none" else "tag",
            None if rival is None else tag_comparison(head, prepared, outputs, tags, rival),
            tag_results(head, outputs, tags),
            tag_examples(head, prepared, measured.rows, outputs, tags),
        )
    assert isinstance(head, RowHead)
    found, given = measured.outputs, measured.targets
    assert isinstance(found, np.ndarray)
    assert isinstance(given, np.ndarray)
    targets = _targets(head, given)
    settings, linear = prepared.plan.settings, baselines.get("tfidf_linear")
    comparison: Comparison | None = None
    if linear is not None:
        predictions = _predictions(head, found)
        comparison = compare(
            prepared.plan.task, predictions, linear.predictions, targets, settings=settings.evaluation, seed=settings.training.seed
        )
    return Details(prepared.plan.task, comparison, _results(head, found, targets), _errors(head, prepared, measured.rows, found, targets))


def _targets(head: RowHead, targets: np.ndarray) -> np.ndarray:
    """Encoded targets as the metrics and baselines take them."""
    if isinstance(head, RegressHead):
        return head.in_unit(targets)
    if isinstance(head, ClassifyHead):
        return head.measured(targets)
    if isinstance(head, LabelsHead):
        return np.where(np.isfinite(targets), targets, -1).astype(np.int64)
    return targets


def _predictions(head: RowHead, outputs: np.ndarray) -> np.ndarray:
    """The network's decisions in the form of the targets."""
    if isinstance(head, ClassifyHead):
        classes: np.ndarray = np.argmax(head.said(outputs), axis=1)
        return classes
    values = head.probabilities(outputs)
    return predicted_labels(values) if isinstance(head, LabelsHead) else values


def _row_baselines(head: RowHead, prepared: Prepared, measured: Measured) -> dict[str, Baseline]:
    """The baselines on the same training rows (a random choice of them where they are very many) and the same measured rows."""
    settings = prepared.plan.settings
    columns = [feature.name for feature in prepared.features]
    targets = prepared.targets
    assert isinstance(targets, np.ndarray)
    train_rows = prepared.part(Part.TRAIN)
    limit = settings.evaluation.baseline_rows
    if len(train_rows) > limit:
        train_rows = np.sort(np.random.default_rng(settings.training.seed).choice(train_rows, limit, replace=False))
    parts = [row_baselines.Part(prepared.rows.gather(rows, columns), _targets(head, targets[rows])) for rows in (train_rows, measured.rows)]
    kinds = {feature.tokenizer.kind for feature in prepared.features if isinstance(feature, TextFeature)}
    return row_baselines.train_baselines(
        parts[0],
        parts[1],
        task=prepared.plan.task,
        column_types={feature.name: feature.type for feature in prepared.features},
        character_level="character" in kinds,
        settings=settings.evaluation,
        seed=settings.training.seed,
    )


def _results(head: RowHead, outputs: np.ndarray, targets: np.ndarray) -> ClassResults | LabelResults | NumberResults:
    values = head.probabilities(outputs)
    if isinstance(head, ClassifyHead):
        counted, inside = head.measured(targets), head.in_scope(targets)
        known = counted >= 0
        counts = confusion(head.said(outputs)[known].argmax(axis=1), counted[known], classes=len(head.classes))
        return ClassResults(head.classes, counts, reliability(values, inside), roc_curves(values, inside, list(head.labels.names)))
    if isinstance(head, LabelsHead):
        return LabelResults(per_label(predicted_labels(values), targets, list(head.labels.names)))
    return NumberResults(values, targets)


def _errors(head: RowHead, prepared: Prepared, all_rows: np.ndarray, outputs: np.ndarray, targets: np.ndarray) -> list[ErrorExample]:
    """The most confident errors with their texts; the rows are read again, the chosen ones only."""
    values = head.probabilities(outputs)

    def find(describe: Any) -> list[ErrorExample]:
        if isinstance(head, ClassifyHead):
            return confident_errors(head.said(outputs), head.measured(targets), head.classes, describe, limit=SHOWN_ERRORS)
        if isinstance(head, LabelsHead):
            return confident_label_errors(values, targets, list(head.labels.names), describe, limit=SHOWN_ERRORS)
        return largest_errors(values, targets, describe, limit=SHOWN_ERRORS)

    found = find(lambda row: (str(row), ""))
    chosen = np.unique([int(error.row) for error in found]).astype(np.int64)
    if not len(chosen):
        return []
    rows = all_rows[chosen]
    frame, places = prepared.rows.gather(rows, [feature.name for feature in prepared.features]), prepared.rows.places(rows, head.name)
    texts = {
        int(row): (place, " | ".join(str(value) for value in values if value is not None)[:EXCERPT])
        for row, place, values in zip(chosen, places, frame.iter_rows(), strict=True)
    }
    return [replace(error, row=texts[int(error.row)][0], text=texts[int(error.row)][1]) for error in found]
