"""What a training leaves behind: figures, baselines, `run.json`, the report and the model folder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from recurra.data.split import Part
from recurra.data.store import Ragged, take_rows
from recurra.evaluation.baselines import Baseline
from recurra.evaluation.report import ColumnSummary, DataSummary, Report, Result, SeveralResults
from recurra.features.text import TextFeature
from recurra.heads import Head
from recurra.model.inference import run_network
from recurra.model.model import Model
from recurra.training.fit import FitResult
from recurra.training.results import run_facts, run_record, split_intervals, training_course
from recurra.training.tables.details import Details, Measured, details, train_baselines
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


def fill_run(model: Model, prepared: Prepared, result: FitResult, measured: Measured, *, timings: Timings) -> dict[str, Baseline]:
    """Train the baselines where they are wanted, and fill in `model.run`.

    Args:
        model: the trained model.
        prepared: the data it was trained on.
        result: the course of the training.
        measured: the network on the held-out parts.
        timings: of the stages so far; that of the baselines is added.

    Returns:
        The baselines by name.
    """
    baselines: dict[str, Baseline] = {}
    if model.settings.evaluation.baselines and measured.part != Part.TRAIN:
        with timings.stage("baselines"):
            baselines = _baselines(model, prepared, measured)
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
    settings = model.settings
    report = _head_report(folder.name, model, prepared, result=result, measured=measured, baselines=baselines)
    return replace(
        report,
        data=_data_summary(model, prepared),
        training=training_course(result, model.network.describe_module),
        settings=yaml.safe_dump(settings.model_dump(mode="json"), sort_keys=False, allow_unicode=True),
        facts=run_facts(model.run, result, unit="tokens", backend=model.network.explain_backend()),
    )


def _head_report(
    title: str, model: Model, prepared: Prepared, *, result: FitResult, measured: Measured, baselines: Mapping[str, Baseline]
) -> Report:
    """Figures, baselines and details; of several heads a report each inside the whole."""
    head, part = prepared.head, measured.part.name.lower()
    encoder = model.settings.encoder
    direction = "bidirectional " if encoder.bidirectional else ""
    if isinstance(head, Head):
        found = details(head, prepared, measured, baselines=baselines)
    else:
        inside = []
        for each in head.heads:
            own = measured.of(each)
            if len(own.rows):
                named = _named(baselines, each.name)
                inside.append(_head_report(each.name, model, prepared.of(each), result=result, measured=own, baselines=named))
        found = Details("several", None, SeveralResults(inside), [])
    figures = split_intervals(measured.metrics[part])
    return Report(
        title=title,
        task=found.task,
        target=head.name,
        model=Result("recurrent network", f"{direction}{encoder.cell.upper()}", *figures, seconds=result.seconds),
        part=part,
        baselines=[] if found.task == "several" else [baseline.result() for baseline in baselines.values()],
        comparison=found.comparison,
        data=DataSummary(rows={part: len(measured.rows)}),
        results=found.results,
        errors=found.errors,
        summary=f"{direction}{encoder.cell.upper()}, {encoder.layers} x {encoder.hidden_size} units, {model.network.parameter_count:,} parameters"
        if head is model.head
        else "",
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
