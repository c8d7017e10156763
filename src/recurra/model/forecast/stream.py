"""Series that go on: the state is carried, so a new observation costs one step of the network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import torch

from recurra.config import Settings
from recurra.config.numbers import require_whole
from recurra.data.roles import Covariate
from recurra.data.series import Series, SeriesSet
from recurra.data.windows import Windows
from recurra.errors import DataError, SettingsError
from recurra.features.series import SeriesFeature
from recurra.layers.stepper import Stepper
from recurra.model.forecast.autoregressive import AutoregressiveNetwork
from recurra.model.forecast.forecasts import Forecasts
from recurra.model.forecast.frames import forecast_frame
from recurra.model.forecast.prediction import Calibration, quantiles_of

__all__ = ["ForecastStream"]

Values = npt.NDArray[np.float64]


class ForecastStream:
    """Forecasts of series that go on; see `Forecaster.stream`.

    The scale of a window is that of the history it began with, and stays: a forecast after n observations is that of a network that read
    history and observations in one pass under this scale.

    Args:
        network: in evaluation mode.
        feature: what was learnt of the series.
        found: the set that the series are of.
        series: the history of each stream.
        future: (H, K) the known columns behind each.
        settings: of the run.
        calibration: of the quantiles.

    Attributes:
        names: of the series, in the order of all arguments and results.
        steps: observations read since the beginning.
    """

    def __init__(
        self,
        network: Any,
        feature: SeriesFeature,
        found: SeriesSet,
        series: Sequence[Series],
        future: Sequence[Values],
        *,
        settings: Settings,
        calibration: Calibration | None,
    ) -> None:
        if not isinstance(network, AutoregressiveNetwork):
            raise SettingsError(
                "The segments model reads its window as a whole, so a new observation changes all it read: call forecast() again, or train with "
                "forecast.model=autoregressive to stream."
            )
        self._network, self._feature, self._found, self._settings, self._calibration = network, feature, found, settings, calibration
        self._series, self._future = list(series), [np.array(each) for each in future]
        self.names = [each.name for each in series]
        self.steps = 0
        forecast = settings.forecast
        encoded = [
            feature.encode(each, found.roles, ahead=forecast.horizon, future=known) for each, known in zip(series, future, strict=True)
        ]
        windows = Windows(encoded, input_length=forecast.input_length, horizon=forecast.horizon, joint=feature.joint)
        origins = windows.origins([(len(each.values), len(each.values) + forecast.horizon) for each in encoded], complete=False)
        self._channels = windows.channels
        self._standards = [feature.standard(each) for each in series]
        with torch.inference_mode():
            self._batch = windows.gather(origins)
            self._constants = network.constants(self._batch)
            self._scaled, state = network.read_history(self._batch)
        self._stepper = Stepper(network.encoder, streams=len(origins))
        self._stepper.restore(state)
        self._past = self._batch.past[:, -1:]
        self._known = self._batch.known[:, -forecast.horizon :]

    def observe(
        self, values: Mapping[str, Sequence[float | None]] | Sequence[float | None], *, past: Any = None, future: Any = None
    ) -> None:
        """Take the next step of every series.

        Args:
            values: for each series its value; by target column where there are several. None or NaN for a missing one.
            past: for each series its row of the past columns (P,) as a table has them, where the model has such.
            future: for each series the known columns (K,) of the step that enters the horizon, likewise.

        Raises:
            SettingsError: there is not a value for each series and column.
            DataError: a value that must be a number is none.
        """
        roles = self._found.roles
        given = values if isinstance(values, Mapping) else {roles.targets[0]: values}
        if set(given) != set(roles.targets) or any(len(column) != len(self.names) for column in given.values()):
            raise SettingsError(
                f"Give a value for each of the {len(self.names)} series and for each of the columns {', '.join(roles.targets)}; None where it is missing."
            )
        new = np.array([[_number(value, name) for value in given[name]] for name in roles.targets], np.float64).T
        rows = self._rows(past, roles.past, "past"), self._rows(future, roles.known, "future")
        self._read_last()
        self._append(new, *rows)
        self.steps += 1

    def _rows(self, given: Any, columns: Sequence[Covariate], name: str) -> Values:
        rows = [[]] * len(self.names) if given is None else [[row] if np.ndim(row) == 0 else list(row) for row in given]
        if len(rows) != len(self.names) or any(len(row) != len(columns) for row in rows):
            named = ", ".join(column.name for column in columns)
            raise SettingsError(
                f"`{name}` needs a row for each of the {len(self.names)} series ({', '.join(self.names[:5])}), with the {len(columns)} columns"
                f"{f' {named}' if named else ''} of each."
            )
        cells = [[_cell(value, column) for value, column in zip(row, columns, strict=True)] for row in rows]
        return np.array(cells, np.float64).reshape(len(rows), len(columns))

    def _read_last(self) -> None:
        """The last value goes through the network: one step."""
        with torch.inference_mode():
            inputs = self._network.inputs_of(
                self._scaled.values[:, -1:], self._scaled.known[:, -1:], self._past, self._known[:, :1], self._constants
            )
            self._stepper.step(inputs[:, 0])

    def _append(self, new: Values, past: Values, future: Values) -> None:
        """The new values become the last ones, and the horizon moves by one step."""
        for number, series in enumerate(self._series):
            known = np.concatenate([self._future[number][1:], future[number : number + 1]])
            entered = self._future[number][:1]
            self._series[number] = Series(
                series.name,
                series.start + len(series),
                new[number : number + 1],
                past[number : number + 1],
                entered,
                series.static,
                key=series.key,
            )
            self._future[number] = known
        encoded = [
            self._feature.encode(each, self._found.roles, ahead=len(known), future=known)._replace(values=self._standard(number, each))
            for number, (each, known) in enumerate(zip(self._series, self._future, strict=True))
        ]
        values = torch.from_numpy(np.stack([each.values for each in encoded]))
        values = values if self._feature.joint else values.permute(0, 2, 1).reshape(-1, 1, 1)
        known_now = values.isfinite()
        scaled = (values - self._scaled.center) / self._scaled.spread
        scaled = torch.where(known_now, scaled, self._scaled.values[:, -1:])
        self._scaled = self._scaled._replace(values=scaled, known=known_now)
        rows = torch.arange(len(encoded)).repeat_interleave(self._channels)
        self._past = torch.from_numpy(np.stack([each.past for each in encoded]))[rows]
        self._known = torch.from_numpy(np.stack([each.known[1:] for each in encoded]))[rows]

    def _standard(self, number: int, series: Series) -> npt.NDArray[np.float32]:
        standard = self._standards[number]
        result: npt.NDArray[np.float32] = ((series.values - standard.mean) / standard.deviation).astype(np.float32)
        return result

    def paths(self, *, samples: int | None = None) -> Values:
        """Sample paths (N, S, H, C) behind the last observation, in the user's unit; the same ones for the same observations.

        Args:
            samples: S; `forecast.samples` when not given. One path of points where the model draws none.

        Raises:
            SettingsError: `samples` is no whole number, or less than one.
        """
        if samples is not None:
            require_whole("samples", samples, least=1)
        mean, deviation = (self._of_standards(name)[:, None, None] for name in ("mean", "deviation"))
        result: Values = self._draw(samples or self._settings.forecast.samples) * deviation + mean
        return result

    def forecast(self) -> pl.DataFrame:
        """The next steps of every series as they stand now: the table that `Forecaster.forecast` gives."""
        settings = self._settings.forecast
        paths = torch.from_numpy(self._draw(settings.samples))
        found = Forecasts(paths.mean(1).numpy(), quantiles_of(paths, settings).numpy(), tuple(settings.levels))
        if self._calibration is not None:
            found = self._calibration.apply(found, self._beside(self._scaled.spread.double()[:, 0].numpy()))
        mean, deviation = (self._of_standards(name)[:, None] for name in ("mean", "deviation"))
        in_unit = Forecasts(found.point * deviation + mean, found.quantiles * deviation[..., None] + mean[..., None], found.levels)
        shown = settings.levels if self._network.head.samples or self._calibration is not None else []
        return forecast_frame(self._found, self._series, in_unit, levels=shown)

    def _draw(self, samples: int) -> Values:
        """(N, S, H, C) paths on the standardised scale."""
        generator = np.random.Generator(np.random.Philox(self._settings.training.seed))
        with torch.inference_mode():
            drawn = self._network.continue_paths(
                self._scaled, self._stepper.snapshot(), past=self._past, ahead=self._known, constants=self._constants,
                samples=samples if self._network.head.samples else 1, generator=generator,
            )  # fmt: skip
        values: Values = drawn.double().numpy()
        if self._feature.joint:
            return values
        return values.reshape(len(self.names), self._channels, *values.shape[1:3]).transpose(0, 2, 3, 1)

    def _beside(self, rows: Values) -> Values:
        """(N, C) of rows (N C, 1) of single channels."""
        return rows if self._feature.joint else rows.reshape(len(self.names), self._channels)

    def _of_standards(self, name: str) -> Values:
        """(N, C) mean or deviation of every series."""
        return np.stack([getattr(each, name) for each in self._standards])


def _number(value: Any, column: str) -> float:
    """A value as a number, NaN for None.

    Raises:
        DataError: it is none, or an infinite one.
    """
    try:
        number = float("nan") if value is None else float(value)
    except (TypeError, ValueError):
        number = float("inf")
    if np.isinf(number):
        raise DataError(f"{value!r} in column {column!r} is not a number: give one, or None where it is missing.")
    return number


def _cell(value: Any, column: Covariate) -> float:
    """A value of a column that helps, texts by the number of their category; NaN for None and for a text that training did not have."""
    if not column.categories:
        return _number(value, column.name)
    text = str(value)
    return float(column.categories.index(text)) if text in column.categories else float("nan")
