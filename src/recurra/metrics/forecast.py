"""Metrics of forecasts: N windows, H steps ahead, C columns. Steps whose answer is missing (NaN) are left out.

Everything is a ratio of sums over cells (window, step, column), so `ForecastErrors` keeps the sums by window, by step and by column: figures of
all windows, of each step ahead and of each column come from the same numbers, and windows may be measured piece by piece.

Inside: errors of points (MSE, MAE, RMSE, MASE, sMAPE), of quantiles (weighted quantile loss, CRPS, coverage and width of intervals), CRPS of
samples, and the scale of MASE. Not inside: the bootstrap over origins (`forecast_intervals`).

Source: Hyndman and Koehler, "Another look at measures of forecast accuracy", 2006 (MASE, section 3); Gneiting and Raftery, "Strictly Proper
Scoring Rules, Prediction, and Estimation", 2007 (CRPS, section 4.2; quantile scores, section 6.2).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from recurra.errors import DataError, EmptyData
from recurra.shapes import Float

__all__ = [
    "ForecastErrors",
    "crps_of_quantiles",
    "crps_of_samples",
    "forecast_errors",
    "forecast_metrics",
    "interval_pairs",
    "level_weights",
    "pinball_loss",
    "ratios",
    "seasonal_scale",
]

_CELLS = 50_000
"""Cells that are measured at a time: temporary arrays stay in a core's cache (twice as fast as arrays of 8 MB), whatever the number of windows."""


@dataclass(frozen=True)
class ForecastErrors:
    """Sums of the errors of N windows, H steps ahead, C columns.

    Attributes:
        by_window: (N,) sums by name.
        by_step: (H,) sums by name.
        by_column: (C,) sums by name.
        levels: (Q,) of the quantiles; empty where only points were measured.
    """

    by_window: dict[str, np.ndarray]
    by_step: dict[str, np.ndarray]
    by_column: dict[str, np.ndarray]
    levels: tuple[float, ...] = ()

    @property
    def windows(self) -> int:
        """Number of windows measured."""
        return len(self.by_window["known"])

    def metrics(self) -> dict[str, float]:
        """Metrics over all windows, steps and columns; see `forecast_metrics`.

        Raises:
            EmptyData: no answer is known.
        """
        sums = {name: values.sum() for name, values in self.by_window.items()}
        if not sums["known"]:
            raise EmptyData("There is no step with a known answer to measure on: give windows whose answers are set.")
        return {name: float(value) for name, value in ratios(sums, self.levels).items() if np.isfinite(value)}

    def by_horizon(self) -> dict[str, np.ndarray]:
        """(H,) the same metrics of each step ahead; NaN where nothing is known."""
        return ratios(self.by_step, self.levels)

    def of_columns(self) -> dict[str, np.ndarray]:
        """(C,) the same metrics of each column; NaN where nothing is known."""
        return ratios(self.by_column, self.levels)

    @classmethod
    def join(cls, parts: Iterable[ForecastErrors]) -> ForecastErrors:
        """The errors of all windows, from those of pieces of them in their order."""
        pieces = list(parts)
        first = pieces[0]
        return cls(
            {name: np.concatenate([piece.by_window[name] for piece in pieces]) for name in first.by_window},
            {name: np.sum([piece.by_step[name] for piece in pieces], axis=0) for name in first.by_step},
            {name: np.sum([piece.by_column[name] for piece in pieces], axis=0) for name in first.by_column},
            first.levels,
        )


