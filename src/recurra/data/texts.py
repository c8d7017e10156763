"""Running text from files and tables, in pieces of bounded size that end where lines do."""

from __future__ import annotations

import glob
import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import polars as pl

from recurra.config import DataSettings
from recurra.data.columns import infer_columns
from recurra.data.read import OnError, Table, read, require_columns
from recurra.data.sources import COMPRESSIONS, digest_file, open_bytes
from recurra.data.surrogates import without_surrogates
from recurra.errors import DataError, EmptyData, MissingColumn, RowError, nearest

__all__ = ["RunningText", "read_texts"]

TABLES = (".csv", ".tsv", ".tab", ".jsonl", ".ndjson", ".json", ".parquet", ".pq", ".arrow", ".feather", ".ipc")
"""Extensions of tables; a file with any other is plain text, program code too."""
_PIECE = 4_000_000
"""Bytes of a piece, or one line where that is longer."""


class RunningText(Protocol):
    """Text that is read again and again, always the same.

    Attributes:
        description: where it comes from.
        left_out: lines left out in the reading so far that went furthest, because they cannot be read.
    """

    description: str
    left_out: int

    def pieces(self) -> Iterator[str]:
        """The text; each piece but the last ends with a line end, and so does each file and row."""
        ...

    def fingerprint(self) -> str:
        """Hash of the content, 32 hexadecimal digits."""
        ...


@dataclass
class FileText:
    """Files of plain text in UTF-8, one after the other; also compressed (.gz, .bz2, .xz). A byte-order mark is no text."""

    paths: Sequence[Path]
    description: str
    on_error: OnError = "fail"
    left_out: int = 0

    def pieces(self) -> Iterator[str]:
        """The text of all files; carriage returns before line ends are dropped.

        Raises:
            RowError: a line is no UTF-8, and `on_error` is "fail".
        """
        left_out = 0
        for path in self.paths:
            line = 1
            ends = True
            with open_bytes(path) as file:
                while lines := file.readlines(_PIECE):
                    block = b"".join(lines)
                    if line == 1:
                        block = block.removeprefix(b"\xef\xbb\xbf")
                    try:
                        text = block.decode()
                    except UnicodeDecodeError as error:
                        if self.on_error == "fail":
                            raise _no_text(path, line + block.count(b"\n", 0, error.start), error) from error
                        text, lost = _readable(lines)
                        left_out += lost
                    line += len(lines)
                    text = text.replace("\r\n", "\n")
                    ends = text.endswith("\n")
                    yield text
            if not ends:
                yield "\n"
        self.left_out = max(self.left_out, left_out)

    def fingerprint(self) -> str:
        """Hash of the bytes of all files."""
        digest = hashlib.blake2b(digest_size=16)
        for path in self.paths:
            digest_file(path, digest)
            digest.update(b"\0")
        return digest.hexdigest()


@dataclass
class TableText:
    """A text column of a table; each row is a line, or several."""

    table: Table
    column: str
    description: str = field(init=False)
    left_out: int = 0

    def __post_init__(self) -> None:
        self.description = f"{self.table.description}, column {self.column}"

    def pieces(self) -> Iterator[str]:
        """The rows, each with a line end; missing ones are passed over."""
        for frame in self.table.chunks([self.column]):
            texts = frame[self.column].drop_nulls()
            if len(texts):
                yield "".join(f"{text}\n" for text in texts.to_list())
        self.left_out = max(self.left_out, self.table.bad_row_count)

    def fingerprint(self) -> str:
        """Hash of the table's content and the column's name."""
        return hashlib.blake2b(f"{self.table.fingerprint()} {self.column}".encode(), digest_size=16).hexdigest()


