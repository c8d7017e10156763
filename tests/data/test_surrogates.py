"""Lone surrogates have one rule, wherever a text comes in."""

from typing import Any

import pytest

from recurra.data.read import given_texts, read
from recurra.data.surrogates import without_surrogates
from recurra.data.texts import GivenText
from recurra.data.words import series

GIVEN, READ = "a\udcffb \ud83d\ude00 \ude00\ud83d", "a\ufffdb \U0001f600 \ufffd\ufffd"


@pytest.mark.parametrize("text", ["", "plain", "caf\u00e9 \U0001f98a \x00", "\ufeffbegins with a mark"])
def test_texts_that_are_whole_stay_what_they_are(text: str) -> None:
    assert without_surrogates(text) == text


def test_lone_ones_are_replaced_and_pairs_joined() -> None:
    assert without_surrogates(GIVEN) == READ
    nested: dict[str, Any] = {GIVEN: [GIVEN, None, 3], "b": (GIVEN, {"c": GIVEN})}
    assert without_surrogates(nested) == {READ: [READ, None, 3], "b": [READ, {"c": READ}]}


def test_every_way_in_reads_the_same() -> None:
    assert given_texts([GIVEN, None]) == [READ, None]
    assert list(series([GIVEN])) == [READ]
    assert list(GivenText(GIVEN).pieces()) == [READ]
    assert read([{"text": GIVEN}]).head(1)["text"].to_list() == [READ]
