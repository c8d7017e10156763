"""The page on questions about texts: its commands run, on questions so few that a network trains in a moment."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from questions import questions, squad
from recurra.cli import main
from test_docs import ROOT, commands

PAGE = ROOT / "docs" / "how-to" / "answer-questions.md"
TINY = ["training.epochs=1", "encoder.hidden_size=4", "embedding.size=4", "logging.tensorboard=false", "evaluation.bootstrap_samples=20"]


def test_the_commands_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RECURRA_CACHE", str(tmp_path / "cache"))
    (tmp_path / "questions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in questions()))
    (tmp_path / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in questions(20, seed=1)))
    (tmp_path / "manual.txt").write_text("The case is made of leather.\n")
    found = commands(PAGE)
    assert len(found) > 4
    for words in found:
        small = [part for one in TINY for part in ("--set", one)] if words[1] == "train" else []
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            main([*words[1:], *small])
        assert end.value.code in (0, None)
        if "--question" in words:
            told = json.loads(capsys.readouterr().out)
            assert told["context"] == "The case is made of leather.\n"
            assert told["answer"] is None or told["context"][told["start"] : told["end"]] == told["answer"]
            assert len(told["other_answers"]) == len(told["other_probabilities"]) <= 3
    assert (tmp_path / "runs" / "questions" / "report.html").is_file()
    written = [json.loads(line) for line in (tmp_path / "answers.jsonl").read_text().splitlines()]
    assert [row["question"] for row in written] == [row["question"] for row in questions(20, seed=1)]


def test_texts_may_begin_with_a_hyphen(
    folder_of_answers: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder_of_answers.parent)
    with pytest.raises(SystemExit) as end:
        main(["predict", str(folder_of_answers), "--question", "- What?", "--context", "- leather", "--json"])
    assert end.value.code in (0, None)
    told = json.loads(capsys.readouterr().out)
    assert (told["question"], told["context"]) == ("- What?", "- leather")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "give a table of them"),
        (["--question", "What?"], "give a table of them"),
        (["q.json", "--question", "What?", "--context", "Text."], "give a table of them"),
        (["nothing.jsonl"], "nothing.jsonl"),
        (["q.json", "--beam", "3"], "writes no texts"),
    ],
)
def test_what_cannot_be_asked_is_told(
    words: list[str], message: str, folder_of_answers: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder_of_answers.parent)
    with pytest.raises(SystemExit) as end:
        main(["predict", str(folder_of_answers), *words])
    assert end.value.code == 1
    assert message in capsys.readouterr().err


@pytest.fixture(scope="module")
def folder_of_answers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import recurra
    from questions import SMALL

    folder = tmp_path_factory.mktemp("answers")
    (folder / "q.json").write_text(json.dumps(squad(questions(8))))
    recurra.train(questions(60), settings={**SMALL, "training.epochs": 1}).save(folder / "model")
    return folder / "model"