def forecast_metrics(
    point: Float[np.ndarray, "N H C"],
    answers: Float[np.ndarray, "N H C"],
    *,
    quantiles: Float[np.ndarray, "N H C Q"] | None = None,
    levels: Sequence[float] | None = None,
    scale: Float[np.ndarray, "#N C"] | Float[np.ndarray, " C"] | None = None,
    deviation: Float[np.ndarray, "#N C"] | Float[np.ndarray, " C"] | None = None,
) -> dict[str, float]:
    """Metrics of N forecasts.

    Args:
        point: point forecasts.
        answers: what came; NaN where it is not known.
        quantiles: forecast quantiles, in the order of the levels.
        levels: (Q,) between 0 and 1, rising.
        scale: of MASE: mean absolute error of the seasonal naive forecast on the training part, of each column or of each window's series
            (`seasonal_scale`). Cells whose scale is 0 or NaN (a constant series) count in the other metrics only.
        deviation: standard deviation of the training part, likewise: adds `standard_mse` and `standard_mae`, the errors on the scale that
            published tables standardise to.

    Returns:
        `mse`, `mae`, `rmse` in the answers' unit; `smape`, the mean of 2|y - f| / (|y| + |f|), between 0 and 2 (0 where both are 0);
        `mase` with a scale; `standard_mse`, `standard_mae` with a deviation; with quantiles also `weighted_quantile_loss` (twice the pinball
        losses over the sum of |y|, mean over the levels), `crps` (twice the pinball loss integrated over the levels, each level weighted by the
        share of (0, 1) nearest to it; in the answers' unit) and, for every two levels that mirror each other, `coverage_90` (share of the
        answers inside) and `width_90` (mean width, in the answers' unit), named by the nominal coverage in per cent.

    Raises:
        EmptyData: no answer is known.
        DataError: a forecast is NaN or infinite where the answer is known.
    """
    return forecast_errors(point, answers, quantiles=quantiles, levels=levels, scale=scale, deviation=deviation).metrics()


