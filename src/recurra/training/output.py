"""The output folder of a training: whether it may be used, and making it ours."""

from __future__ import annotations

import json
import shutil
from datetime import UTC, datetime
from pathlib import Path

from recurra.errors import DataError, OutputExists
from recurra.model.folder import holds_model, write_file
from recurra.training.checkpoints import last_path

__all__ = ["WORK", "check_output", "keep_plan", "open_output"]

WORK = "training"
"""Folder inside the output where checkpoints and logs live."""
PLAN = "plan.json"
"""File in it that tells what is trained, and that the output folder is ours."""
RESULTS = ("model.json", "weights.safetensors", "run.json", "README.md", "report.html")
"""Files of a model folder, the one that makes it complete first."""


def check_output(folder: Path, *, resume: bool, overwrite: bool) -> None:
    """Whether the output folder may be used, before any work is done.

    Raises:
        OutputExists: it holds something, and neither `resume` nor `overwrite` is set.
    """
    name = repr(str(folder))
    nearest = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not nearest.is_dir():
        raise OutputExists(f"The output folder {name} cannot be made: {str(nearest)!r} is a file. Choose another one.")
    complete, started = holds_model(folder), last_path(folder / WORK).is_file()
    if resume and complete:
        raise OutputExists(f"{name} holds a complete model: there is nothing to go on with. Use --overwrite to train anew.")
    if resume and not started:
        raise OutputExists(f"{name} holds no interrupted training: leave out --resume.")
    if resume or not folder.exists() or not any(folder.iterdir()):
        return
    if not (complete or (folder / WORK / PLAN).is_file()):
        raise OutputExists(f"{name} holds other things than a model: choose another output folder.")
    if complete and not overwrite:
        raise OutputExists(f"{name} holds a model already: choose another --output, or replace it with --overwrite.")
    if started and not overwrite:
        raise OutputExists(f"{name} holds an interrupted training: go on with --resume, or start anew with --overwrite.")


def open_output(folder: Path, *, resume: bool) -> None:
    """Make the output folder ours: what an earlier run left goes, unless this one resumes it.

    Raises:
        DataError: the folder cannot be made.
    """
    try:
        if not resume:
            for name in RESULTS:
                (folder / name).unlink(missing_ok=True)
            shutil.rmtree(folder / WORK, ignore_errors=True)
        (folder / WORK).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"The output folder {str(folder)!r} cannot be made: {error.strerror or error}. Choose another one.") from error


def keep_plan(folder: Path, fingerprint: str, *, resume: bool) -> None:
    """Note down what is trained, so that it is not resumed with other data; `fit` compares the settings.

    Args:
        folder: the output folder, opened.
        fingerprint: of the data.
        resume: a training that was interrupted goes on.

    Raises:
        OutputExists: the interrupted training was on other data.
    """
    path = folder / WORK / PLAN
    now = {"fingerprint": fingerprint}
    if resume and path.is_file():
        before = json.loads(path.read_text(encoding="utf-8"))
        if before["fingerprint"] != now["fingerprint"]:
            raise OutputExists(
                f"The training in {str(folder)!r} was started on other data: give the same data, or start anew with --overwrite."
            )
    write_file(path, (json.dumps({**now, "started": datetime.now(UTC).isoformat()}, indent=1) + "\n").encode())
