"""A table: rows of one or several files or frames, read in chunks, again and again, in constant memory for files."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from recurra.data.sources import BadRow, Source
from recurra.errors import DataError, EmptyData, MissingColumn, nearest

if TYPE_CHECKING:
    import polars as pl

__all__ = ["Table", "require_columns"]

_CHUNK_BYTES = 16 * 2**20


class Table:
    """Rows with named columns.

    Attributes:
        columns: names, those made by `join` last.
        schema: their polars types. Cells of delimited text are strings; other formats keep their types.
        description: what it was read from, for messages.
        join: columns made of others, as given to `read`.
    """

    def __init__(self, sources: Sequence[Source], description: str, *, join: Mapping[str, Sequence[str]] | None = None) -> None:
        """Check that the sources fit together.

        Raises:
            DataError: they have different columns, or a column is joined of none.
            MissingColumn: a column to join is not there.
        """
        import polars as pl

        self._sources = list(sources)
        self.description = description
        self.join = {name: list(parts) for name, parts in (join or {}).items()}
        self.schema = _common_schema(self._sources)
        for name, parts in self.join.items():
            if not parts:
                raise DataError(f"The column {name!r} is joined of no columns: name some, as in data.join={{{name}: [title, text]}}.")
        _require(self.schema, [part for parts in self.join.values() for part in parts], description)
        self.schema |= dict.fromkeys(self.join, pl.String())
        self.columns = list(self.schema)
        self._head: pl.DataFrame | None = None
        self._head_is_all = False
        self._fingerprint: str | None = None

    def chunks(self, columns: Sequence[str] | None = None, size: int = 65_536) -> Iterator[pl.DataFrame]:
        """All rows, in order.

        Args:
            columns: the columns wanted; all when not given.
            size: most rows of a chunk. Chunks of long texts have fewer, so that one holds about 16 MB.

        Yields:
            Frames with the wanted columns. A missing value is null, also where a frame had NaN.

        Raises:
            RowError: a row of a file cannot be read, and the table was read with `on_error="fail"`.
            MissingColumn: a wanted column is not there.
        """
        import polars as pl

        wanted = list(self.columns if columns is None else columns)
        require_columns(self, wanted)
        changes = self._changes(wanted)
        waiting: list[pl.DataFrame] = []
        rows = held = 0
        for frame in self._frames():
            for piece in frame.with_columns(changes).select(wanted).iter_slices(size):
                if waiting and rows + piece.height > size:
                    yield pl.concat(waiting)
                    waiting, rows, held = [], 0, 0
                waiting.append(piece)
                rows += piece.height
                held += int(piece.estimated_size())
            if held >= _CHUNK_BYTES:
                yield pl.concat(waiting)
                waiting, rows, held = [], 0, 0
        if waiting:
            yield pl.concat(waiting)

    def head(self, rows: int) -> pl.DataFrame:
        """The first `rows` rows (fewer where there are no more)."""
        import polars as pl

        if self._head is None or (self._head.height < rows and not self._head_is_all):
            pieces = [pl.DataFrame(schema=self.schema)]
            found, self._head_is_all = 0, False
            for chunk in self.chunks(size=max(1, min(rows, 65_536))):
                pieces.append(chunk)
                found += chunk.height
                if found >= rows:
                    break
            else:
                self._head_is_all = True
            self._head = pl.concat(pieces).head(rows)
        return self._head.head(rows)

    def count(self) -> int:
        """Rows; reads files whose format does not say it, once."""
        return sum(source.count() for source in self._sources)

    def place(self, row: int) -> str:
        """Where row `row` (from 0) stands: `"tickets.csv:123"`, or the number of a row of a frame."""
        for source in self._sources[:-1]:
            if row < source.count():
                return source.place(row)
            row -= source.count()
        return self._sources[-1].place(row)

    @property
    def bad_rows(self) -> list[BadRow]:
        """Rows that could not be read and were left out (the first 1,000 of a file); empty unless `on_error="skip"`."""
        return [bad for source in self._sources for bad in source.bad_rows()]

    @property
    def bad_row_count(self) -> int:
        """How many rows could not be read and were left out, beyond those that `bad_rows` keeps too."""
        return sum(source.bad_row_count() for source in self._sources)

    def fingerprint(self) -> str:
        """Hash of the content, 32 hexadecimal digits: bytes of the files, or cells of a frame, and what is joined."""
        if self._fingerprint is None:
            digest = hashlib.blake2b(digest_size=16)
            for source in self._sources:
                source.digest(digest)
                digest.update(b"\0")
            digest.update(repr(sorted(self.join.items())).encode())
            self._fingerprint = digest.hexdigest()
        return self._fingerprint

    def require_rows(self) -> None:
        """Check that there is a row.

        Raises:
            EmptyData: there is none.
        """
        if not self.head(1).height:
            raise EmptyData(f"{self.description} has columns ({', '.join(self.columns)}) and no rows that can be read.")

    def _frames(self) -> Iterator[pl.DataFrame]:
        """Frames of all sources in the same column order and types."""
        import polars as pl

        own = [name for name in self.columns if name in self._sources[0].schema]
        casts = {name: self.schema[name] for name in own if any(s.schema[name] != self.schema[name] for s in self._sources)}
        casts = {name: dtype for name, dtype in casts.items() if name not in self.join}
        for source in self._sources:
            for frame in source.frames():
                yield frame.select(pl.col(own)).cast(casts)  # type: ignore[arg-type]

    def _changes(self, wanted: Sequence[str]) -> list[pl.Expr]:
        import polars as pl

        changes = [pl.col(n).fill_nan(None) for n in wanted if self.schema[n].is_float() and n not in self.join]
        for name, parts in self.join.items():
            if name in wanted:
                joined = pl.concat_str([self._as_text(part) for part in parts], separator=" ", ignore_nulls=True)
                changes.append(pl.when(joined != "").then(joined).alias(name))
        return changes

    def _as_text(self, name: str) -> pl.Expr:
        import polars as pl

        dtype = self._sources[0].schema[name]
        return pl.col(name).cast(pl.List(pl.String)).list.join(" ") if isinstance(dtype, pl.List) else pl.col(name).cast(pl.String)


def require_columns(table: Table, names: Iterable[str]) -> None:
    """Check that a table has columns.

    Raises:
        MissingColumn: it has not; the message lists its columns and the nearest name.
    """
    _require(table.columns, names, table.description)


def _require(columns: Iterable[str], names: Iterable[str], description: str) -> None:
    known = list(columns)
    for name in names:
        if name not in known:
            raise MissingColumn(f"There is no column {name!r} in {description}.{nearest(name, known)} Its columns: {', '.join(known)}.")


def _common_schema(sources: Sequence[Source]) -> dict[str, pl.DataType]:
    """Columns in the order of the first source; types that differ become Float64 or text."""
    import polars as pl

    first, *others = sources
    schema = dict(first.schema)
    for source in others:
        missing = [name for name in schema if name not in source.schema]
        added = [name for name in source.schema if name not in schema]
        if missing or added:
            parts = [f"it lacks {', '.join(map(repr, missing))}"] if missing else []
            parts += [f"it has {', '.join(map(repr, added))} besides"] if added else []
            hint = nearest(missing[0], added) if missing and added else ""
            raise DataError(
                f"{source.name} does not have the columns of {first.name}: {' and '.join(parts)}.{hint} "
                "Files read together need the same columns."
            )
        for name, dtype in source.schema.items():
            known = schema[name]
            if known != dtype and (known.is_nested() or dtype.is_nested()):
                raise DataError(
                    f"The column {name!r} holds {known} in {first.name} and {dtype} in {source.name}: "
                    "files read together need the same kind."
                )
            if known != dtype:
                schema[name] = pl.Float64() if known.is_numeric() and dtype.is_numeric() else pl.String()
    return schema
