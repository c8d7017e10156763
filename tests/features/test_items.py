"""Items as numbers, and time gaps."""

from __future__ import annotations

from datetime import datetime, timedelta

import numpy as np
import polars as pl
import pytest

from recurra.data.read import read
from recurra.data.sessions import read_sessions
from recurra.errors import DataError
from recurra.features.items import GAPS, ItemVocabulary, gap_numbers


def fitted(items: list[str], **columns: list[object]) -> ItemVocabulary:
    table = {"who": ["u"] * len(items), "what": items, **columns}
    return ItemVocabulary.fit(read_sessions(read(table), session="who", item="what", attributes=list(columns)))


def test_items_are_counted_in_order_of_their_first_click() -> None:
    items = fitted(["b", "a", "b", "c"])
    assert (items.names.to_list(), items.counts.tolist()) == (["b", "a", "c"], [2, 1, 1])
    assert items.numbers(pl.Series(["c", "x", "b"])).tolist() == [2, -1, 0]
    assert items.numbers(pl.Series([1.0, 2.0])).tolist() == [-1, -1]


def test_one_item_is_nothing_to_choose_from() -> None:
    with pytest.raises(DataError, match="all of one item, 'a'"):
        fitted(["a", "a"])


def test_an_attribute_is_the_most_frequent_value_of_an_item() -> None:
    items = fitted(["a", "a", "a", "b", "c"], kind=["x", "y", "y", None, "x"])
    kind = items.attributes["kind"]
    assert [None if number == 0 else kind.values[number - 1] for number in kind.numbers] == ["y", None, "x"]


def test_gaps_are_powers_of_two_and_begin_anew_with_each_session() -> None:
    found = gap_numbers(np.array([5.0, 5.0, 6.0, 13.0, 100.0, 103.0]), np.array([0, 4, 4, 6]))
    assert found.tolist() == [0, 1, 2, 4, 0, 3]  # gaps 0, 1, 7 and 3: 1 + floor(log2(1 + gap))


def test_years_between_dates_are_told_apart() -> None:
    begin = datetime(2020, 1, 1)
    times = [begin, begin + timedelta(days=1), begin + timedelta(days=366), begin + timedelta(days=20_000)]
    found = read_sessions(read({"who": ["u"] * 4, "what": list("abcd"), "when": times}), session="who", item="what", time="when")
    numbers = gap_numbers(found.times, found.items.offsets)
    assert len(set(numbers.tolist())) == 4
    assert numbers.max() < GAPS - 1
