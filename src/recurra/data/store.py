"""Encoded columns on disk: flat arrays with offsets, written chunk by chunk and opened memory-mapped.

`Ragged` is the form of a column of sequences in memory and on disk. A `Store` is a folder of `.npy` files and an
`index.json`; it is written under another name and renamed when complete, so a folder with the right name is whole.
The cache of such folders is in `cache.py`. Nothing here knows tokens, features or batches.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, SupportsIndex

import numpy as np
import numpy.typing as npt

from recurra.errors import DataError

__all__ = ["Array", "Columns", "Ragged", "Rows", "Store", "StoreWriter", "join_rows", "offsets_of", "take_rows"]

Array = npt.NDArray[Any]
FORMAT = 1
"""Version of the folder; a store of another version is not read but encoded anew."""


@dataclass(frozen=True, eq=False)
class Ragged:
    """Rows of different lengths, end to end in one array.

    Attributes:
        values: (S,) or (S, F), the steps of all rows; may be memory-mapped.
        offsets: (N + 1,) int64; row i is `values[offsets[i]:offsets[i + 1]]`.
        truncated: rows that were cut to the largest length when they were encoded.
    """

    values: Array
    offsets: npt.NDArray[np.int64]
    truncated: int = 0

    @classmethod
    def from_rows(cls, rows: Sequence[npt.ArrayLike], dtype: npt.DTypeLike = np.int32) -> Ragged:
        """Rows given one by one; for tests and small data."""
        arrays = [np.asarray(row, dtype=dtype) for row in rows]
        values = np.concatenate(arrays) if arrays else np.zeros(0, dtype)
        return cls(values, offsets_of([len(array) for array in arrays]))

    @classmethod
    def concatenate(cls, parts: Sequence[Ragged]) -> Ragged:
        """The rows of all parts (at least one), one after another."""
        values = np.concatenate([part.values for part in parts])
        lengths = np.concatenate([part.lengths for part in parts])
        return cls(values, offsets_of(lengths), sum(part.truncated for part in parts))

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, row: SupportsIndex) -> Array:
        row = range(len(self))[row]
        return self.values[self.offsets[row] : self.offsets[row + 1]]

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        """(N,) steps of each row."""
        return np.diff(self.offsets)

    def take(self, rows: npt.ArrayLike) -> Ragged:
        """The chosen rows, in the order given, copied out of the flat array."""
        rows = np.asarray(rows)
        starts = self.offsets[rows]
        offsets = offsets_of(self.offsets[rows + 1] - starts)
        steps = np.arange(offsets[-1]) + np.repeat(starts - offsets[:-1], np.diff(offsets))
        return Ragged(self.values[steps], offsets)

    def pad(self, fill: float | int = 0) -> tuple[Array, npt.NDArray[np.int64]]:
        """All rows side by side.

        Returns:
            (N, T) or (N, T, F) values with `fill` beyond each row's end, T the longest row; and (N,) lengths.
        """
        lengths = self.lengths
        steps = int(lengths.max(initial=0))
        padded = np.full((len(self), steps, *self.values.shape[1:]), fill, self.values.dtype)
        padded[np.arange(steps) < lengths[:, None]] = self.values[self.offsets[0] : self.offsets[-1]]
        return padded, lengths

    def rows(self, rows: npt.ArrayLike, *, fill: float | int = 0) -> tuple[Array, npt.NDArray[np.int64]]:
        """The chosen rows side by side: `take` and then `pad`."""
        return self.take(rows).pad(fill)


@dataclass(frozen=True, eq=False)
class Columns:
    """Several columns of the same rows.

    Attributes:
        by_name: at least one; all of one length.
    """

    by_name: Mapping[str, Array | Ragged]

    def __len__(self) -> int:
        return len(next(iter(self.by_name.values())))

    def __getitem__(self, name: str) -> Array | Ragged:
        return self.by_name[name]


Rows = Array | Ragged | Columns
"""A column: an entry a row of one shape, or of different lengths; or several columns side by side."""


def take_rows(column: Rows, rows: npt.ArrayLike) -> Rows:
    """The chosen rows of a column, in the order given."""
    if isinstance(column, Columns):
        return Columns({name: _one(take_rows(each, rows)) for name, each in column.by_name.items()})
    return column.take(rows) if isinstance(column, Ragged) else column[np.asarray(rows)]


def join_rows(parts: Sequence[Rows]) -> Rows:
    """The rows of all parts (at least one), one after another."""
    several = [part for part in parts if isinstance(part, Columns)]
    if several:
        return Columns({name: _one(join_rows([part[name] for part in several])) for name in several[0].by_name})
    ragged = [part for part in parts if isinstance(part, Ragged)]
    return Ragged.concatenate(ragged) if ragged else np.concatenate([part for part in parts if isinstance(part, np.ndarray)])


def _one(rows: Rows) -> Array | Ragged:
    assert not isinstance(rows, Columns)
    return rows


def offsets_of(lengths: npt.ArrayLike) -> npt.NDArray[np.int64]:
    """(N + 1,) offsets of rows of these lengths."""
    lengths = np.asarray(lengths, dtype=np.int64)
    offsets = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths, out=offsets[1:])
    return offsets


class _ArrayWriter:
    """One `.npy` file that grows: the header is written again at the end, when the number of rows is known."""

    def __init__(self, path: Path, dtype: np.dtype[Any], row_shape: tuple[int, ...]) -> None:
        self.dtype = dtype
        self.row_shape = row_shape
        self.rows = 0
        self._file: BinaryIO = path.open("w+b")
        self._header()

    def _header(self) -> None:
        # numpy pads this header so that the first dimension can grow in place, whatever its number of digits.
        shape = (self.rows, *self.row_shape)
        description = {"descr": np.lib.format.dtype_to_descr(self.dtype), "fortran_order": False, "shape": shape}
        self._file.seek(0)
        np.lib.format.write_array_header_1_0(self._file, description)

    def append(self, array: Array) -> None:
        if array.dtype != self.dtype or array.shape[1:] != self.row_shape:
            given, expected = (array.dtype, array.shape[1:]), (self.dtype, self.row_shape)
            raise ValueError(f"every chunk of a column needs the same type and row shape: {expected} before, {given} now")
        self._file.write(np.ascontiguousarray(array).data.cast("B") if array.size else b"")
        self.rows += len(array)

    def close(self) -> int:
        """Complete the file and say its size in bytes."""
        with self._file:
            self._header()
            self._file.flush()
            # Without this a power cut can leave a renamed folder whose files have the right size and zeros inside.
            os.fsync(self._file.fileno())
            return self._file.seek(0, os.SEEK_END)

    def abandon(self) -> None:
        try:
            self._file.close()
        except OSError:  # on a full disk even the last buffered bytes cannot go; the file is removed anyway
            return


class StoreWriter:
    """Writes a store chunk by chunk; used in a `with` block, whose success puts the folder in place.

    Memory is that of one chunk. Until the block ends well the folder stands beside its place under a temporary
    name; it is removed when the block fails.

    Args:
        path: the folder to make. Its parent is made when missing.

    Raises:
        DataError: the disk is full or cannot be written.
        FileExistsError: on leaving the block, when the folder already exists and is not empty.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.meta: dict[str, Any] = {}
        """Anything JSON can hold; `Store.meta` gives it back."""
        self._work = path.with_name(f".{path.name}.{os.getpid()}.{os.urandom(4).hex()}.tmp")
        self._arrays: dict[str, _ArrayWriter] = {}
        self._columns: dict[str, dict[str, Any]] = {}

    def append(self, name: str, chunk: Ragged | Array) -> None:
        """Add rows to the column `name`: sequences, or (n, ...) numbers. All chunks of a column are of one kind.

        Raises:
            ValueError: they are not.
        """
        ragged = isinstance(chunk, Ragged)
        kind = "ragged" if ragged else "dense"
        column = self._columns.setdefault(name, {"file": str(len(self._columns)), "kind": kind, "truncated": 0})
        if column["kind"] != kind:
            raise ValueError(f"the column {name!r} is {column['kind']}; a chunk of it cannot be {kind}")
        with _explained(self.path):
            if isinstance(chunk, Ragged):
                column["truncated"] += chunk.truncated
                # Zero stands first; each chunk then adds the ends of its rows, counted from the start of the file.
                ends = self._array(column["file"] + ".offsets", np.dtype(np.int64), ())
                if ends.rows == 0:
                    ends.append(np.zeros(1, np.int64))
                values = self._array(column["file"] + ".values", chunk.values.dtype, chunk.values.shape[1:])
                ends.append(chunk.offsets[1:] - chunk.offsets[0] + values.rows)
                values.append(chunk.values[chunk.offsets[0] : chunk.offsets[-1]])
            else:
                self._array(column["file"], chunk.dtype, chunk.shape[1:]).append(chunk)

    def _array(self, stem: str, dtype: np.dtype[Any], row_shape: tuple[int, ...]) -> _ArrayWriter:
        if stem not in self._arrays:
            self._arrays[stem] = _ArrayWriter(self._work / f"{stem}.npy", dtype, row_shape)
        return self._arrays[stem]

    def __enter__(self) -> StoreWriter:
        with _explained(self.path):
            self._work.mkdir(parents=True)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        try:
            if error is None:
                with _explained(self.path):
                    self._finish()
        finally:
            for array in self._arrays.values():
                array.abandon()
            shutil.rmtree(self._work, ignore_errors=True)

    def _finish(self) -> None:
        sizes = {f"{stem}.npy": array.close() for stem, array in self._arrays.items()}
        index = {"format": FORMAT, "files": sizes, "columns": self._columns, "meta": self.meta}
        with (self._work / "index.json").open("w", encoding="utf-8") as file:
            json.dump(index, file)
            file.flush()
            os.fsync(file.fileno())
        try:
            self._work.rename(self.path)
        except OSError as error:
            if error.errno in {errno.ENOTEMPTY, errno.EEXIST}:
                raise FileExistsError(error.errno, "the store exists already", str(self.path)) from error
            raise


