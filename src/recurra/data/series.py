"""A table as series on a regular grid: who is whose, in which order, with what is missing.

| columns | values | known |
| --- | --- | --- |
| targets | what is forecast | up to the present |
| past | what helps | up to the present |
| known | what helps | for the horizon too |
| static | what helps | one value a series |

A column of texts is a category: numbers of its values in order. Steps without a row are put in, with missing values; rows that are not in
the order of time are sorted, and counted; two rows of one series at the same time are an error. Not here: what is learnt from the values
(`features.series`), which windows are made of them (`data.windows`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import numpy.typing as npt

from recurra.data.columns import parse_numbers
from recurra.data.frequency import Frequency, Times, infer_frequency
from recurra.data.read import Table, require_columns
from recurra.data.split import Part
from recurra.data.times import parse_times, to_utc, wall_clock
from recurra.errors import DataError, RowError, SettingsError

if TYPE_CHECKING:
    import polars as pl

    from recurra.config import ForecastSettings, Settings

__all__ = ["Covariate", "Roles", "Series", "SeriesSet", "infer_roles", "read_series"]

Values = npt.NDArray[np.float64]
HEAD = 10_000
"""Rows from which it is inferred what a column holds."""
MOST_CATEGORIES = 100
"""Values of a covariate that is a text."""
LONGEST = 20
"""Steps of a grid by row from which something must be wrong with the frequency."""
SHARED = "|"
"""Stands between the values of several columns that name a series."""


@dataclass(frozen=True)
class Covariate:
    """A column that helps.

    Attributes:
        name: of the column.
        categories: its values where it holds texts; empty for numbers.
    """

    name: str
    categories: tuple[str, ...] = ()


@dataclass(frozen=True)
class Roles:
    """What each column of a table is.

    Attributes:
        time: column of times; None where rows are steps.
        series: columns that name the series.
        targets: columns that are forecast.
        past, known, static: columns that help.
        zone: whose clocks the calendar follows; None where times have none.
        aware: whether the times carried a zone.
        frequency: of the grid; None when not known yet.
    """

    time: str | None
    series: tuple[str, ...]
    targets: tuple[str, ...]
    past: tuple[Covariate, ...] = ()
    known: tuple[Covariate, ...] = ()
    static: tuple[Covariate, ...] = ()
    zone: str | None = None
    aware: bool = False
    frequency: Frequency | None = None

    @property
    def covariates(self) -> tuple[Covariate, ...]:
        """All columns that help."""
        return (*self.past, *self.known, *self.static)

    @property
    def columns(self) -> list[str]:
        """All columns that are read."""
        time = [] if self.time is None else [self.time]
        return [*time, *self.series, *self.targets, *(covariate.name for covariate in self.covariates)]

    def state(self) -> dict[str, Any]:
        """As JSON values."""
        kinds = {kind: [[each.name, list(each.categories)] for each in getattr(self, kind)] for kind in ("past", "known", "static")}
        frequency = None if self.frequency is None else self.frequency.state()
        names = {"time": self.time, "series": list(self.series), "targets": list(self.targets)}
        return {**names, **kinds, "zone": self.zone, "aware": self.aware, "frequency": frequency}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Self:
        """What `state()` described."""
        kinds = {kind: tuple(Covariate(name, tuple(values)) for name, values in state[kind]) for kind in ("past", "known", "static")}
        return cls(
            state["time"],
            tuple(state["series"]),
            tuple(state["targets"]),
            **kinds,
            zone=state["zone"],
            aware=state["aware"],
            frequency=None if state["frequency"] is None else Frequency.from_state(state["frequency"]),
        )


@dataclass(frozen=True)
class Series:
    """One series on the grid.

    Attributes:
        name: of the series; empty for the only one.
        start: number of its first step on the grid.
        values: (T, C) the targets, NaN where missing.
        past: (T, P) columns known up to the present, NaN where missing; categories as numbers.
        known: (T, K) columns known for the horizon too.
        static: (S,) columns with one value.
        begins: by part, the first step (from 0) of rows that were given for it.
    """

    name: str
    start: int
    values: Values
    past: Values
    known: Values
    static: Values
    begins: Mapping[Part, int] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.values)

    def cut(self, begin: int, end: int) -> Series:
        """The steps from `begin` up to but without `end`."""
        rows = slice(begin, end)
        return Series(self.name, self.start + begin, self.values[rows], self.past[rows], self.known[rows], self.static)


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


def infer_roles(table: Table, settings: Settings) -> Roles:
    """What each column is, by the settings; `"*"` as a target is every column of numbers that has no other meaning.

    Raises:
        SettingsError: no target is named, or a column is named for two things.
        MissingColumn: a column is not there.
        DataError: a covariate has too many values for a category.
    """
    forecast = settings.forecast
    named = list(forecast.targets) or ([settings.target] if settings.target else [])
    if not named:
        raise SettingsError("Name the column to forecast: --target sales (repeat it for several, '*' for all columns of numbers).")
    if settings.target and forecast.targets and settings.target not in forecast.targets:
        raise SettingsError(
            f"target={settings.target!r} and forecast.targets={forecast.targets} both say what is forecast: give one of them."
        )
    others = [*forecast.series, *forecast.past, *forecast.known, *forecast.static, *([settings.data.time] if settings.data.time else [])]
    require_columns(table, [*others, *(name for name in named if name != "*")])
    if "*" in named:
        head = table.head(HEAD)
        named = [name for name in table.columns if name not in others and _numeric(head[name])]
        if not named:
            raise SettingsError(f"'*' stands for all columns of numbers, and {table.description} has none besides those named otherwise.")
    twice = [name for name in dict.fromkeys([*named, *others]) if [*named, *others].count(name) > 1]
    if twice:
        raise SettingsError(f"The column {twice[0]!r} is named twice: a column is a target, time, series, past, known or static.")
    head = table.head(HEAD)
    past, known, static = (
        tuple(_covariate(table, head[name]) for name in names) for names in (forecast.past, forecast.known, forecast.static)
    )
    return Roles(settings.data.time, tuple(forecast.series), tuple(named), past, known, static, zone=forecast.time_zone)


def _numeric(values: pl.Series) -> bool:
    if values.dtype.is_nested() or values.dtype.is_temporal():
        return False
    numbers, wrong = parse_numbers(values)
    return not wrong.any() and numbers.count() > 0


def _covariate(table: Table, head: pl.Series) -> Covariate:
    """Numbers, or texts with all their values."""
    import polars as pl

    if _numeric(head) or head.null_count() == len(head):
        return Covariate(head.name)
    found: set[str] = set()
    for frame in table.chunks([head.name]):
        found.update(frame[head.name].cast(pl.String).drop_nulls().unique())
        if len(found) > MOST_CATEGORIES:
            raise DataError(
                f"Column {head.name!r} holds texts, and more than {MOST_CATEGORIES} different ones: as a covariate it would need that many "
                "inputs. Leave it out, or group its values."
            )
    return Covariate(head.name, tuple(sorted(found)))


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
        DataError: the rows lie on no grid, or on one that is nearly empty.
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
    keys = _keys(frame, roles.series)
    times, roles = _times(frame, roles, places, keys)
    usable = ~numbers.wrong & np.asarray(times.is_not_null())
    counts["unreadable"] = int((~usable).sum())
    if not usable.all() and not skip:
        raise _bad_time(frame, roles, places, int(np.flatnonzero(np.asarray(times.is_null()))[0]))
    order = _Order.of(keys.to_numpy()[usable], times.to_physical().fill_null(0).to_numpy()[usable], np.flatnonzero(usable))
    counts["unsorted"] = order.unsorted
    order.refuse_repeats(roles, places, frame)
    if roles.frequency is None:
        roles = replace(roles, frequency=_frequency(order.times_of_each(), forecast, calendar=_has_calendar(times)))
    made = _on_grid(order, numbers, roles, counts, part=frame["__part__"].to_numpy())
    names = _names(frame, keys, roles.series)
    series = [replace(each, name=names[number]) for number, each in zip(order.numbers, made, strict=True)]
    fingerprint = "-".join(table.fingerprint() for table, _ in tables)
    return SeriesSet(series, roles, counts, tables[0][0].description, fingerprint)


def _has_calendar(times: pl.Series) -> bool:
    return not times.dtype.is_integer()


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


@dataclass(frozen=True)
class _Numbers:
    """Columns as numbers: (N, ...) of all rows; `wrong` marks rows that cannot be used."""

    targets: Values
    past: Values
    known: Values
    static: Values
    wrong: npt.NDArray[np.bool_]
    unknown: int


def _numbers(frame: pl.DataFrame, roles: Roles, places: _Places, *, skip: bool) -> _Numbers:
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
    return _Numbers(targets, **kinds, wrong=wrong, unknown=unknown)


def _codes(values: pl.Series, categories: tuple[str, ...]) -> tuple[Values, int]:
    """Numbers of categories, NaN where missing or unknown, and how many were unknown."""
    import polars as pl

    text = values.cast(pl.String)
    codes = text.replace_strict(list(categories), list(range(len(categories))), default=None, return_dtype=pl.Float64)
    return codes.fill_null(float("nan")).to_numpy(), int((codes.is_null() & text.is_not_null()).sum())


def _keys(frame: pl.DataFrame, columns: Sequence[str]) -> pl.Series:
    """The number of each row's series, in the order of their first rows."""
    import polars as pl

    if not columns:
        return pl.Series(np.zeros(len(frame), np.int64))
    numbers = frame.select(columns).with_row_index("__first__").group_by(columns, maintain_order=True).agg(pl.col("__first__").first())
    numbers = numbers.with_row_index("__key__")
    joined = frame.select(columns).join(numbers, on=list(columns), how="left", nulls_equal=True, maintain_order="left")
    return joined["__key__"].cast(pl.Int64)


