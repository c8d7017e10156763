"""Windows that a report shows: one forecast with its history and what came, and which of all windows are worth a look."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from recurra.metrics.forecast import ForecastErrors
from recurra.shapes import Float, Int

__all__ = ["ForecastWindow", "typical_windows", "worst_windows"]


@dataclass(frozen=True)
class ForecastWindow:
    """One column of one window, in the user's unit.

    Attributes:
        name: of the series and the column.
        times: (K + H,) of the history and the horizon: microseconds on the clock of the data, or whole numbers.
        calendar: whether the times are microseconds.
        history: (K,) values, NaN where missing.
        answers: (H,) what came, NaN where it is not known.
        point: (H,) forecast.
        quantiles: (H, Q), where there are any.
        levels: (Q,) of the quantiles.
        baseline: (H,) a baseline's forecast, where one is shown.
        baseline_name: its name.
        error: mean absolute error.
        unit: of the values, or the column's name.
        origin: time of the first step of the horizon, as text.
    """

    name: str
    times: Int[np.ndarray, " KH"]
    calendar: bool
    history: Float[np.ndarray, " K"]
    answers: Float[np.ndarray, " H"]
    point: Float[np.ndarray, " H"]
    quantiles: Float[np.ndarray, "H Q"] | None = None
    levels: Sequence[float] = ()
    baseline: Float[np.ndarray, " H"] | None = None
    baseline_name: str = "linear"
    error: float = float("nan")
    unit: str = ""
    origin: str = ""


def typical_windows(errors: ForecastErrors, count: int = 3) -> Int[np.ndarray, " W"]:
    """The window in the middle of the ranks of the error, then those between it and either end: neither the best nor the worst."""
    scores, rows = _scores(errors)
    if not len(rows):
        return rows
    order = rows[np.argsort(scores, kind="stable")]
    places = [int(share * (len(order) - 1)) for share in (0.5, 0.75, 0.25)[:count]]
    return order[list(dict.fromkeys(places))]


def worst_windows(
    errors: ForecastErrors, origins: Int[np.ndarray, " N"], series: Int[np.ndarray, " N"], *, horizon: int, count: int
) -> Int[np.ndarray, " W"]:
    """The windows with the largest errors, worst first; of windows of a series that overlap only the worst."""
    scores, rows = _scores(errors)
    chosen: list[int] = []
    for row in rows[np.argsort(-scores, kind="stable")].tolist():
        if all(series[row] != series[other] or abs(origins[row] - origins[other]) >= horizon for other in chosen):
            chosen.append(row)
        if len(chosen) == count:
            break
    return np.array(chosen, dtype=np.int64)


def _scores(errors: ForecastErrors) -> tuple[np.ndarray, np.ndarray]:
    """(W,) scaled (or plain) error of each window that has known answers, and (W,) its row."""
    scaled = "scaled" in errors.by_window and bool(errors.by_window["scaled_known"].any())
    top, bottom = (errors.by_window[name] for name in (("scaled", "scaled_known") if scaled else ("absolute", "known")))
    rows = np.flatnonzero(bottom > 0)
    return top[rows] / bottom[rows], rows
