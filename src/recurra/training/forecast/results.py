"""What a training on series leaves behind: calibration, figures beside the baselines, `run.json`, the model folder and its report."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from recurra.data.split import Part
from recurra.data.windows import Origins
from recurra.evaluation.forecast.baselines import Baselines, fit_baselines
from recurra.evaluation.forecast.measure import measure_baselines
from recurra.metrics.forecast import ForecastErrors, seasonal_scale
from recurra.metrics.forecast_intervals import forecast_intervals
from recurra.model.forecast.forecaster import Forecaster
from recurra.model.forecast.prediction import Calibration, answers_of, forecast_windows
from recurra.training.fit import FitResult
from recurra.training.forecast.prepare import Prepared
from recurra.training.results import run_record
from recurra.training.timings import Timings

__all__ = ["Measured", "calibrate", "fill_run", "fit_on", "histories", "measure", "measure_on"]

CELLS = 20_000_000
"""Errors (windows x steps x columns x levels) behind the calibration, at most; windows are thinned evenly."""
CHUNK = 2_000_000
"""Values of histories and answers of baselines that are held at a time."""


@dataclass(frozen=True, eq=False)
class Measured:
    """The network on the held-out parts, and the baselines on the last of them.

    Attributes:
        errors: of the network, by part.
        part: the last part measured: test, or validation where there is no test part, or else train.
        origins: windows of that part, all channels of a step next to each other.
        scales: (series, C) of MASE, in the unit.
        baselines: errors by name, filled in by `fill_run`.
        fitted: the baselines themselves, if any.
    """

    errors: dict[str, ForecastErrors]
    part: str
    origins: Origins
    scales: np.ndarray
    baselines: dict[str, ForecastErrors] = field(default_factory=dict)
    fitted: list[Baselines] = field(default_factory=list)

    def clock(self, prepared: Prepared) -> tuple[np.ndarray, np.ndarray]:
        """(N,) the origin of each window on one clock for all series, and the number of its series."""
        starts = np.array([each.start for each in prepared.series.series])
        series = self.origins.series[:: prepared.windows.channels]
        return starts[series] + self.origins.step[:: prepared.windows.channels], series


def calibrate(model: Forecaster, prepared: Prepared) -> Calibration | None:
    """The shifts of the quantiles, from the validation part; None where there is none, or it is not wanted."""
    forecast = prepared.settings.forecast
    origins = prepared.origins(Part.VALIDATION, complete=False)
    if not forecast.calibrate or not len(origins):
        return None
    channels = prepared.windows.channels
    windows = len(origins) // channels
    cells = forecast.horizon * prepared.windows.series[0].values.shape[1] * len(forecast.levels)
    kept = np.linspace(0, windows - 1, min(windows, max(1, CELLS // cells))).round().astype(np.int64)
    chosen = origins.take((kept[:, None] * channels + np.arange(channels)).ravel())
    found, spread = forecast_windows(model.network, prepared.windows, chosen, forecast, seed=prepared.settings.training.seed)
    calibration = Calibration.fit(found, spread, answers_of(prepared.windows, chosen))
    if forecast.output == "quantiles":
        calibration.shifts[:, forecast.levels.index(0.5)] = 0.0  # the median is the point, which is not moved
    return calibration


def measure(model: Forecaster, prepared: Prepared) -> Measured:
    """The trained network on every window of the held-out parts (of the training part where nothing was held out)."""
    season = prepared.season.length
    scales = np.stack(
        [
            seasonal_scale(each.values[: bounds.train or None], season if (bounds.train or len(each)) > season else 1)
            for each, bounds in zip(prepared.series.series, prepared.bounds, strict=True)
        ]
    )
    errors: dict[str, ForecastErrors] = {}
    last, name = prepared.origins(Part.TRAIN, complete=False), "train"
    for part in (Part.VALIDATION, Part.TEST):
        origins = prepared.origins(part, complete=False)
        if len(origins):
            last, name = origins, part.name.lower()
            errors[name] = model.measure(prepared.series.series, prepared.windows, origins, scales=scales)
    if not errors:
        errors[name] = model.measure(prepared.series.series, prepared.windows, last, scales=scales)
    return Measured(errors, name, last, scales)


def fill_run(model: Forecaster, prepared: Prepared, result: FitResult, measured: Measured, *, timings: Timings) -> None:
    """Fit and measure the baselines where they are wanted, and fill in `model.run`."""
    if model.settings.evaluation.baselines and measured.part != "train":
        with timings.stage("baselines"):
            fitted = fit_on(prepared)
            measured.fitted.append(fitted)
            measured.baselines.update(measure_on(model, prepared, measured, fitted))
    settings, part = model.settings, measured.part
    metrics = {name: {**errors.metrics(), "windows": float(errors.windows)} for name, errors in measured.errors.items()}
    origins, series = measured.clock(prepared)
    intervals = forecast_intervals(
        measured.errors[part],
        origins,
        horizon=settings.forecast.horizon,
        series=series if len(prepared.series.series) > 1 else None,
        samples=settings.evaluation.bootstrap_samples,
        confidence=settings.evaluation.confidence,
        seed=settings.training.seed,
    )
    for name, (low, high) in intervals.items():
        metrics[part] |= {f"{name}_low": low, f"{name}_high": high}
    model.run = run_record(
        settings,
        result,
        data=_data_facts(prepared),
        parameters=model.network.parameter_count,
        metrics=metrics,
        baselines={name: {part: errors.metrics()} for name, errors in measured.baselines.items()},
    )
    model.run["timings"] = timings.rounded()


def _data_facts(prepared: Prepared) -> Mapping[str, object]:
    found = prepared.series
    return {
        "source": found.description,
        "fingerprint": found.fingerprint,
        "rows": prepared.counts(),
        "left_out": {name: count for name, count in found.counts.items() if count and name != "rows"},
        "overlap": {},
        "columns": {name: "target" if name in found.roles.targets else "input" for name in found.roles.columns},
        "series": len(found.series),
        "frequency": str(found.frequency),
        "season": prepared.season.length,
        "ends": prepared.ends(),
    }


def fit_on(prepared: Prepared) -> Baselines:
    """On the standardised training parts; their intervals from the validation parts, with what they look back on in front."""
    forecast, season = prepared.settings.forecast, prepared.season.length
    back = max(forecast.input_length, season)
    held_out = [
        each.values[max(0, bounds.train - back) : bounds.validation].astype(np.float64)
        for each, bounds in zip(prepared.windows.series, prepared.bounds, strict=True)
        if bounds.validation > bounds.train and each.scales is None  # a series that training did not see has a scale at each step
    ]
    return fit_baselines(
        prepared.training_parts(standardised=True),
        held_out,
        input_length=forecast.input_length,
        horizon=forecast.horizon,
        season=season,
        levels=forecast.levels,
        most_rows=prepared.settings.evaluation.baseline_rows,
    )


def measure_on(model: Forecaster, prepared: Prepared, measured: Measured, fitted: Baselines) -> dict[str, ForecastErrors]:
    """On the very windows of the network, piece by piece."""
    channels = prepared.windows.channels
    deviations = np.stack([model.feature.standard(each).deviation for each in prepared.series.series])
    width = prepared.windows.series[0].values.shape[1]
    rows = channels * max(1, CHUNK // ((fitted.lookback + prepared.settings.forecast.horizon) * width))
    parts: dict[str, list[ForecastErrors]] = {}
    for begin in range(0, len(measured.origins), rows):
        chosen = measured.origins.take(slice(begin, begin + rows))
        series, step = chosen.series[::channels], chosen.step[::channels]
        standard = model.standards(prepared.series.series, prepared.windows, chosen)
        answers = answers_of(prepared.windows, chosen) * standard.deviation[:, None] + standard.mean[:, None]
        found = measure_baselines(
            fitted,
            histories(prepared, series, step, steps=fitted.lookback),
            answers,
            mean=standard.mean,
            deviation=standard.deviation,
            of_series=deviations[series],
            scale=measured.scales[series],
        )
        for name, errors in found.items():
            parts.setdefault(name, []).append(errors)
    return {name: ForecastErrors.join(pieces) for name, pieces in parts.items()}


def histories(prepared: Prepared, series: np.ndarray, step: np.ndarray, *, steps: int) -> np.ndarray:
    """(N, K, C) the K standardised steps before each origin, NaN where there are none."""
    width = prepared.windows.series[0].values.shape[1]
    result = np.full((len(series), steps, width), np.nan)
    for number in np.unique(series):
        encoded = prepared.windows.series[number]
        padded = np.concatenate([np.full((steps, width), np.nan), encoded.values.astype(np.float64)])
        rows = np.flatnonzero(series == number)
        result[rows] = np.lib.stride_tricks.sliding_window_view(padded, steps, axis=0)[step[rows]].transpose(0, 2, 1)
        if encoded.scales is not None:
            mean, deviation = encoded.scales[step[rows]].transpose(1, 0, 2)[:, :, None]
            result[rows] = (result[rows] - mean) / deviation
    return result
