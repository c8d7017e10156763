"""Clicks to sessions, and what is held out of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recurra.data.read import read
from recurra.data.sessions import Sessions, every_click, leave_one_out, read_sessions, renamed, split_by_time
from recurra.errors import DataError, EmptyData, MissingColumn, RowError

CLICKS = {"who": ["b", "a", "b", "a", "b"], "what": ["x", "y", "y", "z", "x"], "when": [3, 1, 4, 2, 5]}


def sessions(table: Any, **options: Any) -> Sessions:
    return read_sessions(read(table), **{"session": "who", "item": "what", "time": "when", **options})


def clicks(found: Sessions) -> dict[str, list[str]]:
    return {name: found.names[found.items[row].tolist()].to_list() for row, name in enumerate(found.sessions)}


def test_clicks_are_grouped_and_in_order_of_time() -> None:
    found = sessions(CLICKS)
    assert clicks(found) == {"a": ["y", "z"], "b": ["x", "y", "x"]}
    assert list(clicks(found)) == ["a", "b"], "sessions stand in order of their first click"
    assert found.times.tolist() == [1, 2, 3, 4, 5]


def test_rows_may_stand_in_any_order_and_that_is_told() -> None:
    shuffled = {name: [values[place] for place in (4, 0, 3, 2, 1)] for name, values in CLICKS.items()}
    found = sessions(shuffled)
    assert clicks(found) == clicks(sessions(CLICKS))
    assert found.facts["unsorted"] == 2  # b's 3 after its 5, a's 1 after its 2; b's 4 follows its 3
    assert "unsorted" not in sessions(CLICKS).facts


def test_without_times_the_order_is_that_of_the_rows() -> None:
    assert clicks(sessions(CLICKS, time=None)) == {"b": ["x", "y", "x"], "a": ["y", "z"]}


def test_the_same_row_twice_counts_once_and_is_told() -> None:
    twice = {name: [*values, values[0]] for name, values in CLICKS.items()}
    found = sessions(twice)
    assert clicks(found) == clicks(sessions(CLICKS))
    assert found.facts["repeated"] == 1
    assert sessions(twice, time=None).clicks == 6, "without times the same item may be clicked twice"


@pytest.mark.parametrize("items", [[1, 2, 3], ["1", " 2 ", "3"], [1.0, 2.0, 3.0], ["1.0", "2", "3"]])
def test_an_item_is_the_same_as_number_and_as_text(items: list[Any]) -> None:
    assert sessions({"who": [1, 1, 1], "what": items, "when": [1, 2, 3]}).names.to_list() == ["1", "2", "3"]


def test_text_that_is_no_number_stays_as_it_is() -> None:
    names = ["007", "1.50", "Straße", "a,b"]
    assert sessions({"who": ["u"] * 4, "what": names, "when": [1, 2, 3, 4]}).names.to_list() == names


def test_a_missing_column_is_told_with_the_nearest_name() -> None:
    with pytest.raises(MissingColumn, match=r"no column 'whom'.*Did you mean 'who'"):
        sessions(CLICKS, session="whom")
    with pytest.raises(DataError, match="different columns"):
        sessions(CLICKS, session="what")


def test_an_empty_cell_is_named_by_file_and_line(tmp_path: Path) -> None:
    path = tmp_path / "clicks.csv"
    path.write_text("who,what,when\na,x,1\na,,2\na,y,3\n")
    with pytest.raises(RowError, match=r"clicks.csv:3: the column 'what' is empty"):
        sessions(path)
    found = sessions(path, skip=True)
    assert clicks(found) == {"a": ["x", "y"]}
    assert found.facts["left out"] == 1


def test_a_text_that_is_no_time_is_named_or_left_out(tmp_path: Path) -> None:
    path = tmp_path / "clicks.csv"
    path.write_text("who,what,when\na,x,1700000000\na,y,soon\nb,x,1700000002\nb,y,1700000003\n")
    with pytest.raises(RowError, match=r"clicks\.csv:3: The time column 'when' holds 'soon', which is no time"):
        read_sessions(read(path), session="who", item="what", time="when")
    found = read_sessions(read(path), session="who", item="what", time="when", skip=True)
    assert found.items.values.tolist() == [0, 0, 1]
    assert found.facts["left out"] == 1
    path.write_text("who,what,when\na,x,soon\na,y,later\nb,x,3\n")
    with pytest.raises(RowError, match=r"clicks\.csv:2: .*'soon'"):  # most are no times: the column is the wrong one
        read_sessions(read(path), session="who", item="what", time="when", skip=True)


def test_lists_are_no_names() -> None:
    with pytest.raises(DataError, match=r"Column 'what' holds List\(Int64\), and a name is one value"):
        read_sessions(read([{"who": "a", "what": [1]}, {"who": "a", "what": [2]}]), session="who", item="what")


def test_an_empty_file_is_told(tmp_path: Path) -> None:
    path = tmp_path / "clicks.csv"
    path.write_text("who,what,when\n")
    with pytest.raises(EmptyData, match="no rows"):
        sessions(path)


def test_leave_one_out_keeps_the_last_two_clicks_from_the_training() -> None:
    split = leave_one_out(sessions({"who": list("aaaabbc"), "what": list("wxyzxyx"), "when": [1, 2, 3, 4, 1, 2, 1]}))
    assert clicks(split.train) == {"a": ["w", "x"], "b": ["x", "y"], "c": ["x"]}
    assert split.validation is not None
    assert split.test is not None
    assert (clicks(split.validation.sessions), split.validation.first.tolist()) == ({"a": ["w", "x", "y"]}, [2])
    assert (clicks(split.test.sessions), split.test.first.tolist()) == ({"a": ["w", "x", "y", "z"]}, [3])
    assert split.facts["sequences too short to measure"] == 2
    with pytest.raises(EmptyData, match="No sequence has three clicks"):
        leave_one_out(sessions({"who": list("ab"), "what": list("xy"), "when": [1, 2]}))


@given(times=st.lists(st.integers(0, 30), min_size=20, max_size=60), seed=st.integers(0, 5))
def test_no_training_click_is_as_late_as_an_answer(times: list[int], seed: int) -> None:
    random = np.random.default_rng(seed)
    table = {"who": random.integers(0, 6, len(times)).tolist(), "what": list(range(len(times))), "when": times}
    try:
        split = split_by_time(sessions(table), validation_share=0.2, test_share=0.2)
    except EmptyData:
        return  # too many clicks have the same time, or none follows another
    assert split.validation is not None
    assert split.test is not None
    before: float = split.train.times.max()
    for part in (split.validation, split.test):
        answers = [
            part.sessions.times[part.sessions.items.offsets[row] + step]
            for row in range(len(part.sessions))
            for step in range(part.first[row], len(part.sessions.items[row]))
        ]
        assert answers
        assert part.first.min() >= 1
        assert before < min(answers)
        before = max(answers)


def test_every_click_but_the_first_is_asked_of_a_given_file() -> None:
    asked = every_click(sessions(CLICKS))
    assert asked.first.tolist() == [1, 1]
    assert asked.answers == 3
    with pytest.raises(EmptyData, match="no click that follows another"):
        every_click(sessions({"who": ["a", "b"], "what": ["x", "y"], "when": [1, 2]}))


def test_items_of_another_vocabulary_are_told_apart() -> None:
    found = renamed(sessions(CLICKS), pl.Series(["z", "x"]))
    assert [found.items[row].tolist() for row in range(2)] == [[-1, 0], [1, -1, 1]]
