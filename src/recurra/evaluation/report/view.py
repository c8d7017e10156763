"""What the page shows, section by section: content turned into charts, sentences and written numbers, ready for the template.

Not inside: the template and its escaping (`page`), the sentences (`prose`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from recurra.evaluation import charts
from recurra.evaluation.charts.theme import shorten
from recurra.evaluation.report import prose
from recurra.evaluation.report.answers import answer_view
from recurra.evaluation.report.content import (
    ForecastResults,
    Report,
    SeveralResults,
    Training,
)
from recurra.evaluation.report.forecasts import forecast_view, random_walk_sentence
from recurra.evaluation.report.predictions import prediction_view
from recurra.evaluation.report.quantities import baseline, count, duration, inline, interval, metric, number, per_cent
from recurra.evaluation.report.rankings import ranking_view
from recurra.evaluation.report.texts import text_view
from recurra.evaluation.report.translations import translate_view
from recurra.evaluation.results import MAIN_METRIC, ErrorExample, Result

__all__ = ["page_view"]

_LONGEST_EXCERPT, _LONGEST_VALUE = 320, 120
_SECTIONS = {
    "losses": "Loss by token",
    "samples": "Samples",
    "answers": "Answers",
    "written": "Texts",
    "attention": "Attention",
    "heads": "By target",
    "ranking": "Ranking",
    "catalogue": "Catalogue",
    "examples": "Examples",
    "data": "Data",
    "lengths": "Lengths",
    "training": "Learning curves",
    "gradients": "Gradient flow",
    "forecasts": "Forecasts",
    "horizon": "By horizon",
    "members": "By column",
    "worst": "Worst windows",
    "numbers": "Predictions",
    "confusion": "Confusion",
    "classes": "By class",
    "calibration": "Calibration",
    "errors": "Errors",
    "timings": "Time",
    "settings": "Settings",
}
_ROWS = {"recommend": "clicks", "forecast": "windows", "language": "tokens", "answer": "questions"}
"""What is measured one by one, where it is not a row."""


_CONFIDENT = "The rows that are wrong with the highest probability. Often it is the label that is wrong, or the text fits both."
_ERRORS_TEXT = {
    "tag": "The rows with the surest wrong tags, the spans marked as the model found them; then what it missed, and what it found in its place.",
    "token": "The rows with the surest wrong tags; then the true tags, and those predicted in their place.",
}


def page_view(report: Report) -> dict[str, Any]:
    """All that the template shows, ready to print; a section whose parts are all empty is left out of `shown`."""
    view: dict[str, Any] = {"charts": {}, "title": report.title, "lead": _lead(report)}
    for part in (
        _result,
        _data,
        _training,
        forecast_view,
        ranking_view,
        text_view,
        answer_view,
        translate_view,
        prediction_view,
        _errors,
        _run,
    ):
        found = part(report)
        view["charts"] |= found.pop("charts", {})
        view |= found
    view["heads"] = [page_view(each) for each in report.results.heads] if isinstance(report.results, SeveralResults) else []
    view["shown"] = [key for key in _SECTIONS if _is_shown(key, view)]
    names = {**_SECTIONS, "classes": f"By {view['noun'].lower()}"}
    if view["forecasts"]:
        names["members"] = f"By {view['forecasts']['kind']}"
    view["sections"] = [("result", "Result"), *((key, names[key]) for key in view["shown"])]
    return view


def _is_shown(key: str, view: Mapping[str, Any]) -> bool:
    drawn = view["charts"]
    forecasts = view["forecasts"] or dict.fromkeys(("fans", "worst", "steps", "coverage", "members"))
    return bool(
        {
            "data": view["source"] or view["data_facts"] or view["columns"] or view["left_out"],
            "lengths": drawn["lengths"],
            "training": drawn["curves"],
            "gradients": drawn["gradient_distance"] or drawn["gradient_layer"],
            "forecasts": forecasts["fans"],
            "horizon": forecasts["steps"] or forecasts["coverage"],
            "members": forecasts["members"],
            "worst": forecasts["worst"],
            "losses": drawn["by_frequency"] or drawn["by_place"],
            "samples": view["samples"],
            "answers": view["answers"],
            "written": view["written"] or drawn["by_length"],
            "attention": view["attentions"],
            "heads": view["heads"],
            "ranking": drawn["recall"] or drawn["by_known"],
            "catalogue": drawn["shares"] or drawn["by_clicked"],
            "examples": view["examples"],
            "numbers": drawn["predicted"] or drawn["residuals"],
            "confusion": drawn["confusion"] or drawn["pairs"],
            "classes": view["class_rows"],
            "calibration": drawn["calibration"] or drawn["roc"],
            "errors": view["errors"],
            "timings": view["timings"],
            "settings": view["settings"] or view["facts"],
        }[key]
    )


def _lead(report: Report) -> str:
    what = {
        "classify": "Classification of",
        "labels": "Labels of",
        "regress": "Regression of",
        "language": "Language model of",
        "recommend": "Recommendation of",
        "forecast": "Forecast of",
        "tag": "Tags of",
        "token": "Tags of",
        "answer": "Answers of",
        "several": "Several targets:",
        "translate": "Text to text,",
    }[report.task]
    parts = [f"{what} “{report.target}”", report.summary]
    return " · ".join(part for part in parts if part)


def _result(report: Report) -> dict[str, Any]:
    name = MAIN_METRIC[report.task]
    shown = metric(name)
    rival = prose.strongest(report)
    ordered = sorted(report.baselines, key=lambda result: result is not rival)  # the one to beat comes first
    parts = prose.parts_sentence(report)
    results = [
        replace(report.model, name="Network and linear model" if parts else "Recurrent network"),
        *(_named(result) for result in ordered),
    ]
    headline = None
    if name in report.model.metrics:
        windows = report.results.windows if isinstance(report.results, ForecastResults) else None
        rows = windows or report.data.rows.get(report.part)
        of = f"on {count(rows)} {report.part} {_ROWS.get(report.task, 'rows')}" if rows else f"on the {report.part} part"
        bounds = report.model.intervals.get(name)
        headline = {
            "value": shown.write(report.model.metrics[name]),
            "label": f"{shown.label} {of}",
            "interval": f"{100 * report.confidence:g}% interval {interval(name, bounds)}" if bounds else "",
        }
    warnings = []
    if report.part == "train":
        warnings.append(
            "Nothing was held out. These figures are of the very rows the network learnt from: they say nothing about new ones."
        )
    elif report.part != "test":
        warnings.append(
            f"There is no test part. These figures are of the {report.part} part, which also chose the epoch: expect a little less on new rows."
        )
    if report.task == "forecast":
        warnings += [text for text in (random_walk_sentence(report),) if text]
    ranked = [r for r in results if name in r.metrics]
    records = [
        {
            "name": result.name,
            "value": result.metrics[name],
            "low": result.intervals.get(name, (result.metrics[name],))[0],
            "high": result.intervals.get(name, (result.metrics[name],))[-1],
            "text": shown.write(result.metrics[name]),
        }
        for result in ranked
    ]
    unit = "" if shown.share else ", in the target’s unit" if report.task == "regress" else ""
    level = f", with {100 * report.confidence:g}% intervals" if report.model.intervals else ""
    drawn = (
        charts.results(records, title=f"{shown.label} on the {report.part} part{unit}{level}", share=shown.share)
        if len(records) > 1
        else ""
    )
    return {
        "headline": headline,
        "verdict": " ".join(text for text in (prose.verdict(report), parts) if text),
        "warnings": warnings,
        "results": results,
        "metric_rows": _metric_rows(results, [name for name in results[0].metrics if _of_the_whole(name, report)]),
        "masked_rows": _metric_rows(results, [name for name in results[0].metrics if name.startswith("masked_")]),
        "described": [(result.name, _description(result)) for result in results if result.description or result.seconds is not None],
        "charts": {"results": drawn},
    }


def _of_the_whole(name: str, report: Report) -> bool:
    """Whether a metric stands in the first table: not those with seen items taken out, nor those of one of several targets."""
    heads = [head.target for head in report.results.heads] if isinstance(report.results, SeveralResults) else []
    return not name.startswith("masked_") and not any(name.startswith(f"{head}.") for head in heads)


def _named(result: Result) -> Result:
    return replace(result, name=baseline(result.name).label)


def _description(result: Result) -> str:
    time = f"trained in {duration(result.seconds)}" if result.seconds is not None else ""
    return "; ".join(part for part in (result.description, time) if part)


def _metric_rows(results: Sequence[Result], names: Sequence[str]) -> list[dict[str, Any]]:
    rows = []
    for name in names:
        shown = metric(name)
        cells = [
            (shown.write(result.metrics[name]), interval(name, result.intervals[name]) if name in result.intervals else "")
            if name in result.metrics
            else ("–", "")
            for result in results
        ]
        better = "" if shown.higher else "lower is better"
        rows.append({"label": shown.label, "cells": cells, "note": "; ".join(part for part in (shown.note, better) if part)})
    return rows


def _data(report: Report) -> dict[str, Any]:
    data = report.data
    what = "steps" if report.task == "forecast" else _ROWS.get(report.task, "rows")
    facts = [(f"{part.capitalize()} {what}", count(rows)) for part, rows in data.rows.items()]
    if data.padding_waste is not None:
        facts.append(("Padding in the batches", per_cent(data.padding_waste)))
    lengths = [
        (
            name,
            charts.length_distribution(values, unit=data.length_unit, max_length=data.max_length),
            prose.length_sentence(values, data.length_unit),
        )
        for name, values in data.lengths.items()
        if len(values)
    ]
    cut = [
        (f"cut at {count(data.max_length)} {data.length_unit}s ({part})" if data.max_length else f"cut ({part})", n)
        for part, n in data.truncated.items()
    ]
    return {
        "source": data.source,
        "data_facts": facts,
        "overlap": prose.copies_sentence(data.overlap) if report.task == "recommend" else prose.overlap_sentence(data.overlap, data.rows),
        "notes": data.notes,
        "left_out": [(reason, count(rows)) for reason, rows in [*data.left_out.items(), *cut] if rows],
        "columns": [replace(column, example=_cut(column.example, _LONGEST_VALUE)) for column in data.columns],
        "charts": {"lengths": lengths},
    }


def _training(report: Report) -> dict[str, Any]:
    training = report.training
    return {
        "course": prose.course_sentence(training),
        "gradients": prose.gradient_flow(training),
        "charts": {
            "curves": _curves(training, "loss" if report.task in ("regress", "forecast") else "loss (nats)"),
            "gradient_layer": charts.gradient_by_layer(training.gradient_layers),
            "gradient_distance": charts.gradient_by_distance(training.gradient_distances),
        },
    }


def _curves(training: Training, loss: str) -> list[tuple[str, str, str]]:
    names = {"loss": loss}
    if training.monitor and training.monitor != "loss":
        names[training.monitor] = inline(training.monitor)
    drawn = [
        (metric(quantity).label, charts.learning_curve(training.history, quantity, title=title, best_epoch=training.best_epoch), "")
        for quantity, title in names.items()
    ]
    return [chart for chart in drawn if chart[1]]


def _errors(report: Report) -> dict[str, Any]:
    regress = report.task == "regress"
    return {
        "errors_title": "Largest errors" if regress else "Most confident errors",
        "errors_text": "The rows whose prediction is furthest off." if regress else _ERRORS_TEXT.get(report.task, _CONFIDENT),
        "score_title": "Error" if regress else "Probability",
        "errors": [_error(error, regress) for error in report.errors],
    }


def _error(error: ErrorExample, regress: bool) -> dict[str, str]:
    score = number(error.score) if regress else per_cent(error.score)
    texts = {key: _cut(getattr(error, key), _LONGEST_VALUE) for key in ("row", "true", "predicted")}
    return {**texts, "text": _cut(error.text, _LONGEST_EXCERPT) or "(empty)", "score": score}


def _run(report: Report) -> dict[str, Any]:
    total = sum(report.timings.values())
    timings = [
        {"name": _capital(name), "time": duration(seconds), "share": per_cent(seconds / total), "width": round(100 * seconds / total, 1)}
        for name, seconds in report.timings.items()
        if total > 0
    ]
    return {
        "timings": timings,
        "total_time": duration(total),
        "facts": [(_capital(name), value) for name, value in report.facts.items()],
        "settings": report.settings,
    }


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _cut(text: str, longest: int) -> str:
    """On one line, and cut to a width of so many Latin letters."""
    return shorten(" ".join(text[: 4 * longest].split()), longest)
