"""Windows, choice and answers of a model: offsets into the user's own text, long contexts, questions that cannot be answered."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import recurra
from questions import SMALL, questions, squad
from recurra.cli import main
from recurra.config import AnswerSettings, load_settings
from recurra.data.questions import CharacterSpan
from recurra.errors import MissingColumn, SettingsError
from recurra.metrics.answers import overlap_f1
from recurra.model.answer.choosing import Ranking, expected_overlap, rank
from recurra.model.answer.model import Answerer
from recurra.model.answer.windows import AnswerEncoder, Windows


def encoder(**options: Any) -> AnswerEncoder:
    chosen = load_settings({"head.task": "answer", "text.min_frequency": 1, **options})
    return AnswerEncoder.fit(["Where is it?"], ["It is in the garden, said Ana."], chosen)


@pytest.fixture(scope="module")
def model() -> Answerer:
    learnt = {
        **SMALL,
        "training.epochs": 8,
        "training.patience": 0,
        "optimizer.learning_rate": 0.02,
        "embedding.dropout": 0.0,
        "head.dropout": 0.0,
        "augmentation.word_dropout": 0.0,
    }
    found = recurra.train(questions(240), settings=learnt)
    assert isinstance(found, Answerer)
    return found


# --- windows ------------------------------------------------------------------------------------------------------


ENCODER = encoder()


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 40), st.integers(1, 12), st.integers(1, 12))
def test_windows_cover_a_context_and_none_is_idle(length: int, window: int, stride: int) -> None:
    stride = min(stride, window)
    chosen = AnswerSettings(window=window, stride=stride, longest_answer=1)
    made = AnswerEncoder(ENCODER.tokenizer, ENCODER.cut, "", settings=chosen)
    found = made.encode(["What?"], [" ".join(["word"] * length)])
    covered = np.zeros(length, bool)
    for start, size in zip(found.start.tolist(), found.inputs["context"].lengths.tolist(), strict=True):
        assert size <= window
        assert start == 0 or not covered[start : start + size].all()
        covered[start : start + size] = True
    assert covered.all()


def test_spans_of_tokens_are_those_of_the_characters() -> None:
    context = "He said: “it's in the garden”, twice."
    made = encoder()
    start = context.index("it's")
    found = made.encode(["Where?"], [context], [[CharacterSpan(start, context.index("”")), CharacterSpan(3, 5)]])
    first, last = found.spans[0][1].tolist()
    assert list(found.tokens[0])[first : last + 1] == ["it", "'", "s", "in", "the", "garden"]
    assert found.spans[0][0].tolist() == [1, 1]  # a part of a word is that word


def test_a_reference_belongs_to_the_windows_that_hold_it() -> None:
    made = encoder(**{"answer.window": 4, "answer.stride": 2, "answer.longest_answer": 2})
    found = made.encode(["a"], ["0 1 2 3 4 5 6 7"], [[CharacterSpan(6, 9), CharacterSpan(0, 15)]])  # tokens 3 and 4; all of them
    assert found.start.tolist() == [0, 2, 4]
    assert [found.spans[row].tolist() for row in range(3)] == [[], [[1, 2]], []]
    assert found.outside == 1


def test_words_that_both_texts_hold_are_marked() -> None:
    found = encoder().encode(["Is the Garden watered?"], ["The gardens, the garden watering"])
    flags = found.inputs["context"][0][:, 1:4].tolist()
    #                 The        gardens    ,          the        garden     watering
    assert flags == [[0, 1, 0], [0, 0, 1], [0, 0, 0], [1, 1, 0], [0, 1, 1], [0, 0, 1]]


def test_what_is_near_weighs_by_how_rare_it_is() -> None:
    found = encoder().encode(["Is the garden big?"], ["The garden. Small, the end. Of it"]).inputs["context"][0][:, 4:]
    the, garden = math.log(1 + 1 / 2), math.log(1 + 1 / 1)  # "the" stands twice in the context
    assert found[:, 1].tolist() == [round(100 * (the + garden))] * 3 + [round(100 * the)] * 5 + [0, 0]  # by sentence
    assert found[:, 0].tolist() == [round(100 * (2 * the + garden))] * 7 + [round(100 * (the + garden))] + [round(100 * the)] * 2


# --- choice -------------------------------------------------------------------------------------------------------


def windows(question: list[int], start: list[int]) -> Windows:
    nothing: Any = None
    return Windows({}, np.array(question), np.array(start), nothing, [["t"] * 20] * (max(question) + 1))


def test_windows_are_brought_together_by_their_odds() -> None:
    rows = np.array([[math.log(3.0), 1, 2, math.log(2.0)], [math.log(0.5), 0, 0, math.log(0.5)], [math.log(1.0), 4, 4, 0.0]])
    first, second = rank(rows, windows([0, 0, 1], [0, 10, 0]), "probable")
    assert first.nothing == pytest.approx(1 / 4.5)
    assert first.spans.tolist() == [[1, 2], [10, 10]]
    assert first.probabilities == pytest.approx([2 / 4.5, 0.5 / 4.5])
    assert second.nothing == pytest.approx(0.5)


@given(st.lists(st.tuples(st.integers(0, 8), st.integers(0, 4), st.floats(0.01, 1.0)), min_size=1, max_size=6, unique_by=lambda x: x[:2]))
def test_the_expected_overlap_is_the_mean_f1(rows: list[tuple[int, int, float]]) -> None:
    spans = np.array([(first, first + more) for first, more, _ in rows])
    chances = np.array([chance for *_, chance in rows])
    words = [" ".join(f"w{place}" for place in range(first, last + 1)) for first, last in spans.tolist()]
    expected = [sum(chance * overlap_f1(one, other) for chance, other in zip(chances, words, strict=True)) for one in words]
    assert expected_overlap(spans, chances) == pytest.approx(expected, abs=1e-12)


# --- answers ------------------------------------------------------------------------------------------------------


def test_what_was_learnt_is_answered_with_offsets(model: Answerer) -> None:
    rows = questions(60, seed=5)
    found = model.predict(rows)
    right = [(given == row["answer"]) for given, row in zip(found["answer"], rows, strict=True)]
    assert sum(right) > 0.8 * len(rows)
    for told, row in zip(found.iter_rows(named=True), rows, strict=True):
        if told["answer"] is not None:
            assert row["context"][told["start"] : told["end"]] == told["answer"]
    assert found["no_answer"].is_between(0.0, 1.0).all()


def test_a_batch_is_its_single_questions(model: Answerer) -> None:
    rows = questions(8, seed=6)
    many = model.answer_many([row["question"] for row in rows], [row["context"] for row in rows], top=3)
    for row, found in zip(rows, many, strict=True):
        alone = model.answer(row["question"], row["context"], top=3)
        assert alone.text == found.text
        # One batch pads more than another, so that sums of float32 come in another order.
        assert alone.probability == pytest.approx(found.probability, rel=1e-4)
    assert sum(chance for _, chance in many[0].others) + many[0].probability + many[0].no_answer <= 1.0 + 1e-9


def test_a_context_of_any_length_is_read(model: Answerer) -> None:
    filler = "Day 1. " * 4_000
    found = model.answer("Where is the cat?", f"{filler}The cat is in the cellar.")
    assert 0.0 <= found.no_answer <= 1.0
    assert len(model.encoder.encode(["Where?"], [filler])) > 40


@pytest.mark.parametrize(("question", "context"), [("", "text"), ("What?", ""), (" ", " \n"), ("What?", "\t")])
def test_nothing_to_read_has_no_answer(question: str, context: str, model: Answerer) -> None:
    found = model.answer(question, context)
    assert found.text is None
    assert found.no_answer == 1.0
    assert model.predict([{"question": question, "context": context}]).rows() == [(None, None, None, 1.0, 1.0)]


@pytest.mark.parametrize("text", ["\x00", "🦊🦊🦊", "𐍈 ﬁne \u200b", "�", "a" * 5_000, "? ! . ,"])
def test_unknown_signs_are_no_trouble(text: str, model: Answerer) -> None:
    found = model.answer(text, f"{text} and {text}")
    assert found.text is None or found.text in f"{text} and {text}"


def test_half_characters_move_no_answer(model: Answerer) -> None:
    """Bytes that were no UTF-8 reach Python as half characters; each counts as one character, as in the text that was given."""
    [row] = [row for row in questions(20, seed=8) if row["answer"]][:1]
    found, broken = model.answer(row["question"], f"\ufffd {row['context']}"), model.answer(row["question"], f"\ud800 {row['context']}")
    assert found.text is not None
    assert broken == found
    assert model.answer(f"{row['question']} \udcff", row["context"]).no_answer < 1.0


def test_squads_questions_are_answered_as_those_of_a_table(model: Answerer, tmp_path: Path) -> None:
    rows = questions(6, seed=8)
    (tmp_path / "squad.json").write_text(json.dumps(squad(rows)))
    assert model.predict(tmp_path / "squad.json").equals(model.predict(rows))
    [part] = model.predict_chunks(tmp_path / "squad.json")
    assert part.inputs["id"].to_list() == [f"q{number}" for number in range(6)]


@pytest.mark.parametrize("at_once", [16 * 2**20, 1])
def test_rows_left_out_are_all_counted(at_once: int, model: Answerer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each once, in however many pieces the files are read; of very many only the first are named."""
    monkeypatch.setattr("recurra.data.table._CHUNK_BYTES", at_once)
    good, bad = json.dumps(questions(1, seed=8)[0]), "no JSON\n"
    (tmp_path / "a.jsonl").write_text(f"{good}\n{bad * 1_200}")
    (tmp_path / "b.jsonl").write_text(f"{bad * 3}{good}\n")
    (tmp_path / "c.jsonl").write_text(f"{good}\n" + f"{'x' * 5_000_000}\n" * 5)  # longer than a block that is read at a time
    parts = list(model.predict_chunks([tmp_path / "a.jsonl", tmp_path / "b.jsonl", tmp_path / "c.jsonl"], on_error="skip"))
    assert sum(len(part.outputs) for part in parts) == 3
    assert sum(part.left_out for part in parts) == 1_208
    assert sum(len(part.bad_rows) for part in parts) == 1_008