class Store(Mapping[str, Ragged | Array]):
    """A complete folder of encoded columns, opened memory-mapped: `store[name]` reads nothing until it is used.

    Attributes:
        path: the folder.
        meta: what the writer noted down.
    """

    def __init__(self, path: Path, columns: Mapping[str, Ragged | Array], meta: dict[str, Any]) -> None:
        self.path = path
        self.meta = meta
        self._columns = columns

    @classmethod
    def open(cls, path: str | Path) -> Store:
        """Open a store and check that it is whole: sizes of the files, headers, ends of the offsets.

        Raises:
            DataError: the folder is missing, truncated, altered or of another version.
        """
        path = Path(path)
        try:
            index = json.loads((path / "index.json").read_text(encoding="utf-8"))
            _check(path, index)
            columns = {name: _open_column(path, column) for name, column in index["columns"].items()}
            return cls(path, columns, index["meta"])
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise DataError(f"The encoded data in {str(path)!r} cannot be used: {error}. Delete the folder; it is made again.") from error

    def __getitem__(self, name: str) -> Ragged | Array:
        return self._columns[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._columns)

    def __len__(self) -> int:
        return len(self._columns)


def _check(path: Path, index: Mapping[str, Any]) -> None:
    if index["format"] != FORMAT:
        raise ValueError(f"it has format {index['format']}, this version reads {FORMAT}")
    for name, size in index["files"].items():
        if (found := (path / name).stat().st_size) != size:
            raise ValueError(f"{name} has {found} bytes instead of {size}")


def _open_column(path: Path, column: Mapping[str, Any]) -> Ragged | Array:
    if column["kind"] == "dense":
        return _map(path / f"{column['file']}.npy")
    values, offsets = _map(path / f"{column['file']}.values.npy"), _map(path / f"{column['file']}.offsets.npy")
    if offsets[0] != 0 or offsets[-1] != len(values):
        raise ValueError(f"the offsets of column {column['file']} do not fit its {len(values)} values")
    return Ragged(values, offsets, int(column["truncated"]))


def _map(path: Path) -> Array:
    """A plain array over the mapped file: `np.memmap`'s own class makes each small indexing many times slower."""
    return np.asarray(np.load(path, mmap_mode="r", allow_pickle=False))


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Errors of the disk as a `DataError` that says where and what to do."""
    try:
        yield
    except FileExistsError:
        raise
    except OSError as error:
        full = error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
        advice = "Free some space there" if full else "Make it writable"
        raise DataError(
            f"The encoded data cannot be written to {str(path.parent)!r}: {error.strerror or error}. "
            f"{advice}, or set $RECURRA_CACHE to a folder on another disk."
        ) from error
