"""The grid of a series: how far apart its steps are, in time or on the calendar, and which step a time is.

Times are whole microseconds since 1970, in UTC for steps shorter than a day and on the wall clock for all others (a day in March
may have 23 hours, and is one step), or whole numbers where there is no calendar.
"""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt

from recurra.errors import DataError, SettingsError

__all__ = ["DAY", "Frequency", "Times", "infer_frequency"]

Times = npt.NDArray[np.int64]
"""(T,) microseconds since 1970, or whole numbers."""
SECOND = 1_000_000
DAY = 86_400 * SECOND
UNITS = {"s": SECOND, "min": 60 * SECOND, "h": 3_600 * SECOND, "d": DAY, "w": 7 * DAY}
MONTHS = {"mo": 1, "q": 3, "y": 12}
WORKDAY = "b"
OFF_GRID = 0.05
"""Share of the rows between the steps from which an inferred grid is refused."""
SPARSE = 0.2
"""Share of the steps that have a row below which a finer grid is no explanation of irregular rows."""
SEASONS: tuple[tuple[int, tuple[int, ...]], ...] = (
    (SECOND, (60, 3_600)),
    (60 * SECOND, (60, 1_440)),
    (3_600 * SECOND, (24, 168)),
    (DAY, (7, 365)),
    (7 * DAY, (52,)),
)
"""Steps after which a series of some step may repeat itself, by the step."""


