"""Delimited text files (CSV, TSV): dialect, header, rows, and the place of every row.

Cells stay strings, and an empty cell is missing (null): what a column means is decided in `columns.py` from its values.
Blank lines are no rows, except in a file of one column, where they are missing values.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from recurra.data.records import BLOCK_BYTES, Block, Dialect, Record, blocks, scan
from recurra.data.sources import BadRow, digest_file, open_bytes, row_error
from recurra.errors import DataError, EmptyData, RowError

if TYPE_CHECKING:
    from hashlib import blake2b

    import polars as pl

__all__ = ["DelimitedFile"]

_SAMPLE_BYTES = 2**20
_SAMPLE_RECORDS = 200
_SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
_NO_SEPARATOR = "\x1f"  # for files of one column, where commas are part of the text
_BAD_ROWS_KEPT = 1_000
_UTF8_ADVICE = "Save the file as UTF-8 (for example: iconv -f latin1 -t utf-8 OLD > NEW)"
_ROW_ADVICE = "Correct the row"


class DelimitedFile:
    """A CSV or TSV file, plain or compressed.

    Attributes:
        name: the path, for messages.
        schema: every column is text.
        dialect: separator and quoting, detected from the start of the file.
        note: what was detected and is not what the file's extension says; empty otherwise.
    """

    def __init__(self, path: Path, *, on_error: str = "fail") -> None:
        """Read the header.

        Raises:
            EmptyData: the file is empty.
            DataError: it is not UTF-8 text, or column names repeat.
        """
        import polars as pl

        self.name = str(path)
        self._path = path
        self._skip = on_error == "skip"
        with open_bytes(path) as file:
            sample = file.read(_SAMPLE_BYTES)
            more = bool(file.read(1))
        self._start = 3 if sample.startswith(b"\xef\xbb\xbf") else 0
        sample = sample[self._start :]
        _check_text(sample, self.name)
        self.dialect, self.note = _detect(sample, more, tab="tsv" in path.name.lower() or ".tab" in path.name.lower())
        header = next((r for r in scan(sample, 1, self.dialect) if r.fields != [""]), None)
        if header is None:
            raise EmptyData(f"{self.name} is empty: it needs a header line with the names of the columns, and rows below it.")
        if header.problem:
            raise RowError(f"the header cannot be read: {header.problem}.", source=self.name, line=header.line)
        self._first_line = 1 + sample.count(b"\n", 0, header.end)
        self._start += header.end
        self.schema: dict[str, pl.DataType] = dict.fromkeys(_column_names(header, self.name), pl.String())
        self._rows: dict[int, int] = {}  # block -> good rows in it, for the blocks read so far
        self._bad: list[BadRow] = []
        self._bad_count = 0
        self._complete = False

    def frames(self) -> Iterator[pl.DataFrame]:
        """The rows, some megabytes at a time.

        Raises:
            RowError: a row cannot be read and rows are not to be skipped; named by file and line.
        """
        for number, block in enumerate(self._blocks()):
            frame = self._read(number, block)
            if frame.height:
                yield frame
        self._complete = True

    def count(self) -> int:
        """Rows that can be read; reads the file once."""
        self._survey()
        return sum(self._rows.values())

    def bad_rows(self) -> list[BadRow]:
        """Rows left out (the first 1,000); reads the file once."""
        self._survey()
        return list(self._bad)

    def bad_row_count(self) -> int:
        """Rows left out, all of them; reads the file once."""
        self._survey()
        return self._bad_count

    def place(self, row: int) -> str:
        """`path:line` of a row; exact also where quoted text holds line breaks."""
        for number, block in enumerate(self._blocks()):
            if number not in self._rows:
                self._read(number, block)
            rows = self._rows[number]
            if row < rows:
                good = (r.line for r in self._records(block) if not self._problem(r))
                return f"{self.name}:{next(line for index, line in enumerate(good) if index == row)}"
            row -= rows
        raise IndexError(row)

    def digest(self, into: blake2b) -> None:
        """Feed the file's bytes to a hash."""
        digest_file(self._path, into)

    def _survey(self) -> None:
        if not self._complete:
            for _ in self.frames():
                pass

    def _blocks(self) -> Iterator[Block]:
        with open_bytes(self._path) as file:
            _skip_bytes(file, self._start)
            yield from blocks(file, self.dialect, self._first_line)

    def _read(self, number: int, block: Block) -> pl.DataFrame:
        """The rows of a block; its number of rows and its bad rows are remembered."""
        frame, bad = self._parse(block)
        if bad and not self._skip:
            raise row_error(bad[0], _UTF8_ADVICE if "UTF-8" in bad[0].reason else _ROW_ADVICE)
        if number not in self._rows:
            self._rows[number] = frame.height
            self._bad.extend(bad[: _BAD_ROWS_KEPT - len(self._bad)])
            self._bad_count += len(bad)
        return frame

    def _parse(self, block: Block) -> tuple[pl.DataFrame, list[BadRow]]:
        import polars as pl

        frame = self._parse_fast(block.data) if block.records is None else None
        if frame is not None:
            return frame, []
        rows: list[list[str]] = []
        bad: list[BadRow] = []
        for record in self._records(block):
            problem = self._problem(record)
            if problem:
                bad.append(BadRow(self.name, record.line, problem))
            else:
                rows.append(record.fields)
        columns = (
            [pl.Series(name, cells, pl.String) for name, cells in zip(self.schema, zip(*rows, strict=True), strict=True)] if rows else []
        )
        frame = pl.DataFrame(columns) if rows else pl.DataFrame(schema=self.schema)
        return frame.with_columns(pl.all().replace("", None)), bad

    def _parse_fast(self, data: bytes) -> pl.DataFrame | None:
        """The block through polars; None where it is not made of good rows only, which polars alone would not always say."""
        import polars as pl

        try:
            frame = pl.read_csv(
                data,
                has_header=False,
                schema=self.schema,
                separator=self.dialect.separator,
                quote_char='"' if self.dialect.quotes else None,
                null_values=[""],  # a cell "" too
            )
        except pl.exceptions.PolarsError:
            return None
        # Too short rows are filled up by polars. They show in the number of separators: those between cells and those in them.
        separator = self.dialect.separator
        inside = frame.select(pl.all().str.count_matches(separator, literal=True).sum()).sum_horizontal().item() if frame.height else 0
        between = frame.height * (len(self.schema) - 1)
        return frame if data.count(separator.encode()) == between + inside else None

    def _records(self, block: Block) -> Iterator[Record]:
        records = block.records if block.records is not None else scan(block.data, block.line, self.dialect)
        blank_is_row = len(self.schema) == 1
        return (r for r in records if blank_is_row or r.fields != [""])

    def _problem(self, record: Record) -> str:
        if record.problem or len(record.fields) == len(self.schema):
            return record.problem
        fields = "1 field" if len(record.fields) == 1 else f"{len(record.fields)} fields"
        separator = self.dialect.separator
        advice = f"text that holds the separator {separator!r} belongs in double quotes"
        return f"the row has {fields} and the header has {len(self.schema)}; {advice}"