@pytest.mark.parametrize("source", ["file", "standard input"])
def test_the_ends_of_lines_count_in_the_places_of_a_file(
    source: str, model: Answerer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    context = "The owl is in the attic.\r\nThe cat is in the cellar.\r\n"
    model.save(tmp_path / "model")
    (tmp_path / "text.txt").write_bytes(context.encode())
    named = "-" if source == "standard input" else str(tmp_path / "text.txt")
    with (tmp_path / "text.txt").open(encoding="utf-8") as file:
        monkeypatch.setattr("sys.stdin", file)
        with pytest.raises(SystemExit) as ended:
            main(["predict", str(tmp_path / "model"), "--question", "Where is the cat?", "--context", named, "--json"])
    assert ended.value.code in (0, None)
    told = json.loads(capsys.readouterr().out)
    assert (told["context"], told["answer"]) == (context, "cellar")
    assert context[told["start"] : told["end"]] == "cellar"


def test_what_is_missing_is_told(model: Answerer) -> None:
    with pytest.raises(MissingColumn, match="context"):
        model.predict([{"question": "What?"}])
    for top in (0, 1.5, True):
        with pytest.raises(SettingsError, match=f"top is {top!r}: give a whole number, 1 or more"):
            model.predict(questions(1), top=top)  # type: ignore[arg-type]


@pytest.mark.parametrize("top", [-1, 1.5, True, None])
def test_a_number_of_answers_that_is_none_is_refused(top: Any, model: Answerer) -> None:
    with pytest.raises(SettingsError, match=f"top is {top!r}: give a whole number, 0 or more"):
        model.answer("What?", "text", top=top)


def test_with_a_threshold_of_one_there_always_is_an_answer(model: Answerer) -> None:
    """Also where the probability of none rounds to 1."""
    sure = Ranking(1.0, np.array([[1, 2]]), np.array([1e-20]))
    for threshold, text in ((1.0, "old barn"), (0.99, None)):
        chosen = Answerer(model.settings, model.encoder, network=model.network, threshold=threshold)
        assert chosen.decide(sure, "The old barn.", ["The", "old", "barn", "."]).text == text


def test_lists_are_asked_for(model: Answerer) -> None:
    for texts in ("ab", b"ab", None, 3, {"ab": 1}):
        with pytest.raises(SettingsError, match="give lists"):
            model.answer_many(texts, ["cd"])  # type: ignore[arg-type]
        with pytest.raises(SettingsError, match="give lists"):
            model.answer_many(["cd"], texts)  # type: ignore[arg-type]
    for wrong, kind in ((None, "NoneType"), (3, "int"), (["a"], "list"), (b"a", "bytes")):
        with pytest.raises(SettingsError, match=f"number 2 is {kind}: give text"):
            model.answer_many(["a", wrong], ["b", "c"])  # type: ignore[list-item]
        with pytest.raises(SettingsError, match=f"number 1 is {kind}: give text"):
            model.answer("a", wrong)  # type: ignore[arg-type]
    with pytest.raises(SettingsError, match="1 questions and 2 contexts"):
        model.answer_many(["a"], ["b", "c"])


def test_the_same_rows_are_measured_as_they_are_answered(model: Answerer) -> None:
    rows = questions(40, seed=7)
    found = model.evaluate(rows)
    answers = model.predict(rows)["answer"].fill_null("").to_list()
    assert found["questions"] == 40
    assert found["exact_match"] == pytest.approx(
        np.mean([(given or None) == row["answer"] for given, row in zip(answers, rows, strict=True)])
    )
    assert found["f1_low"] <= found["f1"] <= found["f1_high"]
