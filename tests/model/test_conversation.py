"""A dialogue with trained models: understood, answered, handed over; in Python and in the terminal."""

from __future__ import annotations

import io
import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import recurra
from jobs import SMALL
from recurra.cli import main
from recurra.data.dialogues import Dialogue, pairs
from recurra.errors import DataError, SettingsError
from recurra.model.conversation import HAND_OVER, Answer, Conversation

TALK = {
    "hello": "good morning",
    "my card is lost": "i blocked your card",
    "money is late": "it comes tomorrow",
    "thank you": "you are welcome",
}
ASKED = [
    {"tokens": ["my", kind, "is", how], "intent": kind, "tags": ["O", "B-THING", "O", "O"]}
    for kind in ("card", "money")
    for how in ("lost", "late", "gone", "here")
] * 6 + [{"tokens": ["a", word, "sings"], "intent": "oos", "tags": ["O", "O", "O"]} for word in ("bird", "moon", "song")] * 6
TINY: dict[str, Any] = {**SMALL, "head.dropout": 0.0, "embedding.dropout": 0.0, "training.patience": 0}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("chat")
    sizes = {"embedding.size": 24, "encoder.hidden_size": 24, "text.vocabulary_size": 300, "embedding.init_range": 0.3}
    talk = pairs([Dialogue(turn, (1,)) for turn in TALK.items()] * 10).drop("dialogue")
    recurra.train(
        talk,
        target="reply",
        output=path / "replies",
        settings={
            **{name: value for name, value in TINY.items() if not name.startswith(("embedding.character", "embedding.token"))},
            **sizes,
            "head.task": "translate",
            "translate.source": "history",
            "training.epochs": 15,
            "training.batch_size": 4,
            "optimizer.learning_rate": 0.03,
            "translate.validation_rows": 0,
            "head.label_smoothing": 0.0,
        },
    )
    recurra.train(
        ASKED,
        target=["intent", "tags"],
        output=path / "understand",
        settings={**TINY, "out_of_scope.label": "oos", "training.epochs": 14, "optimizer.learning_rate": 0.05, "training.batch_size": 8},
    )
    return path


@pytest.fixture(scope="module")
def models(folders: Path) -> tuple[Any, Any]:
    return recurra.load(folders / "replies"), recurra.load(folders / "understand")


def test_it_answers_understands_and_hands_over(models: tuple[Any, Any]) -> None:
    dialogue = models[0].chat(models[1], least=0.0)
    reply = models[0].translate(["my card is lost"])[0]
    found = dialogue.say("my card is lost")
    assert (found.text, found.source) == (reply.text, "reply")
    assert found.probability == pytest.approx(math.exp(reply.score), rel=1e-6)  # the search divides by the length, too
    assert found.labels["intent"][0] == "card"
    assert [(span["label"], span["text"]) for span in found.spans["tags"]] == [("THING", "card")]
    outside = dialogue.say("a moon sings")
    assert (outside.text, outside.source) == (HAND_OVER, "hand over")
    assert "oos" in outside.reason
    assert dialogue.utterances == ["my card is lost", reply.text, "a moon sings", HAND_OVER]


def test_a_reply_is_written_to_the_history(models: tuple[Any, Any]) -> None:
    seen: list[str] = []

    class Listening(Conversation):
        pass

    writer = models[0]
    original = type(writer).translate
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(writer), "translate", lambda self, texts, **given: seen.extend(texts) or original(self, texts, **given))
        dialogue = Listening([writer], history=2, least=0.0)
        dialogue.say("hello")
        dialogue.say("thank you")
        dialogue.reset()
        dialogue.say("hello")
    assert seen == ["hello", f"{dialogue_answer(models)} <|> thank you", "hello"]


def dialogue_answer(models: tuple[Any, Any]) -> str:
    text = Conversation([models[0]], least=0.0).say("hello").text
    assert text is not None
    return text


