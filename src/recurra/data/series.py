"""A table as series on a regular grid: who is whose, in which order, with what is missing.

Steps without a row are put in, with missing values; rows that are not in
the order of time are sorted, and counted; two rows of one series at the same time are an error. Not here: what each column
is (`roles`), what is learnt from the values (`features.series`), which windows are made of them (`data.windows`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from recurra.data.columns import as_names, parse_numbers
from recurra.data.frequency import Frequency, Times, infer_frequency
from recurra.data.grid import SHARED, Numbers, Order, Series, on_grid
from recurra.data.read import Table, require_columns
from recurra.data.roles import UNKNOWN_TEXT, Roles
from recurra.data.split import Part
from recurra.data.times import parse_times, to_utc, wall_clock
from recurra.errors import DataError, RowError, SettingsError

if TYPE_CHECKING:
    import polars as pl

    from recurra.config import ForecastSettings

__all__ = ["Series", "SeriesSet", "read_series"]

Values = npt.NDArray[np.float64]


@dataclass(frozen=True)
class SeriesSet:
    """Series of one table, on one grid.

    Attributes:
        series: in the order in which the table names them.
        roles: of the columns, with the frequency.
        counts: what was met on the way, by name: rows, steps put in, rows sorted, rows off the grid, values that are missing.
        description: of the table.
        fingerprint: hash of its content.
    """

    series: list[Series]
    roles: Roles
    counts: Mapping[str, int]
    description: str
    fingerprint: str

    @property
    def frequency(self) -> Frequency:
        """Of the grid."""
        assert self.roles.frequency is not None
        return self.roles.frequency

    def times(self, series: Series, *, ahead: int = 0) -> Times:
        """(T + ahead,) the times of a series' steps, and of those that follow; see `data.frequency`."""
        return self.frequency.times(series.start + np.arange(len(series) + ahead))

    def notes(self) -> list[str]:
        """Lines that tell what was met."""
        texts = {
            "unsorted": "{:,} rows stood before an earlier one of their series, and were sorted",
            "inserted": "{:,} steps have no row: put in with missing values",
            "off_grid": "{:,} rows lie between the steps and count for the nearest one",
            "merged": "{:,} rows met another one on their step: their mean counts",
            "unreadable": "{:,} rows could not be used and were left out",
            "missing": "{:,} target values are missing",
            "unknown_categories": "{:,} texts of covariates were not there in training and count as missing",
        }
        return [text.format(self.counts[name]) for name, text in texts.items() if self.counts.get(name)]


def read_series(
    tables: Sequence[tuple[Table, Part | None]], roles: Roles, *, forecast: ForecastSettings, skip: bool = False, answers: bool = True
) -> SeriesSet:
    """Series on a grid.

    Args:
        tables: read one after the other, each with the part it was given for.
        roles: of the columns; the frequency is inferred where it is None.
        forecast: `frequency` and `time_zone` are read here.
        skip: rows that cannot be used are left out and counted, not an error.
        answers: whether the target columns must be there; without, they are missing throughout (known covariates of a future).

    Raises:
        MissingColumn: a column is not there.
        RowError: a row has no time, a value that is no number, or the time of another row of its series; named by file and line.
        DataError: the rows lie on no grid, or on one that is nearly empty; or their times are of another kind than the grid's.
    """
    import polars as pl

    wanted = roles.columns if answers else [name for name in roles.columns if name not in roles.targets]
    frames, parts, places = [], [], _Places([table for table, _ in tables])
    for table, part in tables:
        require_columns(table, wanted)
        for frame in table.chunks(wanted):
            frames.append(frame)
            parts.append(np.full(len(frame), -1 if part is None else int(part), np.int8))
    frame = pl.concat(frames, how="vertical_relaxed").with_row_index("__row__").with_columns(pl.Series("__part__", np.concatenate(parts)))
    counts: dict[str, int] = {"rows": len(frame)}
    numbers = _numbers(frame, roles if answers else replace(roles, targets=()), places, skip=skip)
    counts["unknown_categories"] = numbers.unknown
    named = [as_names(frame[name]).alias(name) for name in roles.series]
    keys = _keys(named, len(frame))
    times, roles = _times(frame, roles, places, keys)
    _require_kind(times, roles)
    usable = ~numbers.wrong & np.asarray(times.is_not_null())
    counts["unreadable"] = int((~usable).sum())
    if not usable.all() and not skip:
        raise _bad_time(frame, roles, places, int(np.flatnonzero(np.asarray(times.is_null()))[0]))
    order = Order.of(keys.to_numpy()[usable], times.to_physical().fill_null(0).to_numpy()[usable], np.flatnonzero(usable))
    counts["unsorted"] = order.unsorted
    order.refuse_repeats(roles, places, frame)
    if roles.frequency is None:
        roles = replace(roles, frequency=_frequency(order.times_of_each(), forecast, calendar=_has_calendar(times)))
    made = on_grid(order, numbers, roles, counts, part=frame["__part__"].to_numpy())
    first = keys.arg_unique()
    texts, cells = (pl.DataFrame(named)[first].rows(), frame[first].select(roles.series).rows()) if named else ([()], [()])
    series = [replace(each, name=_name(texts[number]), key=cells[number]) for number, each in zip(order.numbers, made, strict=True)]
    fingerprint = "-".join(table.fingerprint() for table, _ in tables)
    return SeriesSet(series, roles, counts, tables[0][0].description, fingerprint)


