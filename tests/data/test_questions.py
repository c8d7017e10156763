"""Questions from tables and SQuAD's JSON: one form out of many, answers that do not stand in their context named by line."""

from __future__ import annotations

import json
import unicodedata
from pathlib import Path
from typing import Any

import pytest

from questions import questions, squad
from recurra.config import AnswerSettings
from recurra.data.questions import CharacterSpan, is_squad, locate, read_asked, read_questions, without_marker
from recurra.errors import DataError, EmptyData, MissingColumn, RowError

SETTINGS = AnswerSettings()
CONTEXT = "The case is made of leather. The strap, though, is thin."


def one(**row: Any) -> list[str]:
    found = read_questions([{"question": "What?", "context": CONTEXT, **row}], SETTINGS).items[0]
    return found.texts


def written(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def test_all_forms_are_the_same_questions(tmp_path: Path) -> None:
    rows = questions(12)
    placed = [
        {**row, "span": None if row["answer"] is None else [(start := row["context"].index(row["answer"])), start + len(row["answer"])]}
        for row in rows
    ]
    starts = [
        {
            "question": row["question"],
            "context": row["context"],
            "answers": {"text": [row["answer"]] if row["answer"] else [], "answer_start": [row["span"][0]] if row["answer"] else []},
        }
        for row in placed
    ]
    (tmp_path / "squad.json").write_text(json.dumps(squad(rows)))
    sources: list[Any] = [
        rows,
        placed,
        starts,
        written(tmp_path / "t.jsonl", placed),
        tmp_path / "squad.json",
        [str(tmp_path / "squad.json")],
    ]
    found = [[(each.question, each.context, each.answers) for each in read_questions(source, SETTINGS).items] for source in sources]
    assert all(each == found[0] for each in found)
    assert sum(not answers for _, _, answers in found[0]) == 3
    assert is_squad(tmp_path / "squad.json")
    assert not is_squad(tmp_path / "t.jsonl")


def test_rows_of_one_question_are_one_question_with_several_answers() -> None:
    row = {"question": "What is it?", "context": CONTEXT}
    found = read_questions([{**row, "answer": "leather"}, {**row, "answer": None}, {**row, "answer": "made of leather"}], SETTINGS)
    assert found.rows == 3
    assert [each.texts for each in found.items] == [["leather", "made of leather"]]


@pytest.mark.parametrize(
    ("row", "texts"),
    [
        ({"answer": "leather"}, ["leather"]),
        ({"answer": "LEATHER"}, ["leather"]),
        ({"answer": "The strap , though"}, ["The strap, though"]),
        ({"answer": "made  of\nleather"}, ["made of leather"]),
        ({"answer": ["leather", "thin", None]}, ["leather", "thin"]),
        ({"answer": "leather", "span": [20, 28]}, ["leather."]),
        ({"answer": "leather", "span": "[20, 27]"}, ["leather"]),
        ({"answer": "leather", "answer_start": 20}, ["leather"]),
        ({"answer": ["leather"], "span": [20, 27]}, ["leather"]),
        ({"answer": ["leather", "thin"], "span": [[20, 27], [51, 55]]}, ["leather", "thin"]),
        ({"answer": "The", "span": [29, 32]}, ["The"]),
        ({"answer": " leather", "span": [19, 27]}, ["leather"]),
        ({"answer": ""}, []),
        ({"answer": "  "}, []),
        ({"answer": []}, []),
        ({"answer": None, "span": [5, 900]}, []),
    ],
)
def test_answers_are_found_in_their_context(row: dict[str, Any], texts: list[str]) -> None:
    assert one(**row) == texts


@pytest.mark.parametrize("forms", [("NFC", "NFD"), ("NFD", "NFC")])
def test_accents_are_the_same_as_one_sign_and_as_two(forms: tuple[str, str]) -> None:
    context, answer = (unicodedata.normalize(form, text) for form, text in zip(forms, ("The Café is in Orléans.", "Orléans"), strict=True))
    start = context.index("Orl")
    for place in ({}, {"span": [start, len(context) - 1]}):
        assert one(context=context, answer=answer, **place) == [context[start:-1]]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"answer": "silk"}, "does not stand in the context: 'silk'"),
        ({"answer": "leather", "span": [20, 900]}, "characters 20 to 900 of 56"),
        ({"answer": "leather", "span": [-3, 4]}, "outside of its context"),
        ({"answer": "leather", "span": [27, 20]}, "outside of its context"),
        ({"answer": "leather", "span": [50, 55]}, "another text than the answer"),
        ({"answer": "leather", "span": [1, 2, 3]}, "no pair of numbers"),
        ({"answer": ["leather", "thin"], "span": [[20, 27]]}, "2 answers and 1 spans"),
        ({"answer": "leather", "question": " "}, "the question is empty"),
        ({"answer": "leather", "context": None}, "the context is empty"),
    ],
)
def test_a_bad_row_is_named_by_file_and_line_or_left_out(row: dict[str, Any], message: str, tmp_path: Path) -> None:
    good = {"question": "What?", "context": CONTEXT, "answer": "leather"}
    if "span" in row:
        good["span"] = [[20, 27]] if isinstance(row["answer"], list) else [20, 27]
        good["answer"] = ["leather"] if isinstance(row["answer"], list) else "leather"
    path = written(tmp_path / "t.jsonl", [good, {**good, **row}, {**good, "question": "Why?"}])
    with pytest.raises(RowError, match=r"t\.jsonl:2: ") as error:
        read_questions(path, SETTINGS)
    assert message in str(error.value)
    found = read_questions(path, SETTINGS, on_error="skip")
    assert len(found.items) == 2
    assert sum(found.left_out.values()) == 1