def test_the_oldest_utterances_are_left_out_where_all_are_too_long(models: tuple[Any, Any]) -> None:
    """Of a text that is too long the beginning is read: after a long utterance the last one would never be."""
    writer, seen = models[0], []
    original = type(writer).translate
    long = "money is late " * 600
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(writer), "translate", lambda self, texts, **given: seen.extend(texts) or original(self, texts, **given))
        dialogue = Conversation([writer], least=0.0)
        for said in (long, "hello", "thank you"):
            dialogue.say(said)
    assert seen[0] == long.strip()
    assert seen[1].endswith("<|> hello")
    assert len(seen[1].split()) < 600
    assert seen[2].endswith("<|> thank you")
    assert seen[2].startswith(f"{dialogue.utterances[1]} <|> hello")


def test_what_is_not_sure_enough_is_not_said(models: tuple[Any, Any]) -> None:
    assert Conversation([models[0]], least=1.0).say("hello").source == "hand over"
    assert Conversation([models[0]], least=0.0).say("xyzzy qqq").source in {"reply", "hand over"}
    unsure = models[0].chat(least=1.0, history=1, hand_over="Wait.").say("hello")
    assert unsure.text == "Wait."
    assert "less than 1.00" in unsure.reason


@pytest.mark.parametrize("text", ["card.csv", "hf://my/card.parquet", "my \ud800 card"])
def test_an_utterance_is_never_the_name_of_a_table(text: str, models: tuple[Any, Any]) -> None:
    assert models[1].chat().say(text).labels["intent"][0] in {"card", "money", "oos"}


def test_a_history_of_half_characters_is_read(models: tuple[Any, Any]) -> None:
    """Of bytes that were no UTF-8, as a pipe may bring them."""
    dialogue = models[0].chat(least=0.0)
    dialogue.say("hello \udcff")
    assert dialogue.say("thank you \udcff").source == "reply"
    assert dialogue.utterances[0] == "hello \ufffd"


def test_known_answers_come_first(models: tuple[Any, Any]) -> None:
    dialogue = models[1].chat(models[0], answers={"card": "Call 0800."})
    assert dialogue.say("my card is gone").text == "Call 0800."
    assert dialogue.say("hello").source in {"reply", "hand over"}
    unsure = models[1].chat(answers={"card": "Call 0800."}, least=1.0).say("my card is gone")
    assert (unsure.source, unsure.labels["intent"][0]) == ("hand over", "card")
    assert unsure.probability < 1
    assert "card is not sure enough" in unsure.reason
    alone = models[1].chat(answers={"card": "Call 0800."})
    assert alone.say("my money is here").source == "hand over"
    assert models[1].chat().say("my card is here").text is None


def test_what_cannot_take_part_is_told(models: tuple[Any, Any]) -> None:
    with pytest.raises(SettingsError, match="Two of the models"):
        models[0].chat(models[0])
    with pytest.raises(SettingsError, match="Did you mean 'card'"):
        models[1].chat(answers={"cart": "x"})
    with pytest.raises(SettingsError, match="'oos', with which an utterance is out of scope"):
        models[1].chat(answers={"oos": "I know nothing of that."})
    with pytest.raises(SettingsError, match="a probability lies"):
        Conversation([models[0]], least=1.5)
    for given in ({"least": 0.5}, {"history": 3}):
        with pytest.raises(SettingsError, match="None of the models writes replies"):
            Conversation([models[1]], **given)
    two = recurra.train([{**row, "more": 1.0} for row in ASKED], target="intent", settings={**TINY, "training.epochs": 1})
    with pytest.raises(SettingsError, match="one input, of text"):
        two.chat()


