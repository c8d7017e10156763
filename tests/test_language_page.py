"""The page on language models: its commands run, on a text so small that a network trains in a moment."""

from __future__ import annotations

import io
import shlex
import sys
from pathlib import Path

import pytest

from recurra.cli import main
from test_docs import ROOT, blocks

PAGE = ROOT / "docs" / "how-to" / "language-models.md"
SMALL = ["training.epochs=1", "encoder.hidden_size=8", "embedding.size=8", "logging.tensorboard=false", "evaluation.bootstrap_samples=20"]
TEXT = "".join(f"ROMEO: The {a} saw a {b}.\n" for _ in range(8) for a in ("cat", "dog", "owl") for b in ("mouse", "bird"))


def test_the_commands_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RECURRA_CACHE", str(tmp_path / "cache"))
    for name in ("corpus.txt", "other.txt"):
        (tmp_path / name).write_text(TEXT)
    commands = [shlex.split(line) for block in blocks(PAGE, "sh") for line in block.splitlines()]
    assert len(commands) > 6
    for words in commands:
        monkeypatch.setattr(sys, "stdin", io.StringIO("The cat"))
        small = {"train": [part for one in SMALL for part in ("--set", one)], "generate": ["--most", "9"]}.get(words[1], [])
        with pytest.raises(SystemExit) as end:
            main([*words[1:], *([] if "--most" in words else small)])
        assert end.value.code in (0, None)
    assert (tmp_path / "runs" / "corpus" / "report.html").is_file()
    assert "ROMEO:" in capsys.readouterr().out
