"""The figures of a language model beside its baselines, `run.json`, the model folder and its report."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from recurra.evaluation.language.baselines import LONGEST, LanguageBaseline, fit_baselines
from recurra.evaluation.language.details import by_frequency, by_place
from recurra.evaluation.report import ColumnSummary, DataSummary, LanguageResults, Report
from recurra.model.language.measuring import Measured
from recurra.model.language.model import LanguageModel
from recurra.training.fit import FitResult
from recurra.training.language.prepare import PreparedText
from recurra.training.results import begin_report, run_record
from recurra.training.timings import Timings

__all__ = ["MeasuredText", "fill_run", "measure", "language_report"]

SAMPLES = (("drawn as they come", 1.0, 1.0), ("safer: temperature 0.7", 0.7, 1.0), ("the most probable nine tenths: top-p 0.9", 1.0, 0.9))
"""How texts of the report are drawn: in words, temperature, top-p."""
SAMPLE_TOKENS = {"character": 400}
FEW = 80


@dataclass(frozen=True)
class MeasuredText:
    """The network on the held-out parts.

    Attributes:
        metrics: flat metrics by part, validation before test.
        part: the part that the report is about: test, or validation where there is no test part, or else train.
        ways: that part token by token.
    """

    metrics: dict[str, dict[str, float]]
    part: str
    ways: dict[str, Measured]


def measure(model: LanguageModel, prepared: PreparedText) -> MeasuredText:
    """The trained network on the validation and test part (on the training part where nothing was held out)."""
    parts = [part for part in ("validation", "test") if part in prepared.tokens] or ["train"]
    metrics, ways = {}, {}
    for part in parts:
        ways = model.measured(prepared.tokens[part], description=f"the {part} part")
        metrics[part] = model.figures(ways, prepared.tokens[part], prepared.characters[part])
    return MeasuredText(metrics, parts[-1], ways)


def fill_run(
    model: LanguageModel, prepared: PreparedText, result: FitResult, measured: MeasuredText, *, timings: Timings
) -> dict[str, LanguageBaseline]:
    """Train the baselines where they are wanted, and fill in `model.run`."""
    settings, part = model.settings, measured.part
    baselines: dict[str, LanguageBaseline] = {}
    if settings.evaluation.baselines and part != "train":
        order = settings.language.order
        with timings.stage("baselines"):
            baselines = fit_baselines(
                prepared.tokens["train"],
                prepared.tokens[part],
                vocabulary_size=len(prepared.codec),
                order=LONGEST.get(prepared.codec.kind, 5) if order == "auto" else order,
                characters=model.predicted_characters(prepared.tokens[part], prepared.characters[part]),
                settings=settings.evaluation,
                seed=settings.training.seed,
            )
    model.run = _run(model, prepared, result, measured, baselines)
    model.run["timings"] = timings.rounded()
    return baselines


def _run(
    model: LanguageModel, prepared: PreparedText, result: FitResult, measured: MeasuredText, baselines: Mapping[str, LanguageBaseline]
) -> dict[str, Any]:
    """What `run.json` holds."""
    return run_record(
        model.settings,
        result,
        data={
            "source": prepared.description,
            "fingerprint": prepared.fingerprint,
            "rows": {part: len(tokens) for part, tokens in prepared.tokens.items()},
            "characters": dict(prepared.characters),
            "unknown": prepared.unknown,
            "left_out": _left_out(prepared),
            "vocabulary": len(prepared.codec),
        },
        parameters=model.network.parameter_count,
        metrics=measured.metrics,
        baselines={name: {measured.part: baseline.metrics} for name, baseline in baselines.items()},
    )


def _left_out(prepared: PreparedText) -> dict[str, int]:
    return {"lines that cannot be read": prepared.left_out} if prepared.left_out else {}


def language_report(
    folder: Path,
    model: LanguageModel,
    prepared: PreparedText,
    result: FitResult,
    measured: MeasuredText,
    *,
    baselines: Mapping[str, LanguageBaseline],
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
    shown = {name: value for name, value in measured.metrics[measured.part].items() if name not in {"tokens", "unknown"}}
    report = begin_report(folder, model, result, task="language", target=Path(prepared.description).name, part=measured.part, metrics=shown)
    return replace(
        report,
        baselines=[baseline.result() for baseline in baselines.values()],
        data=DataSummary(
            source=prepared.description,
            columns=[
                ColumnSummary("text", prepared.codec.kind, prepared.codec.reason, prepared.codec.decode(prepared.tokens["train"][:FEW]))
            ],
            rows={part: len(tokens) for part, tokens in prepared.tokens.items()},
            left_out=_left_out(prepared)
            | {f"{part} tokens not in the vocabulary, read as unknown": count for part, count in prepared.unknown.items() if count},
        ),
        results=_results(model, prepared, measured, baselines),
    )


def _results(
    model: LanguageModel, prepared: PreparedText, measured: MeasuredText, baselines: Mapping[str, LanguageBaseline]
) -> LanguageResults:
    losses = {"Recurrent network": measured.ways[""].losses, **{name: each.losses for name, each in baselines.items() if name == "ngrams"}}
    counts = np.bincount(prepared.tokens["train"], minlength=len(prepared.codec))
    most = SAMPLE_TOKENS.get(prepared.codec.kind, 100)
    seed = model.settings.training.seed
    samples = [
        (how, "".join(model.generate(most=most, temperature=temperature, top_p=top_p, seed=seed))) for how, temperature, top_p in SAMPLES
    ]
    return LanguageResults(by_frequency(losses, prepared.tokens[measured.part][1:], counts), by_place(losses), samples)
