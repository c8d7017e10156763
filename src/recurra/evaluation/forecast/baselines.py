"""The baselines every forecaster is shown beside: naive, seasonal naive, drift, linear, and ETS where statsmodels is installed.

All of them read standardised histories (each series and column less its training mean, over its training deviation) and are measured on the very
windows that the network is measured on. Their intervals are the quantiles of their own errors on the validation windows, step by step.
Not inside: the linear map (`linear`), the smoothing (`smoothing`), measuring and comparing (`measure`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from recurra.evaluation.forecast.linear import LinearForecast, filled, fit_linear
from recurra.evaluation.forecast.smoothing import SmoothingForecast, fit_smoothing, smoothing_is_installed
from recurra.shapes import Float

__all__ = ["Baselines", "ForecastBaseline", "fit_baselines"]

FEWEST_RESIDUALS = 20
"""Windows under which the validation part is too short to show how far a baseline errs; the training part then shows it."""
MOST_CELLS = 5_000_000
"""Errors (windows x steps x columns) from which the quantiles are taken, at most; windows are thinned evenly."""


@dataclass(frozen=True)
class ForecastBaseline:
    """A baseline that is ready to forecast.

    Attributes:
        name: naive, seasonal_naive, drift, linear or ets.
        description: what it is, in half a sentence.
        forecast: from (N, K, C) histories, NaN where missing, to (N, H, C) forecasts.
        offsets: (H, C, Q) from the point forecast to the quantiles.
        seconds: time that fitting it took; None where there is nothing to fit.
    """

    name: str
    description: str
    forecast: Callable[[np.ndarray], np.ndarray]
    offsets: np.ndarray
    seconds: float | None

    def quantiles(self, point: Float[np.ndarray, "N H C"]) -> Float[np.ndarray, "N H C Q"]:
        """The quantiles around its point forecasts."""
        around: np.ndarray = point[..., None] + self.offsets
        return around


@dataclass(frozen=True)
class Baselines:
    """All baselines of a run.

    Attributes:
        each: by name, in the order in which they are shown.
        left_out: why a baseline is not there, by name.
        lookback: steps of history that they read: what is not there is NaN.
        levels: of the quantiles.
    """

    each: Mapping[str, ForecastBaseline]
    left_out: Mapping[str, str]
    lookback: int
    levels: tuple[float, ...] = field(default=())


def fit_baselines(
    train: Sequence[Float[np.ndarray, "T C"]],
    validation: Sequence[Float[np.ndarray, "V C"]],
    *,
    input_length: int,
    horizon: int,
    season: int = 1,
    levels: Sequence[float] = (0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95),
    most_rows: int = 200_000,
) -> Baselines:
    """Fit all baselines, on standardised values.

    Args:
        train: training part of each series, (T, C) with the same columns, NaN where missing.
        validation: validation part of each series with the steps before it that its first window reads (`input_length`, or a season if that
            is longer); may be empty.
        input_length: steps of history that the linear baseline reads.
        horizon: H, steps ahead.
        season: steps of a season, 1 for none.
        levels: of the quantiles.
        most_rows: training windows (of single columns) that the linear baseline is fitted to, at most.

    Returns:
        The baselines that can be had, and why the others cannot.
    """
    lookback = max(input_length, season, 2)
    left_out: dict[str, str] = {}
    simple: dict[str, tuple[str, Callable[[np.ndarray], np.ndarray], float | None]] = {
        "naive": ("repeats the last value", lambda history: naive(history, horizon), None)
    }
    if season > 1:
        described = f"repeats the last season of {season:,} steps"
        simple["seasonal_naive"] = (described, lambda history: seasonal_naive(history, horizon, season), None)
    else:
        left_out["seasonal_naive"] = "there is no season"
    simple["drift"] = (
        "goes on along the line from the first to the last value of the history",
        lambda history: drift(history, horizon),
        None,
    )
    started = time.perf_counter()
    linear = fit_linear(train, validation, length=input_length, horizon=horizon, most_rows=most_rows)
    if linear is None:
        left_out["linear"] = f"no series is longer than the horizon of {horizon:,} steps by enough to learn from"
    else:
        fitted = linear
        simple["linear"] = (_describe(linear), lambda history: fitted.forecast(filled(history)), time.perf_counter() - started)
    started = time.perf_counter()
    smoothing = _smoothing(train, season, horizon, left_out)
    if smoothing is not None:
        described = f"exponential smoothing, {smoothing.name}"
        simple["ets"] = (described, smoothing.forecast, time.perf_counter() - started)
    history, answers = _residual_windows(train, validation, lookback=lookback, horizon=horizon)
    each = {
        name: ForecastBaseline(name, text, forecast, _offsets(forecast, history, answers, levels), seconds)
        for name, (text, forecast, seconds) in simple.items()
    }
    return Baselines(each, left_out, lookback, tuple(levels))


def naive(history: Float[np.ndarray, "N K C"], horizon: int) -> Float[np.ndarray, "N H C"]:
    """The last known value, at every step ahead."""
    return np.repeat(filled(history)[:, -1:], horizon, axis=1)


def seasonal_naive(history: Float[np.ndarray, "N K C"], horizon: int, season: int) -> Float[np.ndarray, "N H C"]:
    """The value one season before (or as many seasons as it takes to reach the history); where that is missing, the last known before it."""
    last = filled(history)[:, -season:]
    return last[:, np.arange(horizon) % last.shape[1]]


def drift(history: Float[np.ndarray, "N K C"], horizon: int) -> Float[np.ndarray, "N H C"]:
    """The line through the first and the last known value, continued.

    Source: Hyndman and Athanasopoulos, "Forecasting: Principles and Practice", 3rd edition, section 5.2.
    """
    known = np.isfinite(history)
    steps = history.shape[1] - 1
    first, last = known.argmax(axis=1), steps - known[:, ::-1].argmax(axis=1)
    whole = filled(history)
    ends = [np.take_along_axis(whole, place[:, None], axis=1)[:, 0] for place in (first, last)]
    span = np.maximum(last - first, 1)
    slope = np.where(last > first, (ends[1] - ends[0]) / span, 0.0)
    ahead = (steps - last)[:, None] + np.arange(1, horizon + 1)[None, :, None]
    found: np.ndarray = ends[1][:, None] + slope[:, None] * ahead
    return found


def _describe(linear: LinearForecast) -> str:
    forms = {"nlinear": "NLinear form (last value taken off)", "dlinear": "DLinear form (moving average apart)"}
    columns = "" if len(linear.weights) == 1 else ", each column its own weights"
    return f"ridge regression on the last {linear.length:,} steps, {forms[linear.form]}{columns}, strength {linear.strength:g}"


def _smoothing(train: Sequence[np.ndarray], season: int, horizon: int, left_out: dict[str, str]) -> SmoothingForecast | None:
    if not smoothing_is_installed():
        left_out["ets"] = "statsmodels is not installed (pip install 'recurra[ets]')"
        return None
    fitted = fit_smoothing(train, season=season, horizon=horizon)
    if fitted is None:
        left_out["ets"] = "no series is long enough"
    return fitted


def _residual_windows(
    train: Sequence[np.ndarray], validation: Sequence[np.ndarray], *, lookback: int, horizon: int
) -> tuple[np.ndarray, np.ndarray]:
    """(N, K, C) histories and (N, H, C) answers of the validation windows, or of the training windows where those are few.

    Where the training part is no longer than a window either, histories are filled up with missing values in front.
    """
    columns = train[0].shape[1]
    enough = [part for part in (validation, train) if _count(part, lookback, horizon) >= FEWEST_RESIDUALS]
    front = np.full((lookback - 1, columns), np.nan)
    part = enough[0] if enough else [np.concatenate([front, series]) for series in train]
    total = _count(part, lookback, horizon)
    stride = max(1, -(-total * (horizon + lookback) * columns // (4 * MOST_CELLS)))
    cut = [
        np.lib.stride_tricks.sliding_window_view(series, lookback + horizon, axis=0)[::stride].swapaxes(1, 2)
        for series in part
        if len(series) >= lookback + horizon
    ]
    whole = np.concatenate(cut) if cut else np.full((1, lookback + horizon, columns), np.nan)
    return whole[:, :lookback], whole[:, lookback:]


def _count(part: Sequence[np.ndarray], lookback: int, horizon: int) -> int:
    return sum(max(0, len(series) - lookback - horizon + 1) for series in part)


def _offsets(
    forecast: Callable[[np.ndarray], np.ndarray], history: np.ndarray, answers: np.ndarray, levels: Sequence[float]
) -> Float[np.ndarray, "H C Q"]:
    """Quantiles of the errors by step and column; 0 where there is no error to go by."""
    errors = answers - forecast(history)
    missing = ~np.isfinite(errors).any(axis=0)
    errors[:, missing] = 0.0
    offsets: np.ndarray = np.moveaxis(np.nanquantile(errors, levels, axis=0), 0, -1)
    return offsets
