"""What a training leaves behind: figures, baselines, `run.json`, the report and the model folder."""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from recurra.data.split import Part
from recurra.data.store import Ragged
from recurra.errors import DataError
from recurra.evaluation.baselines import Baseline, train_baselines
from recurra.evaluation.baselines import Part as BaselinePart
from recurra.evaluation.comparison import Comparison, compare
from recurra.evaluation.errors import confident_errors, confident_label_errors, largest_errors
from recurra.evaluation.report import (
    ClassResults,
    ColumnSummary,
    DataSummary,
    ErrorExample,
    LabelResults,
    NumberResults,
    Report,
    Result,
    Training,
    write_report,
)
from recurra.features.text import TextFeature
from recurra.heads import ClassifyHead, LabelsHead, RegressHead
from recurra.metrics.classification import confusion, reliability, roc_curves
from recurra.metrics.labels import per_label, predicted_labels
from recurra.model.folder import write_run
from recurra.model.inference import run_network
from recurra.model.model import Model
from recurra.training.fit import FitResult
from recurra.training.tables.loaders import train_buckets
from recurra.training.tables.prepare import Prepared
from recurra.training.timings import Timings

__all__ = ["Measured", "fill_run", "measure", "versions", "write_results"]

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
        outputs: (N, C) of the network for these rows.
        targets: encoded targets of these rows.
    """

    metrics: dict[str, dict[str, float]]
    part: Part
    rows: np.ndarray
    outputs: np.ndarray
    targets: np.ndarray


def measure(model: Model, prepared: Prepared) -> Measured:
    """Run the trained network over the validation and test rows (over the training rows where nothing was held out)."""
    metrics = {}
    last: Measured | None = None
    held_out = [part for part in (Part.VALIDATION, Part.TEST) if len(prepared.part(part))]
    for part in held_out or [Part.TRAIN]:
        rows = prepared.part(part)
        outputs = run_network(model.network, prepared.inputs, model.settings.training, rows)
        targets = prepared.targets[rows]
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


def _targets(model: Model, targets: np.ndarray) -> np.ndarray:
    """Encoded targets as the metrics and baselines take them."""
    if isinstance(model.head, RegressHead):
        return model.head.in_unit(targets)
    if isinstance(model.head, LabelsHead):
        return np.where(np.isfinite(targets), targets, -1).astype(np.int64)
    return targets


def _predictions(model: Model, outputs: np.ndarray) -> np.ndarray:
    """The network's decisions in the form of the targets."""
    values = model.head.probabilities(outputs)
    if isinstance(model.head, ClassifyHead):
        classes: np.ndarray = np.argmax(values, axis=1)
        return classes
    return predicted_labels(values) if isinstance(model.head, LabelsHead) else values


def _baselines(model: Model, prepared: Prepared, measured: Measured) -> dict[str, Baseline]:
    """The baselines on the same training rows (a random choice of them where they are very many) and the same measured rows."""
    settings = model.settings
    columns = [feature.name for feature in model.features]
    train_rows = prepared.part(Part.TRAIN)
    limit = settings.evaluation.baseline_rows
    if len(train_rows) > limit:
        train_rows = np.sort(np.random.default_rng(settings.training.seed).choice(train_rows, limit, replace=False))
    parts = [
        BaselinePart(prepared.rows.gather(rows, columns), _targets(model, prepared.targets[rows])) for rows in (train_rows, measured.rows)
    ]
    kinds = {feature.tokenizer.kind for feature in model.features if isinstance(feature, TextFeature)}
    return train_baselines(
        parts[0],
        parts[1],
        task=prepared.plan.task,
        column_types={feature.name: feature.type for feature in model.features},
        character_level="character" in kinds,
        settings=settings.evaluation,
        seed=settings.training.seed,
    )


def _run(model: Model, prepared: Prepared, result: FitResult, measured: Measured, baselines: Mapping[str, Baseline]) -> dict[str, Any]:
    """What `run.json` holds."""
    facts = prepared.facts
    part = measured.part.name.lower()
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": versions(),
        "seed": model.settings.training.seed,
        "threads": torch.get_num_threads(),
        "data": {
            "source": prepared.rows.first.description,
            "fingerprint": facts.fingerprint,
            "rows": facts.rows,
            "left_out": facts.left_out,
            "overlap": facts.overlap,
            "columns": {column.name: column.type for column in prepared.plan.columns},
        },
        "parameters": model.network.parameter_count,
        "training": {
            "epochs": len(result.history),
            "best_epoch": result.best_epoch,
            "monitor": result.monitor,
            "steps": result.steps,
            "seconds": round(result.seconds, 3),
            "tokens_per_second": round(result.tokens_per_second, 1),
            "waiting_share": round(result.waiting_share, 4),
            "learning_rate": result.learning_rate,
            "stopped": result.stopped,
            "history": result.history,
        },
        "metrics": measured.metrics,
        "baselines": {name: {part: baseline.metrics} for name, baseline in baselines.items()},
    }


