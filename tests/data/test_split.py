"""Splitting: exact shares, whole classes, groups and times, the same parts for the same seed."""

from __future__ import annotations

import datetime as dt
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from recurra.data.split import Overlap, Part, assign_parts, overlap, row_hashes, time_keys
from recurra.errors import DataError

shares = st.sampled_from([0.0, 0.1, 0.2, 0.3])


@given(rows=st.integers(5, 500), validation=shares, test=shares, seed=st.integers(0, 2**32 - 1))
@settings(max_examples=100, deadline=None)
def test_random_shares_are_exact(rows: int, validation: float, test: float, seed: int) -> None:
    parts = assign_parts(rows, validation_share=validation, test_share=test, seed=seed)
    counts = np.bincount(parts, minlength=3)
    assert counts[Part.VALIDATION] == (max(1, round(rows * validation)) if validation else 0)
    assert counts[Part.TEST] == (max(1, round(rows * test)) if test else 0)
    assert (parts == assign_parts(rows, validation_share=validation, test_share=test, seed=seed)).all()


@example(counts=[1, 1, 3], seed=0, share=0.3)  # both parts ask for all there is to give
@given(counts=st.lists(st.integers(1, 60), min_size=1, max_size=12), seed=st.integers(0, 1000), share=st.sampled_from([0.1, 0.2, 0.3]))
@settings(max_examples=200, deadline=None)
def test_stratified_shares(counts: list[int], seed: int, share: float) -> None:
    """Largest remainders: every class within one row of its quota unless another has no room; every class trains."""
    labels = np.repeat(np.arange(len(counts)), counts)
    np.random.default_rng(seed).shuffle(labels)
    try:
        parts = assign_parts(len(labels), validation_share=share, test_share=share, seed=seed, stratify=pl.Series(labels))
    except DataError:
        assert sum(max(0, c - 1) for c in counts) < 2 or len(labels) < 4
        return
    table = np.zeros((len(counts), 3), int)
    np.add.at(table, (labels, parts), 1)
    assert (table[:, Part.TRAIN] >= 1).all()
    if min(counts) >= 10:
        quota = np.array(counts) * table[:, Part.TEST].sum() / len(labels)
        assert (np.abs(table[:, Part.TEST] - quota) < 1).all()
        assert (np.abs(table[:, Part.VALIDATION] - np.array(counts) * table[:, Part.VALIDATION].sum() / len(labels)) < 1).all()
        assert table[:, Part.TEST].sum() == max(1, round(len(labels) * share))


def test_stratified_by_text_with_missing_and_rare_classes() -> None:
    labels = pl.Series(["a"] * 70 + ["b"] * 29 + ["once"] + [None] * 10)
    parts = assign_parts(110, validation_share=0.1, test_share=0.2, stratify=labels)
    assert parts[99] == Part.TRAIN
    assert [int((parts[:70] == part).sum()) for part in (Part.VALIDATION, Part.TEST)] == [7, 14]
    assert np.bincount(parts).tolist() == [77, 11, 22]
    with pytest.raises(DataError, match="every class must keep a row"):
        assign_parts(20, validation_share=0.1, test_share=0.1, stratify=pl.Series([str(i) for i in range(20)]))


@given(sizes=st.lists(st.integers(1, 20), min_size=3, max_size=40), seed=st.integers(0, 1000))
@settings(max_examples=100, deadline=None)
def test_groups_stay_whole(sizes: list[int], seed: int) -> None:
    groups = np.repeat(np.arange(len(sizes)), sizes)
    np.random.default_rng(seed).shuffle(groups)
    try:
        parts = assign_parts(len(groups), validation_share=0.2, test_share=0.2, seed=seed, group=pl.Series(groups))
    except DataError:
        assert len(groups) < 4
        return
    assert all(len(set(parts[groups == g].tolist())) == 1 for g in range(len(sizes)))
    counts = np.bincount(parts, minlength=3)
    assert (counts > 0).all()
    # Greedy: a part is over or under its share by at most one (the largest) group, or it got the one group it must have.
    assert (np.abs(counts - len(groups) * np.array([0.6, 0.2, 0.2])) <= 2 * max(sizes) + 1).all()


def test_many_groups_match_the_shares() -> None:
    random = np.random.default_rng(0)
    groups = random.integers(0, 30_000, 100_000)
    parts = assign_parts(100_000, validation_share=0.1, test_share=0.1, group=pl.Series(groups))
    by_group = np.full(30_000, -1)
    by_group[groups] = parts
    assert (by_group[groups] == parts).all()
    assert np.abs(np.bincount(parts) / 100_000 - [0.8, 0.1, 0.1]).max() < 0.001
    missing = assign_parts(1_000, validation_share=0.1, test_share=0.1, group=pl.Series([None] * 1_000, dtype=pl.String))
    assert np.bincount(missing).tolist() == [800, 100, 100]
    with pytest.raises(DataError, match="only 2 group"):
        assign_parts(10, validation_share=0.1, test_share=0.1, group=pl.Series(["a", "b"] * 5))