def _has_calendar(times: pl.Series) -> bool:
    return not times.dtype.is_integer()


def _require_kind(times: pl.Series, roles: Roles) -> None:
    """Times are dates where those of the grid are, and numbers where they are numbers.

    Raises:
        DataError: they are not.
    """
    if roles.frequency is None or roles.frequency.calendar == _has_calendar(times):
        return
    holds, before = ("dates", "whole numbers") if _has_calendar(times) else ("whole numbers", "dates")
    raise DataError(
        f"The time column {roles.time!r} holds {holds}, and that of the training held {before} (a step is {roles.frequency}): write the times as they "
        "were there."
    )


class _Places:
    """Where the rows of tables read one after the other stand."""

    def __init__(self, tables: Sequence[Table]) -> None:
        self.tables = tables

    def __call__(self, row: int) -> str:
        for table in self.tables[:-1]:
            if row < table.count():
                return table.place(row)
            row -= table.count()
        return self.tables[-1].place(row)


def _numbers(frame: pl.DataFrame, roles: Roles, places: _Places, *, skip: bool) -> Numbers:
    wrong = np.zeros(len(frame), bool)
    unknown = 0

    def column(name: str, categories: tuple[str, ...] = ()) -> Values:
        nonlocal unknown
        if categories:
            found, missing = _codes(frame[name], categories)
            unknown += missing
            return found
        numbers, bad = parse_numbers(frame[name])
        if bad.any():
            if not skip:
                row = int(bad.arg_true()[0])
                if not numbers.count():
                    raise DataError(
                        f"Column {name!r} holds no numbers, but such as {frame[name][row]!r}: a target must be a number. As a covariate, name it "
                        "forecast.past, forecast.known or forecast.static, and its texts are categories. For a head for each of several targets "
                        "of a table that is no series, set the task several (--task several)."
                    )
                raise RowError(
                    f"{frame[name][row]!r} in column {name!r} is not a number between -1e30 and 1e30. Correct it, or leave such rows out "
                    "with on_error='skip' (--on-error skip).",
                    source=places(row),
                )
            np.logical_or(wrong, bad.to_numpy(), out=wrong)
        return numbers.fill_null(float("nan")).to_numpy()

    def side_by_side(names: Sequence[tuple[str, tuple[str, ...]]]) -> Values:
        return np.stack([column(*each) for each in names], 1) if names else np.empty((len(frame), 0))

    kinds = {kind: side_by_side([(each.name, each.categories) for each in getattr(roles, kind)]) for kind in ("past", "known", "static")}
    targets = side_by_side([(name, ()) for name in roles.targets])
    return Numbers(targets, **kinds, wrong=wrong, unknown=unknown)


