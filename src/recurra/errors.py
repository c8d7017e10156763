"""Every error Recurra raises on purpose, as one tree.

Catch `RecurraError` for all of them. Messages say what was given, what is allowed and what to do next.
Errors raised by wrong use of a Python function (a wrong shape, a wrong dtype) are plain `ValueError`/`TypeError`.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = [
    "BackendUnavailable",
    "DataError",
    "EmptyData",
    "MissingColumn",
    "MissingDependency",
    "ModelFolderError",
    "OutputExists",
    "RecurraError",
    "RowError",
    "SettingsError",
    "TrainingDiverged",
    "TrainingInterrupted",
    "nearest",
]


class RecurraError(Exception):
    """The root of the tree. Its message is fit to be shown to the person at the keyboard as it is."""


class SettingsError(RecurraError):
    """A setting is unknown, of the wrong type or out of range."""


class DataError(RecurraError):
    """The data cannot be used as it stands."""


class MissingColumn(DataError):
    """A named column is not in the table; the message lists the columns and the nearest name."""


class EmptyData(DataError):
    """There are no rows, or none that can be used."""


class RowError(DataError):
    """A row cannot be read or used. Named by file and line.

    Attributes:
        message: what is wrong, without the place.
        source: file (or a description of the table) the row comes from.
        line: 1-based line in the file, or 1-based row of a frame; None when unknown.
    """

    def __init__(self, message: str, *, source: str = "", line: int | None = None) -> None:
        place = f"row {line}" if line is not None and not source else source if line is None else f"{source}:{line}"
        super().__init__(f"{place}: {message}" if place else message)
        self.message = message
        self.source = source
        self.line = line


class ModelFolderError(RecurraError):
    """A model folder is missing, truncated, altered or newer than this version can read."""


class OutputExists(RecurraError):
    """The output folder already holds something that would be overwritten."""


class MissingDependency(RecurraError):
    """An optional package is not installed; the message gives the command that installs it."""


class BackendUnavailable(RecurraError):
    """A backend asked for by name cannot run this computation; the message gives the reason."""


class TrainingDiverged(RecurraError):
    """The loss became NaN or exploded; the message gives the step, the gradient norms and advice."""


class TrainingInterrupted(RecurraError):
    """Training was stopped by the user; the last checkpoint is complete and can be resumed."""


def nearest(name: str, known: Iterable[str]) -> str:
    """A hint for a misspelt name: `" Did you mean 'title'?"`, or an empty string when nothing is near."""
    candidates = [str(k) for k in known]
    folded = {c.casefold(): c for c in candidates}
    found = difflib.get_close_matches(name.casefold(), folded, n=1, cutoff=0.6)
    return f" Did you mean {folded[found[0]]!r}?" if found else ""
