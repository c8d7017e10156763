"""The command line as a program: help, exit codes, and what starting it costs."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from jobs import ENVIRONMENT
from recurra.cli import app, main

COMMANDS = ["train", "evaluate", "predict", "forecast", "backtest", "recommend", "generate", "dialogues", "chat", "settings", "doctor"]
HEAVY = {"torch", "polars", "lightning", "numpy", "sklearn", "altair", "pydantic", "yaml", "tokenizers", "scipy", "pandas"}


def recurra(*arguments: str, **options: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "recurra", *arguments],
        check=False,
        **{"capture_output": True, "text": True, "env": ENVIRONMENT, **options},
    )  # type: ignore[call-overload, no-any-return]


def test_help_is_quick() -> None:
    """Under 0.3 s of processor time, the best of three: what else runs on the machine is no part of it."""
    used = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = recurra("--help")
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        used.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert done.returncode == 0
    assert all(command in done.stdout for command in COMMANDS)
    assert min(used) < 0.3


def test_help_and_package_import_nothing_heavy() -> None:
    program = (
        "import sys, contextlib, io, recurra, recurra.cli, recurra.errors\n"
        "with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit): recurra.cli.main(['--help'])\n"
        "print(*{name.partition('.')[0] for name in sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=ENVIRONMENT, check=True)
    loaded = set(done.stdout.split())
    assert "recurra" in loaded
    assert loaded & HEAVY == set()


def test_every_command_is_tested_here() -> None:
    assert {name for name in app if not name.startswith("-")} == set(COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main([command, "--help"])
    assert end.value.code in (0, None)
    shown = capsys.readouterr().out
    assert f"recurra {command}" in shown
    assert "--help" in recurra("--help").stdout
    function = app[command].default_command
    missing = [name for name in function.__annotations__ if name != "return" and name not in (function.__doc__ or "")]
    assert missing == []


def test_wrong_use_ends_with_2_and_the_nearest_name(capsys: pytest.CaptureFixture[str]) -> None:
    wrong = [
        (["trian"], "train"),
        (["train", "a.csv", "--taget", "x"], "--target"),
        (["train"], "data"),
        (["train", "a.csv", "--seed", "x"], "int"),
        (["predict", "model", "x", "--on-error", "ignore"], "skip"),
        (["predict", "model", "x", "--otput", "a.csv"], "--output"),
    ]
    for arguments, hint in wrong:
        with pytest.raises(SystemExit) as end:
            main(arguments)
        assert end.value.code == 2
        shown = capsys.readouterr()
        assert hint in shown.err.casefold() or hint in shown.err
        assert shown.out == ""


@pytest.mark.parametrize(
    ("command", "option"),
    [("predict", "question"), ("predict", "context"), ("predict", "forbid"), ("predict", "force"), ("chat", "hand_over")],
)
def test_words_may_begin_with_a_hyphen(command: str, option: str) -> None:
    name = f"--{option.replace('_', '-')}"
    _, bound, _ = app.parse_args([command, "model", name, "- word", "--json"])
    assert bound.arguments[option] in ("- word", ["- word"])
    assert bound.arguments["json_"] is True


def test_errors_end_with_1_and_one_message_without_traceback(tmp_path: Path) -> None:
    done = recurra("train", "nothing.csv", "--target", "label", cwd=tmp_path)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith("error: There is no file 'nothing.csv'")
    assert len(done.stderr.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_version() -> None:
    from recurra import __version__

    assert recurra("--version").stdout.strip() == __version__


def test_interruption_ends_with_130(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    from recurra.errors import TrainingInterrupted

    for error, shown in ((KeyboardInterrupt(), "interrupted"), (TrainingInterrupted("saved"), "interrupted: saved")):

        def stopped(*_: object, error: BaseException = error, **__: object) -> None:
            raise error

        monkeypatch.setattr("recurra.training.train.train", stopped)
        with pytest.raises(SystemExit) as end:
            main(["train", "a.csv", "--output", str(tmp_path)])
        assert end.value.code == 130
        assert capsys.readouterr().err.strip() == shown


def test_standard_output_of_json_is_one_object_in_a_real_process(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("text,label\nsuperb,pos\ndull,neg\n")
    done = recurra("evaluate", str(folder), "a.csv", "--json", cwd=tmp_path)
    assert done.stderr == ""
    metrics = json.loads(done.stdout)
    assert done.stdout.count("\n") == 1
    assert metrics["rows"] == 2
    assert all(isinstance(value, (int, float)) for value in metrics.values())


def test_predictions_stop_quietly_when_nobody_reads(folder: Path) -> None:
    """`recurra predict ... | head -1`"""
    texts = "superb\n" * 20_000
    command = f"{sys.executable} -m recurra predict {folder} - | head -1"
    done = subprocess.run(["bash", "-c", command], input=texts, capture_output=True, text=True, env=ENVIRONMENT, check=False)
    assert done.stdout == "text,label,probability\n"
    assert done.stderr == ""


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "utf-8:strict"])
def test_pipes_hold_utf8_in_every_locale(encoding: str, folder: Path) -> None:
    environment = {**ENVIRONMENT, "PYTHONIOENCODING": encoding}
    done = recurra("predict", str(folder), "-", "--json", input="中文 🎉\n".encode() + b"caf\xe9\n", text=False, env=environment)
    assert done.stderr == b""
    assert [json.loads(line)["text"] for line in done.stdout.decode().splitlines()] == ["中文 🎉", "caf\ufffd"]


@pytest.mark.parametrize(
    "arguments", [["settings"], ["settings", "--schema"], ["doctor", "--json"], ["evaluate", "MODEL", "a.csv", "--json"]]
)
def test_output_that_nobody_reads_is_no_error(arguments: list[str], folder: Path, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("text,label\nsuperb,pos\ndull,neg\n")
    chosen = [str(folder) if argument == "MODEL" else argument for argument in arguments]
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "wb") as closed:
        done = recurra(*chosen, capture_output=False, stdout=closed, stderr=subprocess.PIPE, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a full disk is played by /dev/full")
@pytest.mark.parametrize("arguments", [["settings"], ["predict", "MODEL", "superb"]])
def test_a_full_disk_behind_standard_output_is_told(arguments: list[str], folder: Path) -> None:
    chosen = [str(folder) if argument == "MODEL" else argument for argument in arguments]
    with Path("/dev/full").open("wb") as full:
        done = recurra(*chosen, capture_output=False, stdout=full, stderr=subprocess.PIPE)
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert "tandard output" in done.stderr
    assert "No space left on device" in done.stderr
    assert len(done.stderr.splitlines()) == 1