def _codes(values: pl.Series, categories: tuple[str, ...]) -> tuple[Values, int]:
    """Numbers of categories, NaN where missing, `UNKNOWN_TEXT` where unknown; and how many were unknown."""
    import polars as pl

    text = values.cast(pl.String)
    codes = text.replace_strict(list(categories), list(range(len(categories))), default=UNKNOWN_TEXT, return_dtype=pl.Float64)
    codes = codes.set(text.is_null(), None)
    return codes.fill_null(float("nan")).to_numpy(), int((codes == UNKNOWN_TEXT).sum())


def _keys(columns: Sequence[pl.Series], rows: int) -> pl.Series:
    """The number of each row's series, in the order of their first rows."""
    import polars as pl

    if not columns:
        return pl.Series(np.zeros(rows, np.int64))
    frame = pl.DataFrame(columns)
    numbers = frame.unique(maintain_order=True).with_row_index("__key__")
    joined = frame.join(numbers, on=frame.columns, how="left", nulls_equal=True, maintain_order="left")
    return joined["__key__"].cast(pl.Int64)


def _name(values: Sequence[str | None]) -> str:
    """One text of the values that name a series, another one for other values."""
    texts = [value or "" for value in values]
    if len(texts) == 1:
        return texts[0]
    return SHARED.join(text.replace("\\", "\\\\").replace(SHARED, f"\\{SHARED}") for text in texts)


def _times(frame: pl.DataFrame, roles: Roles, places: _Places, keys: pl.Series) -> tuple[pl.Series, Roles]:
    """The time of each row in UTC or of the wall clock, and the roles with what the times say of zones."""
    import polars as pl

    if roles.time is None:
        counted = pl.DataFrame({"key": keys}).select(pl.int_range(pl.len()).over("key"))
        return counted.to_series().cast(pl.Int64), roles
    column = frame[roles.time]
    times, carried = parse_times(column)
    zone = roles.zone or carried
    if zone is not None and times.dtype.is_integer():
        raise SettingsError(f"forecast.time_zone={zone!r} means nothing for whole numbers, which {roles.time!r} holds: leave it out.")
    if zone is not None and carried is None:
        again = pl.DataFrame({"key": keys, "time": times}).select(pl.int_range(pl.len()).over("key", "time") > 0).to_series()
        shown, times = times, to_utc(times, zone, repeated=again)
        skipped = (times.is_null() & shown.is_not_null()).arg_true()
        if len(skipped):
            row = int(skipped[0])
            raise RowError(
                f"The clocks of {zone} never showed {shown[row]}: correct it, or leave out forecast.time_zone.", source=places(row)
            )
    roles = replace(roles, zone=zone, aware=carried is not None)
    if zone is not None and _by_days(times, keys, roles.frequency):
        times = wall_clock(times, zone)
    return times, roles


def _by_days(times: pl.Series, keys: pl.Series, frequency: Frequency | None) -> bool:
    """Whether steps are days or longer, so that the wall clock counts."""
    import polars as pl

    if frequency is not None:
        return frequency.days
    gaps = (
        pl.DataFrame({"key": keys, "time": times.to_physical()}).sort("key", "time").select(pl.col("time").diff().over("key")).to_series()
    )
    typical = gaps.filter(gaps > 0).median()
    return isinstance(typical, (int, float)) and typical > 20 * 3_600_000_000


def _bad_time(frame: pl.DataFrame, roles: Roles, places: _Places, row: int) -> RowError:
    assert roles.time is not None
    value = frame[roles.time][row]
    what = (
        f"There is no time in column {roles.time!r}"
        if value is None
        else f"{value!r} in column {roles.time!r} is no time of the form of the others"
    )
    return RowError(f"{what}. Correct it, or leave such rows out with on_error='skip' (--on-error skip).", source=places(row))


def _frequency(times: list[Times], forecast: ForecastSettings, *, calendar: bool) -> Frequency:
    if forecast.frequency == "auto":
        return infer_frequency(times, calendar=calendar)
    return Frequency.parse(forecast.frequency, np.concatenate(times), calendar=calendar)
