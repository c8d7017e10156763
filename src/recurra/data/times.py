"""A column of times, however it is written, as whole microseconds or whole numbers.

Times with a zone or an offset become UTC. What stands in the way (a row without a time, one that cannot be read) is told by its row; the
caller knows file and line.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from recurra.errors import DataError

if TYPE_CHECKING:
    import polars as pl

__all__ = ["local_times", "parse_times", "to_utc", "wall_clock"]

DATES = ("%Y-%m-%d", "%Y/%m/%d", "%d.%m.%Y", "%Y%m%d")
SLASHED = ("%m/%d/%Y", "%d/%m/%Y")
COMPACT = (1900_01_01, 2100_12_31)
"""Between which whole numbers may be dates."""
CLOCKS = ("", " %H:%M:%S%.f", " %H:%M")
OFFSETS = ("", "%z", " %z")


def parse_times(values: pl.Series) -> tuple[pl.Series, str | None]:
    """Times as Datetime (microseconds, without a zone or in UTC) or Int64.

    Args:
        values: dates, times, whole numbers, or text of one of these in one form throughout: ISO 8601 with or without an offset,
            31.12.2024, 12/31/2024, 2024-12. Whole numbers are dates where most are such as 20241231.

    Returns:
        The times, null where there is none or it cannot be read, and the zone they carried (UTC for offsets); they are in UTC then.

    Raises:
        DataError: no form fits, or day and month cannot be told apart.
    """
    import polars as pl

    if values.dtype == pl.Date:
        return values.cast(pl.Datetime("us")), None
    if isinstance(values.dtype, pl.Datetime):
        if values.dtype.time_zone is not None:
            return values.dt.convert_time_zone("UTC").dt.replace_time_zone(None).cast(pl.Datetime("us")), values.dtype.time_zone
        return values.cast(pl.Datetime("us")), None
    if values.dtype.is_integer():
        return _dates_or_numbers(values.cast(pl.Int64)), None
    if values.dtype.is_float():
        whole = values.cast(pl.Int64, strict=False)
        return _dates_or_numbers(whole.set((whole.cast(pl.Float64) != values).fill_null(value=True), None)), None
    if values.dtype != pl.String:
        raise DataError(f"The time column {values.name!r} holds {values.dtype}: it must hold dates, times or whole numbers.")
    return _parse_text(values.str.strip_chars().replace("", None))


def _dates_or_numbers(numbers: pl.Series) -> pl.Series:
    """Whole numbers as they are, or the dates that most of them are when read as 20241231; then null where one is none."""
    import polars as pl

    dates = _read(numbers.set(~numbers.is_between(*COMPACT), None).cast(pl.String), "%Y%m%d")
    return dates if 2 * dates.count() > numbers.count() else numbers


def _parse_text(values: pl.Series) -> tuple[pl.Series, str | None]:
    import polars as pl

    some = values.drop_nulls().head(1_000)
    if some.str.contains(r"^[+-]?\d+$").all():
        return _dates_or_numbers(values.cast(pl.Int64, strict=False)), None
    text = values.str.replace(r"^(\d{4}-\d{2})$", "$1-01").str.replace(r"(\d)[Tt](\d)", "$1 $2").str.replace(r"[zZ]$", "+00:00")
    text = text.str.replace(r" ?(UTC|GMT)$", "+00:00")
    forms = _fitting(text.drop_nulls().head(1_000))
    slashed = [form for form in forms if form.startswith(tuple(SLASHED))]
    if slashed:
        forms = _day_or_month(text, slashed)
    if not forms:
        example = f", such as {some[0]!r}" if len(some) else ""
        raise DataError(f"Column {values.name!r} holds no times that can be read{example}: write them as 2024-12-31 23:59:00.")
    form = max(forms, key=lambda form: _read(text, form).count())
    times = _read(text, form)
    if form.endswith("%z"):
        return times.dt.convert_time_zone("UTC").dt.replace_time_zone(None), "UTC"
    return times, None


def _fitting(head: pl.Series) -> list[str]:
    """Forms in which most of the texts can be read."""
    forms = [f"{date}{clock}{offset}" for date in (*DATES, *SLASHED) for clock in CLOCKS for offset in (OFFSETS if clock else ("",))]
    return [form for form in forms if 2 * _read(head, form).count() > len(head)]


def _day_or_month(text: pl.Series, forms: list[str]) -> list[str]:
    """Those of the forms with slashes that more of the texts can be read in.

    Raises:
        DataError: day and month can be told apart nowhere.
    """
    counts = {date: max((_read(text, form).count() for form in forms if form.startswith(date)), default=0) for date in SLASHED}
    if len(set(counts.values())) == 1:
        raise DataError(
            f"Column {text.name!r} holds dates such as {text.drop_nulls()[0]!r}, in which day and month cannot be told apart: "
            "write them as 2024-12-31."
        )
    return [form for form in forms if form.startswith(max(counts, key=lambda date: counts[date]))]


def _read(text: pl.Series, form: str) -> pl.Series:
    return text.str.to_datetime(form, time_unit="us", strict=False)


def to_utc(times: pl.Series, zone: str, *, repeated: pl.Series) -> pl.Series:
    """Wall-clock times of a zone in UTC.

    The hour that comes twice when clocks go back is its first occurrence, but for rows marked as `repeated`, the second ones. A time that
    clocks skip becomes null.

    Raises:
        DataError: there is no such zone.
    """
    import polars as pl
    from polars.exceptions import PolarsError

    try:
        choice = pl.select(pl.when(repeated).then(pl.lit("latest")).otherwise(pl.lit("earliest"))).to_series()
        aware = pl.DataFrame({"time": times, "choice": choice}).select(
            pl.col("time").dt.replace_time_zone(zone, ambiguous=pl.col("choice"), non_existent="null")
        )["time"]
    except PolarsError as error:
        raise DataError(f"forecast.time_zone={zone!r} is no zone that is known here: write it as Europe/Berlin. {error}") from error
    return aware.dt.convert_time_zone("UTC").dt.replace_time_zone(None)


def wall_clock(times: pl.Series, zone: str) -> pl.Series:
    """UTC times as the clocks of a zone showed them.

    Raises:
        DataError: there is no such zone.
    """
    from polars.exceptions import PolarsError

    try:
        return times.dt.replace_time_zone("UTC").dt.convert_time_zone(zone).dt.replace_time_zone(None)
    except PolarsError as error:
        raise DataError(f"forecast.time_zone={zone!r} is no zone that is known here: write it as Europe/Berlin. {error}") from error


def local_times(times: np.ndarray, zone: str | None) -> np.ndarray:
    """(T,) UTC microseconds as those of a zone's wall clock; as they are without a zone."""
    import polars as pl

    if zone is None:
        return times
    series = pl.Series(times.astype("datetime64[us]"))
    local: np.ndarray = wall_clock(series, zone).to_physical().to_numpy()
    return local
