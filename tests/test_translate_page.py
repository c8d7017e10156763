"""The page on text to text: its commands run, on tables so small that a network trains in a moment."""

from __future__ import annotations

import io
import shlex
import sys
from pathlib import Path

import polars as pl
import pytest

from recurra.cli import main
from test_docs import ROOT, blocks

PAGE = ROOT / "docs" / "how-to" / "translate.md"
SMALL = [
    "training.epochs=1",
    "encoder.hidden_size=8",
    "embedding.size=8",
    "text.vocabulary_size=300",
    "logging.tensorboard=false",
    "evaluation.bootstrap_samples=20",
]
ENGLISH = [f"{who} {does}." for who in ("A man", "A woman", "Two dogs", "A cat") for does in ("sleeps", "plays", "rides", "eats", "runs")]
GERMAN = [
    f"{who} {does}."
    for who in ("Ein Mann", "Eine Frau", "Zwei Hunde", "Katzen")
    for does in ("schläft", "spielt", "fährt", "isst", "rennt")
]


def test_the_commands_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RECURRA_CACHE", str(tmp_path / "cache"))
    for name, columns in (("train", ("en", "de")), ("test", ("en", "de")), ("articles", ("article", "headline"))):
        pl.DataFrame(dict(zip(columns, (ENGLISH, GERMAN), strict=True))).write_csv(tmp_path / f"{name}.csv")
    lines = [line.rpartition("| recurra")[2].removeprefix("recurra").strip() for block in blocks(PAGE, "sh") for line in block.splitlines()]
    commands = [shlex.split(line) for line in lines]
    assert len(commands) == 7
    for words in commands:
        monkeypatch.setattr(sys, "stdin", io.StringIO("A man sleeps.\nTwo dogs play.\n"))
        small = [part for one in SMALL for part in ("--set", one)] if words[0] == "train" else []
        with pytest.raises(SystemExit) as end:
            main([*words, *small])
        assert end.value.code in (0, None), words
    assert pl.read_csv(tmp_path / "written.csv").columns == ["en", "de", "text", "score"]
    assert (tmp_path / "runs" / "headlines" / "report.html").is_file()
    assert "alternatives" in capsys.readouterr().out