def _skip_bytes(file: object, count: int) -> None:
    while count > 0:
        piece = file.read(min(count, BLOCK_BYTES))  # type: ignore[attr-defined]
        if not piece:
            return
        count -= len(piece)


def _check_text(sample: bytes, name: str) -> None:
    if not sample.strip():
        raise EmptyData(f"{name} is empty: it needs a header line with the names of the columns, and rows below it.")
    if sample.startswith((b"\xff\xfe", b"\xfe\xff")) or sample.count(b"\0") > len(sample) // 4:
        raise DataError(f"{name} is written in UTF-16. Save it as UTF-8 (for example: iconv -f utf-16 -t utf-8 OLD > NEW).")
    if sample.startswith((b"PAR1", b"PK\x03\x04", b"\x1f\x8b", b"ARROW1")):
        kind = {b"PA": "a Parquet file", b"PK": "a zip archive or an Excel file", b"\x1f\x8b": "gzip-compressed", b"AR": "an Arrow file"}[
            sample[:2]
        ]
        raise DataError(f"{name} is not text: it is {kind}. Give it the extension that says so, or save it as CSV.")
    if b"\n" not in sample and b"\r" in sample:
        raise DataError(f"{name} ends its lines with carriage returns only. Convert it (for example: tr '\\r' '\\n' < OLD > NEW).")


def _detect(sample: bytes, more: bool, *, tab: bool) -> tuple[Dialect, str]:
    """The dialect under which the rows of the sample agree best with its header; the extension's own wins a tie."""
    expected = "\t" if tab else ","
    best, best_share = Dialect(_NO_SEPARATOR), 0.0
    for separator in [expected, *(s for s in _SEPARATORS if s != expected)]:
        for quotes in (True, False) if b'"' in sample else (True,):
            share = _agreement(sample, Dialect(separator, quotes), more)
            if share > best_share and (quotes or _quotes_are_text(sample, separator, best_share)):
                best, best_share = Dialect(separator, quotes), share
    notes = [f"separated by {_SEPARATORS[best.separator]}"] if best.separator not in {expected, _NO_SEPARATOR} else []
    notes += [] if best.quotes else ["quotes are part of the text"]
    return best, ", ".join(notes)


def _agreement(sample: bytes, dialect: Dialect, more: bool) -> float:
    """Share of the sample's first records with as many fields as the header; 0 for a header of one field."""
    records = (r for r in scan(sample, 1, dialect, more=more) if r.fields != [""])
    widths = [len(r.fields) for r in itertools.islice(records, _SAMPLE_RECORDS)]
    return widths.count(widths[0]) / len(widths) if widths and widths[0] > 1 else 0.0


def _quotes_are_text(sample: bytes, separator: str, agreement: float) -> bool:
    """Whether more rows are broken by reading quotes as quotes than fields are properly enclosed in them."""
    edge = re.escape(separator.encode())
    head = b"\n".join(sample.split(b"\n", _SAMPLE_RECORDS)[:_SAMPLE_RECORDS])
    enclosed = len(re.findall(rb'(?:^|[\n%b])"[^"\n]*"(?=[\r\n%b]|$)' % (edge, edge), head))
    return (1 - agreement) * (head.count(b"\n") + 1) > enclosed


def _column_names(header: Record, source: str) -> list[str]:
    names = [field.strip() or f"column_{index + 1}" for index, field in enumerate(header.fields)]
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise RowError(
            f"the header names {', '.join(map(repr, repeated))} more than once. Give every column a name of its own.",
            source=source,
            line=header.line,
        )
    return names
