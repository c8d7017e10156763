"""Bootstrap intervals of forecasts: blocks of origins are drawn, for overlapping windows err together.

Two windows whose origins lie less than a horizon apart are measured on the same answers, and all series of one origin live through the same
days. Rows drawn one by one would call that independent and make the intervals far too narrow. So whole blocks of neighbouring origins are
drawn, each at least a horizon long, with all windows of these origins; the origins are closed to a circle, so that each is drawn as often
as any other. Where there are too few blocks of time, whole series are drawn instead.

Source: Politis and Romano, "A circular block-resampling procedure for stationary data", 1992; Kuensch, 1989 (blocks).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from recurra.metrics.forecast import ForecastErrors, ratios
from recurra.metrics.intervals import Intervals, bootstrap
from recurra.shapes import Int

__all__ = ["Draws", "forecast_draws", "forecast_intervals"]

FEWEST_BLOCKS = 5
"""Blocks of time under which an interval would say more about chance than about the forecasts."""


@dataclass(frozen=True)
class Draws:
    """What the bootstrap draws.

    Attributes:
        groups: (N,) number of the group (origin or series) of each window.
        count: number of groups.
        block: neighbouring groups that are drawn together.
        unit: what a group is: origin or series.
    """

    groups: np.ndarray
    count: int
    block: int
    unit: str

    def sums(self, errors: ForecastErrors) -> dict[str, np.ndarray]:
        """(groups,) sums of the errors by name."""
        return {name: np.bincount(self.groups, weights=values, minlength=self.count) for name, values in errors.by_window.items()}


def forecast_draws(
    origins: Int[np.ndarray, " N"], *, horizon: int, series: Int[np.ndarray, " N"] | None = None, fewest: int = FEWEST_BLOCKS
) -> Draws | None:
    """Choose what is drawn.

    Args:
        origins: step at which each window's forecast starts, on one clock for all series.
        horizon: steps ahead.
        series: number of each window's series, where there are several.
        fewest: blocks (or series) that there must be at least.

    Returns:
        Blocks of origins, or series where there are too few blocks; None where there are too few of both.
    """
    steps, groups = np.unique(origins, return_inverse=True)
    stride = float(np.median(np.diff(steps))) if len(steps) > 1 else 1.0
    block = min(math.ceil(horizon / stride), len(steps))
    if len(steps) >= fewest * block:
        return Draws(groups, len(steps), block, "origin")
    names, members = np.unique(origins * 0 if series is None else series, return_inverse=True)
    return Draws(members, len(names), 1, "series") if len(names) >= fewest else None


def forecast_intervals(
    errors: ForecastErrors,
    origins: Int[np.ndarray, " N"],
    *,
    horizon: int,
    series: Int[np.ndarray, " N"] | None = None,
    samples: int = 1_000,
    confidence: float = 0.95,
    seed: int = 0,
) -> Intervals:
    """Intervals of all metrics of `errors`.

    Args:
        errors: of N windows.
        origins: (N,) step at which each window's forecast starts, on one clock for all series.
        horizon: steps ahead; blocks are at least as long.
        series: (N,) number of each window's series, where there are several.
        samples: resamples; 0 returns no interval.
        confidence: share of the resamples' values that the interval spans.
        seed: of the draws.

    Returns:
        (low, high) by name; empty where there are fewer than five blocks of time and fewer than five series.
    """
    draws = forecast_draws(origins, horizon=horizon, series=series)
    if draws is None or not samples:
        return {}
    return bootstrap(
        resampled(draws.sums(errors), errors.levels), draws.count, block=draws.block, samples=samples, confidence=confidence, seed=seed
    )


def resampled(sums: dict[str, np.ndarray], levels: tuple[float, ...]) -> Callable[[np.ndarray], dict[str, np.ndarray]]:
    """The metrics as a function of how often each group was drawn, for `bootstrap`."""
    names, columns = list(sums), np.stack(list(sums.values()), axis=1)

    def metric(counts: np.ndarray) -> dict[str, np.ndarray]:
        return ratios(dict(zip(names, (counts @ columns).T, strict=True)), levels)

    return metric
