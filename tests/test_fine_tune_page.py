"""The page on pretraining and few labels: its commands run, on a table so small that a network trains in a moment."""

from __future__ import annotations

import shlex
from pathlib import Path

import polars as pl
import pytest

from recurra.cli import main
from test_docs import ROOT, blocks, small_table

PAGE = ROOT / "docs" / "how-to" / "fine-tune.md"
SMALL = ["training.epochs=1", "logging.tensorboard=false", "evaluation.bootstrap_samples=0", "evaluation.baselines=false"]
SIZES = ["encoder.hidden_size=4", "embedding.size=4"]


def test_the_commands_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quiet_report: None) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RECURRA_CACHE", str(tmp_path / "cache"))
    frame = small_table(tmp_path / "tickets.csv")
    labels = pl.when(pl.int_range(pl.len()) % 4 < 3).then(pl.col("intent"))
    frame.with_columns(labels.alias("intent")).write_csv(tmp_path / "some.csv")
    (tmp_path / "notes.txt").write_text("The customer says that the card was swallowed.\n" * 40)
    commands = [shlex.split(line) for block in blocks(PAGE, "sh") for line in block.splitlines()]
    assert len(commands) > 5
    for words in commands:
        sizes = [] if "--from" in words else SIZES
        small = [part for one in [*SMALL, *sizes] for part in ("--set", one)] if words[1] == "train" else []
        with pytest.raises(SystemExit) as end:
            main([*words[1:], *small])
        assert end.value.code in (0, None)
    assert len(pl.read_csv(tmp_path / "predictions.csv")) == len(frame)
    assert "virtual_adversarial" in (tmp_path / "runs" / "some" / "model.json").read_text()
