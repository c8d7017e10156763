"""Checkpoint files: written whole or not at all, read without executing anything.

`last.pt` holds everything a run needs to go on bit-exactly, `best.pt` the weights that scored best on the validation
part. What is in `last.pt` is decided in `fit`; this file knows only how it comes to the disk.
"""

from __future__ import annotations

import errno
import os
import pickle
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any
from zipfile import BadZipFile, ZipFile

import torch

from recurra.errors import ModelFolderError, RecurraError
from recurra.files import replacing

__all__ = ["best_path", "last_path", "read_checkpoint", "write_atomically", "write_checkpoint"]


def last_path(folder: Path) -> Path:
    """Where the state of an unfinished run is kept."""
    return folder / "checkpoints" / "last.pt"


def best_path(folder: Path) -> Path:
    """Where the best weights so far are kept."""
    return folder / "checkpoints" / "best.pt"


def write_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write `state` (tensors, numbers, texts, lists, tuples and dictionaries of them) to `path`.

    Raises:
        RecurraError: the disk is full or the file cannot be written; what stood at `path` before is untouched.
    """
    write_atomically(path, lambda file: torch.save(state, file))


def write_atomically(path: Path, write: Callable[[Any], object]) -> None:
    """Write a file under a temporary name, force it to the disk, and only then give it its name.

    Raises:
        RecurraError: the disk is full or the file cannot be written; what stood at `path` before is untouched.
    """
    # one name for all attempts, so that a kill in the middle leaves nothing that piles up
    temporary = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path, temporary=temporary) as file:
            recorder = _Recorder(file)
            try:
                write(recorder)
            except RuntimeError as error:
                # torch.save hides the system's error behind one of its own
                raise recorder.error or error from error
        _sync_folder(path.parent)
    except OSError as error:
        raise _cannot_write(path, error) from error


class _Recorder:
    """A file that remembers the system's error, which torch.save reports without its number."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file = file
        self.error: OSError | None = None

    def write(self, data: bytes) -> int:
        try:
            return self.file.write(data)
        except OSError as error:
            self.error = error
            raise

    def flush(self) -> None:
        try:
            self.file.flush()
        except OSError as error:
            self.error = error
            raise


def _sync_folder(folder: Path) -> None:
    """Make the new name itself survive a power cut, where the system knows how (not on Windows)."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _cannot_write(path: Path, error: OSError) -> RecurraError:
    kept = " The file written before it is complete: free some space and continue with --resume." if path.exists() else ""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return RecurraError(f"The disk is full: {str(path)!r} could not be written.{kept or ' Free some space and start again.'}")
    return RecurraError(f"{str(path)!r} could not be written: {error.strerror or error}.{kept}")


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read what `write_checkpoint` wrote, tensors on the CPU.

    Raises:
        ModelFolderError: there is no file, or it is damaged or not a checkpoint.
    """
    if not path.exists():
        raise ModelFolderError(f"There is nothing to resume: {str(path)!r} does not exist. Start without --resume.")
    try:
        _check_sums(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, ValueError, KeyError, BadZipFile, zlib.error, pickle.UnpicklingError) as error:
        raise ModelFolderError(
            f"The checkpoint {str(path)!r} is damaged and cannot be read ({type(error).__name__}). Start anew with --overwrite."
        ) from error
    if not isinstance(state, dict):
        raise ModelFolderError(f"{str(path)!r} is not a checkpoint: it holds a {type(state).__name__}.")
    return state


def _check_sums(path: Path) -> None:
    """Compare a file with the checksums in it, which torch writes and does not look at.

    Raises:
        BadZipFile: they do not fit.
    """
    with ZipFile(path) as archive:
        damaged = archive.testzip()
    if damaged is not None:
        raise BadZipFile(damaged)
