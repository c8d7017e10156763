"""Baselines on the windows of a part, and whether the network beats them there: a paired bootstrap over blocks of origins."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from recurra.config import EvaluationSettings
from recurra.evaluation.comparison import Comparison
from recurra.evaluation.forecast.baselines import Baselines
from recurra.evaluation.results import MAIN_METRIC
from recurra.metrics.forecast import ForecastErrors, forecast_errors
from recurra.metrics.forecast_intervals import forecast_draws, resampled
from recurra.metrics.intervals import bootstrap
from recurra.shapes import Float, Int

__all__ = ["compare_forecasts", "measure_baselines", "strongest_baseline"]

_CELLS = 4_000_000
"""Quantiles (windows x steps x columns x levels) that are held at a time."""


def measure_baselines(
    baselines: Baselines,
    history: Float[np.ndarray, "N K C"],
    answers: Float[np.ndarray, "N H C"],
    *,
    mean: Float[np.ndarray, "#N C"],
    deviation: Float[np.ndarray, "#N C"],
    scale: Float[np.ndarray, "#N C"] | None = None,
    of_series: Float[np.ndarray, "#N C"] | None = None,
) -> dict[str, ForecastErrors]:
    """The errors of every baseline, in the user's unit.

    Args:
        baselines: fitted.
        history: standardised histories, `baselines.lookback` steps long, NaN where missing.
        answers: what came, in the user's unit; NaN where it is not known.
        mean: of each window's series and columns in the training part: a standardised value is what it is less that, over the deviation.
        deviation: likewise.
        scale: of MASE, in the user's unit.
        of_series: by which standardised errors are divided, where that is another deviation.

    Returns:
        Errors by name of the baseline; parts of a long row of windows are put together by `ForecastErrors.join`.
    """
    windows, horizon, columns = answers.shape
    size = max(1, _CELLS // max(1, horizon * columns * max(1, len(baselines.levels))))
    given = (mean, deviation, deviation if of_series is None else of_series, scale)
    scales = [np.broadcast_to(x, (windows, columns)) if x is not None else None for x in given]
    parts: dict[str, list[ForecastErrors]] = {name: [] for name in baselines.each}
    for start in range(0, max(windows, 1), size):
        rows = slice(start, start + size)
        middle, unit, divisor, naive_error = (None if x is None else x[rows] for x in scales)
        assert middle is not None
        assert unit is not None
        for name, baseline in baselines.each.items():
            point = baseline.forecast(history[rows])
            quantiles = baseline.quantiles(point) * unit[:, None, :, None] + middle[:, None, :, None] if baselines.levels else None
            parts[name].append(
                forecast_errors(
                    point * unit[:, None] + middle[:, None],
                    answers[rows],
                    quantiles=quantiles,
                    levels=baselines.levels or None,
                    scale=naive_error,
                    deviation=divisor,
                )
            )
    return {name: ForecastErrors.join(pieces) for name, pieces in parts.items()}


def compare_forecasts(
    model: ForecastErrors,
    baseline: ForecastErrors,
    origins: Int[np.ndarray, " N"],
    *,
    horizon: int,
    series: Int[np.ndarray, " N"] | None = None,
    rival: str = "linear",
    settings: EvaluationSettings | None = None,
    metrics: Sequence[str] = (MAIN_METRIC["forecast"], "mae"),
    seed: int = 0,
) -> Comparison | None:
    """The paired comparison of a model's errors with a baseline's on the same windows.

    Args:
        model: errors of the model.
        baseline: errors of the baseline on the same windows, in the same order.
        origins: step at which each window's forecast starts, on one clock for all series.
        horizon: steps ahead.
        series: number of each window's series, where there are several.
        rival: name of the baseline.
        settings: number of resamples and level of confidence.
        metrics: lower is better; the first one that both have is compared.
        seed: of the resamples.

    Returns:
        The comparison, its gain positive where the model errs less; None when intervals are switched off or there is too little to draw from.
    """
    settings = settings or EvaluationSettings()
    draws = forecast_draws(origins, horizon=horizon, series=series)
    if draws is None or not settings.bootstrap_samples:
        return None
    both = [errors.metrics() for errors in (model, baseline)]
    name = next((metric for metric in metrics if all(metric in found for found in both)), None)
    if name is None:
        return None
    first, second = (resampled(draws.sums(errors), errors.levels) for errors in (model, baseline))

    def gain(counts: np.ndarray) -> Mapping[str, np.ndarray]:
        return {name: second(counts)[name] - first(counts)[name]}

    bounds = bootstrap(gain, draws.count, block=draws.block, samples=settings.bootstrap_samples, confidence=settings.confidence, seed=seed)
    if name not in bounds:
        return None
    return Comparison(name, both[1][name] - both[0][name], *bounds[name], settings.confidence, rival)


def strongest_baseline(baselines: Mapping[str, ForecastErrors], metrics: Sequence[str] = (MAIN_METRIC["forecast"], "mae")) -> str | None:
    """Name of the baseline with the least error, by the first metric that any of them has."""
    figures = {name: errors.metrics() for name, errors in baselines.items()}
    for metric in metrics:
        found = {name: values[metric] for name, values in figures.items() if metric in values}
        if found:
            return min(found, key=lambda name: found[name])
    return None
