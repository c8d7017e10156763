"""Ridge regression of the horizon on the history: the baseline that a recurrent forecaster has to beat.

One weight matrix maps the L values of the history (and a constant) to the H values ahead. Two forms decide what the penalty pulls towards:

* `nlinear`: the last value is taken off the history and put on the forecast, so weights of zero repeat the last value.
* `dlinear`: the history is split into its moving average and the rest, which have weights of their own.

Either is solved in closed form in double precision from the moments of the training windows; form, strength, and whether all columns share the
weights or have their own, are those of the least squared error on the validation windows.

Source: Zeng et al., "Are Transformers Effective for Time Series Forecasting?", 2023, section 4 (the forms; there they are trained by Adam).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from recurra.shapes import Float

__all__ = ["LinearForecast", "filled", "fit_linear"]

Form = Literal["nlinear", "dlinear"]

STRENGTHS = (1e-5, 1e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1, 1.0)
"""Ridge strengths that are tried, in multiples of the number of windows: on standardised values, of a feature's own sum of squares."""
DEFAULT_STRENGTH = 1e-2
"""The strength where there is nothing to choose by."""
AVERAGED = 25
"""Steps of the moving average (the published value)."""
FEWEST_WINDOWS = 10
"""Training windows there must be at least; the history is shortened to have them."""
MOST_WORK = 2e11
"""Multiplications over which columns do not get weights of their own."""
_ROWS = 8_192
"""Windows that are multiplied at a time."""


@dataclass(frozen=True)
class LinearForecast:
    """A fitted linear map.

    Attributes:
        weights: (1, L + 1, H) of all columns, or (C, L + 1, H) of each; the last row is the constant.
        form: nlinear or dlinear.
        strength: of the ridge, in multiples of the number of windows.
        rows: training windows it was fitted to.
    """

    weights: np.ndarray
    form: Form
    strength: float
    rows: int

    @property
    def length(self) -> int:
        """Steps of history that it reads."""
        return int(self.weights.shape[1]) - 1

    def forecast(self, history: Float[np.ndarray, "N K C"]) -> Float[np.ndarray, "N H C"]:
        """Forecast from the last L steps of histories without missing values."""
        read = history[:, -self.length :].swapaxes(1, 2)  # (N, C, L)
        if len(self.weights) == 1:
            found = read @ self.weights[0, :-1] + self.weights[0, -1]
        else:
            found = np.einsum("ncl,clh->nch", read, self.weights[:, :-1], optimize=True) + self.weights[:, -1]
        return np.ascontiguousarray(found.swapaxes(1, 2))


@dataclass
class _Moments:
    """Sums over windows: features with features, features with answers, answers squared, number of windows."""

    gram: np.ndarray
    cross: np.ndarray
    squares: float = 0.0
    rows: int = 0

    def add(self, other: _Moments) -> None:
        self.gram += other.gram
        self.cross += other.cross
        self.squares += other.squares
        self.rows += other.rows

    def error(self, weights: np.ndarray) -> float:
        """Summed squared error of these weights on these windows."""
        return float(np.sum(weights * (self.gram @ weights)) - 2.0 * np.sum(weights * self.cross) + self.squares)


@dataclass(frozen=True)
class _Candidate:
    """Weights with what made them, and their summed squared error on the validation windows."""

    error: float
    weights: np.ndarray
    form: Form
    strength: float


def fit_linear(
    train: Sequence[Float[np.ndarray, "T C"]],
    validation: Sequence[Float[np.ndarray, "V C"]],
    *,
    length: int,
    horizon: int,
    most_rows: int = 200_000,
) -> LinearForecast | None:
    """Fit the map, on standardised values.

    Args:
        train: training part of each series, NaN where missing.
        validation: validation part of each series with the steps before it that its first window reads.
        length: L, steps of history; less where the series are too short for it.
        horizon: H, steps ahead.
        most_rows: training windows (of single columns) at most, evenly thinned.

    Returns:
        The map; None where no series is long enough for a window.
    """
    longest = max((len(series) for series in train), default=0)
    length = min(length, longest - horizon - FEWEST_WINDOWS + 1)
    if length < 1:
        return None
    columns = train[0].shape[1]
    parts = [_moments(part, columns, length, horizon, most_rows=most_rows) for part in (train, validation)]
    sums = [_empty(length, horizon), _empty(length, horizon)]
    own: list[_Candidate] = []
    each = 1 < columns <= MOST_WORK / (2 * len(STRENGTHS) * length**2 * (length + 4 * horizon))
    for learnt, checked in zip(*parts, strict=True):
        sums[0].add(learnt)
        sums[1].add(checked)
        if each and learnt.rows and checked.rows:
            own.append(_best(learnt, checked))
    if not sums[0].rows:
        return None
    shared = _best(*sums)
    if len(own) == columns and sum(candidate.error for candidate in own) < shared.error:
        most = max(own, key=lambda candidate: sum(other.form == candidate.form for other in own))
        strength = float(np.median([candidate.strength for candidate in own]))
        return LinearForecast(np.stack([candidate.weights for candidate in own]), most.form, strength, sums[0].rows)
    return LinearForecast(shared.weights[None], shared.form, shared.strength, sums[0].rows)


