"""What a training leaves behind: figures, baselines, `run.json`, the report and the model folder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from recurra.data.split import Part
from recurra.data.store import Ragged, take_rows
from recurra.evaluation.baselines import Baseline
from recurra.evaluation.report import ColumnSummary, DataSummary, Report, SeveralResults
from recurra.features.text import TextFeature
from recurra.heads import Head
from recurra.model.inference import run_network
from recurra.model.model import Model
from recurra.training.fit import FitResult
from recurra.training.results import begin_report, run_record, split_intervals
from recurra.training.tables.details import Measured, details, train_baselines
from recurra.training.tables.loaders import train_buckets
from recurra.training.tables.prepare import Prepared
from recurra.training.timings import Timings

__all__ = ["fill_run", "measure", "table_report"]

EXCERPT = 600
"""Characters of a row that the report gets."""


def measure(model: Model, prepared: Prepared) -> Measured:
    """Run the trained network over the validation and test rows (over the training rows where nothing was held out)."""
    metrics = {}
    last: Measured | None = None
    held_out = [part for part in (Part.VALIDATION, Part.TEST) if len(prepared.part(part))]
    for part in held_out or [Part.TRAIN]:
        rows = prepared.part(part)
        outputs = run_network(model.network, prepared.inputs, model.settings.training, rows)
        targets = take_rows(prepared.targets, rows)
        if part == Part.VALIDATION:
            model.head.settle(outputs, targets)
        metrics[part.name.lower()] = model.measure(outputs, targets)
        last = Measured(metrics, part, rows, outputs, targets)
    assert last is not None
    return last


def fill_run(
    model: Model, prepared: Prepared, result: FitResult, measured: Measured, *, alone: Mapping[str, Baseline], timings: Timings
) -> dict[str, Baseline]:
    """Train the baselines where they are wanted, and fill in `model.run`.

    Args:
        model: the trained model.
        prepared: the data it was trained on.
        result: the course of the training.
        measured: the model on the held-out parts.
        alone: network and linear model by themselves, where the model is both.
        timings: of the stages so far; that of the baselines is added.

    Returns:
        What the model is shown beside, by name: `alone`, and the baselines.
    """
    baselines = dict(alone)
    if model.settings.evaluation.baselines and measured.part != Part.TRAIN:
        with timings.stage("baselines"):
            baselines |= _baselines(model, prepared, measured)
    model.run = _run(model, prepared, result, measured, baselines)
    model.run["timings"] = timings.rounded()
    return baselines


def _baselines(model: Model, prepared: Prepared, measured: Measured) -> dict[str, Baseline]:
    """The baselines by name; those of several heads have the head's name before their own, as their metrics have."""
    found: dict[str, Baseline] = {}
    for head in model.head.heads:
        own = measured.of(head)
        if len(own.rows):
            prefix = "" if head is model.head else f"{head.name}."
            found |= {f"{prefix}{name}": baseline for name, baseline in train_baselines(head, prepared.of(head), own).items()}
    return found


def _run(model: Model, prepared: Prepared, result: FitResult, measured: Measured, baselines: Mapping[str, Baseline]) -> dict[str, Any]:
    """What `run.json` holds."""
    facts = prepared.facts
    part = measured.part.name.lower()
    return run_record(
        model.settings,
        result,
        data={
            "source": prepared.rows.first.description,
            "fingerprint": facts.fingerprint,
            "rows": facts.rows,
            "left_out": facts.left_out,
            "overlap": facts.overlap,
            "columns": {column.name: column.type for column in prepared.plan.columns},
        },
        parameters=model.network.parameter_count,
        metrics=measured.metrics,
        baselines={name: {part: baseline.metrics} for name, baseline in baselines.items()},
    )


def table_report(
    folder: Path, model: Model, prepared: Prepared, result: FitResult, measured: Measured, *, baselines: Mapping[str, Baseline]
) -> Report:
    """All that the report says.

    Args:
        folder: the model folder, whose name is the title.
        model: the trained model, its `run` filled in.
        prepared: the data it was trained on.
        result: the course of the training.
        measured: the network on the held-out parts.
        baselines: of `fill_run`.
    """
    head, part = model.head, measured.part.name.lower()
    report = begin_report(folder, model, result, task=prepared.plan.task, target=head.name, part=part, metrics=measured.metrics[part])
    report = replace(report, data=_data_summary(model, prepared))
    if isinstance(head, Head):
        return _with_details(report, head, prepared, measured, baselines=baselines)
    inside = []
    for each in head.heads:
        own = measured.of(each)
        if len(own.rows):
            own_data = prepared.of(each)
            values, intervals = split_intervals(own.metrics[part])
            begun = Report(
                title=each.name,
                task=own_data.plan.task,
                target=each.name,
                model=replace(report.model, metrics=values, intervals=intervals),
                part=part,
                confidence=report.confidence,
                data=DataSummary(rows={part: len(own.rows)}),
            )
            inside.append(_with_details(begun, each, own_data, own, baselines=_named(baselines, each.name)))
    return replace(report, results=SeveralResults(inside))


def _with_details(report: Report, head: Head, prepared: Prepared, measured: Measured, *, baselines: Mapping[str, Baseline]) -> Report:
    """The report with baselines and details of one head."""
    found = details(head, prepared, measured, baselines=baselines)
    return replace(
        report,
        task=found.task,
        baselines=[baseline.result() for baseline in baselines.values()],
        comparison=found.comparison,
        results=found.results,
        errors=found.errors,
    )


def _named(baselines: Mapping[str, Baseline], head: str) -> dict[str, Baseline]:
    """The baselines of one of several heads, by their own names."""
    prefix = f"{head}."
    return {name.removeprefix(prefix): baseline for name, baseline in baselines.items() if name.startswith(prefix)}


def _data_summary(model: Model, prepared: Prepared) -> DataSummary:
    facts = prepared.facts
    head = prepared.rows.first.head(1)
    train_rows = prepared.part(Part.TRAIN)
    lengths = {}
    truncated = {}
    for name, column in prepared.inputs.items():
        if isinstance(column, Ragged):
            lengths[name] = column.lengths[train_rows]
            if column.truncated:
                truncated[name] = column.truncated
    kinds = {feature.tokenizer.kind for feature in model.features if isinstance(feature, TextFeature)}
    return DataSummary(
        source=prepared.rows.first.description,
        columns=[
            ColumnSummary(column.name, column.type, column.reason, str(head[column.name][0])[:EXCERPT] if len(head) else "")
            for column in prepared.plan.columns
        ],
        rows=facts.rows,
        left_out=facts.left_out,
        overlap=facts.overlap,
        truncated=truncated,
        padding_waste=train_buckets(prepared).padding_waste() if lengths else None,
        lengths=lengths,
        max_length=model.settings.text.max_length if lengths else None,
        length_unit="character" if kinds == {"character"} else "token",
    )
