"""What the page of a forecaster shows besides: windows with their fans, errors by steps ahead, coverage, columns or series one by one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from recurra.evaluation.charts.forecasts import coverage, error_by_step, forecast_fan
from recurra.evaluation.charts.theme import shorten
from recurra.evaluation.forecast.windows import ForecastWindow
from recurra.evaluation.report.content import ForecastResults, Report
from recurra.evaluation.report.quantities import baseline, count, metric, number, per_cent
from recurra.evaluation.results import MAIN_METRIC

__all__ = ["coverage_sentence", "forecast_view", "random_walk_sentence"]

_MEMBERS, _SHOWN_FIGURES = 30, ("mase", "mae", "rmse", "standard_mse", "coverage_90")
"""Columns or series that the page lists; figures of each."""
_TOLERATED = 0.05
"""Difference of nominal and actual coverage under which the intervals are called right."""
_NO_BETTER = 0.98
"""Share of the naive forecast's error from which on another forecast is called no better."""


def forecast_view(report: Report) -> dict[str, Any]:
    """Sentences, charts and rows of the sections that only forecasts have; all empty for another task."""
    results = report.results
    if not isinstance(results, ForecastResults):
        return {"forecasts": None}
    names = {name: _called(name) for name in results.by_step}
    steps = {names[name]: values for name, values in results.by_step.items()}
    shares = {_called(name): pairs for name, pairs in results.coverage.items() if pairs}
    return {
        "forecasts": {
            "fans": [_fan(window, full=True) for window in results.examples],
            "worst": [_fan(window, full=False) for window in results.worst],
            "steps": error_by_step(steps, title=_axis_title(results.metric), step=results.step),
            "coverage": coverage(shares),
            "coverage_text": coverage_sentence(results.coverage.get("network", ())),
            "kind": results.kind,
            "columns": [metric(name).label for name in _figures(results.members)],
            "members": _members(results.members),
            "member_count": count(len(results.members)),
            "cut": len(results.members) > _MEMBERS,
            "notes": _notes(results),
        }
    }


def coverage_sentence(pairs: Sequence[tuple[float, float]]) -> str:
    """Whether the widest interval holds as many answers as it should."""
    if not pairs:
        return ""
    nominal, actual = max(pairs)
    both = f"Of the answers {per_cent(actual)} lay inside the interval that should hold {per_cent(nominal)}"
    if abs(actual - nominal) <= _TOLERATED:
        return f"{both}."
    if actual < nominal:
        return f"{both}: the intervals are too narrow for this part. A change since the validation part does that."
    return f"{both}: the intervals are wider than they need to be for this part."


def random_walk_sentence(report: Report) -> str:
    """Said where nothing beats repeating the last value; "" elsewhere."""
    name = MAIN_METRIC["forecast"]
    naive = next((result.metrics.get(name) for result in report.baselines if result.name == "naive"), None)
    others = [result.metrics[name] for result in (report.model, *report.baselines) if result.name != "naive" and name in result.metrics]
    if naive is None or not others or min(others) < _NO_BETTER * naive:
        return ""
    return (
        f"Nothing here beats repeating the last value ({metric(name).label} {number(naive)}) by more than "
        f"{per_cent(1 - _NO_BETTER)}: as far as these figures go, the history does not tell where the series goes next. "
        "Prices behave like that. What may still be of use are the intervals."
    )


def _called(name: str) -> str:
    return "recurrent network" if name == "network" else baseline(name).label


def _axis_title(name: str) -> str:
    return metric(name).label


def _fan(window: ForecastWindow, *, full: bool) -> tuple[str, str, str]:
    """Title, picture and caption of one window."""
    at = f", from {window.origin} on" if window.origin else ""
    error = f"Mean absolute error {number(window.error)}." if window.error == window.error else ""
    return f"{shorten(window.name, 60)}{at}", forecast_fan(window, full=full), error


def _figures(members: Mapping[str, Mapping[str, float]]) -> list[str]:
    return [name for name in _SHOWN_FIGURES if any(name in figures for figures in members.values())]


def _members(members: Mapping[str, Mapping[str, float]]) -> list[dict[str, Any]]:
    """The columns in their order, or the worst of them where they are many."""
    shown = _figures(members)
    chosen = list(members)
    if len(chosen) > _MEMBERS and shown:
        chosen = sorted(chosen, key=lambda name: -members[name].get(shown[0], float("-inf")))[:_MEMBERS]
    return [
        {"name": name, "cells": [metric(figure).write(members[name][figure]) if figure in members[name] else "–" for figure in shown]}
        for name in chosen
    ]


def _notes(results: ForecastResults) -> list[tuple[str, str]]:
    """Name and value of what one should know to read the figures."""
    notes = [("Season", results.season)] if results.season else []
    if results.drawn == "series":
        notes.append(("Intervals", "draw whole series: there are too few origins to draw blocks of them"))
    else:
        notes.append(
            (
                "Intervals",
                f"draw blocks of origins at least {count(results.horizon)} {results.step}s long, as overlapping windows err together",
            )
        )
    return notes + [(f"{baseline(name).label} left out", reason) for name, reason in results.left_out.items()]
