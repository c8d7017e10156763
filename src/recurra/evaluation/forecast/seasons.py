"""The length of a season, in steps, found by autocorrelation.

A season is a lag at which the series resembles itself more than at the lags around it, in the first half of the training part as in the second: a
random walk wanders up and down as well, but not twice in the same rhythm.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from recurra.shapes import Float

__all__ = ["Season", "autocorrelation", "find_season"]

LEAST_CORRELATION = 0.2
"""Autocorrelation of either half at a lag below which it is no season."""
FEWEST_SEASONS = 2
"""Seasons that either half must hold at least."""
TOLERANCE = 0.015
"""Share of a candidate's length by which the lag found may miss it: the peak of a year of days is flat."""
NEARLY = 0.9
"""Share of the highest autocorrelation from which on the shortest lag is taken: two seasons resemble each other as much as one."""
LEAST_DEPTH, LEAST_DEPTH_OF_OTHERS = 0.05, 0.2
"""How far the autocorrelation must have fallen before it rises to the season's: for a candidate, and for any other lag."""


@dataclass(frozen=True)
class Season:
    """A season's length and what speaks for it.

    Attributes:
        length: in steps; 1 where there is no season.
        correlation: autocorrelation at that lag, -1 to 1; NaN where there is no season or it was given.
        reason: where it comes from, in a few words.
    """

    length: int
    correlation: float
    reason: str


def find_season(series: Sequence[Float[np.ndarray, "T C"]], *, candidates: Sequence[int] = (), most: int = 200) -> Season:
    """The season that most of the series share.

    Args:
        series: training parts, NaN where missing.
        candidates: lengths that the frequency suggests (24 and 168 for hours): the best of those that pass is taken; only where none does,
            the best of all lags is.
        most: series that are looked at, spread evenly.

    Returns:
        The season, of length 1 where there is none.
    """
    chosen = series[:: max(1, len(series) // most)]
    halves = [
        _mean_correlations([part[: len(part) // 2] if first else part[len(part) // 2 :] for part in chosen]) for first in (True, False)
    ]
    reach = min(len(half) for half in halves)
    if reach < 3:
        return Season(1, float("nan"), "the series are too short to show a season")
    correlation = np.minimum(halves[0][:reach], halves[1][:reach])
    depths = {lag: _depth(correlation, lag) for lag in range(2, reach - 1)}
    natural = {lag: candidate for lag in depths for candidate in candidates if abs(lag - candidate) <= max(1, TOLERANCE * candidate)}
    found = [lag for lag in natural if depths[lag] >= LEAST_DEPTH] or [lag for lag in depths if depths[lag] >= LEAST_DEPTH_OF_OTHERS]
    if not found:
        return Season(1, float("nan"), "no lag stands out in the autocorrelation")
    highest = max(correlation[lag] for lag in found)
    best = min(lag for lag in found if correlation[lag] >= NEARLY * highest)
    exact = natural.get(best, best)
    return Season(exact, float(correlation[best]), f"autocorrelation {correlation[best]:.2f} at a lag of {exact} steps")


def autocorrelation(values: Float[np.ndarray, " T"], longest: int) -> Float[np.ndarray, " K"]:
    """Autocorrelation at lags 0 to `longest` of a series freed of its linear trend; pairs with a missing value are left out.

    Each lag's covariance is the mean over the pairs that are known, over the variance of all. A constant series has none: zeros.
    """
    known = np.isfinite(values)
    steps = np.arange(len(values), dtype=np.float64)
    lags = np.zeros(longest + 1)
    if known.sum() < 3:
        return lags
    trend = np.polyfit(steps[known], values[known], 1)
    rest = np.where(known, values - np.polyval(trend, steps), 0.0)
    variance = np.square(rest).sum() / known.sum()
    if variance <= 1e-12 * max(np.square(values[known]).mean(), np.finfo(np.float64).tiny):
        return lags
    size = 1 << (2 * len(values) - 1).bit_length()
    power, pairs = (np.fft.irfft(np.abs(np.fft.rfft(x, size)) ** 2, size)[: longest + 1] for x in (rest, known.astype(np.float64)))
    found: np.ndarray = np.divide(power, np.round(pairs) * variance, out=lags, where=np.round(pairs) > 0)
    return found


def _mean_correlations(parts: Sequence[np.ndarray]) -> np.ndarray:
    """Mean over series and columns, at the lags that a typical one of the series holds often enough."""
    longest = int(np.median([len(part) for part in parts])) // FEWEST_SEASONS
    whole = [autocorrelation(column, longest) for part in parts if len(part) > longest for column in part.T]
    changing = [lags for lags in whole if lags[0] > 0]
    return np.mean(changing, axis=0) if changing else np.zeros(longest + 1)


def _depth(correlation: np.ndarray, lag: int) -> float:
    """How far the autocorrelation falls before this lag, where the lag is a local maximum and high enough; else 0."""
    value, reach = correlation[lag], max(1, lag // 20)
    if value < LEAST_CORRELATION or value < correlation[max(1, lag - reach) : lag + reach + 1].max():
        return 0.0
    return float(value - correlation[1:lag].min())
