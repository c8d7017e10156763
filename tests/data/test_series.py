"""Tables as series: grids, gaps, order, zones, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recurra.config import load_settings
from recurra.data.frequency import DAY, Frequency, infer_frequency
from recurra.data.read import read
from recurra.data.roles import UNKNOWN_TEXT, Roles, infer_roles
from recurra.data.series import SeriesSet, read_series
from recurra.data.split import Part
from recurra.data.times import parse_times
from recurra.errors import DataError, MissingColumn, RecurraError, RowError, SettingsError

HOUR = DAY // 24


def load(data: Any, *, skip: bool = False, **settings: Any) -> SeriesSet:
    chosen = load_settings({"forecast.horizon": 2, **{name.replace("__", "."): value for name, value in settings.items()}})
    table = read(data, on_error="skip" if skip else "fail")
    return read_series([(table, None)], infer_roles(table, chosen), forecast=chosen.forecast, skip=skip)


def hours(count: int, start: str = "2024-01-01") -> list[str]:
    return [str(time).replace("T", " ") for time in np.datetime64(f"{start}T00:00:00") + np.arange(count) * np.timedelta64(1, "h")]


def test_a_missing_step_is_put_in_and_counted() -> None:
    rows = [{"when": time, "sales": number} for number, time in enumerate(hours(6)) if number not in (2, 3)]
    found = load(rows, target="sales", data__time="when")
    assert str(found.frequency) == "1h"
    np.testing.assert_array_equal(found.series[0].values[:, 0], [0, 1, np.nan, np.nan, 4, 5])
    assert found.counts["inserted"] == 2
    assert any("2 steps have no row" in line for line in found.notes())


def test_rows_in_any_order_are_the_same_series() -> None:
    rows = [{"when": time, "sales": number} for number, time in enumerate(hours(9))]
    mixed = [rows[number] for number in (4, 1, 0, 8, 2, 3, 7, 6, 5)]
    ordered, sorted_again = (load(each, target="sales", data__time="when") for each in (rows, mixed))
    np.testing.assert_array_equal(ordered.series[0].values, sorted_again.series[0].values)
    assert (ordered.counts["unsorted"], sorted_again.counts["unsorted"]) == (0, 5)


def test_two_rows_at_the_same_time_are_named_by_file_and_line(tmp_path: Path) -> None:
    path = tmp_path / "sales.csv"
    path.write_text("store,when,sales\nA,2024-01-01,1\nA,2024-01-02,2\nB,2024-01-01,3\nB,2024-01-02,3\nA,2024-01-02,5\n")
    with pytest.raises(RowError, match=r"sales\.csv:6: This row of 'A' has the time 2024-01-02, as the row at .*sales\.csv:3 has"):
        load(path, target="sales", data__time="when", forecast__series=["store"])
    with pytest.raises(RowError, match="name the column that tells them apart"):
        load(path, target="sales", data__time="when")


def test_long_rows_become_series_by_name() -> None:
    rows = [{"store": store, "kind": "x", "day": f"2024-01-0{day}", "sales": day} for day in (1, 2, 3) for store in ("B", "A")]
    found = load(rows, target="sales", data__time="day", forecast__series=["store", "kind"])
    assert [series.name for series in found.series] == ["B|x", "A|x"]
    assert all(series.values.shape == (3, 1) for series in found.series)


def test_what_names_a_series_may_hold_any_sign() -> None:
    rows = [
        {"a": a, "b": b, "when": day, "sales": day} for a, b in (("x|y", "z"), ("x", "y|z"), ("x\\", "|"), ("x\\|", "")) for day in (1, 2)
    ]
    found = load(rows, target="sales", data__time="when", forecast__series=["a", "b"])
    assert [each.key for each in found.series] == [("x|y", "z"), ("x", "y|z"), ("x\\", "|"), ("x\\|", "")]
    assert len({each.name for each in found.series}) == 4
    alone = load(rows[:2], target="sales", data__time="when", forecast__series=["a"])
    assert [each.name for each in alone.series] == ["x|y"]


@pytest.mark.parametrize("names", [[7, 7, 8, 8], [7.0, 7.0, 8.0, 8.0], ["7", " 7.0", "8 ", "8"]])
def test_a_series_has_the_same_name_as_number_and_as_text(names: list[Any]) -> None:
    rows = [{"store": name, "when": 1 + number % 2, "sales": number} for number, name in enumerate(names)]
    found = load(rows, target="sales", data__time="when", forecast__series=["store"])
    assert [each.name for each in found.series] == ["7", "8"]
    assert [each.key for each in found.series] == [(names[0],), (names[2],)]


def test_nothing_and_blank_text_name_the_same_series() -> None:
    rows = [{"store": name, "when": when, "sales": 1.0} for when, name in enumerate([None, "", " ", "a", "a"])]
    assert [each.name for each in load(rows, target="sales", data__time="when", forecast__series=["store"]).series] == ["", "a"]
    lists = [{"store": [1], "when": when, "sales": 1.0} for when in range(3)]
    with pytest.raises(DataError, match=r"'store' holds List\(Int64\), and a name is one value"):
        load(lists, target="sales", data__time="when", forecast__series=["store"])


def test_wide_columns_are_channels_of_one_series() -> None:
    frame = pl.DataFrame({"day": ["2024-01-01", "2024-01-02"], "a": [1, 2], "note": ["x", "y"], "b": [3.0, None]})
    found = load(frame, target="*", data__time="day")
    assert found.roles.targets == ("a", "b")
    np.testing.assert_array_equal(found.series[0].values, [[1, 3], [2, np.nan]])
    assert found.counts["missing"] == 1


def test_without_a_time_column_rows_are_steps() -> None:
    found = load([{"x": number} for number in range(5)], target="x")
    assert (str(found.frequency), len(found.series[0])) == ("1", 5)
    assert found.times(found.series[0], ahead=2).tolist() == list(range(7))


@pytest.mark.parametrize(
    ("times", "expected", "following"),
    [
        (["2024-01-31", "2024-02-29", "2024-03-31", "2024-04-30"], "1mo", "2024-05-31"),
        (["1949-01", "1949-02", "1949-03"], "1mo", "1949-04-01"),
        (["2023-01-01", "2023-04-01", "2023-07-01", "2023-10-01"], "1q", "2024-01-01"),
        (["2001-06-30", "2002-06-30", "2003-06-30"], "1y", "2004-06-30"),
        (["2024-01-01 00:00", "2024-01-01 00:15", "2024-01-01 00:30"], "15min", "2024-01-01T00:45"),
        (["2024-01-04", "2024-01-05", "2024-01-08", "2024-01-09", "2024-01-10", "2024-01-11", "2024-01-12"], "1b", "2024-01-15"),
        (["2024-01-04", "2024-01-11", "2024-01-18"], "1w", "2024-01-25"),
    ],
)
def test_calendar_frequencies_are_inferred_and_go_on(times: list[str], expected: str, following: str) -> None:
    found = load([{"t": time, "y": 1.0 * number} for number, time in enumerate(times)], target="y", data__time="t")
    series = found.series[0]
    assert (str(found.frequency), len(series), found.counts["inserted"]) == (expected, len(times), 0)
    assert found.times(series, ahead=1)[-1] == np.datetime64(following, "us").astype(np.int64)


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(["15min", "1h", "1d", "b", "1w", "1mo", "2mo", "1q", "1y"]), st.integers(-400, 900), st.integers(5, 40))
def test_a_grid_knows_its_own_times(text: str, start: int, length: int) -> None:
    """positions(times(n)) = n without any off the grid, and the frequency that is inferred from these times has the same steps."""
    day = np.array([18 * DAY + 9 * HOUR])
    grid = Frequency.parse(text, day, calendar=True)
    numbers = np.arange(start, start + length)
    positions, off = grid.positions(grid.times(numbers))
    np.testing.assert_array_equal(positions, numbers)
    assert not off.any()
    inferred = infer_frequency([grid.times(numbers)], calendar=True)
    if text == "b" and length < 8:
        return  # a few days from Monday to Friday do not tell
    np.testing.assert_array_equal(np.diff(inferred.positions(grid.times(numbers))[0]), 1)


def test_rows_off_the_grid_are_told_and_many_of_them_refused() -> None:
    times = [np.datetime64("2024-01-01", "us") + np.timedelta64(number, "h") for number in range(100)]
    times[40] += np.timedelta64(4, "m")
    rows = {"when": np.array(times), "y": np.arange(100.0)}
    found = load(pl.DataFrame(rows), target="y", data__time="when")
    assert (found.counts["off_grid"], len(found.series[0])) == (1, 100)
    rows["when"] = np.array([time + np.timedelta64(37 * number**2 % 61, "m") for number, time in enumerate(times)])
    with pytest.raises(DataError, match=r"irregular: .* Set forecast\.frequency"):
        load(pl.DataFrame(rows), target="y", data__time="when")
    found = load(pl.DataFrame(rows), target="y", data__time="when", forecast__frequency="2h")
    assert found.counts["merged"] > 0
    assert np.nanmean(found.series[0].values) == pytest.approx(49.5, rel=0.05)


def test_summer_time_neither_drops_nor_repeats_an_hour() -> None:
    """Hours of Berlin without an offset over both changes of 2024: with the zone they are 24-hour steps in UTC."""
    utc = pl.datetime_range(pl.datetime(2024, 10, 26), pl.datetime(2024, 10, 28), "1h", time_zone="UTC", eager=True)
    local = utc.dt.convert_time_zone("Europe/Berlin").dt.replace_time_zone(None).dt.to_string("%Y-%m-%d %H:%M")
    rows = {"when": local.to_list(), "y": np.arange(float(len(local)))}
    with pytest.raises(RowError, match=r"forecast\.time_zone"):
        load(pl.DataFrame(rows), target="y", data__time="when")
    found = load(pl.DataFrame(rows), target="y", data__time="when", forecast__time_zone="Europe/Berlin")
    assert (found.counts["inserted"], len(found.series[0])) == (0, len(utc))
    np.testing.assert_array_equal(
        found.times(found.series[0]), utc.dt.replace_time_zone(None).cast(pl.Datetime("us")).to_physical().to_numpy()
    )


def test_days_of_a_zone_are_steps_though_one_has_23_hours() -> None:
    days = pl.datetime_range(pl.datetime(2024, 3, 29), pl.datetime(2024, 4, 3), "1d", time_zone="Europe/Berlin", eager=True)
    found = load(pl.DataFrame({"when": days, "y": np.arange(6.0)}), target="y", data__time="when")
    assert (str(found.frequency), len(found.series[0]), found.counts["off_grid"]) == ("1d", 6, 0)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2024-12-31T23:00:00Z", "2024-12-31T23:00"),
        ("2024-12-31 23:00:00+02:00", "2024-12-31T21:00"),
        ("31.12.2024 23:00", "2024-12-31T23:00"),
        ("12/31/2024", "2024-12-31"),
        ("31/12/2024", "2024-12-31"),
        ("20241231", "2024-12-31"),
        ("2024-12", "2024-12-01"),
    ],
)
def test_times_are_read_as_they_are_written(text: str, expected: str) -> None:
    times, zone = parse_times(pl.Series("when", [text, None]))
    assert times[0] == np.datetime64(expected, "us").item()
    assert zone == ("UTC" if text.endswith(("Z", ":00+02:00")) else None)
    assert times[1] is None


@pytest.mark.parametrize(
    ("rows", "settings", "error", "message"),
    [
        ([{"y": 1}], {}, SettingsError, "Name the column to forecast"),
        ([{"y": 1}], {"target": "yy"}, MissingColumn, "Did you mean 'y'"),
        ([{"y": 1, "t": "x"}], {"target": "y", "data.time": "t"}, DataError, "no times that can be read, such as 'x'"),
        ([{"y": 1, "t": "2/3/2024"}], {"target": "y", "data.time": "t"}, DataError, "day and month cannot be told apart"),
        ([{"y": 1, "t": 1}], {"target": "y", "data.time": "t"}, DataError, "set forecast.frequency"),
        ([{"y": 1, "t": 1}], {"target": "y", "forecast.known": ["y"]}, SettingsError, "named twice"),
        ([{"y": "much"}, {"y": "1"}], {"target": "y"}, RowError, "'much' in column 'y' is not a number"),
        ([{"y": "much"}, {"y": "more"}], {"target": "y"}, DataError, "holds no numbers, but such as 'much'"),
        ([{"y": 1, "t": 1}], {"target": "y", "data.time": "t", "forecast.frequency": "1h"}, SettingsError, "no unit may follow"),
        ([{"y": 1, "t": 1}], {"target": "y", "data.time": "t", "forecast.frequency": "fast"}, SettingsError, "is no frequency"),
        ([{"y": 1}, {"y": 2}], {"target": "y", "forecast.static": ["y"]}, SettingsError, "named twice"),
        ([{"y": 1, "a": 1}, {"y": 2, "a": 2}], {"target": "y", "forecast.static": ["a"]}, DataError, "2 different values in one series"),
        ([{"y": "a"}], {"target": "*"}, SettingsError, "has none besides"),
    ],
)
def test_what_cannot_be_series_is_told(rows: Any, settings: dict[str, Any], error: type[RecurraError], message: str) -> None:
    with pytest.raises(error, match=message):
        load(rows, **{name.replace(".", "__"): value for name, value in settings.items()})


@pytest.mark.parametrize("form", [pl.Int64, pl.Int32, pl.Float64, pl.String])
def test_compact_dates_are_dates_in_any_form(form: Any) -> None:
    """As numbers, the day after 20240131 would be 70 steps away."""
    frame = pl.DataFrame({"when": [20240130, 20240131, 20240201, 20240202], "y": [1.0, 2.0, 3.0, 4.0]}).with_columns(
        pl.col("when").cast(form)
    )
    found = load(frame, target="y", data__time="when")
    assert (str(found.frequency), found.counts["inserted"]) == ("1d", 0)
    counters = load(frame.with_columns(when=(pl.int_range(4) + 20_240_299).cast(form)), target="y", data__time="when")
    assert (str(counters.frequency), counters.frequency.calendar) == ("1", False)  # 20240300 is no date
    wrong = frame.with_columns(when=pl.Series([20240130, 20240131, 20240231, 20240202]).cast(form))
    with pytest.raises(RowError, match=r"row 3: .*20240231.* in column 'when' is no time of the form of the others"):
        load(wrong, target="y", data__time="when")


def test_a_row_without_a_time_is_named_or_left_out(tmp_path: Path) -> None:
    path = tmp_path / "y.csv"
    path.write_text("t,y\n2024-01-01,1\n2024-01-02,2\n,3\n2024-01-03,zwei\n2024-01-04,4\n")
    with pytest.raises(RowError, match=r"y\.csv:5: 'zwei'"):
        load(path, target="y", data__time="t")
    found = load(path, skip=True, target="y", data__time="t")
    np.testing.assert_array_equal(found.series[0].values[:, 0], [1, 2, np.nan, 4])
    assert found.counts["unreadable"] == 2


def test_texts_of_a_covariate_are_categories_and_new_ones_missing() -> None:
    rows = [{"y": number, "wind": "NSSN"[number]} for number in range(4)]
    found = load(rows, target="y", forecast__past=["wind"])
    assert found.roles.past[0].categories == ("N", "S")
    np.testing.assert_array_equal(found.series[0].past[:, 0], [0, 1, 1, 0])
    again = read_series([(read([{"y": 1, "wind": "W"}]), None)], found.roles, forecast=load_settings({"forecast.horizon": 1}).forecast)
    assert again.series[0].past.tolist() == [[UNKNOWN_TEXT]]  # a value, though the network reads it as it reads a missing one
    assert again.counts["unknown_categories"] == 1


def test_rows_of_one_step_count_for_their_mean_and_the_last_of_their_texts() -> None:
    """The mean of the numbers of `E` and `W` would be that of `S`."""
    times = ["2024-01-01 00:00", "2024-01-01 01:00", "2024-01-01 01:10", "2024-01-01 01:20", "2024-01-01 02:00"]
    rows = [{"when": when, "y": y, "wind": wind} for when, y, wind in zip(times, (1, 2, 4, 6, 5), ("S", "E", "W", None, "S"), strict=True)]
    found = load(rows, target="y", data__time="when", forecast__frequency="1h", forecast__known=["wind"])
    assert found.series[0].values[:, 0].tolist() == [1, 4, 5]
    assert [found.roles.known[0].categories[int(code)] for code in found.series[0].known[:, 0]] == ["S", "W", "S"]
    assert found.counts["merged"] == 2


def test_roles_are_saved_and_read_back() -> None:
    rows = [{"t": f"2024-01-0{number}", "y": number, "wind": "NS"[number % 2], "s": "x"} for number in range(1, 5)]
    roles = load(rows, target="y", data__time="t", forecast__known=["wind"], forecast__series=["s"]).roles
    assert Roles.from_state(roles.state()) == roles


def test_files_given_for_a_part_say_where_it_begins() -> None:
    tables = [(read([{"t": day, "y": day} for day in days]), part) for days, part in ((range(5), None), (range(5, 8), Part.VALIDATION))]
    settings = load_settings({"target": "y", "data.time": "t", "forecast.horizon": 1})
    found = read_series(tables, infer_roles(tables[0][0], settings), forecast=settings.forecast)
    assert found.series[0].begins == {Part.VALIDATION: 5}