def versions() -> dict[str, str]:
    """Of Python and the packages that a result depends on."""
    packages = ("recurra", "torch", "lightning", "polars", "tokenizers", "numpy", "scikit-learn")
    versions = {package: importlib.metadata.version(package) for package in packages}
    return {"python": platform.python_version(), **versions}


def _report(
    folder: Path, model: Model, prepared: Prepared, result: FitResult, measured: Measured, *, baselines: Mapping[str, Baseline]
) -> Report:
    settings = model.settings
    part = measured.part.name.lower()
    metrics = measured.metrics[part]
    predictions, targets = _predictions(model, measured.outputs), _targets(model, measured.targets)
    linear = baselines.get("tfidf_linear")
    comparison: Comparison | None = None
    if linear is not None:
        comparison = compare(
            prepared.plan.task, predictions, linear.predictions, targets, settings=settings.evaluation, seed=settings.training.seed
        )
    encoder = settings.encoder
    direction = "bidirectional " if encoder.bidirectional else ""
    return Report(
        title=folder.name,
        task=prepared.plan.task,
        target=model.head.name,
        model=Result("recurrent network", f"{direction}{encoder.cell.upper()}", *_split_intervals(metrics), seconds=result.seconds),
        part=part,
        baselines=[baseline.result() for baseline in baselines.values()],
        comparison=comparison,
        data=_data_summary(model, prepared),
        training=_training(model, result),
        results=_results(model, measured.outputs, targets),
        errors=_errors(model, prepared, measured, targets),
        settings=yaml.safe_dump(settings.model_dump(mode="json"), sort_keys=False, allow_unicode=True),
        facts=_facts(model, prepared, result),
        summary=f"{direction}{encoder.cell.upper()}, {encoder.layers} x {encoder.hidden_size} units, {model.network.parameter_count:,} parameters",
    )


def _split_intervals(metrics: Mapping[str, float]) -> tuple[dict[str, float], dict[str, tuple[float, float]]]:
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


def _results(model: Model, outputs: np.ndarray, targets: np.ndarray) -> ClassResults | LabelResults | NumberResults:
    values = model.head.probabilities(outputs)
    if isinstance(model.head, ClassifyHead):
        names = list(model.head.labels.names)
        known = targets >= 0
        counts = confusion(values[known].argmax(axis=1), targets[known], classes=len(names))
        return ClassResults(names, counts, reliability(values, targets), roc_curves(values, targets, names))
    if isinstance(model.head, LabelsHead):
        return LabelResults(per_label(predicted_labels(values), targets, list(model.head.labels.names)))
    return NumberResults(values, targets)


def _errors(model: Model, prepared: Prepared, measured: Measured, targets: np.ndarray) -> list[ErrorExample]:
    """The most confident errors with their texts; the rows are read again, the chosen ones only."""
    values = model.head.probabilities(measured.outputs)

    def find(describe: Any) -> list[ErrorExample]:
        if isinstance(model.head, ClassifyHead):
            return confident_errors(values, targets, list(model.head.labels.names), describe, limit=SHOWN_ERRORS)
        if isinstance(model.head, LabelsHead):
            return confident_label_errors(values, targets, list(model.head.labels.names), describe, limit=SHOWN_ERRORS)
        return largest_errors(values, targets, describe, limit=SHOWN_ERRORS)

    found = find(lambda row: (str(row), ""))
    chosen = np.unique([int(error.row) for error in found]).astype(np.int64)
    if not len(chosen):
        return []
    rows = measured.rows[chosen]
    frame, places = prepared.rows.gather(rows, [feature.name for feature in model.features]), prepared.rows.places(rows, model.head.name)
    texts = {
        int(row): (place, " | ".join(str(value) for value in values if value is not None)[:EXCERPT])
        for row, place, values in zip(chosen, places, frame.iter_rows(), strict=True)
    }
    return [replace(error, row=texts[int(error.row)][0], text=texts[int(error.row)][1]) for error in found]


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
