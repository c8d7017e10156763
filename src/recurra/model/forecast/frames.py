"""Forecasts as a table: a row for each series and step, in the user's times."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl

from recurra.data.frequency import DAY, Frequency
from recurra.data.roles import STEP, Roles
from recurra.data.series import Series, SeriesSet
from recurra.model.forecast.forecasts import Forecasts

__all__ = ["forecast_frame", "user_times"]


def forecast_frame(found: SeriesSet, series: Sequence[Series], forecasts: Forecasts, *, levels: Sequence[float]) -> pl.DataFrame:
    """The table.

    Args:
        found: the set that the series are of.
        series: up to where each forecast begins.
        forecasts: (N, H, C), in the user's unit.
        levels: of the quantiles that are put out.
    """
    roles, horizon = found.roles, forecasts.point.shape[1]
    steps = np.concatenate([each.start + len(each) + np.arange(horizon) for each in series])
    values = [pl.Series(name, [each.key[number] for each in series for _ in range(horizon)]) for number, name in enumerate(roles.series)]
    values.append(user_times(found.frequency.times(steps), roles, found.frequency))
    for number, target in enumerate(roles.targets):
        values.append(pl.Series(target, forecasts.point[..., number].ravel()))
        values.extend(pl.Series(f"{target}_{level:g}", forecasts.quantile(level)[..., number].ravel()) for level in levels)
    return pl.DataFrame(values)


def user_times(times: np.ndarray, roles: Roles, frequency: Frequency) -> pl.Series:
    """Times of the grid as the table had them: with a zone where it had, dates where steps are days, numbers where it had numbers."""
    name = roles.time or STEP
    if not frequency.calendar:
        return pl.Series(name, times)
    found = pl.Series(name, times.astype("datetime64[us]"))
    if frequency.days:
        if roles.aware and roles.zone is not None:
            return found.dt.replace_time_zone(roles.zone, ambiguous="earliest", non_existent="null")
        return found.cast(pl.Date) if not (times % DAY).any() else found
    if roles.zone is None:
        return found
    local = found.dt.replace_time_zone("UTC").dt.convert_time_zone(roles.zone)
    return local if roles.aware else local.dt.replace_time_zone(None)
