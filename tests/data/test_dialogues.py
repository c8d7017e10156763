"""Dialogues: their readers, and the pairs of history and reply."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recurra.data.dialogues import SEPARATOR, Dialogue, history_text, is_babi, pairs, read_babi, read_chatterbot, read_dialogues
from recurra.data.read import read
from recurra.errors import DataError, EmptyData

BABI = "1 hi\thello\n2 a table please\tfor how many\n3 resto R_price cheap\n4 <SILENCE>\tapi_call\n\n1 good morning\thello\n"


def test_babi_text_is_read_line_by_line(tmp_path: Path) -> None:
    path = tmp_path / "task.txt"
    path.write_text(BABI)
    assert is_babi(path)
    first, second = read_babi(path)
    assert first.utterances == ("hi", "hello", "a table please", "for how many", "resto R_price cheap", "<SILENCE>", "api_call")
    assert [first.utterances[place] for place in first.replies] == ["hello", "for how many", "api_call"]
    assert second.utterances == ("good morning", "hello")
    path.write_bytes("1 one\x85two\u2028three\tfour\r\n".encode())  # a line ends at line ends alone
    assert read_babi(path) == [Dialogue(("one\x85two\u2028three", "four"), (1,))]
    path.write_text("hello\n")
    with pytest.raises(DataError, match=r"task.txt:1: a line of a dialogue"):
        read_babi(path)
    assert not is_babi(path)
    path.write_text("\n")
    with pytest.raises(DataError, match="holds no dialogue"):
        read_babi(path)
    with pytest.raises(DataError, match="cannot be read"):
        read_babi(tmp_path / "absent.txt")


@given(
    st.lists(st.lists(st.text("abc <>|\n", min_size=1, max_size=6), min_size=1, max_size=6), min_size=1, max_size=4),
    st.integers(1, 4),
    st.booleans(),
)
def test_a_reply_follows_its_history(rows: list[list[str]], most: int, every: bool) -> None:
    said = [[utterance if utterance.strip() else "x" for utterance in row] for row in rows]
    dialogues = read_dialogues(read([{"turns": row} for row in said]), every=every)
    wanted = [
        (number, SEPARATOR.join(" ".join(part.split()) for part in row[max(0, place - most) : place]), " ".join(row[place].split()))
        for number, row in enumerate(said)
        for place in range(1, len(row), 1 if every else 2)
    ]
    if not wanted:
        with pytest.raises(EmptyData, match="two utterances"):
            pairs(dialogues, most)
        return
    assert pairs(dialogues, most).rows() == wanted
    assert history_text(said[0], most).count(SEPARATOR) >= min(most, len(said[0])) - 1


def test_empty_replies_are_left_out() -> None:
    found = pairs([Dialogue(("a", " ", "b", "c"), (1, 3))])
    assert found["reply"].to_list() == ["c"]


def test_columns_without_dialogues_are_told() -> None:
    with pytest.raises(DataError, match="none does"):
        read_dialogues(read([{"text": "hello"}]))
    both = read([{"one": ["a", "b"], "two": ["c", "d"], "three": "e"}])
    with pytest.raises(DataError, match="name one"):
        read_dialogues(both)
    with pytest.raises(DataError, match="'three'"):
        read_dialogues(both, "three")
    assert read_dialogues(both, "two")[0].utterances == ("c", "d")


def test_the_built_in_dialogues_are_the_same_each_time() -> None:
    pytest.importorskip("chatterbot_corpus")
    found = read_chatterbot()
    assert found == read_chatterbot()
    assert len(set(found)) == len(found) > 500
    table = read("chatterbot")
    assert table.columns == ["dialogue", "history", "reply"]