def _names(frame: pl.DataFrame, keys: pl.Series, columns: Sequence[str]) -> dict[int, str]:
    """The name of each series."""
    import polars as pl

    if not columns:
        return {0: ""}
    first = frame.select(pl.concat_str([pl.col(name).cast(pl.String).fill_null("") for name in columns], separator=SHARED).alias("name"))
    rows = first.with_columns(keys.alias("key")).unique("key", keep="first")
    return dict(zip(rows["key"].to_list(), rows["name"].to_list(), strict=True))


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


@dataclass(frozen=True)
class _Order:
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
        return [self.times[begin:end] for begin, end in zip(self.cuts[:-1], self.cuts[1:], strict=True)]

    def refuse_repeats(self, roles: Roles, places: _Places, frame: pl.DataFrame) -> None:
        """Two rows of one series at the same time are an error."""
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


def _frequency(times: list[Times], forecast: ForecastSettings, *, calendar: bool) -> Frequency:
    if forecast.frequency == "auto":
        return infer_frequency(times, calendar=calendar)
    return Frequency.parse(forecast.frequency, np.concatenate(times), calendar=calendar)


def _on_grid(order: _Order, numbers: _Numbers, roles: Roles, counts: dict[str, int], *, part: npt.NDArray[np.int8]) -> list[Series]:
    """The series with a row for every step."""
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
        values, past, known = (_mean_by_step(columns[rows], inside, length) for columns in (numbers.targets, numbers.past, numbers.known))
        counts["inserted"] = counts.get("inserted", 0) + length - len(np.unique(inside))
        counts["merged"] = counts.get("merged", 0) + len(inside) - len(np.unique(inside))
        counts["missing"] = counts.get("missing", 0) + int(np.isnan(values).sum())
        begins = {Part(number): int(inside[part[rows] == number].min()) for number in np.unique(part[rows]) if number >= 0}
        static = _one_value(numbers.static[rows], roles)
        made.append(Series("", int(steps[0]), values, past, known, static, begins))
    return made


def _mean_by_step(columns: Values, steps: Times, length: int) -> Values:
    """(N, C) values of rows as (T, C) of steps: NaN without a row, the mean of the known ones of several."""
    result = np.full((length, columns.shape[1]), np.nan)
    if len(np.unique(steps)) == len(steps):
        result[steps] = columns
        return result
    for number in range(columns.shape[1]):
        known = np.isfinite(columns[:, number])
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
        values = np.unique(columns[:, number][np.isfinite(columns[:, number])])
        if len(values) > 1:
            raise DataError(
                f"The static column {covariate.name!r} has {len(values)} different values in one series: name it forecast.past or forecast.known."
            )
        if len(values):
            found[number] = values[0]
    return found
