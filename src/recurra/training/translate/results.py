"""The figures of a model of text to text beside its baselines, `run.json`, the model folder and its report."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from recurra.data.split import Part
from recurra.evaluation.report import AttentionMap, ColumnSummary, DataSummary, Report, TranslateResults, WrittenExample
from recurra.evaluation.translate.baselines import TextBaseline, fit_baselines
from recurra.evaluation.translate.details import by_length, chrf_of_each
from recurra.metrics.translation import signatures
from recurra.model.translate.measuring import MeasuredTexts
from recurra.model.translate.model import Translator
from recurra.training.fit import FitResult
from recurra.training.results import begin_report, run_record
from recurra.training.timings import Timings
from recurra.training.translate.loaders import loaders
from recurra.training.translate.prepare import PreparedPairs

__all__ = ["MeasuredParts", "fill_run", "measure", "translate_report"]


EXAMPLES, WORST, MAPS = 12, 8, 4
"""Texts of the report: drawn at random, the least like their references, and those with a picture of the attention."""
LONGEST_MAP = 30
"""Tokens of a source that is drawn."""


@dataclass(frozen=True)
class MeasuredParts:
    """The network on the held-out parts.

    Attributes:
        metrics: flat metrics by part, validation before test.
        part: the part that the report is about: test, or validation where there is no test part, or else train.
        texts: what was written for that part.
    """

    metrics: dict[str, dict[str, float]]
    part: str
    texts: MeasuredTexts


def measure(model: Translator, prepared: PreparedPairs) -> MeasuredParts:
    """The trained network on the validation and test part (on the training part where nothing was held out)."""
    parts = [part for part in (Part.VALIDATION, Part.TEST) if len(prepared.part(part))] or [Part.TRAIN]
    metrics: dict[str, dict[str, float]] = {}
    for part in parts:
        texts = model.measure(*prepared.texts(part))
        metrics[part.name.lower()] = texts.metrics(model.settings.evaluation, seed=model.settings.training.seed)
    return MeasuredParts(metrics, parts[-1].name.lower(), texts)


def fill_run(
    model: Translator, prepared: PreparedPairs, result: FitResult, measured: MeasuredParts, *, timings: Timings
) -> dict[str, TextBaseline]:
    """Measure the baselines where they are wanted, and fill in `model.run`."""
    settings, part = model.settings, measured.part
    baselines: dict[str, TextBaseline] = {}
    if settings.evaluation.baselines and part != "train":
        with timings.stage("baselines"):
            sources, targets = prepared.texts(Part.TRAIN)
            baselines = fit_baselines(
                (sources.to_list(), targets.to_list()),
                measured.texts.sources,
                measured.texts.references,
                settings=settings.evaluation,
                seed=settings.training.seed,
            )
    model.run = run_record(
        settings,
        result,
        data={
            "source": prepared.rows.first.description,
            "fingerprint": prepared.fingerprint,
            "rows": prepared.sizes,
            "left_out": prepared.left_out,
            "overlap": prepared.overlap,
            "cut": prepared.cut,
            "unknown": prepared.unknown,
            "vocabulary": len(prepared.codec),
        },
        parameters=model.network.parameter_count,
        metrics=measured.metrics,
        baselines={name: {part: baseline.metrics} for name, baseline in baselines.items()},
    )
    model.run["signatures"] = signatures(measured.texts.references)
    model.run["timings"] = timings.rounded()
    return baselines


def translate_report(
    folder: Path,
    model: Translator,
    prepared: PreparedPairs,
    result: FitResult,
    measured: MeasuredParts,
    *,
    baselines: Mapping[str, TextBaseline],
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
    part, target = measured.part, " → ".join(prepared.columns)
    report = begin_report(folder, model, result, task="translate", target=target, part=part, metrics=measured.metrics[part])
    return replace(
        report,
        baselines=[baseline.result() for baseline in baselines.values()],
        data=_data(prepared, measured),
        results=_results(model, prepared, measured, baselines),
        facts={**report.facts, **{f"{name} signature": signature for name, signature in model.run["signatures"].items()}},
        summary=_summary(model),
    )


def _summary(model: Translator) -> str:
    settings, encoder, decoder = model.settings, model.settings.encoder, model.network.decoder
    return (
        f"{encoder.title} encoder, {encoder.layers} x {encoder.hidden_size} units, decoder {decoder.layers} x "
        f"{decoder.output_size}, {settings.translate.attention} attention, {model.network.parameter_count:,} parameters"
    )


def _results(
    model: Translator, prepared: PreparedPairs, measured: MeasuredParts, baselines: Mapping[str, TextBaseline]
) -> TranslateResults:
    """Texts by length and one by one, some with what they attended to."""
    texts = measured.texts
    lengths = prepared.sources.lengths[prepared.part(Part[measured.part.upper()])]
    written = {"Recurrent network": texts.texts, **{name: baseline.texts for name, baseline in baselines.items()}}
    scores = chrf_of_each(texts.texts, texts.references)

    def example(row: int) -> WrittenExample:
        return WrittenExample(texts.sources[row], texts.references[row], texts.texts[row], scores[row])

    drawn = np.random.default_rng(model.settings.training.seed).permutation(len(texts.texts))
    short = [row for row in drawn.tolist() if lengths[row] <= LONGEST_MAP and texts.texts[row]][:MAPS]
    aligned = [model.attention(texts.sources[row], texts.texts[row]) for row in short]
    return TranslateResults(
        by_length(written, texts.references, lengths),
        [AttentionMap(each.source, each.output, each.weights) for each in aligned],
        [example(row) for row in drawn[:EXAMPLES].tolist()],
        [example(row) for row in np.argsort(scores, kind="stable")[:WORST].tolist()],
    )


def _data(prepared: PreparedPairs, measured: MeasuredParts) -> DataSummary:
    source, target = prepared.columns
    train = prepared.part(Part.TRAIN)
    unit = "piece" if prepared.codec.kind == "bpe" else "character" if prepared.codec.kind == "character" else "word"
    return DataSummary(
        source=prepared.rows.first.description,
        columns=[
            ColumnSummary(source, "text", f"is read: {prepared.reason}; {prepared.codec.describe()}", measured.texts.sources[0]),
            ColumnSummary(target, "text", "is written", measured.texts.references[0]),
        ],
        rows=prepared.sizes,
        left_out=prepared.left_out,
        overlap=prepared.overlap,
        truncated=prepared.cut,
        padding_waste=loaders(prepared)[0].buckets.padding_waste(),
        lengths={source: prepared.sources.lengths[train], target: prepared.targets.lengths[train]},
        max_length=prepared.settings.text.max_length,
        length_unit=unit,
        notes=[f"{share:.2%} of the tokens of {part} are not in the vocabulary." for part, share in prepared.unknown.items()],
    )
