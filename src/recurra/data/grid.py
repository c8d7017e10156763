"""From rows in any order to series with a row for every step."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import numpy.typing as npt

from recurra.data.frequency import Times
from recurra.data.roles import UNKNOWN_TEXT, Covariate, Roles
from recurra.data.split import Part
from recurra.errors import DataError, RowError

if TYPE_CHECKING:
    import polars as pl

__all__ = ["SHARED", "Numbers", "Order", "Series", "on_grid"]

Values = npt.NDArray[np.float64]
LONGEST = 20
"""Steps of a grid by row from which something must be wrong with the frequency."""
SHARED = "|"
"""Stands between the values of several columns that name a series; in the values themselves it has a backslash before it."""


@dataclass(frozen=True)
class Series:
    """One series on the grid.

    Attributes:
        name: of the series, the same for the same series of another table; empty for the only one.
        start: number of its first step on the grid.
        values: (T, C) the targets, NaN where missing.
        past: (T, P) columns known up to the present, NaN where missing; categories as numbers.
        known: (T, K) columns known for the horizon too.
        static: (S,) columns with one value.
        begins: by part, the first step (from 0) of rows that were given for it.
        key: what the table has in the columns that name the series.
    """

    name: str
    start: int
    values: Values
    past: Values
    known: Values
    static: Values
    begins: Mapping[Part, int] = field(default_factory=dict)
    key: tuple[Any, ...] = ()

    def __len__(self) -> int:
        return len(self.values)

    @property
    def known_steps(self) -> int:
        """Steps up to the last one with a value; those behind it tell what is known of the future."""
        known = np.flatnonzero(np.isfinite(self.values).any(1))
        return int(known[-1]) + 1 if len(known) else 0

    def cut(self, begin: int, end: int) -> Series:
        """The steps from `begin` up to but without `end`."""
        rows = slice(begin, end)
        return Series(self.name, self.start + begin, self.values[rows], self.past[rows], self.known[rows], self.static, key=self.key)


@dataclass(frozen=True)
class Numbers:
    """Columns as numbers: (N, ...) of all rows; `wrong` marks rows that cannot be used."""

    targets: Values
    past: Values
    known: Values
    static: Values
    wrong: npt.NDArray[np.bool_]
    unknown: int


@dataclass(frozen=True)
class Order:
    """Rows sorted by series and time.

    Attributes:
        keys, times: (N,) of the sorted rows.
        rows: (N,) their numbers in the table.
        cuts: where each series begins, and the end.
        unsorted: rows that stood before an earlier one.
    """

    keys: Times
    times: Times
    rows: Times
    cuts: Times
    unsorted: int

    @classmethod
    def of(cls, keys: Times, times: Times, rows: Times) -> Self:
        """Sort rows by series and, within each, by time."""
        order = np.lexsort((times, keys))
        by_key = np.argsort(keys, kind="stable")
        same = np.diff(keys[by_key]) == 0
        unsorted = int((same & (np.diff(times[by_key]) < 0)).sum())
        cuts = np.concatenate([[0], np.flatnonzero(np.diff(keys[order])) + 1, [len(order)]]) if len(order) else np.zeros(1, np.int64)
        return cls(keys[order], times[order], rows[order], cuts, unsorted)

    @property
    def numbers(self) -> list[int]:
        """The number of each series."""
        found: list[int] = self.keys[self.cuts[:-1]].tolist()
        return found

    def times_of_each(self) -> list[Times]:
        """The ascending times of each series."""
        return [self.times[begin:end] for begin, end in zip(self.cuts[:-1], self.cuts[1:], strict=True)]

    def refuse_repeats(self, roles: Roles, places: Callable[[int], str], frame: pl.DataFrame) -> None:
        """Two rows of one series at the same time are an error.

        Raises:
            RowError: there are such.
        """
        repeated = np.flatnonzero((np.diff(self.times) == 0) & (np.diff(self.keys) == 0))
        if not len(repeated):
            return
        first, second = sorted((int(self.rows[repeated[0]]), int(self.rows[repeated[0] + 1])))
        assert roles.time is not None
        which = f" of {SHARED.join(str(frame[name][second]) for name in roles.series)!r}" if roles.series else ""
        advice = (
            "Remove one, or sum them up first"
            if roles.series
            else "If the table holds several series, name the column that tells them apart (--series store); otherwise remove one"
        )
        raise RowError(
            f"This row{which} has the time {frame[roles.time][second]!s}, as the row at {places(first)} has ({len(repeated):,} such rows in all). "
            f"{advice}. An hour that comes twice in autumn needs times with an offset, or forecast.time_zone.",
            source=places(second),
        )


def on_grid(order: Order, numbers: Numbers, roles: Roles, counts: dict[str, int], *, part: npt.NDArray[np.int8]) -> list[Series]:
    """The series with a row for every step.

    Raises:
        DataError: there would be very many more steps than rows.
    """
    frequency = roles.frequency
    assert frequency is not None
    positions, off = frequency.positions(order.times)
    counts["off_grid"] = int(off.sum()) if frequency.kind != "month" else 0
    made = []
    for begin, end in zip(order.cuts[:-1], order.cuts[1:], strict=True):
        rows, steps = order.rows[begin:end], positions[begin:end]
        length = int(steps[-1] - steps[0]) + 1
        if length > LONGEST * (end - begin) + 1_000:
            raise DataError(
                f"A grid of {frequency} has {length:,} steps between the first and last of {end - begin:,} rows: set forecast.frequency to the "
                "distance of the rows, or leave out the rows far from the others."
            )
        inside = steps - steps[0]
        values = _mean_by_step(numbers.targets[rows], inside, length)
        past = _mean_by_step(numbers.past[rows], inside, length, roles.past)
        known = _mean_by_step(numbers.known[rows], inside, length, roles.known)
        counts["inserted"] = counts.get("inserted", 0) + length - len(np.unique(inside))
        counts["merged"] = counts.get("merged", 0) + len(inside) - len(np.unique(inside))
        counts["missing"] = counts.get("missing", 0) + int(np.isnan(values).sum())
        _require_earlier(inside, part[rows])
        begins = {Part(number): int(inside[part[rows] == number].min()) for number in np.unique(part[rows]) if number >= 0}
        static = _one_value(numbers.static[rows], roles)
        made.append(Series("", int(steps[0]), values, past, known, static, begins))
    return made


def _require_earlier(steps: Times, part: npt.NDArray[np.int8]) -> None:
    """What is given to train on comes before what is given to measure on.

    Raises:
        DataError: it does not.
    """
    held_out = steps[part >= 0]
    late = int((steps[part < 0] > held_out.min()).sum()) if len(held_out) else 0
    if late:
        raise DataError(
            f"{late:,} rows to train on are later than the first row that was given to validate or to test on: a forecast is measured on what came "
            "later. Give later rows for these parts, or leave the later ones out of the training."
        )


def _mean_by_step(columns: Values, steps: Times, length: int, covariates: Sequence[Covariate] = ()) -> Values:
    """(N, C) values of rows as (T, C) of steps: NaN without a row, the mean of the known ones of several, of texts the last one."""
    result = np.full((length, columns.shape[1]), np.nan)
    if len(np.unique(steps)) == len(steps):
        result[steps] = columns
        return result
    for number in range(columns.shape[1]):
        known = np.isfinite(columns[:, number])
        if covariates and covariates[number].categories:  # a mean of numbers of texts would be that of another text
            result[steps[known], number] = columns[known, number]
            continue
        count = np.bincount(steps[known], minlength=length)
        total = np.bincount(steps[known], columns[known, number], minlength=length)
        np.divide(total, count, out=result[:, number], where=count > 0)
    return result


def _one_value(columns: Values, roles: Roles) -> Values:
    """(S,) the value of each static column.

    Raises:
        DataError: a column has several.
    """
    found = np.full(columns.shape[1], np.nan)
    for number, covariate in enumerate(roles.static):
        values = np.unique(
            columns[:, number][np.isfinite(columns[:, number]) & (columns[:, number] != UNKNOWN_TEXT if covariate.categories else True)]
        )
        if len(values) > 1:
            raise DataError(
                f"The static column {covariate.name!r} has {len(values)} different values in one series: name it forecast.past or forecast.known."
            )
        if len(values):
            found[number] = values[0]
    return found