def talk(arguments: list[str], said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> str:
    monkeypatch.setattr("sys.stdin", io.StringIO(said))
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        main(["chat", *arguments])
    assert ended.value.code == 0
    return capsys.readouterr().out


def test_lines_of_standard_input_are_answered(folders: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    paths = [str(folders / "replies"), str(folders / "understand")]
    reply = recurra.load(paths[0]).translate(["my card is lost"])[0].text  # type: ignore[attr-defined]
    paths += ["--least", "0"]
    out = talk(paths, "my card is lost\n\na moon sings", monkeypatch, capsys)
    assert "  intent: card (" in out
    assert "  THING: card (" in out
    assert f"\n{reply}\n" in out
    assert out.endswith(f"{HAND_OVER}\n")
    assert talk([*paths, "--no-show"], "my card is lost\n", monkeypatch, capsys) == f"{reply}\n"
    with pytest.raises(SystemExit) as end:
        main(["chat", *paths, "--json", "--no-show"])
    assert end.value.code == 1
    assert "--json holds labels and spans" in capsys.readouterr().err
    [line] = talk([*paths, "--json", "--hand-over", "Wait."], "a moon sings\n", monkeypatch, capsys).splitlines()
    found = json.loads(line)
    assert (found["answer"], found["source"], found["labels"]["intent"]["label"]) == ("Wait.", "hand over", "oos")
    assert talk(paths, "", monkeypatch, capsys) == ""


class Terminal(io.StringIO):
    """Standard input where a person sits."""

    def isatty(self) -> bool:
        return True

    def readline(self, size: int | None = -1, /) -> str:
        line = super().readline(-1 if size is None else size)
        if line == "^C\n":
            raise KeyboardInterrupt
        return line


def test_a_person_sees_where_to_write(folders: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    for end, status in (("", 0), ("^C\n", 130)):
        monkeypatch.setattr("sys.stdin", Terminal(f"\nmy card is lost\n\n{end}"))
        with pytest.raises(SystemExit) as ended:
            main(["chat", str(folders / "understand")])
        assert ended.value.code == status
        out, told = capsys.readouterr()
        assert out.startswith("  intent: card (")
        guide, *rest = told.splitlines()
        assert "an empty line begins anew" in guide
        assert rest == ["> > > A new dialogue.", "> ", *(["interrupted"] if status else [])]


def test_a_reader_that_has_seen_enough_is_no_error(folders: Path) -> None:
    command = [sys.executable, "-m", "recurra", "chat", str(folders / "understand")]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdin
    assert process.stdout
    assert process.stderr
    process.stdin.write("my card is lost\n")
    process.stdin.flush()
    assert process.stdout.readline().startswith("  intent: card (")
    process.stdout.close()
    process.stdin.write("my money is late\n" * 2)
    process.stdin.close()
    assert process.wait(timeout=300) == 0
    assert process.stderr.read() == ""
    process.stderr.close()


def test_a_number_has_no_probability() -> None:
    from recurra.cli.chat import _as_text

    assert _as_text(Answer(None, "none", labels={"price": (12.345, math.nan)}), show=True) == "  price: 12.35\n"


def test_answers_come_from_a_file(
    folders: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "answers.yaml"
    file.write_text("card: Call 0800.\nmoney: 'No'\n")
    out = talk([str(folders / "understand"), "--answers", str(file), "--no-show"], "my money is gone\n", monkeypatch, capsys)
    assert out == "No\n"
    from recurra.cli.chat import _read_answers

    file.write_text("- card\n")
    with pytest.raises(DataError, match="must hold an answer a label"):
        _read_answers(file)
    with pytest.raises(DataError, match="cannot be read"):
        _read_answers(tmp_path / "absent.yaml")


def test_dialogues_become_a_table(tmp_path: Path) -> None:
    (tmp_path / "talk.jsonl").write_text('{"turns": ["hello", "good morning", "my card is lost", "oh"]}\n')
    with pytest.raises(SystemExit) as ended:
        main(["dialogues", str(tmp_path / "talk.jsonl"), "-o", str(tmp_path / "pairs.csv"), "--history", "2"])
    assert ended.value.code == 0
    lines = (tmp_path / "pairs.csv").read_text().splitlines()
    assert lines == ["dialogue,history,reply", "0,hello,good morning", "0,good morning <|> my card is lost,oh"]


@pytest.mark.parametrize("option", [["--every"], ["--column", "turns"]])
def test_dialogues_refuse_what_does_nothing(option: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    babi, table = tmp_path / "talk.txt", tmp_path / "talk.jsonl"
    babi.write_text("1 hello\tgood morning\n")
    table.write_text('{"turns": ["hello", "good morning"]}\n')
    for files, code in (([babi], 1), ([babi, table], 0)):
        with pytest.raises(SystemExit) as ended:
            main(["dialogues", *map(str, files), "-o", str(tmp_path / "pairs.csv"), *option])
        assert ended.value.code == code
    assert f"{option[0]} does nothing here" in capsys.readouterr().err
