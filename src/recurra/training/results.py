"""What `run.json` holds of every training, whatever its task."""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import torch

from recurra.config import Settings
from recurra.training.fit import FitResult

__all__ = ["run_record", "versions"]


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