def test_no_answer_is_a_text_of_its_own_where_it_is_named() -> None:
    settings = AnswerSettings(no_answer="NONE")
    rows = [
        {"question": "a", "context": f"{CONTEXT} NONE", "answer": "NONE"},
        {"question": "b", "context": f"{CONTEXT} NONE", "answer": "thin. NONE"},
    ]
    found = read_questions(rows, settings).items
    assert [each.texts for each in found] == [[], ["thin."]]
    assert found[0].context == CONTEXT
    assert without_marker("NONE of it", "NONE") == "NONE of it"
    assert [each.texts for each in read_questions(rows, SETTINGS).items] == [["NONE"], ["thin. NONE"]]


def test_other_columns_are_named_and_missing_ones_told() -> None:
    rows = [{"q": "What?", "text": CONTEXT, "reply": "thin"}]
    found = read_questions(rows, AnswerSettings(question="q", context="text"), target="reply")
    assert found.items[0].texts == ["thin"]
    with pytest.raises(MissingColumn, match="question"):
        read_questions(rows, SETTINGS)
    with pytest.raises(MissingColumn, match="--target"):
        read_questions(rows, AnswerSettings(question="q", context="text"))


def test_damaged_squad_is_told(tmp_path: Path) -> None:
    path = tmp_path / "s.json"
    content = squad(questions(4))
    content["data"][0]["paragraphs"][1]["qas"][0]["answers"][0]["answer_start"] = 9_999
    path.write_text(json.dumps(content))
    with pytest.raises(RowError, match="question q1: the answer stands outside"):
        read_questions(path, SETTINGS)
    assert len(read_questions(path, SETTINGS, on_error="skip").items) == 3
    path.write_text(json.dumps(content)[:-20])
    with pytest.raises(RowError, match="not valid JSON"):
        read_questions(path, SETTINGS)
    path.write_text('{"paragraphs": []}')
    with pytest.raises(DataError, match="data"):
        read_questions(path, SETTINGS)
    for paragraphs in (["x"], [{"context": "x", "qas": ["x"]}], [{"context": "x", "qas": {"id": 1}}], [{"context": "x", "qas": None}]):
        path.write_text(json.dumps({"data": [{"paragraphs": paragraphs}]}))
        for read in (read_questions, read_asked):
            with pytest.raises(DataError, match="begins as SQuAD's JSON does and goes on otherwise"):
                read(path, SETTINGS)
    path.write_text('{"data": [{"paragraphs": []}]}')
    with pytest.raises(EmptyData):
        read_questions(path, SETTINGS)


def test_half_characters_in_squad_move_no_place(tmp_path: Path) -> None:
    """JSON can name half of a character, which has no token and stands in no UTF-8; a sign for each keeps the places."""
    whole, broken = (
        [{"question": f"What{sign}?", "context": f"{sign} It is red.", "answer": f"red{end}"}] for sign, end in ("?.", ("\ud83d", "."))
    )
    for name, rows in (("whole", whole), ("broken", broken)):
        (tmp_path / f"{name}.json").write_text(json.dumps(squad(rows)))
    found, right = (read_questions(tmp_path / f"{name}.json", SETTINGS).items[0] for name in ("broken", "whole"))
    assert (found.question, found.context, found.texts) == ("What\ufffd?", "\ufffd It is red.", ["red."])
    assert found.answers == right.answers


def test_a_place_is_that_of_the_text() -> None:
    assert locate("aXb axb", "axb") == CharacterSpan(4, 7)
    assert locate("aXb", "axb") == CharacterSpan(0, 3)
    assert locate("it ' s (so)", "it's ( so )") == CharacterSpan(0, 11)
    assert locate("abc", "d") is None


@pytest.mark.parametrize(
    ("context", "text", "start"),
    [
        ("Berlin is in Germany", "in", 10),
        ("1914 and 14 men", "14", 9),
        ("Berlin is it, In short", "in", 14),
        ("only in_side inside", "side", 8),
        ("C++ or C", "C", 0),
        ("我在北京，北京", "北京", 2),
        ("a{2}b", "{2}", 1),
    ],
)
def test_a_whole_word_comes_before_a_part_of_one(context: str, text: str, start: int) -> None:
    assert locate(context, text) == CharacterSpan(start, start + len(text))
