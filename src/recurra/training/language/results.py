"""The figures of a language model beside its baselines, `run.json`, and the model folder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from recurra.model.language.model import LanguageModel
from recurra.training.fit import FitResult
from recurra.training.language.prepare import PreparedText
from recurra.training.tables.results import versions
from recurra.training.timings import Timings

__all__ = ["fill_run", "measure", "write_results"]

PartMetrics = Mapping[str, dict[str, float]]


@dataclass(frozen=True)
class Baseline:
    description: str
    metrics: dict[str, float]


def measure(model: LanguageModel, prepared: PreparedText) -> dict[str, dict[str, float]]:
    """The trained network on the validation and test part (on the training part where nothing was held out)."""
    parts = [part for part in ("validation", "test") if part in prepared.tokens] or ["train"]
    return {part: model.measure(prepared.tokens[part], prepared.characters[part], description=f"the {part} part") for part in parts}


def fill_run(
    model: LanguageModel, prepared: PreparedText, result: FitResult, metrics: PartMetrics, *, timings: Timings
) -> dict[str, Baseline]:
    """Train the baselines where they are wanted, and fill in `model.run`."""
    baselines: dict[str, Baseline] = {}
    model.run = _run(model, prepared, result, metrics, baselines)
    model.run["timings"] = timings.rounded()
    return baselines


def _run(
    model: LanguageModel, prepared: PreparedText, result: FitResult, metrics: PartMetrics, baselines: Mapping[str, Baseline]
) -> dict[str, Any]:
    """What `run.json` holds."""
    part = list(metrics)[-1]
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": versions(),
        "seed": model.settings.training.seed,
        "threads": torch.get_num_threads(),
        "data": {
            "source": prepared.description,
            "fingerprint": prepared.fingerprint,
            "rows": {part: len(tokens) for part, tokens in prepared.tokens.items()},
            "characters": dict(prepared.characters),
            "unknown": prepared.unknown,
            "left_out": {"lines that cannot be read": prepared.left_out} if prepared.left_out else {},
            "vocabulary": len(prepared.codec),
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
        "metrics": dict(metrics),
        "baselines": {name: {part: baseline.metrics} for name, baseline in baselines.items()},
    }


def write_results(folder: Path, model: LanguageModel) -> None:
    """Write the model folder."""
    model.save(folder, overwrite=True)