@dataclass(frozen=True)
class Frequency:
    """A regular grid.

    Attributes:
        kind: `time` for steps of one length, `month` for months and what is made of them, `business` for Monday to Friday, `number` for
            whole numbers without a calendar.
        step: microseconds, months, working days or units.
        phase: where the grid lies within a step, in the same.
        rest: of months and working days: microseconds into the day.
        day: of months: day of the month, 0 for the last.
    """

    kind: Literal["time", "month", "business", "number"]
    step: int
    phase: int = 0
    rest: int = 0
    day: int = 1

    def positions(self, times: Times) -> tuple[Times, npt.NDArray[np.bool_]]:
        """The number of each time's step, and whether it lies off the grid (it then counts for the nearest step; months: its own)."""
        if self.kind in ("time", "number"):
            numbers = (times - self.phase + self.step // 2) // self.step
            return numbers, self.times(numbers) != times
        days = np.floor_divide(times, DAY)
        dates = days.astype("datetime64[D]")
        if self.kind == "business":
            numbers = np.busday_count(np.datetime64("1970-01-01"), dates)
            return numbers.astype(np.int64), self.times(numbers) != times
        months = dates.astype("datetime64[M]").astype(np.int64)
        numbers = (months - self.phase) // self.step
        return numbers, self.times(numbers) != times

    def times(self, positions: Times) -> Times:
        """The times of steps."""
        if self.kind in ("time", "number"):
            return positions * self.step + self.phase
        if self.kind == "business":
            days = np.busday_offset(np.datetime64("1970-01-01"), positions, roll="forward").astype(np.int64)
            return days * DAY + self.rest
        months = positions * self.step + self.phase
        first = months.astype("datetime64[M]").astype("datetime64[D]").astype(np.int64)
        following = (months + 1).astype("datetime64[M]").astype("datetime64[D]").astype(np.int64)
        day = following - first if self.day == 0 else np.minimum(self.day, following - first)
        result: Times = (first + day - 1) * DAY + self.rest
        return result

    @property
    def calendar(self) -> bool:
        """Whether there is a calendar behind the steps."""
        return self.kind != "number"

    @property
    def days(self) -> bool:
        """Whether a step is a day or longer, and times are of the wall clock."""
        return self.kind in ("month", "business") or (self.kind == "time" and self.step >= DAY)

    @property
    def seasons(self) -> tuple[int, ...]:
        """Numbers of steps after which such series often repeat themselves, the shortest first."""
        if self.kind == "business":
            return (5, 260)
        if self.kind == "month":
            return (12 // self.step,) if self.step < 12 and 12 % self.step == 0 else ()
        if self.kind == "number":
            return ()
        lengths = {length * unit for unit, counts in SEASONS if unit <= max(self.step, SECOND) for length in counts}
        lengths |= {DAY, 7 * DAY} if self.step < DAY else set()
        return tuple(sorted(length // self.step for length in lengths if length % self.step == 0 and length // self.step > 1))

    def __str__(self) -> str:
        units: dict[str, int] = MONTHS if self.kind == "month" else UNITS if self.kind == "time" else {}
        for name, size in reversed(units.items()):
            if self.step % size == 0:
                return f"{self.step // size}{name}"
        if self.kind == "time":
            return f"{self.step / SECOND:g}s"
        return f"{self.step}{WORKDAY}" if self.kind == "business" else f"{self.step}"

    def state(self) -> dict[str, Any]:
        """All fields."""
        return asdict(self)

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Self:
        """The grid that `state()` described."""
        return cls(**state)

    @classmethod
    def parse(cls, text: str, times: Times, *, calendar: bool) -> Self:
        """The grid of a setting, with the phase that most of the times have.

        Args:
            text: `15min`, `1d`, `b`, `3mo`, ...; a whole number where there is no calendar.
            times: sorted or not.
            calendar: whether the times are microseconds.

        Raises:
            SettingsError: it cannot be read, or does not fit the times.
        """
        found = re.fullmatch(r"\s*(\d*)\s*([a-z]*)\s*", text.lower())
        count, unit = (int(found[1] or 1), found[2]) if found else (0, "?")
        if count < 1 or unit not in {*UNITS, *MONTHS, WORKDAY, ""} or (unit == "" and not (found and found[1])):
            raise SettingsError(
                f"forecast.frequency={text!r} is no frequency: write a number and s, min, h, d, b, w, mo, q or y, as 15min."
            )
        if calendar != (unit != ""):
            raise SettingsError(
                f"forecast.frequency={text!r} does not fit the time column: "
                + ("it holds dates, so a unit must follow (15min, 1d)." if calendar else "it holds whole numbers, so no unit may follow.")
            )
        if unit == "":
            return cls("number", count, phase=_phase(times, count))
        if unit in MONTHS:
            return cls._months(count * MONTHS[unit], times)
        if unit == WORKDAY:
            if count != 1:
                raise SettingsError(f"forecast.frequency={text!r}: working days have no multiples here; use b.")
            return cls("business", 1, rest=_common(times % DAY))
        return cls("time", count * UNITS[unit], phase=_phase(times, count * UNITS[unit]))

    @classmethod
    def _months(cls, step: int, times: Times) -> Self:
        months, days, last = _calendar(times)
        day = 0 if len(times) > 1 and bool(last.all()) else _common(days)
        return cls("month", step, phase=_phase(months, step), rest=_common(times % DAY), day=day)


def infer_frequency(times: list[Times], *, calendar: bool) -> Frequency:
    """The grid on which nearly all times of nearly all series lie.

    Working days are seen by weekends without any row, months by a common day. Otherwise the step is the most common distance, or
    the greatest common divisor of the common ones where rows lie between.

    Args:
        times: of each series, ascending.
        calendar: whether they are microseconds.

    Raises:
        DataError: no series has two rows, or the rows lie on no grid.
    """
    every = np.concatenate(times) if times else np.empty(0, np.int64)
    gaps = np.concatenate([np.diff(each) for each in times]) if times else every
    gaps = gaps[gaps > 0]
    if not len(gaps):
        raise DataError("No series has two rows, so the distance of its steps is unknown: set forecast.frequency (1h, 1d, 1mo).")
    if calendar:
        found = _months(times, gaps, every) or _working_days(gaps, every)
        if found is not None:
            return found
    values, counts = np.unique(gaps, return_counts=True)
    common = int(values[counts.argmax()])
    kind: Literal["time", "number"] = "time" if calendar else "number"
    for step in dict.fromkeys((common, int(np.gcd.reduce(values[counts >= 0.01 * len(gaps)])))):
        grid = Frequency(kind, step, phase=_phase(every, step))
        steps = sum(int((each[-1] - each[0]) // step) + 1 for each in times if len(each))
        off = float(grid.positions(every)[1].mean())
        if off <= OFF_GRID and (step == common or len(every) >= SPARSE * steps):
            return grid
    grid = Frequency(kind, common, phase=_phase(every, common))
    off = float(grid.positions(every)[1].mean())
    raise DataError(
        f"The rows are irregular: their most common distance is {grid}, and {off:.0%} of them lie off that grid. Set forecast.frequency to the "
        "distance wanted: each row then counts for the nearest step, and rows of the same step for their mean."
    )


def _months(times: list[Times], gaps: Times, every: Times) -> Frequency | None:
    """Months, quarters, years: one day of the month (or always the last), one time of day."""
    if gaps.min() < 27 * DAY or len(np.unique(every % DAY)) > 1:
        return None
    months, days, last = _calendar(every)
    if len(np.unique(days)) > 1 and not bool(last.all()):
        return None
    distances = np.concatenate([np.diff(_calendar(each)[0]) for each in times])
    distances = distances[distances > 0]
    values, counts = np.unique(distances, return_counts=True)
    step = int(values[counts.argmax()])
    if np.any(distances % step):
        step = int(np.gcd.reduce(distances))
    return Frequency("month", step, _phase(months, step), _common(every % DAY), 0 if bool(last.all()) else _common(days))


def _working_days(gaps: Times, every: Times) -> Frequency | None:
    """Days without any weekend among them."""
    values, counts = np.unique(gaps, return_counts=True)
    if values[counts.argmax()] != DAY or not np.any(gaps == 3 * DAY) or len(np.unique(every % DAY)) > 1:
        return None
    weekday = (every // DAY + 3) % 7  # 1 January 1970 was a Thursday
    return None if bool((weekday >= 5).any()) else Frequency("business", 1, rest=_common(every % DAY))


def _calendar(times: Times) -> tuple[Times, Times, npt.NDArray[np.bool_]]:
    """Months since January 1970, days of the month, and whether that is the last of the month."""
    dates = (times // DAY).astype("datetime64[D]")
    months = dates.astype("datetime64[M]")
    days = (dates - months.astype("datetime64[D]")).astype(np.int64) + 1
    last = (dates + 1).astype("datetime64[M]") != months
    return months.astype(np.int64), days, last


def _phase(times: Times, step: int) -> int:
    return _common(times % step)


def _common(values: Times) -> int:
    """The most common value; 0 of none."""
    found, counts = np.unique(values, return_counts=True)
    return int(found[counts.argmax()]) if len(found) else 0
