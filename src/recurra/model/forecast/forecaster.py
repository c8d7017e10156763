"""A trained forecasting model: from a table of history to a table of forecasts, in the user's unit and times."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt
import polars as pl

from recurra.config import Settings
from recurra.data.read import read
from recurra.data.roles import Roles
from recurra.data.series import Series, SeriesSet, read_series
from recurra.data.windows import Encoded, Origins, Windows, first_origin
from recurra.errors import DataError, SettingsError
from recurra.features.series import SeriesFeature, Standard, calendar_columns
from recurra.heads.forecast import OUTPUTS
from recurra.metrics.forecast import ForecastErrors, forecast_errors, seasonal_scale
from recurra.model.forecast.card import forecast_card
from recurra.model.forecast.forecasts import Forecasts
from recurra.model.forecast.frames import forecast_frame, user_times
from recurra.model.forecast.prediction import NETWORKS, Calibration, ForecastNetwork, answers_of, beside, forecast_windows
from recurra.model.forecast.segments import Sizes
from recurra.model.forecast.stream import ForecastStream
from recurra.model.trained import OnError, TrainedModel

__all__ = ["Forecaster", "build_network", "check_settings", "in_unit"]

Values = npt.NDArray[np.float64]
CELLS = 4_000_000
"""Quantiles (windows x steps x columns x levels) that are held at a time."""


@dataclass(frozen=True)
class Standing:
    """Where forecasts begin: each series up to its last known value, and what is known of the steps behind.

    Attributes:
        series: of the set, cut there.
        future: (H, K) of each.
    """

    series: list[Series]
    future: list[Values]


class Forecaster(TrainedModel):
    """Forecasts the next steps of series.

    Args:
        settings: of the run.
        feature: what was learnt of the series.
        roles: of the columns.
        network: with trained weights.
        calibration: of the quantiles; None where there is none.
        season: steps after which the series repeat themselves, for the scale of MASE; 1 where they do not.
        run: what `run.json` holds.

    Attributes:
        feature, roles, calibration, season: as given.
    """

    command: ClassVar[str] = "forecast"
    network: ForecastNetwork

    def __init__(
        self,
        settings: Settings,
        feature: SeriesFeature,
        roles: Roles,
        *,
        network: ForecastNetwork,
        calibration: Calibration | None = None,
        season: int = 1,
        run: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(settings, network, run)
        self.feature, self.roles, self.calibration, self.season = feature, roles, calibration, season

    @property
    def horizon(self) -> int:
        """Steps that are forecast."""
        return self.settings.forecast.horizon

    def forecast(
        self,
        history: Any,
        *,
        future: Any = None,
        quantiles: Sequence[float] | None = None,
        on_error: OnError = "fail",
        show: Callable[[str], None] | None = None,
    ) -> pl.DataFrame:
        """The next steps of every series in a table.

        Rows behind the last known value of a series tell what is known of the future, as `future` does.

        Args:
            history: whatever `recurra.train` takes, with the columns of the training; the last `forecast.input_length` steps count.
            future: a table with the times, series and known columns of the horizon; where the model reads no times, its rows follow those of
                the history.
            quantiles: levels that are put out; those of `forecast.levels` when not given. Between two of them by interpolation.
            on_error: what happens to rows that cannot be read: an error, or left out.
            show: called with lines on what was met: gaps, rows off the grid, series that the training did not have.

        Returns:
            A row for each series and step: the series' columns, the time, and for each target `NAME` and `NAME_LEVEL`.

        Raises:
            MissingColumn: a column is not there.
            DataError: a series has no value at all, or what is known of its future is not there; the first such step is named.
            SettingsError: a quantile lies beyond those that the model puts out.
        """
        wanted = self._levels(quantiles)
        found = self._read(history, on_error)
        if show is not None:
            for line in [*found.notes(), *self._unseen(found)]:
                show(line)
        standing = self._standing(found, future, on_error)
        lacking = sum(int(np.isnan(each).sum()) for each in standing.future)
        if show is not None and lacking:
            show(
                f"{lacking:,} values of columns that are known for the horizon are missing there: they count as the mean of the training part, texts as none"
            )
        forecasts = self.forecast_series(standing.series, standing.future)
        return forecast_frame(found, standing.series, forecasts, levels=wanted)

    def _read(self, data: Any, on_error: OnError, *, answers: bool = True) -> SeriesSet:
        table = read(data, on_error=on_error)
        return read_series([(table, None)], self.roles, forecast=self.settings.forecast, skip=on_error == "skip", answers=answers)

    def _unseen(self, found: SeriesSet) -> list[str]:
        """A line on the series that the training did not have."""
        names = [each.name for each in found.series if each.name not in self.feature.standards]
        if not names:
            return []
        named = f": {', '.join(names[:5])}{', ...' if len(names) > 5 else ''}" if self.roles.series else ""
        return [f"{len(names):,} of {len(found.series):,} series were not there in training, and are read on a scale of their own{named}"]

    def _levels(self, quantiles: Sequence[float] | None) -> list[float]:
        known = self.settings.forecast.levels if self.has_quantiles else []
        if quantiles is None:
            return known
        beyond = [level for level in quantiles if not known or not known[0] <= level <= known[-1]]
        if beyond:
            raise SettingsError(
                f"The quantile {beyond[0]:g} cannot be put out: the model has "
                + (
                    f"levels from {known[0]:g} to {known[-1]:g} (forecast.levels)."
                    if known
                    else "points only (forecast.calibrate gives levels)."
                )
            )
        return sorted(set(quantiles))

    @property
    def has_quantiles(self) -> bool:
        """Whether forecasts have quantiles: all but uncalibrated points do."""
        return self.calibration is not None or self.settings.forecast.output != "point"

    def forecast_series(self, series: Sequence[Series], future: Sequence[Values]) -> Forecasts:
        """Forecasts (N, H, C) behind the last step of each series, in the user's unit; `future` is (H, K) of each."""
        encoded = [
            self.feature.encode(self._recent(each), self.roles, ahead=self.horizon, future=known)
            for each, known in zip(series, future, strict=True)
        ]
        windows = self.windows(encoded)
        origins = windows.origins([(len(each.values), len(each.values) + self.horizon) for each in encoded], complete=False)
        standards = [self.feature.standard(self._recent(each)) for each in series]
        mean, deviation = (np.stack([getattr(each, name) for each in standards])[:, None] for name in ("mean", "deviation"))
        standard = self.forecast_windows(windows, origins)
        return Forecasts(standard.point * deviation + mean, standard.quantiles * deviation[..., None] + mean[..., None], standard.levels)

    def _recent(self, series: Series) -> Series:
        """What a forecast reads of a series; all that is given of one that training did not see, whose scale it tells."""
        known = self.feature.counts or series.name in self.feature.standards
        return series.cut(max(0, len(series) - self.settings.forecast.input_length), len(series)) if known else series

    def windows(self, encoded: Sequence[Encoded]) -> Windows:
        """The windows of encoded series."""
        forecast = self.settings.forecast
        return Windows(encoded, input_length=forecast.input_length, horizon=forecast.horizon, joint=forecast.channels == "joint")

    def forecast_windows(self, windows: Windows, origins: Origins) -> Forecasts:
        """Calibrated forecasts (N, H, C) on the standardised scale; see `prediction.forecast_windows`."""
        found, spread = forecast_windows(self.network, windows, origins, self.settings.forecast, seed=self.settings.training.seed)
        found = found if self.calibration is None else self.calibration.apply(found, spread)
        return found if self.has_quantiles else Forecasts(found.point, found.quantiles[..., :0], ())

    def _standing(self, found: SeriesSet, future: Any, on_error: OnError = "fail") -> Standing:
        """Series up to their last known value, and the known columns of the horizon."""
        given: dict[str, Series] = {}
        if future is not None:
            if not self.roles.known:
                raise SettingsError("The model reads no columns of the future (forecast.known): leave out the table of the future.")
            given = {each.name: each for each in self._read(future, on_error, answers=False).series}
        series, known = [], []
        for each in found.series:
            end = each.known_steps
            if not end:
                which = f"Series {each.name!r}" if each.name else "The series"
                raise DataError(
                    f"{which} has no value in {', '.join(self.roles.targets)}: there is nothing to forecast from. Leave it out."
                )
            series.append(each.cut(0, end))
            known.append(self._future(found, each, end, given.get(each.name)))
        return Standing(series, known)

    def _future(self, found: SeriesSet, series: Series, end: int, given: Series | None) -> Values:
        """(H, K) the known columns behind step `end`: of the table's own rows there, and of the future's."""
        values = np.full((self.horizon, len(self.roles.known)), np.nan)
        own = series.known[end : end + self.horizon]
        values[: len(own)] = own
        if given is not None:
            begin = given.start if self.roles.time is not None else series.start + len(series)
            steps = begin + np.arange(len(given)) - (series.start + end)
            inside = (steps >= 0) & (steps < self.horizon)
            values[steps[inside]] = given.known[inside]
        lacking = np.flatnonzero(np.isnan(values).all(1)) if self.roles.known else np.empty(0, np.int64)
        if len(lacking):
            names = ", ".join(each.name for each in self.roles.known)
            which = f" of series {series.name!r}" if series.name else ""
            shown = user_times(found.frequency.times(np.array([series.start + end + lacking[0]])), found.roles, found.frequency)[0]
            raise DataError(
                f"The model was trained with columns that are known for the horizon ({names}), and {len(lacking)} of the {self.horizon} steps"
                f"{which} have none, the first at {shown}: give them in a table of the future (--future known.csv)."
            )
        return values

    def evaluate(self, data: Any, *, on_error: OnError = "fail") -> dict[str, float]:
        """Measure on every window of a table: each step from `forecast.input_length` on is an origin (half of what a short series has).

        The scale of MASE is that of the table itself.

        Raises:
            DataError: no series is longer than the horizon.
        """
        found = self._read(data, on_error)
        spans = [
            (first_origin(len(each), input_length=self.settings.forecast.input_length, horizon=self.horizon), len(each))
            for each in found.series
        ]
        windows = self.windows([self.feature.encode(each, self.roles) for each in found.series])
        origins = windows.origins(spans, complete=False)
        if not len(origins):
            raise DataError(
                f"No series of {found.description} is longer than the horizon of {self.horizon} steps with one before: there is nothing to measure."
            )
        scales = np.stack([seasonal_scale(each.values, self.season) for each in found.series])
        return {**self.measure(found.series, windows, origins, scales=scales).metrics(), "windows": len(origins) // windows.channels}

    def measure(self, series: Sequence[Series], windows: Windows, origins: Origins, *, scales: Values) -> ForecastErrors:
        """The errors of the forecasts of windows, in the user's unit, piece by piece in bounded memory.

        Args:
            series: that the windows are of, on their own scale.
            windows: of all of them, encoded.
            origins: of all channels of each step, next to each other.
            scales: (series, C) of MASE.
        """
        forecast = self.settings.forecast
        deviations = np.stack([self.feature.standard(each).deviation for each in series])
        cells = forecast.horizon * windows.series[0].values.shape[1] * len(forecast.levels)
        rows = windows.channels * max(1, CELLS // cells)
        parts = []
        for begin in range(0, len(origins), rows):
            chosen = origins.take(slice(begin, begin + rows))
            number = chosen.series[:: windows.channels]
            standard = self.standards(series, windows, chosen)
            forecasts = in_unit(self.forecast_windows(windows, chosen), standard)
            answers = answers_of(windows, chosen) * standard.deviation[:, None] + standard.mean[:, None]
            parts.append(
                forecast_errors(
                    forecasts.point,
                    answers,
                    quantiles=forecasts.quantiles if forecasts.levels else None,
                    levels=forecasts.levels or None,
                    scale=scales[number],
                    deviation=deviations[number],
                )
            )
        return ForecastErrors.join(parts)

    def standards(self, series: Sequence[Series], windows: Windows, origins: Origins) -> Standard:
        """Mean and deviation, (N, C) each, that windows are standardised by; those of a series that training did not see are of what came before.

        Args:
            series: that the windows are of.
            windows: of all of them, encoded.
            origins: of all channels of each step, next to each other.
        """
        found = {number: self.feature.standard(series[number]) for number in np.unique(origins.series)}
        mean, deviation = (
            np.stack([getattr(found[number], name) for number in origins.series[:: windows.channels]]) for name in ("mean", "deviation")
        )
        middle, spread = (beside(each, windows.channels) for each in windows.scales(origins))
        return Standard(mean + deviation * middle, deviation * spread)

    def stream(self, history: Any, *, future: Any = None) -> ForecastStream:
        """Series that go on: a new observation costs one step, and gives what reading the whole history again would.

        Args:
            history: a table; its series are the streams, in its order. Scales are those of its last `forecast.input_length` steps.
            future: what is known of the future, for the first forecast.

        Raises:
            SettingsError: the model reads windows as a whole (forecast.model=segments), so a new observation changes all it read.
        """
        found = self._read(history, "fail")
        standing = self._standing(found, future)
        return ForecastStream(
            self.network, self.feature, found, standing.series, standing.future, settings=self.settings, calibration=self.calibration
        )

    def state(self) -> dict[str, Any]:
        """What was learnt besides the weights, as JSON values."""
        calibration = None if self.calibration is None else self.calibration.state()
        head = {"name": ", ".join(self.roles.targets), "task": "forecast", "season": self.season}
        return {"roles": self.roles.state(), "series": self.feature.state(), "calibration": calibration, "head": head}

    @classmethod
    def from_state(cls, state: Mapping[str, Any], settings: Settings, run: Mapping[str, Any]) -> Self:
        """The model that `state()` described, its network as it was before training."""
        feature, roles = SeriesFeature.from_state(state["series"]), Roles.from_state(state["roles"])
        calibration = None if state["calibration"] is None else Calibration.from_state(state["calibration"])
        network = build_network(feature, roles, settings)
        return cls(settings, feature, roles, network=network, calibration=calibration, season=int(state["head"]["season"]), run=run)

    def card(self) -> str:
        """The model card, Markdown."""
        return forecast_card(self.settings, self.roles, self.run)


def in_unit(forecasts: Forecasts, standard: Standard) -> Forecasts:
    """Forecasts (N, H, C) on the standardised scale in the user's unit; mean and deviation are (N, C)."""
    mean, deviation = standard.mean[:, None], standard.deviation[:, None]
    return Forecasts(forecasts.point * deviation + mean, forecasts.quantiles * deviation[..., None] + mean[..., None], forecasts.levels)


def build_network(feature: SeriesFeature, roles: Roles, settings: Settings) -> ForecastNetwork:
    """The network for series of these columns.

    Raises:
        SettingsError: settings do not go together.
    """
    forecast = settings.forecast
    check_settings(settings)
    width = {
        kind: sum(len(feature.covariates[each.name]) if each.categories else 1 for each in getattr(roles, kind))
        for kind in ("past", "known", "static")
    }
    assert roles.frequency is not None
    calendar = calendar_columns(np.zeros(1, np.int64), roles.frequency, None).shape[1] if feature.calendar else 0
    sizes = Sizes(
        channels=len(roles.targets) if feature.joint else 1,
        past=width["past"],
        known=width["known"] + calendar,
        static=width["static"],
        identities=feature.identities,
        masked=feature.masked,
        counts=feature.counts,
    )
    return NETWORKS[forecast.model](sizes, OUTPUTS[forecast.output](forecast), settings)


def check_settings(settings: Settings) -> None:
    """Refuse what would do nothing, or is nonsense together.

    Raises:
        SettingsError: settings do not go together.
    """
    forecast = settings.forecast
    if settings.encoder.bidirectional:
        raise SettingsError("encoder.bidirectional: a forecast reads its history forward only; leave it out.")
    if forecast.output == "negative_binomial" and forecast.scaling not in ("mean", "none"):
        raise SettingsError(
            f"forecast.output=negative_binomial is for counts, which scaling by {forecast.scaling!r} would make other numbers: "
            "set forecast.scaling=mean."
        )
    if forecast.model == "autoregressive" and forecast.output == "quantiles":
        raise SettingsError(
            "forecast.model=autoregressive draws paths, and cannot from forecast.output=quantiles: "
            "set forecast.output to gaussian, student_t, negative_binomial or point."
        )
