"""Series as a network reads them: standardised by what the training part tells, categories as 0 and 1, the place in the calendar.

| what | how |
| --- | --- |
| a target | less its mean, by its deviation, of the series' training part; of what came before the forecast, for a series that training did not see |
| a number that helps | less the mean, by the deviation, of all series' training part; missing: 0, the mean |
| a text that helps | a 0 or 1 for each value that the training part has; missing or new: all 0 |
| calendar | sine and cosine of the place in hour, day, week, month and year |
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from recurra.config import ForecastSettings
from recurra.data.frequency import DAY, Frequency
from recurra.data.roles import UNKNOWN_TEXT, Covariate, Roles
from recurra.data.series import Series, SeriesSet
from recurra.data.times import local_times
from recurra.data.windows import Encoded, first_origin
from recurra.errors import DataError
from recurra.features.number import ROUNDING

__all__ = ["SeriesFeature", "Standard", "calendar_columns"]

Values = npt.NDArray[np.float64]
YEAR = 365.2425


@dataclass(frozen=True)
class Standard:
    """Mean and deviation of each target column of a series, (C,) each."""

    mean: Values
    deviation: Values

    @classmethod
    def of(cls, values: Values) -> Self:
        """Of (T, C) values; 0 and 1 for a column without any, and a deviation of 1 for a constant one."""
        known = np.isfinite(values)
        count = np.maximum(known.sum(0), 1)
        mean = np.where(known, values, 0.0).sum(0) / count
        deviation = np.sqrt((np.where(known, values - mean, 0.0) ** 2).sum(0) / count)
        return cls(mean, np.where(deviation > ROUNDING * np.abs(mean), deviation, 1.0))


class SeriesFeature:
    """What is learnt from the training part of series before the network is.

    Args:
        standards: by name of series.
        covariates: by column, mean and deviation of a number, or the numbers of the categories that are inputs.
        calendar: whether the calendar is an input.
        joint: whether all channels of a series are one row.
        counts: whether the values are counts, and stay as they are.
        masked: whether the network is told which values are missing; so when some are in training.
    """

    def __init__(
        self,
        standards: Mapping[str, Standard],
        covariates: Mapping[str, Sequence[float]],
        *,
        calendar: bool,
        joint: bool,
        counts: bool,
        masked: bool,
    ) -> None:
        self.standards, self.covariates = dict(standards), {name: list(values) for name, values in covariates.items()}
        self.calendar, self.joint, self.counts, self.masked = calendar, joint, counts, masked
        self._numbers = {name: number for number, name in enumerate(self.standards)}

    @classmethod
    def fit(cls, series: SeriesSet, ends: Sequence[int], settings: ForecastSettings) -> Self:
        """Learn from the first `ends` steps of each series; series of which nothing is to be learnt (0) are not known afterwards.

        Raises:
            DataError: a target column has no number in training.
        """
        parts = [each.cut(0, end) for each, end in zip(series.series, ends, strict=True) if end > 0]
        roles = series.roles
        if not parts:
            longest = max(len(each) for each in series.series)
            raise DataError(
                f"The longest series has {longest:,} steps, and the held-out parts with a horizon of {settings.horizon} take all of them: give more "
                "rows, or lower forecast.horizon, data.validation_share or data.test_share."
            )
        known = np.stack([np.isfinite(part.values).any(0) for part in parts])
        for number in np.flatnonzero(~known.any(0)):
            raise DataError(f"Column {roles.targets[number]!r} holds no number in the training part: leave it out of the targets.")
        if settings.output == "negative_binomial":
            _require_counts(parts, roles)
        covariates = {
            covariate.name: _learn(covariate, np.concatenate([np.atleast_2d(getattr(part, kind))[:, number] for part in parts]))
            for kind in ("past", "known", "static")
            for number, covariate in enumerate(getattr(roles, kind))
        }
        return cls(
            {part.name: Standard.of(part.values) for part in parts},
            covariates,
            calendar=settings.calendar == "auto",
            joint=settings.channels == "joint",
            counts=settings.output == "negative_binomial",
            masked=any(_has_missing(part, settings) for part in parts),
        )

    def standard(self, series: Series) -> Standard:
        """Mean and deviation of a series: of its training part, or of what is given of one that training did not see."""
        if self.counts:
            return Standard(np.zeros(series.values.shape[1]), np.ones(series.values.shape[1]))
        return self.standards.get(series.name) or Standard.of(series.values)

    @property
    def identities(self) -> int:
        """Learnt vectors that tell series and channels apart."""
        channels = 1 if self.joint or not self.standards else len(next(iter(self.standards.values())).mean)
        return len(self.standards) * channels

    def encode(self, series: Series, roles: Roles, *, ahead: int = 0, future: Values | None = None) -> Encoded:
        """A series as arrays.

        Args:
            series: on the grid.
            roles: of its columns.
            ahead: steps beyond its last one whose known columns are wanted.
            future: (ahead, K) these columns, as the table has them.
        """
        standard = self.standard(series)
        values = (series.values - standard.mean) / standard.deviation
        known = series.known if future is None else np.concatenate([series.known, future])
        columns = self._covariates(roles.known, known)
        if self.calendar and roles.frequency is not None:
            times = roles.frequency.times(series.start + np.arange(len(series) + ahead))
            columns.append(calendar_columns(times, roles.frequency, None if roles.frequency.days else roles.zone))
        number = self._numbers.get(series.name)
        scales = _scales_before(values, standard.deviation) if number is None and not self.counts else None
        channels = 1 if self.joint else values.shape[1]
        identity = np.full(channels, -1) if number is None else number * channels + np.arange(channels)
        return Encoded(
            values.astype(np.float32),
            _joined(self._covariates(roles.past, series.past), len(series)),
            _joined(columns, len(series) + ahead),
            _joined(self._covariates(roles.static, series.static[None]), 1)[0],
            identity.astype(np.int64),
            scales,
        )

    def _covariates(self, columns: Sequence[Covariate], values: Values) -> list[Values]:
        """(T, .) each of the columns."""
        found = []
        for number, covariate in enumerate(columns):
            learnt, column = self.covariates[covariate.name], values[:, number]
            if covariate.categories:
                found.append((column[:, None] == np.array(learnt)[None]).astype(np.float64))
            else:
                found.append(np.nan_to_num((column - learnt[0]) / learnt[1], nan=0.0)[:, None])
        return found

    def state(self) -> dict[str, Any]:
        """As JSON values."""
        standards = [[name, each.mean.tolist(), each.deviation.tolist()] for name, each in self.standards.items()]
        flags = {name: getattr(self, name) for name in ("calendar", "joint", "counts", "masked")}
        return {"standards": standards, "covariates": self.covariates, **flags}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Self:
        """What `state()` described."""
        standards = {name: Standard(np.array(mean), np.array(deviation)) for name, mean, deviation in state["standards"]}
        flags = {name: bool(state[name]) for name in ("calendar", "joint", "counts", "masked")}
        return cls(standards, state["covariates"], **flags)


def _scales_before(values: Values, deviation: Values) -> Values:
    """(T + 1, 2, C) mean and deviation of the values before each step, of (T, C) standardised values: what `Standard.of` says of these.

    Args:
        values: NaN where missing.
        deviation: (C,) that they were divided by.
    """
    known = np.isfinite(values)
    filled = np.where(known, values, 0.0)
    nothing = np.zeros((1, values.shape[1]))
    count, total, squares = (np.concatenate([nothing, np.cumsum(each, 0)]) for each in (known, filled, filled**2))
    count = np.maximum(count, 1)
    mean = total / count
    variance = squares / count - mean**2
    # sums of squares leave rounding errors of equal values; a deviation of a millionth of that of the whole is taken for one
    spread = np.where(variance > 1e-12, np.sqrt(np.maximum(variance, 0.0)), 1.0 / deviation)
    return np.stack([mean, spread], 1)


def _has_missing(part: Series, settings: ForecastSettings) -> bool:
    """Whether windows of a training part hold missing values, or reach back before its first step."""
    first = first_origin(len(part), input_length=settings.input_length, horizon=settings.horizon)
    return bool(np.isnan(part.values).any()) or first < settings.input_length


def _learn(covariate: Covariate, values: Values) -> list[float]:
    """Mean and deviation of a number, or the categories that are there."""
    known = values[np.isfinite(values)]
    if covariate.categories:
        return [float(code) for code in np.unique(known) if code != UNKNOWN_TEXT]
    standard = Standard.of(known[:, None])
    return [float(standard.mean[0]), float(standard.deviation[0])]


def _require_counts(parts: Sequence[Series], roles: Roles) -> None:
    for part in parts:
        known = part.values[np.isfinite(part.values)]
        if (known < 0).any() or (known != np.round(known)).any():
            raise DataError(
                f"forecast.output=negative_binomial is for counts, and the target ({', '.join(roles.targets)}) holds other numbers"
                f"{f' in series {part.name!r}' if part.name else ''}: use gaussian, student_t or quantiles."
            )


def _joined(columns: Sequence[Values], steps: int) -> npt.NDArray[np.float32]:
    return np.concatenate(columns, 1).astype(np.float32) if columns else np.empty((steps, 0), np.float32)


def calendar_columns(times: np.ndarray, frequency: Frequency, zone: str | None) -> Values:
    """(T, 2 n) sine and cosine of the place in hour, day, week, month and year, as far as steps are shorter than these.

    Args:
        times: (T,) of the grid.
        frequency: of the grid.
        zone: whose clocks count, for UTC times.
    """
    if not frequency.calendar:
        return np.empty((len(times), 0))
    local = local_times(times, zone)
    days = local / DAY
    dates = (local // DAY).astype("datetime64[D]")
    day_of_month = (dates - dates.astype("datetime64[M]")).astype(np.int64) + days % 1.0
    day_of_year = (dates - dates.astype("datetime64[Y]")).astype(np.int64) + days % 1.0
    step = 30 * DAY * frequency.step if frequency.kind == "month" else DAY if frequency.kind == "business" else frequency.step
    cycles = {
        DAY // 24: days * 24,
        DAY: days,
        7 * DAY: (days + 3) / 7,
        28 * DAY: day_of_month / 31,
        360 * DAY: day_of_year / YEAR,
    }
    angles = [2 * np.pi * places for length, places in cycles.items() if step < length]
    return np.stack([wave(angle) for angle in angles for wave in (np.sin, np.cos)], 1) if angles else np.empty((len(times), 0))
