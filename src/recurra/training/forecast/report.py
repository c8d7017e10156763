"""The report of a training on series: figures beside the baselines, windows worth a look, columns or series one by one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from recurra.data.frequency import Frequency
from recurra.data.roles import Roles
from recurra.evaluation.comparison import Comparison
from recurra.evaluation.forecast.measure import compare_forecasts, strongest_baseline
from recurra.evaluation.forecast.windows import ForecastWindow, typical_windows, worst_windows
from recurra.evaluation.report import ColumnSummary, DataSummary, ForecastResults, Report, Result
from recurra.evaluation.results import MAIN_METRIC
from recurra.metrics.forecast import ForecastErrors, interval_pairs, ratios
from recurra.metrics.forecast_intervals import forecast_draws, forecast_intervals
from recurra.metrics.intervals import Intervals
from recurra.model.forecast.forecaster import Forecaster, in_unit
from recurra.training.fit import FitResult
from recurra.training.forecast.prepare import Prepared
from recurra.training.forecast.results import Measured, histories
from recurra.training.results import begin_report

__all__ = ["coverage_pairs", "forecast_report", "main_metric", "shown_windows", "step_name", "time_text"]

EXAMPLES, WORST = 2, 4
"""Windows that the report shows: that went as most do, and that went worst."""


def forecast_report(folder: Path, model: Forecaster, prepared: Prepared, result: FitResult, measured: Measured) -> Report:
    """The report.

    Args:
        folder: the model folder, whose name is the title.
        model: trained, its `run` filled in.
        prepared: the data it was trained on.
        result: the course of the training.
        measured: the network and the baselines on the held-out parts.
    """
    errors = measured.errors[measured.part]
    targets = prepared.series.roles.targets
    fitted = measured.fitted[0].each if measured.fitted else {}
    target = targets[0] if len(targets) == 1 else f"{len(targets)} columns"
    report = begin_report(
        folder, model, result, task="forecast", target=target, part=measured.part, metrics=errors.metrics(), unit="steps of history"
    )
    return replace(
        report,
        model=replace(report.model, description=_description(model), intervals=_intervals(model, prepared, measured, errors)),
        baselines=[
            Result(name, fitted[name].description, found.metrics(), _intervals(model, prepared, measured, found), fitted[name].seconds)
            for name, found in measured.baselines.items()
        ],
        comparison=_comparison(model, prepared, measured),
        data=_data(prepared),
        results=_results(model, prepared, measured),
    )


def _results(model: Forecaster, prepared: Prepared, measured: Measured) -> ForecastResults:
    """Errors by step, coverage, columns or series, and the windows that are drawn."""
    errors = measured.errors[measured.part]
    origins, series = measured.clock(prepared)
    horizon = model.horizon
    metric = main_metric(errors)
    rival = strongest_baseline(measured.baselines)
    every = {"network": errors, **measured.baselines}
    shares = {"network": errors, **({rival: measured.baselines[rival]} if rival else {})}
    draws = forecast_draws(origins, horizon=horizon, series=series)
    kind, members = _members(prepared, errors, series)
    season = prepared.season
    return ForecastResults(
        horizon=horizon,
        step=step_name(prepared.series.frequency),
        windows=errors.windows,
        metric=metric,
        by_step={name: found.by_horizon()[metric] for name, found in every.items()},
        coverage={name: coverage_pairs(found) for name, found in shares.items()},
        members=members,
        kind=kind,
        examples=shown_windows(model, prepared, measured, typical_windows(errors, EXAMPLES), rival=rival, worst=False),
        worst=shown_windows(
            model, prepared, measured, worst_windows(errors, origins, series, horizon=horizon, count=WORST), rival=rival, worst=True
        ),
        season=f"{season.length:,} steps: {season.reason}" if season.length > 1 else season.reason,
        left_out=measured.fitted[0].left_out if measured.fitted else {},
        drawn=draws.unit if draws is not None else "origin",
    )


def main_metric(errors: ForecastErrors) -> str:
    """The metric that headlines: MASE, or MAE where no series has a scale."""
    name = MAIN_METRIC["forecast"]
    return name if name in errors.metrics() else "mae"


def step_name(frequency: Frequency) -> str:
    """What a step is, in the singular: hour, day, step."""
    names = {"1s": "second", "1min": "minute", "1h": "hour", "1d": "day", "1w": "week", "1mo": "month", "1q": "quarter", "1y": "year"}
    return "working day" if frequency.kind == "business" else names.get(str(frequency), "step")


def _description(model: Forecaster) -> str:
    forecast = model.settings.forecast
    kinds = {"segments": f"reads segments of {forecast.segment} steps", "autoregressive": "goes step by step"}
    return f"{kinds[forecast.model]}, the last {forecast.input_length:,} of them; {forecast.output.replace('_', ' ')} output"


def _intervals(model: Forecaster, prepared: Prepared, measured: Measured, errors: ForecastErrors) -> Intervals:
    origins, series = measured.clock(prepared)
    evaluation = model.settings.evaluation
    return forecast_intervals(
        errors,
        origins,
        horizon=model.horizon,
        series=series,
        samples=evaluation.bootstrap_samples,
        confidence=evaluation.confidence,
        seed=model.settings.training.seed,
    )


def _comparison(model: Forecaster, prepared: Prepared, measured: Measured) -> Comparison | None:
    """The network against the strongest baseline."""
    rival = strongest_baseline(measured.baselines)
    if rival is None:
        return None
    origins, series = measured.clock(prepared)
    return compare_forecasts(
        measured.errors[measured.part],
        measured.baselines[rival],
        origins,
        horizon=model.horizon,
        series=series,
        rival=rival,
        settings=model.settings.evaluation,
        seed=model.settings.training.seed,
    )


def coverage_pairs(errors: ForecastErrors) -> list[tuple[float, float]]:
    """Nominal and actual share of the answers inside each interval."""
    metrics = errors.metrics()
    return [(float(name) / 100.0, metrics[f"coverage_{name}"]) for name, _, _ in interval_pairs(errors.levels)]


def _members(prepared: Prepared, errors: ForecastErrors, series: np.ndarray) -> tuple[str, Mapping[str, Mapping[str, float]]]:
    """Columns where there are several, or else series where there are several."""
    targets, names = prepared.series.roles.targets, [each.name for each in prepared.series.series]
    if len(targets) > 1:
        return "column", _rows(targets, errors.of_columns())
    if len(names) == 1:
        return "series", {}
    sums = {name: np.bincount(series, weights=values, minlength=len(names)) for name, values in errors.by_window.items()}
    return "series", {name: figures for name, figures in _rows(names, ratios(sums, errors.levels)).items() if figures}


def _rows(names: tuple[str, ...] | list[str], metrics: Mapping[str, np.ndarray]) -> dict[str, dict[str, float]]:
    return {
        name: {metric: float(values[place]) for metric, values in metrics.items() if np.isfinite(values[place])}
        for place, name in enumerate(names)
    }


def shown_windows(
    model: Forecaster, prepared: Prepared, measured: Measured, rows: np.ndarray, *, rival: str | None, worst: bool
) -> list[ForecastWindow]:
    """The chosen windows, of each the column that went worst, or that went as most did."""
    if not len(rows):
        return []
    channels = prepared.windows.channels
    chosen = measured.origins.take((rows[:, None] * channels + np.arange(channels)).ravel())
    number, step = chosen.series[::channels], chosen.step[::channels]
    standard = model.standards(prepared.series.series, prepared.windows, chosen)
    forecasts = in_unit(model.forecast_windows(prepared.windows, chosen), standard)
    fitted = measured.fitted[0] if rival is not None else None
    other = None
    if fitted is not None and rival is not None:
        other = fitted.each[rival].forecast(histories(prepared, number, step, steps=fitted.lookback))
        other = other * standard.deviation[:, None] + standard.mean[:, None]
    shown = []
    for row in range(len(rows)):
        series, begin = prepared.series.series[number[row]], int(step[row])
        back = max(0, begin - 4 * max(model.horizon, 16))
        answers = series.values[begin : begin + model.horizon]
        with np.errstate(invalid="ignore"):
            known = np.isfinite(answers)
            errors = np.abs(np.where(known, forecasts.point[row] - answers, 0.0)).sum(0) / np.maximum(known.sum(0), 1)
        column = _column(errors / standard.deviation[row], known.any(0), worst=worst)
        times = prepared.series.times(series)[back : begin + model.horizon]
        shown.append(
            ForecastWindow(
                name=_name(prepared.series.roles, series.name, column),
                times=times,
                calendar=prepared.series.frequency.calendar,
                history=series.values[back:begin, column],
                answers=answers[:, column],
                point=forecasts.point[row, :, column],
                quantiles=forecasts.quantiles[row, :, column] if forecasts.levels else None,
                levels=forecasts.levels,
                baseline=None if other is None else other[row, :, column],
                baseline_name="" if rival is None else rival.replace("_", " "),
                error=float(errors[column]),
                unit=prepared.series.roles.targets[column],
                origin=time_text(int(times[begin - back]), prepared.series.frequency),
            )
        )
    return shown


def _column(errors: np.ndarray, known: np.ndarray, *, worst: bool) -> int:
    """The column with the largest error, or the middle one, of those with a known answer."""
    order = [column for column in np.argsort(errors, kind="stable").tolist() if known[column]]
    return 0 if not order else int(order[-1] if worst else order[len(order) // 2])


def _name(roles: Roles, series: str, column: int) -> str:
    parts = [series] if series else []
    return " · ".join([*parts, roles.targets[column]] if len(roles.targets) > 1 or not parts else parts)


def time_text(time: int, frequency: Frequency) -> str:
    """A time as text, without what the frequency does not need."""
    if not frequency.calendar:
        return f"step {time:,}"
    text = str(np.datetime64(time, "us"))[:16].replace("T", " ")
    return text[:10] if frequency.days and text.endswith("00:00") else text


def _data(prepared: Prepared) -> DataSummary:
    found, roles = prepared.series, prepared.series.roles
    kinds = {
        **dict.fromkeys(roles.targets, ("target", "forecast")),
        **{each.name: ("past", "known up to the present") for each in roles.past},
        **{each.name: ("known", "known for the horizon too") for each in roles.known},
        **{each.name: ("static", "one value a series") for each in roles.static},
    }
    named = [(roles.time, "time"), *((name, "series") for name in roles.series)]
    columns = [ColumnSummary(name, kind, "set") for name, kind in named if name is not None]
    columns += [ColumnSummary(name, kind, reason) for name, (kind, reason) in kinds.items()]
    steps = {
        part: sum(getattr(bounds, part_end) - (getattr(bounds, begin) if begin else 0) for bounds in prepared.bounds)
        for part, begin, part_end in (("train", "", "train"), ("validation", "train", "validation"), ("test", "validation", "end"))
    }
    several = f", {len(found.series):,} series" if len(found.series) > 1 else ""
    return DataSummary(
        source=f"{found.description}{several}, steps of {found.frequency}",
        columns=columns if len(columns) <= 40 else columns[:40],
        rows={part: count for part, count in steps.items() if count},
        left_out=_met(found.counts),
    )


def _met(counts: Mapping[str, int]) -> dict[str, int]:
    """What was met on the way, in words."""
    texts = {
        "unsorted": "rows before an earlier one of their series: sorted",
        "inserted": "steps without a row: put in with missing values",
        "off_grid": "rows between the steps: count for the nearest one",
        "merged": "rows that share a step: their mean counts",
        "unreadable": "rows that could not be used: left out",
        "missing": "target values that are missing",
    }
    return {text: counts[name] for name, text in texts.items() if counts.get(name)}
