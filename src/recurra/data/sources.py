"""What a table is made of: one source a file or frame, and the record of a row that could not be read.

Sources: `FrameSource` here (a frame in memory), `delimited.DelimitedFile`, `jsonlines.JSONLinesFile`, `scans.ScanSource`.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol, cast

from recurra.errors import DataError, RowError

if TYPE_CHECKING:
    from hashlib import blake2b

    import polars as pl

__all__ = ["COMPRESSIONS", "BadRow", "FrameSource", "Source", "digest_file", "digest_frame", "open_bytes", "row_error"]

COMPRESSIONS: dict[str, Callable[..., Any]] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}
_SKIP_ADVICE = "or leave such rows out with on_error='skip' (--on-error skip)"


@dataclass(frozen=True)
class BadRow:
    """A row that was left out because it cannot be read.

    Attributes:
        source: the file.
        line: its 1-based line.
        reason: what is wrong with it.
    """

    source: str
    line: int
    reason: str


class Source(Protocol):
    """One file or frame of a table. All of them give their rows again and again, in the same order."""

    @property
    def name(self) -> str:
        """Path, address or description for messages."""
        ...

    @property
    def schema(self) -> dict[str, pl.DataType]:
        """Column names and their polars types."""
        ...

    def frames(self) -> Iterator[pl.DataFrame]:
        """All rows that can be read, in order, in frames of bounded size."""
        ...

    def count(self) -> int:
        """Rows that can be read."""
        ...

    def place(self, row: int) -> str:
        """Where row `row` (from 0, among those that can be read) stands, for a message."""
        ...

    def bad_rows(self) -> list[BadRow]:
        """Rows left out (the first 1,000)."""
        ...

    def bad_row_count(self) -> int:
        """Rows left out, all of them."""
        ...

    def digest(self, into: blake2b) -> None:
        """Feed the content to a hash."""
        ...


@dataclass(frozen=True)
class FrameSource:
    """A polars frame in memory."""

    name: str
    frame: pl.DataFrame

    @property
    def schema(self) -> dict[str, pl.DataType]:
        """Column names and their polars types."""
        return dict(self.frame.schema)

    def frames(self) -> Iterator[pl.DataFrame]:
        """The rows in slices."""
        yield from self.frame.iter_slices(65_536)

    def count(self) -> int:
        """Rows of the frame."""
        return self.frame.height

    def place(self, row: int) -> str:
        """The 1-based row."""
        return f"{self.name}: row {row + 1}"

    def bad_rows(self) -> list[BadRow]:
        """A frame has none."""
        return []

    def bad_row_count(self) -> int:
        """A frame has none."""
        return 0

    def digest(self, into: blake2b) -> None:
        """Feed names and cells to a hash."""
        for frame in self.frames():
            digest_frame(frame, into)


def row_error(row: BadRow, advice: str) -> RowError:
    """The error for a bad row when rows are not to be skipped."""
    return RowError(f"{row.reason}. {advice}, {_SKIP_ADVICE}.", source=row.source, line=row.line)


def digest_frame(frame: pl.DataFrame, into: blake2b) -> None:
    """Feed a frame's columns, types and cells to a hash, the same however its memory is laid out."""
    import polars as pl

    into.update(repr(list(frame.schema.items())).encode())
    binary = [name for name, dtype in frame.schema.items() if dtype == pl.Binary]
    text = io.BytesIO()
    frame = frame.with_columns(pl.col(binary).bin.encode("hex") if binary else [])
    # JSON has no infinity and no NaN: as numbers they would be written as null.
    frame.cast({name: _floats_as_text(dtype) for name, dtype in frame.schema.items()}).write_ndjson(text)
    into.update(text.getbuffer())


def _floats_as_text(dtype: pl.DataType) -> pl.DataType:
    """A type with text for floats, also inside lists and records."""
    import polars as pl

    if dtype.is_float():
        return pl.String()
    if isinstance(dtype, pl.List):
        return pl.List(_floats_as_text(dtype.inner))  # type: ignore[arg-type]
    if isinstance(dtype, pl.Array):
        return pl.Array(_floats_as_text(dtype.inner), dtype.size)  # type: ignore[arg-type]
    if isinstance(dtype, pl.Struct):
        return pl.Struct({field.name: _floats_as_text(field.dtype) for field in dtype.fields})  # type: ignore[arg-type]
    return dtype


def digest_file(path: Path, into: blake2b) -> None:
    """Feed a file's bytes to a hash."""
    with path.open("rb") as file:
        while piece := file.read(2**20):
            into.update(piece)


class _Damage(io.RawIOBase):
    """Reads a compressed file and reports damage to it as a DataError."""

    def __init__(self, file: BinaryIO, path: Path) -> None:
        self._file = file
        self._path = path

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        try:
            piece = self._file.read(len(buffer))
        except (EOFError, OSError, lzma.LZMAError, zlib.error) as error:
            raise DataError(
                f"{self._path}: the compressed file is damaged or cut short ({error}). Download or compress it again."
            ) from error
        buffer[: len(piece)] = piece
        return len(piece)

    def close(self) -> None:
        self._file.close()
        super().close()


def open_bytes(path: Path) -> BinaryIO:
    """Open a plain or compressed (.gz, .bz2, .xz) file for reading its uncompressed bytes.

    Raises:
        DataError: the file cannot be opened; while reading, when it is damaged.
    """
    try:
        opener = COMPRESSIONS.get(path.suffix.lower())
        if opener is None:
            return path.open("rb")
        return cast("BinaryIO", io.BufferedReader(_Damage(cast("BinaryIO", opener(path, "rb")), path), 2**20))
    except OSError as error:
        raise DataError(f"{path} cannot be opened: {error.strerror or error}.") from error
