"""What every training leaves behind, whatever its task: the record in `run.json`, the model folder with its report."""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
import yaml

from recurra.config import Settings
from recurra.errors import DataError
from recurra.evaluation.report import Report, Result, Training, write_report
from recurra.evaluation.results import Task
from recurra.model.folder import write_run
from recurra.model.trained import TrainedModel
from recurra.training.fit import FitResult
from recurra.training.memory import peak_memory
from recurra.training.timings import Timings

__all__ = ["begin_report", "network_summary", "run_record", "split_intervals", "versions", "write_results"]


def run_record(
    settings: Settings,
    result: FitResult,
    *,
    data: Mapping[str, Any],
    parameters: int,
    metrics: Mapping[str, Mapping[str, float]],
    baselines: Mapping[str, Mapping[str, Mapping[str, float]]],
) -> dict[str, Any]:
    """The record.

    Args:
        settings: of the run.
        result: the course of the training.
        data: where the data come from, their fingerprint, their sizes.
        parameters: trainable numbers.
        metrics: flat metrics by part.
        baselines: flat metrics by name and part.
    """
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": versions(),
        "seed": settings.training.seed,
        "threads": torch.get_num_threads(),
        "data": dict(data),
        "parameters": parameters,
        "peak_memory_mib": peak_memory(),
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
        "metrics": {part: dict(values) for part, values in metrics.items()},
        "baselines": {name: {part: dict(values) for part, values in parts.items()} for name, parts in baselines.items()},
    }


def versions() -> dict[str, str]:
    """Versions of what computes."""
    packages = ("recurra", "torch", "lightning", "polars", "tokenizers", "numpy", "scikit-learn")
    return {"python": platform.python_version(), **{package: importlib.metadata.version(package) for package in packages}}


def write_results(folder: Path, model: TrainedModel, report: Callable[[], Report], *, timings: Timings) -> None:
    """Write the model folder, and then its report.

    Args:
        folder: the model folder.
        model: the trained model, its `run` filled in.
        report: makes the report.
        timings: of the stages so far; that of the report is added.

    Raises:
        ModelFolderError: the folder cannot be written.
        DataError: the report cannot be written.
    """
    model.save(folder, overwrite=True)
    try:
        with timings.stage("report"):
            made = report()
            write_report(folder / "report.html", replace(made, timings=dict(timings.seconds)))
        model.run["timings"] = timings.rounded()
        write_run(folder, model.run)
    except OSError as error:
        raise DataError(
            f"The report cannot be written to {str(folder)!r}: {error.strerror or error}. The model is saved and complete. Free some space and make the report with the same command and --resume."
        ) from error


def begin_report(
    folder: Path,
    model: TrainedModel,
    result: FitResult,
    *,
    task: Task,
    target: str,
    part: str,
    metrics: Mapping[str, float],
    unit: str = "tokens",
) -> Report:
    """What the reports of all tasks say alike; each task puts its own beside it.

    Args:
        folder: the model folder, whose name is the title.
        model: trained, its `run` filled in.
        result: the course of the training.
        task: what is predicted.
        target: name of what is predicted.
        part: that the figures are of.
        metrics: flat metrics of that part.
        unit: what the network reads, in the plural: tokens, clicks.
    """
    settings, encoder = model.settings, model.settings.encoder
    values, intervals = split_intervals(metrics)
    return Report(
        title=folder.name,
        task=task,
        target=target,
        model=Result("recurrent network", encoder.title, values, intervals, seconds=result.seconds),
        part=part,
        confidence=settings.evaluation.confidence,
        training=_training_course(result, model.network.describe_module),
        settings=yaml.safe_dump(settings.model_dump(mode="json"), sort_keys=False, allow_unicode=True),
        facts=_run_facts(model.run, result, unit=unit, backend=model.network.explain_backend()),
        summary=network_summary(model),
    )


def network_summary(model: TrainedModel) -> str:
    """A line on the network: cell, size, parameters."""
    encoder = model.settings.encoder
    size = f"{encoder.layers} x {encoder.hidden_size} units"
    return f"{encoder.title}, {size}, {model.network.parameter_count:,} parameters"


def _training_course(result: FitResult, describe: Callable[[str], str]) -> Training:
    """The course of a training as the report takes it.

    Args:
        result: of the fit.
        describe: a module's name in a person's words.
    """
    plain = {"epoch", "step", "train_loss", "learning_rate", "seconds", "tokens_per_second"}
    flow = [{**record, "layer": describe(record["layer"])} for record in result.gradient_flow]
    return Training(
        history=[{name if name in plain else f"validation_{name}": value for name, value in record.items()} for record in result.history],
        monitor=result.monitor,
        best_epoch=result.best_epoch,
        gradient_layers=[record for record in flow if "distance" not in record],
        gradient_distances=[record for record in flow if "distance" in record],
    )


def _run_facts(run: Mapping[str, Any], result: FitResult, *, unit: str, backend: str) -> dict[str, str]:
    """What it takes to do a run again, as the report shows it.

    Args:
        run: what `run.json` holds.
        result: of the fit.
        unit: what the network reads, in the plural: tokens, clicks.
        backend: what computed the recurrence, and why.
    """
    return {
        "date": run["date"],
        **{f"{package} version": version for package, version in run["versions"].items()},
        "seed": str(run["seed"]),
        "threads": str(run["threads"]),
        "data fingerprint": run["data"]["fingerprint"],
        "parameters": f"{run['parameters']:,}",
        "peak memory": ", ".join(f"{size:,} MiB ({where})" for where, size in run["peak_memory_mib"].items()) or "not known here",
        "training": f"{result.steps:,} steps, {result.tokens_per_second:,.0f} {unit} per second, {result.waiting_share:.1%} of the time waiting for data",
        "stopped": result.stopped,
        "backend": backend,
    }


def split_intervals(metrics: Mapping[str, float]) -> tuple[dict[str, float], dict[str, tuple[float, float]]]:
    """Flat metrics as values and intervals; how many rows or windows were measured is no metric."""
    intervals = {name: (metrics[f"{name}_low"], metrics[f"{name}_high"]) for name in metrics if f"{name}_low" in metrics}
    ends = {f"{name}_{end}" for name in intervals for end in ("low", "high")}
    return {name: value for name, value in metrics.items() if name not in ends and name not in {"rows", "windows"}}, intervals