def filled(history: Float[np.ndarray, "N K C"]) -> Float[np.ndarray, "N K C"]:
    """Histories with each missing value replaced by the last one known, those in front by the first one, and 0 where nothing is known."""
    known = np.isfinite(history)
    if known.all():
        return history
    steps = np.arange(history.shape[1])[None, :, None]
    last = np.maximum.accumulate(np.where(known, steps, -1), axis=1)
    first = np.where(known.any(axis=1), known.argmax(axis=1), 0)[:, None, :]
    whole = np.take_along_axis(history, np.where(last >= 0, last, first), axis=1)
    return np.where(np.isfinite(whole), whole, 0.0)


def _best(learnt: _Moments, checked: _Moments) -> _Candidate:
    """The form and strength with the least error on the windows that were not learnt from."""
    if not checked.rows:
        return _Candidate(np.inf, _solve(learnt, "nlinear", DEFAULT_STRENGTH), "nlinear", DEFAULT_STRENGTH)
    forms: tuple[Form, Form] = ("nlinear", "dlinear")
    tried = ((form, strength, _solve(learnt, form, strength)) for form in forms for strength in STRENGTHS)
    candidates = (_Candidate(checked.error(weights), weights, form, strength) for form, strength, weights in tried)
    return min(candidates, key=lambda candidate: candidate.error)


def _solve(moments: _Moments, form: Form, strength: float) -> np.ndarray:
    """(L + 1, H) weights of values and constant that minimise the squared error plus the penalty."""
    features, penalty, offset = _form(form, len(moments.gram) - 1, moments.cross.shape[1])
    gram = features.T @ moments.gram @ features
    cross = features.T @ (moments.cross - moments.gram @ offset)
    # The tiny term keeps constant series, whose moments are all zero, solvable.
    ridge = strength * moments.rows * penalty + 1e-9 * max(1.0, np.trace(gram) / len(gram)) * np.eye(len(gram))
    weights: np.ndarray = features @ np.linalg.solve(gram + ridge, cross) + offset
    return weights


def _form(form: Form, length: int, horizon: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A form as (L + 1, F) features of values and constant, (F, F) penalty, and (L + 1, H) offset: the weights that cost nothing."""
    whole, offset = np.eye(length + 1), np.zeros((length + 1, horizon))
    if form == "nlinear":
        whole[length - 1, :length] -= 1.0  # each value less the last one; the last one's own column is zero and goes
        features = np.delete(whole, length - 1, axis=1)
        offset[length - 1] = 1.0
        penalty = np.eye(length)
    else:
        # With x = [average, rest] M, the smallest [u, v] that gives weights w has |u|^2 + |v|^2 = w' (M M')^-1 w.
        average = _averages(length)
        features, penalty = whole, np.eye(length + 1)
        rest = np.eye(length) - average
        penalty[:length, :length] = np.linalg.inv(average @ average.T + rest @ rest.T)
    penalty[-1, -1] = 0.0
    return features, penalty, offset


def _averages(length: int) -> np.ndarray:
    """(L, L) from values to their moving averages, the ends repeated; column i is the average at step i."""
    matrix = np.zeros((length, length))
    for step in range(length):
        around = np.clip(np.arange(step - AVERAGED // 2, step + AVERAGED // 2 + 1), 0, length - 1)
        np.add.at(matrix[:, step], around, 1.0 / len(around))
    return matrix


def _moments(part: Sequence[np.ndarray], columns: int, length: int, horizon: int, *, most_rows: int) -> Iterator[_Moments]:
    """The moments of each column over all series."""
    total = columns * sum(max(0, len(series) - length - horizon + 1) for series in part)
    stride = max(1, -(-total // most_rows))
    for column in range(columns):
        sums = _empty(length, horizon)
        for series in part:
            if len(series) >= length + horizon:
                _add_windows(sums, series[:, column], length, stride)
        yield sums


def _add_windows(sums: _Moments, values: np.ndarray, length: int, stride: int) -> None:
    horizon = sums.cross.shape[1]
    view = np.lib.stride_tricks.sliding_window_view(filled(values[None, :, None])[0, :, 0], length + horizon)
    missing = np.concatenate([[0], np.cumsum(~np.isfinite(values))])
    starts = np.arange(0, len(view), stride)
    complete = starts[missing[starts + length + horizon] == missing[starts + length]]
    if 4 * len(complete) >= len(starts):  # where hardly any horizon is complete, what was filled in is learnt too
        starts = complete
    for first in range(0, len(starts), _ROWS):
        rows = view[starts[first : first + _ROWS]]
        features, answers = np.concatenate([rows[:, :length], np.ones((len(rows), 1))], axis=1), rows[:, length:]
        sums.add(_Moments(features.T @ features, features.T @ answers, float(np.square(answers).sum()), len(rows)))


def _empty(length: int, horizon: int) -> _Moments:
    return _Moments(np.zeros((length + 1, length + 1)), np.zeros((length + 1, horizon)))