@dataclass
class GivenText:
    """A text in memory."""

    text: str
    description: str = "the given text"
    left_out: int = 0

    def pieces(self) -> Iterator[str]:
        """The text; lone surrogates as U+FFFD, and carriage returns before line ends are dropped, as of a file."""
        yield without_surrogates(self.text).replace("\r\n", "\n")

    def fingerprint(self) -> str:
        """Hash of the text."""
        return hashlib.blake2b(self.text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def read_texts(
    source: Any, *, column: str | None = None, on_error: OnError = "fail", join: Mapping[str, Sequence[str]] | None = None
) -> RunningText:
    """The text of whatever holds some.

    Args:
        source: a path, a pattern (`src/**/*.py`, files in sorted order) or a list of both. Files with the extension of a table (CSV,
            TSV, JSON, Parquet, Arrow), addresses and frames are tables with a text column; all other files are plain text in UTF-8.
        column: the text column of a table; its only one when not given.
        on_error: what happens to lines that are no UTF-8 and rows that cannot be read: an error that names file and line, or left
            out and counted.

        join: text columns made of others, joined by a space; the text itself, where there is one and no column is named.

    Raises:
        DataError: there is no such file, or it cannot be read; or plain text has columns to join.
        EmptyData: there is no text.
        MissingColumn: the column is not there, or there is no text column, or more than one.
    """
    names = [source] if isinstance(source, (str, os.PathLike)) else source
    if isinstance(names, Sequence) and names and all(isinstance(name, (str, os.PathLike)) for name in names):
        listed = [os.fspath(name) for name in names]
        plain = [not _is_table(name) for name in listed]
        if all(plain):
            if column is not None:
                raise MissingColumn(f"{listed[0]} is plain text and has no column {column!r}: leave out --text (language.text).")
            if join:
                raise MissingColumn(f"{listed[0]} is plain text and has no columns to join: leave out --join (data.join).")
            return _files(listed, on_error)
        if any(plain):
            raise DataError(f"{listed[plain.index(True)]} is plain text and {listed[plain.index(False)]} a table: give files of one kind.")
    table = read(source, on_error=on_error, join=join or {})
    if column is None and join and len(join) == 1:
        column = next(iter(join))
    return TableText(table, _text_column(table, column))


def _is_table(name: str) -> bool:
    suffixes = Path(name).suffixes
    if suffixes and suffixes[-1].lower() in COMPRESSIONS:
        suffixes = suffixes[:-1]
    return "://" in name or (bool(suffixes) and suffixes[-1].lower() in TABLES)


def _files(names: Sequence[str], on_error: OnError) -> FileText:
    paths: list[Path] = []
    for name in names:
        if glob.has_magic(name) and not Path(name).is_file():
            found = sorted(found for found in glob.glob(name, recursive=True) if Path(found).is_file())  # noqa: PTH207
            if not found:
                raise DataError(f"No file matches {name!r}. In quotes it is expanded here, without them by the shell.")
            paths += map(Path, found)
        elif Path(name).is_file():
            paths.append(Path(name))
        else:
            raise _missing(Path(name))
    if not any(path.stat().st_size for path in paths):
        raise EmptyData(f"{paths[0]} is empty (0 bytes): there is no text in it.")
    description = names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more"
    return FileText(paths, f"{description} ({len(paths)} files)" if len(paths) > len(names) else description, on_error)


def _missing(path: Path) -> DataError:
    if path.is_dir():
        return DataError(f"{path} is a folder: name the files in it, as '{path}/*.txt' or '{path}/**/*.py'.")
    try:
        known = [str(path.parent / near.name) for near in path.parent.iterdir()] if path.parent.is_dir() else []
    except OSError:
        known = []
    shown = str(path) if len(str(path)) <= 100 else f"{str(path)[:100]}..."
    return DataError(f"There is no file {shown!r}.{nearest(str(path), known)}")


def _text_column(table: Table, column: str | None) -> str:
    if column is not None:
        require_columns(table, [column])
        return column
    try:
        inferred = {found.name: found.type for found in infer_columns(table, target=None, settings=DataSettings())}
    except DataError:  # there is nothing that a network could read
        inferred = {}
    texts: list[str] = []
    for kinds in (("text",), ("text", "category")):  # a column of few different texts looks like a category
        texts = [name for name, kind in inferred.items() if kind in kinds and table.schema[name] == pl.String]
        if len(texts) == 1:
            return texts[0]
    found = f"has the text columns {', '.join(texts)}" if texts else f"has no text column (its columns: {', '.join(table.columns)})"
    raise MissingColumn(f"{table.description} {found}: say which one is the text, with --text COLUMN (language.text).")


def _no_text(path: Path, line: int, error: UnicodeDecodeError) -> RowError:
    byte = error.object[error.start]
    return RowError(
        f"the byte 0x{byte:02X} is no UTF-8. Save the file as UTF-8, or leave such lines out with on_error='skip' (--on-error skip)",
        source=str(path),
        line=line,
    )


def _readable(lines: Sequence[bytes]) -> tuple[str, int]:
    """The lines that are UTF-8, and how many are not."""
    kept, lost = [], 0
    for number, line in enumerate(lines):
        try:
            kept.append((line.removeprefix(b"\xef\xbb\xbf") if number == 0 else line).decode())
        except UnicodeDecodeError:
            lost += 1
    return "".join(kept), lost
