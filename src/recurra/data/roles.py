"""What each column of a table of series is: target, time, name of the series, or something that helps.

| columns | values | known |
| --- | --- | --- |
| targets | what is forecast | up to the present |
| past | what helps | up to the present |
| known | what helps | for the horizon too |
| static | what helps | one value a series |

A column of texts is a category: numbers of its values in order.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from recurra.data.columns import parse_numbers
from recurra.data.frequency import Frequency
from recurra.data.read import Table, require_columns
from recurra.errors import DataError, SettingsError

if TYPE_CHECKING:
    import polars as pl

    from recurra.config import Settings

__all__ = ["STEP", "UNKNOWN_TEXT", "Covariate", "Roles", "infer_roles"]

STEP = "step"
"""Column of a forecast that numbers its steps where the table has no times."""
HEAD = 10_000
"""Rows from which it is inferred what a column holds."""
UNKNOWN_TEXT = -1.0
"""Number of a text of a covariate that the training did not have: none of its categories, and yet a value."""
MOST_CATEGORIES = 100
"""Values of a covariate that is a text."""


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


def infer_roles(table: Table, settings: Settings) -> Roles:
    """What each column is, by the settings; `"*"` as a target is every column of numbers that has no other meaning.

    Raises:
        SettingsError: no target is named, a column is named for two things, or a forecast would have two columns of one name.
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
    written = [*forecast.series, *([settings.data.time] if settings.data.time else [STEP]), *named]
    written += [f"{name}_{level:g}" for name in named for level in forecast.levels]
    if len(set(written)) < len(written):
        name = next(name for name in written if written.count(name) > 1)
        raise SettingsError(
            f"A forecast would have two columns {name!r}: it has the series, the time (or {STEP!r} where there is none), the targets, and each target's "
            "quantiles as NAME_LEVEL. Rename that column."
        )
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
