"""The clicks that are asked for, and what is known before each."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from recurra.data.cases import Cases
from recurra.data.store import Ragged

SESSIONS = st.lists(st.lists(st.integers(-1, 5), max_size=6), max_size=6)


@given(SESSIONS)
def test_every_click_but_the_first_is_asked_for_once(rows: list[list[int]]) -> None:
    cases = Cases.every_step(Ragged.from_rows(rows, np.int64))
    assert cases.answers.tolist() == [item for row in rows for item in row[1:]]
    assert [part.tolist() for part in cases.prefixes()] == [row[:end] for row in rows for end in range(1, len(row))]
    assert cases.session.tolist() == [place for place, row in enumerate(rows) for _ in row[1:]]


@given(SESSIONS)
def test_leave_one_out_asks_for_the_last_click(rows: list[list[int]]) -> None:
    cases = Cases.last_step(Ragged.from_rows(rows, np.int64))
    long = [row for row in rows if len(row) > 1]
    assert cases.answers.tolist() == [row[-1] for row in long]
    assert [part.tolist() for part in cases.prefixes()] == [row[:-1] for row in long]


@given(SESSIONS, st.integers(1, 3))
def test_the_last_clicks_of_some(rows: list[list[int]], most: int) -> None:
    cases = Cases.every_step(Ragged.from_rows(rows, np.int64))
    chosen = np.arange(len(cases))[::2]
    expected = [part.tolist()[-most:] for part in cases.prefixes(chosen)]
    assert [part.tolist() for part in cases.prefixes(chosen, most=most)] == expected
    assert [part.tolist() for part in cases.take(chosen).prefixes(most=most)] == expected


def test_more_clicks_known_before_the_first_question() -> None:
    cases = Cases.every_step(Ragged.from_rows([[1, 2, 3], [4, 5]]), first=2)
    assert cases.answers.tolist() == [3]
    assert cases.position.tolist() == [2]
