"""From what the user gave to windows: series read, parts by time, scales learnt from the training part."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from recurra.config import Settings
from recurra.data.read import Table, read, resolve
from recurra.data.roles import infer_roles
from recurra.data.series import Series, SeriesSet, read_series
from recurra.data.split import Part
from recurra.data.windows import Origins, Windows, first_origin
from recurra.errors import DataError
from recurra.evaluation.forecast.seasons import Season, find_season
from recurra.features.series import SeriesFeature
from recurra.model.forecast.forecaster import check_settings

__all__ = ["Bounds", "Prepared", "part_bounds", "prepare"]


@dataclass(frozen=True)
class Bounds:
    """Where the parts of a series end: training before `train`, validation before `validation`, test before `end`; in its own steps."""

    train: int
    validation: int
    end: int


@dataclass(frozen=True)
class Prepared:
    """All that a training needs.

    Attributes:
        series: on the grid.
        bounds: of each.
        feature: what was learnt from the training part.
        windows: of all series, encoded.
        season: after which the training part repeats itself; of length 1 where it does not.
        settings: of the run.
    """

    series: SeriesSet
    bounds: list[Bounds]
    feature: SeriesFeature
    windows: Windows
    season: Season
    settings: Settings

    def spans(self, part: Part) -> list[tuple[int, int]]:
        """For each series the first origin of a part, and the step before which all its horizons end."""
        forecast = self.settings.forecast
        match part:
            case Part.TRAIN:
                sizes = {"input_length": forecast.input_length, "horizon": forecast.horizon}
                return [(first_origin(each.train, **sizes), each.train) for each in self.bounds]
            case Part.VALIDATION:
                return [(max(1, each.train), each.validation) for each in self.bounds]
            case Part.TEST:
                return [(max(1, each.validation), each.end) for each in self.bounds]

    def origins(self, part: Part, *, complete: bool = True) -> Origins:
        """The windows of a part; only those of training are thinned by `forecast.stride`. See `Windows.origins`."""
        stride = self.settings.forecast.stride if part == Part.TRAIN else 1
        return self.windows.origins(self.spans(part), stride=stride, complete=complete)

    def counts(self) -> dict[str, int]:
        """Windows by part, with all their channels counted as one."""
        return {part.name.lower(): len(self.origins(part, complete=False)) // self.windows.channels for part in Part}

    def ends(self) -> dict[str, int]:
        """By part, the step on the clock of all series from which on no series has steps of it."""
        pairs = list(zip(self.series.series, self.bounds, strict=True))
        train, validation = (max(each.start + getattr(bounds, part) for each, bounds in pairs) for part in ("train", "validation"))
        return {"train": train, "validation": validation}

    def training_parts(self, *, standardised: bool = False) -> list[np.ndarray]:
        """(T, C) values of the training part of each series that has one."""
        values = (
            [each.values.astype(np.float64) for each in self.windows.series]
            if standardised
            else [each.values for each in self.series.series]
        )
        return [value[: bounds.train] for value, bounds in zip(values, self.bounds, strict=True) if bounds.train > 0]


def prepare(data: Any, settings: Settings, *, validation: Any = None, test: Any = None) -> Prepared:
    """Read, put on a grid, cut by time, learn the scales, encode.

    Raises:
        RecurraError: see `data.series` and `features.series`; also when a part has no window.
    """
    check_settings(settings)
    found = data if isinstance(data, SeriesSet) else _read(data, settings, validation=validation, test=test)
    bounds = part_bounds(found, settings)
    feature = SeriesFeature.fit(found, [each.train for each in bounds], settings.forecast)
    forecast = settings.forecast
    encoded = [feature.encode(each, found.roles) for each in found.series]
    windows = Windows(encoded, input_length=forecast.input_length, horizon=forecast.horizon, joint=forecast.channels == "joint")
    parts = [each.values[: bound.train] for each, bound in zip(encoded, bounds, strict=True) if bound.train > 0]
    season = find_season([part.astype(np.float64) for part in parts], candidates=found.frequency.seasons)
    prepared = Prepared(found, bounds, feature, windows, season, settings)
    _require_windows(prepared)
    return prepared


def _read(data: Any, settings: Settings, *, validation: Any, test: Any) -> SeriesSet:
    tables = _tables(data, settings, validation=validation, test=test)
    roles = infer_roles(tables[0][0], settings)
    return read_series(tables, roles, forecast=settings.forecast, skip=settings.data.on_error == "skip")


def _tables(data: Any, settings: Settings, *, validation: Any, test: Any) -> list[tuple[Table, Part | None]]:
    on_error = settings.data.on_error
    found = resolve(data, on_error=on_error)
    tables: list[tuple[Table, Part | None]] = [(found["train"], None)]
    for part, given in ((Part.VALIDATION, validation), (Part.TEST, test)):
        if given is not None:
            tables.append((read(given, on_error=on_error), part))
        elif part.name.lower() in found:
            tables.append((found[part.name.lower()], part))
    return tables


def part_bounds(found: SeriesSet, settings: Settings) -> list[Bounds]:
    """The parts of each series: as counted, as given in files, or by shares of the whole time."""
    parts = settings.forecast.parts
    if parts is not None:
        return [_counted(each, parts) for each in found.series]
    given = {part for each in found.series for part in each.begins}
    cuts = _cuts(found, settings, given)
    return [_bounds_of(each, cuts) for each in found.series]


def _counted(series: Series, parts: tuple[int, int, int]) -> Bounds:
    train, validation, test = parts
    if len(series) < train + validation:
        which = f"Series {series.name!r}" if series.name else "The series"
        raise DataError(f"{which} has {len(series):,} steps, and forecast.parts={list(parts)} wants {sum(parts):,}: give fewer.")
    return Bounds(train, train + validation, min(len(series), train + validation + test))


def _cuts(found: SeriesSet, settings: Settings, given: set[Part]) -> dict[Part, int]:
    """Steps on the grid, the same for all series, where the parts begin that no file was given for."""
    begin = min(each.start for each in found.series)
    end = max(each.start + (each.known_steps or len(each)) for each in found.series)
    for part in given:
        end = min(end, *(each.start + each.begins[part] for each in found.series if part in each.begins))
    length, horizon = end - begin, settings.forecast.horizon
    cuts: dict[Part, int] = {}
    for part, share in ((Part.TEST, settings.data.test_share), (Part.VALIDATION, settings.data.validation_share)):
        if part in given or share == 0.0 or (part == Part.TEST and Part.VALIDATION in given):
            continue
        end -= max(round(share * length), horizon)
        cuts[part] = end
    return cuts


def _bounds_of(series: Series, cuts: dict[Part, int]) -> Bounds:
    """Given parts begin where their rows do, the others at the cuts; what is not there ends where the next one begins.

    Raises:
        DataError: the rows of a later part do not come after those of an earlier one.
    """
    steps = series.known_steps or len(series)
    begins = {part: min(max(cut - series.start, 0), steps) for part, cut in cuts.items()} | dict(series.begins)
    test = begins.get(Part.TEST, steps)
    validation = begins.get(Part.VALIDATION, test)
    if validation > test:
        which = f" of series {series.name!r}" if series.name else ""
        raise DataError(
            f"The test rows{which} begin before the validation rows: a forecast is measured on what came later. Give later rows."
        )
    return Bounds(validation, test, max(test, steps))


def _require_windows(prepared: Prepared) -> None:
    """Every part that there is needs a window.

    Raises:
        DataError: there is none to train on, or none in a part that is there.
    """
    forecast = prepared.settings.forecast
    longest = max(each.train for each in prepared.bounds)
    if not len(prepared.origins(Part.TRAIN)):
        raise DataError(
            f"There is no window to train on: the longest training part has {longest:,} steps, and a horizon of {forecast.horizon} steps needs "
            f"{forecast.horizon + 1} at least. Lower forecast.horizon, the held-out shares, or give more rows."
        )
    for part, ends in (
        (Part.VALIDATION, [(each.train, each.validation) for each in prepared.bounds]),
        (Part.TEST, [(each.validation, each.end) for each in prepared.bounds]),
    ):
        steps = max(end - begin for begin, end in ends)
        if steps > 0 and not len(prepared.origins(part)):
            raise DataError(
                f"The {part.name.lower()} part has {steps:,} steps, or no known value, and the horizon is {forecast.horizon}: there is no window in "
                "it. Give it more rows, or lower forecast.horizon."
            )


def too_short(prepared: Prepared) -> Sequence[str]:
    """Names of the series that have no training window."""
    with_windows = set(prepared.origins(Part.TRAIN, complete=False).series.tolist())
    return [each.name for number, each in enumerate(prepared.series.series) if number not in with_windows]
