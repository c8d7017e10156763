"""The tutorial of a service desk: its scripts and commands run one after another, on tables so small that a network trains in a moment."""

from __future__ import annotations

import contextlib
import io
import json
import re
import shlex
import sys
from pathlib import Path

import polars as pl
import pytest

from recurra.cli import main
from test_docs import ROOT, blocks

PAGE = ROOT / "docs" / "tutorial-customer-service.md"
SMALL = ["training.epochs=1", "logging.tensorboard=false", "evaluation.bootstrap_samples=0", "evaluation.baselines=false"]
SIZES = ["encoder.hidden_size=8", "embedding.size=8"]
[ANSWERS] = [block for block in blocks(PAGE, "text") if block.startswith("flight: ")]
CITY = ["B-city", "I-city", "I-city"]
TALK = "1 hi\thello\n2 a table in rome\ti'm on it\n3 <SILENCE>\twhich price range\n4 cheap please\tapi_call rome cheap\n\n"


def write_sources(folder: Path) -> None:
    """Files of the three sources, in their form: an intent for each answer of the page, and one request that is cut further."""
    for name in ("atis", "clinc150", "dialog_babi"):
        (folder / name).mkdir(parents=True)
    intents = [line.partition(":")[0] for line in ANSWERS.splitlines() if "_you" not in line and "goodbye" not in line]
    requests = [
        {"tokens": [intent, "from", "st.", "louis"], "tags": ["O", "O", "B-city", "I-city"], "intent": f"atis_{intent}#atis_other"}
        for intent in intents
        for _ in range(10)
    ]
    for part, babi in (("train", "trn"), ("valid", "dev"), ("test", "tst")):
        (folder / "atis" / f"{part}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in requests))
        asked = pl.DataFrame(
            {"text": ["who sings", "thank you", "bye", "set an alarm"] * 6, "intent": ["oos", "thank_you", "goodbye", "alarm"] * 6}
        )
        asked.write_csv(folder / "clinc150" / f"{part}.csv")
        (folder / "dialog_babi" / f"dialog-babi-task1{babi}.txt").write_text(TALK * 8)
    facts = "1 resto R_location\trome\n1 resto R_price\tcheap\n1 resto R_rating\t8\n"
    (folder / "dialog_babi" / "dialog-babi-kb-all.txt").write_text(facts)


def test_the_page_runs_from_its_sources_to_what_it_measures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], quiet_report: None
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RECURRA_CACHE", str(tmp_path / "cache"))
    write_sources(tmp_path / "data")
    (tmp_path / "recipes").symlink_to(ROOT / "recipes")
    (tmp_path / "answers.yaml").write_text(ANSWERS)
    make, measure = blocks(PAGE, "python")
    exec(compile(make, "make_tables.py", "exec"), {})
    rows = [json.loads(line) for line in (tmp_path / "train.jsonl").read_text().splitlines()]
    assert {"tokens": ["flight", "from", "st", ".", "louis"], "tags": ["O", "O", *CITY], "intent": "flight"} in rows
    signed = {"tokens": ["flight", "from", "st", ".", "louis", "?"], "tags": ["O", "O", *CITY, "O"], "intent": "flight"}
    assert signed in rows
    held_out = [json.loads(line) for line in (tmp_path / "test.jsonl").read_text().splitlines()]
    assert {"tokens": ["a", "table", "in", "rome"], "tags": ["O", "O", "O", "B-table.location"], "intent": "table"} in held_out
    assert signed not in held_out
    turns = json.loads((tmp_path / "talks_train.jsonl").read_text().splitlines()[0])["turns"]
    assert turns[2:] == ["a table in rome", "i'm on it. which price range", "cheap please", "api_call rome cheap"]
    printed = {}
    for words in [shlex.split(line) for block in blocks(PAGE, "sh") for line in block.splitlines()]:
        sizes = [] if "--from" in words else [*SIZES, "language.cutoffs=[]"] if "language" in words else SIZES
        small = [part for one in [*SMALL, *sizes] for part in ("--set", one)] if words[1] == "train" else []
        monkeypatch.setattr(sys, "stdin", io.StringIO("a table in Rome?\n"))
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            main([*words[1:], *small])
        assert end.value.code in (0, None), words
        printed[" ".join(words[1:3])] = capsys.readouterr().out
        printed[words[-1]] = printed[" ".join(words[1:3])]
    assert json.loads(printed["--json"])["source"] in {"answer", "reply", "hand over"}
    assert "intent.label" in printed["predict runs/requests"]
    with contextlib.redirect_stdout(io.StringIO()) as told:
        exec(compile(measure, "measure.py", "exec"), {})
    found = re.findall(r"(.+), least ([\d.]+): ([\d.]+)% right, ([\d.]+)% wrong, ([\d.]+)% handed over, of (\d+)", told.getvalue())
    assert {(kind, int(rows)) for kind, *_, rows in found} == {("flights", 170), ("small talk", 12), ("tables", 24), ("other", 6)}
    assert all(sum(map(float, shares)) == pytest.approx(100, abs=0.15 + 1e-9) for _, _, *shares, _ in found)  # three, rounded to 0.1
    handed = [float(shares[2]) for kind, _, *shares, _ in found if kind == "flights"]
    assert handed == sorted(handed)