def test_the_latest_rows_are_held_out() -> None:
    days = [dt.date(2026, 1, 1) + dt.timedelta(days=i) for i in range(20)]
    order = np.random.default_rng(0).permutation(20)
    shuffled = [days[i] for i in order]
    expected = np.select([order >= 16, order >= 12], [Part.TEST, Part.VALIDATION], Part.TRAIN)
    for times in (
        pl.Series(shuffled),
        pl.Series([day.isoformat() for day in shuffled]),
        pl.Series([str(i) for i in order]),
        pl.Series(order),
    ):
        assert (assign_parts(20, validation_share=0.2, test_share=0.2, time=times) == expected).all()


def test_times_as_text() -> None:
    keys = time_keys(
        pl.Series(
            ["2026-01-01", "2026-01-01T10:00:00Z", "2026-01-01 09:30", None, "2026-01-01T10:00:00.5+0200", "2026-01-01 12:00:00+02:00"]
        )
    )
    hours = (keys - keys[0]) / 3.6e9
    assert hours[[0, 1, 2, 5]].tolist() == [0, 10, 9.5, 10]
    assert hours[4] == pytest.approx(8 + 0.5 / 3600, rel=1e-6)  # float64 holds microseconds of this century exactly
    assert keys[3] == -np.inf
    for values in (pl.Series("when", ["2026-01-01", "soon"]), pl.Series("when", [True, False])):
        with pytest.raises(DataError, match="time column 'when' holds"):
            time_keys(values)


@pytest.mark.parametrize("kind", [pl.Date, pl.Datetime("ms"), pl.Datetime("us"), pl.Datetime("ns"), pl.Datetime("us", "UTC")])
def test_dates_are_microseconds_whatever_they_are_stored_in(kind: Any) -> None:
    """So that tables of several formats, and a session in service, can be compared with each other."""
    text = pl.Series(["2026-01-31", "2026-02-03", None])
    stored = text.str.to_date().cast(kind)
    assert time_keys(stored).tolist() == time_keys(text).tolist() == [1_769_817_600e6, 1_770_076_800e6, -np.inf]


def test_shares_and_rows_that_cannot_be() -> None:
    for rows, validation, test in ((2, 0.1, 0.1), (0, 0.0, 0.0), (10, 0.5, 0.5), (10, -0.1, 0.1)):
        with pytest.raises(DataError):
            assign_parts(rows, validation_share=validation, test_share=test)
    assert assign_parts(5, validation_share=0, test_share=0).tolist() == [0] * 5


def test_overlap_counts_held_out_rows_seen_in_training() -> None:
    frame = pl.DataFrame(
        {"text": ["a", "b", "a", "c", "a", None], "n": [1, 1, 1, 1, 2, None], "l": [["x"], ["y"], ["x"], ["x"], ["x"], None]}
    )
    parts = np.array([0, 0, 1, 1, 2, 2], np.int8)
    assert overlap(row_hashes(frame, ["text", "n", "l"]), parts) == Overlap(validation=1, test=0)
    assert overlap(row_hashes(frame, ["text"]), parts) == Overlap(validation=1, test=1)


@pytest.mark.parametrize("missing", ["nan", "NaN", "inf", "-inf", "n/a", "", None, float("nan"), float("inf")])
def test_rows_without_a_time_train(missing: str | float | None) -> None:
    times: list[object] = [str(year) if missing is None or isinstance(missing, str) else float(year) for year in range(2000, 2018)]
    parts = assign_parts(20, validation_share=0.2, test_share=0.2, time=pl.Series([missing, *times, missing], strict=False))
    assert parts.tolist() == [0] * 11 + [1] * 4 + [2] * 4 + [0]


def test_missing_words_among_dates_and_no_time_at_all() -> None:
    assert np.isneginf(time_keys(pl.Series(["NaN", "2026-01-01", "n/a"]))).tolist() == [True, False, True]
    assert np.isneginf(time_keys(pl.Series([None, " "]))).tolist() == [True, True]


def test_equal_rows_of_different_column_types_have_equal_hashes() -> None:
    """A Parquet file has typed columns, a CSV file text; what they say is the same."""
    typed = pl.DataFrame({"n": [1.0, -0.0, 2.5, float("nan"), float("inf"), None], "b": [True, False, None, True, True, True]})
    whole = pl.DataFrame({"n": [1, 0, 7], "b": ["true", "false", None]})
    text = pl.DataFrame({"n": ["1", "0.0", " 2.50 ", "", "inf", None], "b": ["true", " false ", "", "true", "true", "true"]})
    hashes = [row_hashes(frame, ["n", "b"]) for frame in (typed, text, whole)]
    assert hashes[0].tolist() == hashes[1].tolist()
    assert len(set(hashes[0].tolist())) == 5  # a missing number, written in two ways, stands twice
    assert hashes[2][:2].tolist() == hashes[0][:2].tolist()
    assert hashes[2][2] not in hashes[0]


def test_hashes_tell_different_rows_apart() -> None:
    rows = pl.DataFrame(
        {"a": ["1", None, "x", None, "9007199254740993", "9007199254740995"], "b": [None, "1", None, "x", None, None]},
    )
    assert len(set(row_hashes(rows, ["a", "b"]).tolist())) == rows.height
    lists = pl.DataFrame({"l": [["a", "b"], ["a b"], ["ab"], [], None]})
    assert len(set(row_hashes(lists, ["l"]).tolist())) == lists.height
    array = pl.DataFrame({"l": pl.Series([["a", "b"]], dtype=pl.Array(pl.String, 2))})
    assert row_hashes(array, ["l"])[0] == row_hashes(lists, ["l"])[0]
