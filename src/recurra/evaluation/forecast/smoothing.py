"""Exponential smoothing (ETS): fitted by statsmodels where it is installed, run over many windows at once here.

The smoothing parameters come from statsmodels' maximum likelihood on the training part; a window's own history then moves level, trend and
season. Additive errors: ETS(A,N,N), ETS(A,Ad,N), ETS(A,N,A) or ETS(A,Ad,A), whichever has the least AICc.

Source: Hyndman, Koehler, Ord and Snyder, "Forecasting with Exponential Smoothing", 2008, section 2.5 (equations), section 7.2 (AICc).
"""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from recurra.evaluation.forecast.linear import filled
from recurra.shapes import Float

__all__ = ["SmoothingForecast", "fit_smoothing", "smoothing_is_installed"]

LONGEST_SEASON = 48
"""Steps over which a season is left to the other baselines: each is a state to be estimated."""
LONGEST_FIT, MOST_FITS = 1_500, 12
"""Steps of a series that are fitted, its last ones; series and columns that are fitted, spread evenly."""


@dataclass(frozen=True)
class SmoothingForecast:
    """Smoothing parameters, shared by all series and columns.

    Attributes:
        level: alpha, how far an error moves the level.
        trend: beta, how far it moves the trend; 0 with a damping of 0 where there is none.
        season: gamma, how far it moves the season.
        damping: phi, what is left of the trend after each step.
        length: steps of a season, 1 for none.
        horizon: steps ahead.
        name: such as ETS(A,Ad,A).
    """

    level: float
    trend: float
    season: float
    damping: float
    length: int
    horizon: int
    name: str

    def forecast(self, history: Float[np.ndarray, "N K C"]) -> Float[np.ndarray, "N H C"]:
        """Smooth each history from its first season on, and go on from its last step."""
        history = filled(history)
        windows, steps, columns = history.shape
        first = history[:, : self.length]
        level = first.mean(axis=1)
        trend = np.zeros((windows, columns))
        season = first - level[:, None]
        for step in range(self.length if self.length > 1 else 0, steps):
            place = step % self.length
            error = history[:, step] - level - self.damping * trend - season[:, place]
            level = level + self.damping * trend + self.level * error
            trend = self.damping * trend + self.trend * error
            season[:, place] += self.season * error
        ahead = np.cumsum(self.damping ** np.arange(1, self.horizon + 1))
        places = (steps + np.arange(self.horizon)) % self.length
        found: np.ndarray = level[:, None] + ahead[None, :, None] * trend[:, None] + season[:, places]
        return found


def smoothing_is_installed() -> bool:
    """Whether statsmodels is there."""
    return importlib.util.find_spec("statsmodels") is not None


def fit_smoothing(train: Sequence[Float[np.ndarray, "T C"]], *, season: int, horizon: int) -> SmoothingForecast | None:
    """Fit the form with the least AICc over some series and columns, and take the medians of its parameters.

    Args:
        train: training part of each series, NaN where missing.
        season: steps of a season, 1 for none.
        horizon: steps ahead.

    Returns:
        The parameters; None where no series is long enough (10 steps, or two seasons and 10).
    """
    length = season if 1 < season <= LONGEST_SEASON else 1
    enough = 2 * length + 10
    columns = [filled(series[None, -LONGEST_FIT:])[0, :, column] for series in train for column in range(series.shape[1])]
    usable = [values for values in columns if len(values) >= enough and np.ptp(values) > 0]
    if not usable:
        return None
    chosen = usable[:: max(1, -(-len(usable) // MOST_FITS))]
    forms = [(trend, seasonal) for seasonal in ((False, True) if length > 1 else (False,)) for trend in (False, True)]
    fits = {form: [_fit(values, *form, length) for values in chosen] for form in forms}
    best = min(fits, key=lambda form: sum(fit.aicc for fit in fits[form]))
    return _parameters(fits[best], *best, length if best[1] else 1, horizon)


def _fit(values: np.ndarray, trend: bool, seasonal: bool, length: int) -> Any:
    from statsmodels.tsa.exponential_smoothing.ets import ETSModel

    model = ETSModel(
        values,
        trend="add" if trend else None,
        damped_trend=trend,
        seasonal="add" if seasonal else None,
        seasonal_periods=length if seasonal else None,
        initialization_method="heuristic",
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a fit that stops at its limit of steps still smooths
        return model.fit(disp=False, maxiter=200)


def _parameters(fits: Sequence[Any], trend: bool, seasonal: bool, length: int, horizon: int) -> SmoothingForecast:
    def median(name: str) -> float:
        return float(np.median([getattr(fit, name) for fit in fits]))

    name = f"ETS(A,{'Ad' if trend else 'N'},{'A' if seasonal else 'N'})"
    return SmoothingForecast(
        level=median("smoothing_level"),
        trend=median("smoothing_trend") if trend else 0.0,
        season=median("smoothing_seasonal") if seasonal else 0.0,
        damping=median("damping_trend") if trend else 0.0,
        length=length,
        horizon=horizon,
        name=name,
    )
