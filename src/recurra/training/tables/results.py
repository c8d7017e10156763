"""What a training leaves behind: figures, baselines, `run.json`, the report and the model folder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import yaml

from recurra.data.split import Part
from recurra.data.store import Ragged, take_rows
from recurra.errors import DataError
from recurra.evaluation.baselines import Baseline
from recurra.evaluation.report import ColumnSummary, DataSummary, Report, Result, Training, write_report
from recurra.features.text import TextFeature
from recurra.model.folder import write_run
from recurra.model.inference import run_network
from recurra.model.model import Model
from recurra.training.fit import FitResult
from recurra.training.results import run_record
from recurra.training.tables.details import Measured, details, train_baselines
from recurra.training.tables.loaders import train_buckets
from recurra.training.tables.prepare import Prepared
from recurra.training.timings import Timings

__all__ = ["fill_run", "measure", "split_intervals", "write_results"]

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
            baselines = train_baselines(model.head, prepared, measured)
    model.run = _run(model, prepared, result, measured, baselines)
    model.run["timings"] = timings.rounded()
    return baselines


def write_results(
    folder: Path,
    model: Model,
    prepared: Prepared,
    result: FitResult,
    measured: Measured,
    *,
    baselines: Mapping[str, Baseline],
    timings: Timings,
) -> None:
    """Write the model folder, and then its report.

    Args:
        folder: the model folder.
        model: the trained model, its `run` filled in.
        prepared: the data it was trained on.
        result: the course of the training.
        measured: the network on the held-out parts.
        baselines: of `fill_run`.
        timings: of the stages so far; that of the report is added.

    Raises:
        ModelFolderError: the folder cannot be written.
        DataError: the report cannot be written.
    """
    model.save(folder, overwrite=True)
    try:
        with timings.stage("report"):
            report = _report(folder, model, prepared, result, measured, baselines=baselines)
            write_report(folder / "report.html", replace(report, timings=dict(timings.seconds)))
        model.run["timings"] = timings.rounded()
        write_run(folder, model.run)
    except OSError as error:
        raise DataError(
            f"The report cannot be written to {str(folder)!r}: {error.strerror or error}. Free some space. The model is saved and complete."
        ) from error


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


def _report(
    folder: Path, model: Model, prepared: Prepared, result: FitResult, measured: Measured, *, baselines: Mapping[str, Baseline]
) -> Report:
    settings = model.settings
    part = measured.part.name.lower()
    metrics = measured.metrics[part]
    found = details(model.head, prepared, measured, baselines=baselines)
    encoder = settings.encoder
    direction = "bidirectional " if encoder.bidirectional else ""
    return Report(
        title=folder.name,
        task=found.task,
        target=model.head.name,
        model=Result("recurrent network", f"{direction}{encoder.cell.upper()}", *split_intervals(metrics), seconds=result.seconds),
        part=part,
        baselines=[baseline.result() for baseline in baselines.values()],
        comparison=found.comparison,
        data=_data_summary(model, prepared),
        training=_training(model, result),
        results=found.results,
        errors=found.errors,
        settings=yaml.safe_dump(settings.model_dump(mode="json"), sort_keys=False, allow_unicode=True),
        facts=_facts(model, prepared, result),
        summary=f"{direction}{encoder.cell.upper()}, {encoder.layers} x {encoder.hidden_size} units, {model.network.parameter_count:,} parameters",
    )


def split_intervals(metrics: Mapping[str, float]) -> tuple[dict[str, float], dict[str, tuple[float, float]]]:
    """Flat metrics as values and intervals."""
    intervals = {name: (metrics[f"{name}_low"], metrics[f"{name}_high"]) for name in metrics if f"{name}_low" in metrics}
    ends = {f"{name}_{end}" for name in intervals for end in ("low", "high")}
    return {name: value for name, value in metrics.items() if name not in ends and name != "rows"}, intervals


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


def _training(model: Model, result: FitResult) -> Training:
    flow = [{**record, "layer": model.network.describe_module(record["layer"])} for record in result.gradient_flow]
    history = []
    for record in result.history:
        kept = {"epoch", "step", "train_loss", "learning_rate", "seconds", "tokens_per_second"}
        history.append({name if name in kept else f"validation_{name}": value for name, value in record.items()})
    return Training(
        history=history,
        monitor=result.monitor,
        best_epoch=result.best_epoch,
        gradient_layers=[record for record in flow if "distance" not in record],
        gradient_distances=[record for record in flow if "distance" in record],
    )


def _facts(model: Model, prepared: Prepared, result: FitResult) -> dict[str, str]:
    return {
        "date": model.run["date"],
        **{f"{package} version": version for package, version in model.run["versions"].items()},
        "seed": str(model.settings.training.seed),
        "threads": str(torch.get_num_threads()),
        "data fingerprint": prepared.facts.fingerprint,
        "parameters": f"{model.network.parameter_count:,}",
        "training": f"{result.steps:,} steps, {result.tokens_per_second:,.0f} tokens per second, {result.waiting_share:.1%} of the time waiting for data",
        "stopped": result.stopped,
        "backend": model.network.explain_backend(),
    }