def forecast_errors(
    point: Float[np.ndarray, "N H C"],
    answers: Float[np.ndarray, "N H C"],
    *,
    quantiles: Float[np.ndarray, "N H C Q"] | None = None,
    levels: Sequence[float] | None = None,
    scale: Float[np.ndarray, "#N C"] | Float[np.ndarray, " C"] | None = None,
    deviation: Float[np.ndarray, "#N C"] | Float[np.ndarray, " C"] | None = None,
) -> ForecastErrors:
    """The sums behind `forecast_metrics`, which see; also of windows without a single known answer."""
    chosen = _checked(point, answers, quantiles, levels)
    windows, horizon, columns = answers.shape
    size = max(1, _CELLS // max(1, horizon * columns))
    scales = {"scale": scale, "deviation": deviation}
    whole = {name: np.broadcast_to(np.atleast_2d(value), (windows, columns)) for name, value in scales.items() if value is not None}
    pieces = []
    for start in range(0, max(windows, 1), size):
        rows = slice(start, start + size)
        part = None if quantiles is None else quantiles[rows]
        cells = _cells(point[rows], answers[rows], part, chosen, {name: value[rows] for name, value in whole.items()})
        by_window, by_step, by_column = (
            {name: values.sum(axis=axes) for name, values in cells.items()} for axes in ((1, 2), (0, 2), (0, 1))
        )
        pieces.append(ForecastErrors(by_window, by_step, by_column, chosen))
    return ForecastErrors.join(pieces)


def ratios(sums: Mapping[str, np.ndarray], levels: Sequence[float] = ()) -> dict[str, np.ndarray]:
    """Metrics from sums of any shape, NaN where they are not defined."""

    def mean(name: str, over: str = "known") -> np.ndarray:
        top, bottom = np.asarray(sums[name], dtype=np.float64), np.asarray(sums[over], dtype=np.float64)
        return np.divide(top, bottom, out=np.full_like(top, np.nan), where=bottom > 0)

    metrics = {"mse": mean("squared"), "mae": mean("absolute")}
    metrics["rmse"] = np.sqrt(metrics["mse"])
    if "scaled" in sums:
        metrics["mase"] = mean("scaled", "scaled_known")
    metrics["smape"] = mean("symmetric")
    if "standard_squared" in sums:
        metrics |= {"standard_mse": mean("standard_squared", "standard_known"), "standard_mae": mean("standard_absolute", "standard_known")}
    if levels:
        losses = [f"pinball_{place}" for place in range(len(levels))]
        metrics["weighted_quantile_loss"] = np.mean([2.0 * mean(name, "size") for name in losses], axis=0)
        weights = level_weights(levels)
        metrics["crps"] = np.sum([2.0 * weight * mean(name) for name, weight in zip(losses, weights, strict=True)], axis=0)
    for name, _, _ in interval_pairs(levels):
        metrics |= {f"coverage_{name}": mean(f"inside_{name}"), f"width_{name}": mean(f"width_{name}")}
    return metrics


def interval_pairs(levels: Sequence[float]) -> list[tuple[str, int, int]]:
    """Central intervals that the levels hold: nominal coverage in per cent, place of the lower and of the upper quantile; widest first."""
    places = {round(level, 6): place for place, level in enumerate(levels)}
    pairs = [(level, place, places.get(round(1.0 - level, 6))) for level, place in places.items() if level < 0.5]
    return [(f"{100.0 * (1.0 - 2.0 * level):.6g}", low, high) for level, low, high in sorted(pairs) if high is not None]


def level_weights(levels: Sequence[float]) -> np.ndarray:
    """(Q,) share of (0, 1) that is nearer to each level than to any other: the weights that integrate over the levels."""
    edges = np.asarray(levels, dtype=np.float64)
    weights: np.ndarray = np.diff(np.concatenate([[0.0], (edges[1:] + edges[:-1]) / 2.0, [1.0]]))
    return weights


def pinball_loss(
    quantiles: Float[np.ndarray, "*cells Q"], answers: Float[np.ndarray, "*cells"], levels: Sequence[float]
) -> Float[np.ndarray, "*cells Q"]:
    """Loss of each quantile: level times how far the answer lies above it, or 1 - level times how far below; NaN where it is missing."""
    gap = answers[..., None] - quantiles
    loss: np.ndarray = np.maximum(np.asarray(levels) * gap, (np.asarray(levels) - 1.0) * gap)
    return loss


def crps_of_quantiles(
    quantiles: Float[np.ndarray, "*cells Q"], answers: Float[np.ndarray, "*cells"], levels: Sequence[float]
) -> Float[np.ndarray, "*cells"]:
    """Continuous ranked probability score of forecasts known at some levels, in the answers' unit.

    CRPS is twice the pinball loss integrated over all levels from 0 to 1; here each level stands for those nearest to it. With levels that
    mirror each other, the score of a point mass is the absolute error, exactly.
    """
    score: np.ndarray = 2.0 * pinball_loss(quantiles, answers, levels) @ level_weights(levels)
    return score


def crps_of_samples(samples: Float[np.ndarray, "*cells S"], answers: Float[np.ndarray, "*cells"]) -> Float[np.ndarray, "*cells"]:
    """CRPS of the distribution that puts the same weight on each of S samples: E|X - y| - E|X - X'| / 2, in the answers' unit.

    The pairs X, X' include a sample with itself: it is the exact score of these samples, and is larger than that of the distribution they
    were drawn from by E|X - X'| / (2 S) on average.
    """
    ordered = np.sort(samples, axis=-1)
    count = samples.shape[-1]
    # sum over i, j of |x_i - x_j| = 2 sum over i of (2 i - S + 1) x_(i), i from 0: S log S instead of S squared
    spread = ordered @ (2.0 * np.arange(count) - count + 1.0) / count**2
    score: np.ndarray = np.abs(samples - answers[..., None]).mean(axis=-1) - spread
    return score


def seasonal_scale(values: Float[np.ndarray, "T C"], season: int = 1) -> Float[np.ndarray, " C"]:
    """Mean absolute error of the seasonal naive forecast on a series itself, by which MASE divides; NaN where it is not defined.

    Args:
        values: the training part of one series, NaN where missing.
        season: steps of a season; 1 for the naive forecast.

    Source: Hyndman and Koehler, 2006, section 3; with a season, Hyndman and Athanasopoulos, "Forecasting", 3rd edition, section 5.8.
    """
    change = np.abs(values[season:] - values[:-season])
    known = np.isfinite(change)
    count = known.sum(axis=0)
    total = np.where(known, change, 0.0).sum(axis=0)
    scale: np.ndarray = np.divide(total, count, out=np.full(len(count), np.nan), where=count > 0)
    return scale


def _cells(
    point: np.ndarray, answers: np.ndarray, quantiles: np.ndarray | None, levels: Sequence[float], scales: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """(N, H, C) contributions of each cell, 0 where the answer is not known."""
    known = np.isfinite(answers)
    true = np.where(known, answers, 0.0).astype(np.float64)
    error = np.where(known, point - true, 0.0)
    if not np.isfinite(error).all():
        bad = int((~np.isfinite(error)).any(axis=(1, 2)).sum())
        raise DataError(
            f"The forecasts of {bad} windows are NaN or infinite. Train again with a smaller learning rate or training.clip_norm."
        )
    absolute, size = np.abs(error), np.abs(true)
    both = np.where(known, size + np.abs(point), 0.0)
    cells = {
        "known": known.astype(np.float64),
        "absolute": absolute,
        "squared": np.square(error),
        "symmetric": np.divide(2.0 * absolute, both, out=np.zeros_like(both), where=both > 0),
        "size": size,
    }
    if "scale" in scales:
        cells["scaled"], cells["scaled_known"] = _scaled(absolute, known, scales["scale"])
    if "deviation" in scales:
        cells["standard_absolute"], cells["standard_known"] = _scaled(absolute, known, scales["deviation"])
        cells["standard_squared"] = np.square(cells["standard_absolute"])
    if quantiles is not None:
        cells |= _quantile_cells(np.where(known[..., None], quantiles, 0.0), true, known, levels)
    return cells


def _scaled(absolute: np.ndarray, known: np.ndarray, scale: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Errors over a (N, C) scale, and where that is defined."""
    whole = np.broadcast_to(scale[:, None, :], absolute.shape)
    defined = known & np.isfinite(whole) & (whole > 0)
    return np.divide(absolute, whole, out=np.zeros_like(absolute), where=defined), defined.astype(np.float64)


def _quantile_cells(quantiles: np.ndarray, true: np.ndarray, known: np.ndarray, levels: Sequence[float]) -> dict[str, np.ndarray]:
    if not np.isfinite(quantiles).all():
        raise DataError("Some quantiles are NaN or infinite. Train again with a smaller learning rate or training.clip_norm.")
    losses = pinball_loss(quantiles, true, levels)
    cells = {f"pinball_{place}": losses[..., place] for place in range(len(levels))}
    for name, low, high in interval_pairs(levels):
        lower, upper = quantiles[..., low], quantiles[..., high]
        cells[f"inside_{name}"] = (known & (lower <= true) & (true <= upper)).astype(np.float64)
        cells[f"width_{name}"] = upper - lower
    return cells


def _checked(point: np.ndarray, answers: np.ndarray, quantiles: np.ndarray | None, levels: Sequence[float] | None) -> tuple[float, ...]:
    """The levels, after a look at the shapes."""
    if point.ndim != 3 or point.shape != answers.shape:
        raise ValueError(f"Forecasts and answers must both be (N, H, C), not {point.shape} and {answers.shape}.")
    if (quantiles is None) != (levels is None):
        raise ValueError("Quantiles and their levels belong together: give both or neither.")
    if quantiles is None or levels is None:
        return ()
    chosen = tuple(float(level) for level in levels)
    if quantiles.shape != (*answers.shape, len(chosen)):
        raise ValueError(f"Quantiles must be {(*answers.shape, len(chosen))}, not {quantiles.shape}.")
    if not chosen or not all(0.0 < low < 1.0 for low in chosen) or sorted(set(chosen)) != list(chosen):
        raise ValueError(f"Levels must rise and lie between 0 and 1: {list(chosen)}.")
    return chosen
