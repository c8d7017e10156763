"""The output folder of a training: whether it may be used, keeping others out of it, and making it ours."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from recurra.errors import DataError, ModelFolderError, OutputExists
from recurra.model.folder import holds_model, write_file
from recurra.training.checkpoints import last_path

__all__ = ["WORK", "begin_output", "check_at_rest", "check_output", "check_plan", "clear", "locked_output"]

WORK = "training"
"""Folder inside the output where checkpoints and logs live."""
PLAN = "plan.json"
"""File in it that tells what is trained, and that the output folder is ours."""
LOCK = "recurra.lock"
"""File in it that a running training holds a lock of; the system lets go of it when the process ends, however it ends."""
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
    if resume and complete and (folder / RESULTS[-1]).is_file():  # the report is written last, and can still be made
        raise OutputExists(f"{name} holds a complete model: there is nothing to go on with. Use --overwrite to train anew.")
    if resume and not started:
        raise OutputExists(f"{name} holds no interrupted training: leave out --resume.")
    if resume or not folder.exists() or not any(folder.iterdir()):
        return
    if not (complete or (folder / WORK / PLAN).is_file() or (folder / WORK / LOCK).is_file()):
        raise OutputExists(f"{name} holds other things than a model: choose another output folder.")
    if complete and not overwrite:
        raise OutputExists(f"{name} holds a model already: choose another --output, or replace it with --overwrite.")
    if started and not overwrite:
        raise OutputExists(f"{name} holds an interrupted training: go on with --resume, or start anew with --overwrite.")


def check_at_rest(folder: Path, *, inside: str = WORK, what: str = "training") -> None:
    """Whether nobody is at work in the output folder: what a running training has written so far is no interrupted one.

    Args:
        folder: the output folder.
        inside: folder in it where the lock lies.
        what: is at work, for the message.

    Raises:
        OutputExists: another training is at work in it.
    """
    try:
        descriptor = os.open(folder / inside / LOCK, os.O_RDWR)
    except OSError:
        return  # no lock, nobody at work; what is wrong with the folder is told when it is made
    try:
        if not _locks(descriptor):
            raise _at_work(folder, what)
    finally:
        os.close(descriptor)


@contextmanager
def locked_output(folder: Path, *, inside: str = WORK, what: str = "training") -> Iterator[None]:
    """Keep others out of the output folder; what is made for it goes again where nothing was put in it.

    A file system that knows no locks keeps nobody out.

    Args:
        folder: the output folder.
        inside: folder in it where the lock lies.
        what: is at work, for the message.

    Raises:
        OutputExists: another training is at work in it.
        DataError: it cannot be made or written to.
    """
    work, path = folder / inside, folder / inside / LOCK
    new = [each for each in (folder.absolute(), *folder.absolute().parents) if not each.exists()]
    try:
        work.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise _cannot_be_made(folder, error) from error
    try:
        if not _locks(descriptor):
            raise _at_work(folder, what)
        try:
            yield
        finally:
            if [each.name for each in work.iterdir()] == [LOCK]:  # nothing began, so nothing is to be seen of it
                with suppress(OSError):
                    path.unlink()
                    work.rmdir()
                    for each in new:
                        each.rmdir()
    finally:
        os.close(descriptor)


def _locks(descriptor: int) -> bool:
    """Lock an open file; False where another process, or another opening of this one, holds the lock."""
    try:
        if sys.platform == "win32":
            import msvcrt

            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):  # the second is Windows'
        return False
    except OSError:
        return True
    return True


def check_plan(folder: Path, fingerprint: str) -> None:
    """Whether an interrupted training was on these data; `fit` compares the settings.

    Args:
        folder: the output folder.
        fingerprint: of the data.

    Raises:
        OutputExists: the interrupted training was on other data.
        ModelFolderError: the file that tells so is damaged.
    """
    path = folder / WORK / PLAN
    if not path.is_file():
        return
    try:
        before = json.loads(path.read_text(encoding="utf-8"))["fingerprint"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelFolderError(
            f"{str(path)!r}, which tells what the interrupted training was on, is damaged ({type(error).__name__}). Start anew with --overwrite."
        ) from error
    if before != fingerprint:
        raise OutputExists(
            f"The training in {str(folder)!r} was started on other data: give the same data, or start anew with --overwrite."
        )


def begin_output(folder: Path, fingerprint: str) -> None:
    """Make the output folder ours: what an earlier run left goes, and what is trained is noted down.

    Args:
        folder: the output folder.
        fingerprint: of the data, with which alone the training can be resumed.

    Raises:
        DataError: the folder cannot be made or written to.
    """
    work, now = folder / WORK, {"fingerprint": fingerprint, "started": datetime.now(UTC).isoformat()}
    try:
        for name in RESULTS:
            (folder / name).unlink(missing_ok=True)
        work.mkdir(parents=True, exist_ok=True)
        clear(work)
        write_file(work / PLAN, (json.dumps(now, indent=1) + "\n").encode())
    except OSError as error:
        raise _cannot_be_made(folder, error) from error


def clear(work: Path) -> None:
    """Remove everything in a folder but the lock."""
    for path in work.iterdir():
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        elif path.name != LOCK:
            path.unlink()


def _at_work(folder: Path, what: str) -> OutputExists:
    return OutputExists(
        f"Another {what} is at work in {str(folder)!r}: wait for its end, stop it (Ctrl-C) and go on with --resume, or choose another --output."
    )


def _cannot_be_made(folder: Path, error: OSError) -> DataError:
    return DataError(f"The output folder {str(folder)!r} cannot be made: {error.strerror or error}. Choose another one.")
