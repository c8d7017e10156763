"""The output folder: one training at a time in it, and nothing of an old model lost before a new training begins."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

import recurra
from jobs import ENVIRONMENT, SMALL, rows, train
from recurra.errors import DataError, ModelFolderError, OutputExists, RecurraError
from recurra.training.output import LOCK, PLAN, WORK, locked_output

pytestmark = pytest.mark.usefixtures("quiet_report")
INPUTS = {"data.columns": ["title", "text"]}


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.name != LOCK}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained") / "model"
    recurra.train(rows(24), target="label", output=folder, settings={**SMALL, **INPUTS})
    return folder


@pytest.fixture
def model(trained: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained, tmp_path / "model"))


@pytest.fixture
def interrupted(model: Path) -> Path:
    (model / "model.json").unlink()
    return model


@pytest.mark.parametrize("overwrite", [False, True])
def test_two_trainings_do_not_meet_in_one_folder(tmp_path: Path, overwrite: bool) -> None:
    output = tmp_path / "model"
    with locked_output(output):
        with pytest.raises(OutputExists, match=r"Another training is at work in .*model.*choose another --output"):
            train(rows(24), output=output, overwrite=overwrite, settings=INPUTS)
        assert (output / WORK / LOCK).is_file(), "the one that was refused must not take the other's lock away"
    train(rows(24), output=output, settings=INPUTS)


def test_a_training_that_is_being_resumed_is_not_resumed_again(interrupted: Path) -> None:
    before = contents(interrupted)
    with locked_output(interrupted), pytest.raises(OutputExists, match="Another training is at work"):
        train(rows(24), output=interrupted, settings=INPUTS, resume=True)
    assert contents(interrupted) == before


@pytest.mark.parametrize("options", [{}, {"overwrite": True}])
def test_a_running_training_is_not_taken_for_an_interrupted_one(interrupted: Path, options: dict[str, bool]) -> None:
    with locked_output(interrupted), pytest.raises(OutputExists, match="Another training is at work"):
        train(rows(24), output=interrupted, settings=INPUTS, **options)
    with pytest.raises(OutputExists, match="holds an interrupted training"):
        train(rows(24), output=interrupted, settings=INPUTS)


def test_the_lock_of_a_killed_training_is_gone(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from recurra.training.output import locked_output\n"
        "with locked_output(Path(sys.argv[1])):\n    print('locked', flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code, tmp_path / "model"], stdout=subprocess.PIPE, text=True, env=ENVIRONMENT) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "locked\n"
        with pytest.raises(OutputExists, match="Another training is at work"):
            train(rows(24), output=tmp_path / "model", settings=INPUTS, overwrite=True)
        process.kill()
    assert (tmp_path / "model" / WORK / LOCK).is_file()
    train(rows(24), output=tmp_path / "model", settings=INPUTS)


def test_a_model_that_another_training_wrote_meanwhile_stays(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    @contextmanager
    def late(folder: Path) -> Iterator[None]:
        shutil.copytree(trained, folder)
        yield

    monkeypatch.setattr("recurra.training.train.locked_output", late)
    with pytest.raises(OutputExists, match="holds a model already"):
        train(rows(26), output=tmp_path / "model", settings=INPUTS)
    assert contents(tmp_path / "model") == contents(trained)


@pytest.mark.parametrize(
    "wrong",
    [
        {"training.device": "cpu", "training.precision": "float16"},
        {"training.monitor": "rmse"},
        {"training.monitor": "accuracy", "data.validation_share": 0.0},
    ],
)
def test_settings_that_cannot_be_trained_leave_the_old_model_alone(model: Path, wrong: dict[str, Any]) -> None:
    before = contents(model)
    with pytest.raises(RecurraError, match=r"precision|not a metric for this task|needs a validation part"):
        train(rows(24), output=model, settings={**INPUTS, **wrong}, overwrite=True)
    assert contents(model) == before


def test_a_training_that_never_began_leaves_no_folder(tmp_path: Path) -> None:
    with pytest.raises(RecurraError, match="not a metric for this task"):
        train(rows(24), output=tmp_path / "model", settings={**INPUTS, "training.monitor": "rmse"})
    assert not (tmp_path / "model").exists()


def test_a_folder_that_cannot_be_made_is_told_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("recurra.training.output.os.open", refuse)
    with pytest.raises(DataError, match=r"cannot be made: Permission denied. Choose another one"):
        train(rows(24), output=tmp_path / "model", settings=INPUTS)


@pytest.mark.parametrize("content", ['{"fin', "{}", "[]", "5"])
def test_a_damaged_plan_is_told(interrupted: Path, content: str) -> None:
    (interrupted / WORK / PLAN).write_text(content)
    with pytest.raises(ModelFolderError, match=r"plan.json.* is damaged .*--overwrite"):
        train(rows(24), output=interrupted, settings=INPUTS, resume=True)


def test_a_checkpoint_of_something_else_is_told(interrupted: Path) -> None:
    torch.save({"state": 1}, interrupted / WORK / "checkpoints" / "last.pt")
    with pytest.raises(ModelFolderError, match=r"last.pt' is not the checkpoint of a training.*--overwrite"):
        train(rows(24), output=interrupted, settings=INPUTS, resume=True)


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError(28, "No space left on device")])
def test_a_report_that_was_not_written_is_made_by_resuming(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    output, settings = tmp_path / "model", {**INPUTS, "evaluation.bootstrap_samples": 0}

    def stop(*_: object) -> None:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr("recurra.training.results.write_report", stop)
        with pytest.raises(RecurraError, match="--resume"):
            train(rows(24), output=output, settings=settings)
    before = (output / "weights.safetensors").read_bytes()
    train(rows(24), output=output, settings=settings, resume=True)
    assert (output / "report.html").is_file()
    assert "timings" in recurra.load(output).run
    assert (output / "weights.safetensors").read_bytes() == before
    with pytest.raises(OutputExists, match="holds a complete model"):
        train(rows(24), output=output, settings=settings, resume=True)
