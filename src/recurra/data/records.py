"""Cutting delimited text (CSV, TSV) into blocks of whole records and, where needed, into single records.

A block is some megabytes that end at the end of a record, so that a file of any size is read in constant memory.
Most blocks are *regular* (every quote stands where RFC 4180 puts it) and can be handed to the fast parser whole;
the others are cut record by record here, exactly but slowly, which is also how the line of a bad row is found.
This file knows bytes and lines, not columns and types; those are in `delimited.py`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np

__all__ = ["BLOCK_BYTES", "RECORD_BYTES", "Block", "Dialect", "Record", "blocks", "scan"]

BLOCK_BYTES = 4 * 2**20
RECORD_BYTES = 64 * 2**20  # the longest record: what is longer is taken for a quote that was never closed

_QUOTE, _NEWLINE, _RETURN = 0x22, 0x0A, 0x0D
# After an opening quote: the text, doubled quotes included, up to the closing one. Possessive, so that it never backtracks.
_CLOSING = re.compile(rb'[^"]*+(?:""[^"]*+)*+"')


@dataclass(frozen=True)
class Dialect:
    """How a delimited file is written.

    Attributes:
        separator: the one ASCII character between fields.
        quotes: whether double quotes enclose fields; otherwise they are text like any other.
    """

    separator: str = ","
    quotes: bool = True


@dataclass(frozen=True)
class Record:
    """One record of a delimited file.

    Attributes:
        line: its first line, 1-based in the file.
        fields: its fields without their quotes; empty for a record that cannot be read.
        problem: why it cannot be read; empty for a good one.
        end: offset just behind it in the scanned bytes.
    """

    line: int
    fields: list[str]
    problem: str
    end: int


@dataclass(frozen=True)
class Block:
    """Whole records of a delimited file.

    Attributes:
        data: their bytes.
        line: line of the first one, 1-based in the file.
        records: the records one by one where the block is not regular; None where `data` can be parsed as a whole.
    """

    data: bytes
    line: int
    records: list[Record] | None


def blocks(file: BinaryIO, dialect: Dialect, line: int, size: int = BLOCK_BYTES) -> Iterator[Block]:
    """The rest of `file` as blocks of whole records.

    Args:
        file: opened for reading bytes, standing at the start of a record.
        dialect: how the file is written.
        line: number of the line at which the file stands.
        size: bytes read at once; a longer record makes a longer block.
    """
    rest = b""
    while True:
        piece = file.read(max(size, len(rest)))  # doubling keeps one long record from being copied over and over
        more = bool(piece)
        data = rest + piece
        if not data:
            return
        end, records = _cut(data, dialect, line, more)
        if end:
            yield Block(data[:end], line, records)
            line += data.count(b"\n", 0, end)
        rest = data[end:]
        if not more:
            return


def _cut(data: bytes, dialect: Dialect, line: int, more: bool) -> tuple[int, list[Record] | None]:
    """Where the last whole record of `data` ends (0 when more bytes are needed), and the records unless regular."""
    if not dialect.quotes:
        return (data.rfind(b"\n") + 1 if more else len(data)), None
    array = np.frombuffer(data, np.uint8)
    quotes = np.flatnonzero(array == _QUOTE)
    if _regular(array, quotes, dialect, more):
        end = _last_record_end(data, quotes) if more else len(data)
        if end or len(data) < RECORD_BYTES:
            return end, None
    records = list(scan(data, line, dialect, more=more))
    return (records[-1].end if records else 0), records


def _regular(array: np.ndarray, quotes: np.ndarray, dialect: Dialect, more: bool) -> bool:
    """Whether counting quotes tells inside from outside: every opening and closing quote stands at the edge of a field.

    Quotes of even number (0, 2, ...) must open a field or follow the quote before them (`""`, a quote as text), those of
    odd number must close one or be followed by the next. One stray quote breaks the pattern and sends the block to `scan`.
    """
    if not quotes.size:
        return True
    if quotes.size % 2 and not more:
        return False
    edges = np.zeros(256, bool)
    edges[[_QUOTE, _NEWLINE, _RETURN, ord(dialect.separator)]] = True
    opening, closing = quotes[::2], quotes[1::2]
    if opening[0] == 0:
        opening = opening[1:]
    if closing.size and closing[-1] == len(array) - 1:
        closing = closing[:-1]
    return bool(edges[array[opening - 1]].all() and edges[array[closing + 1]].all())


def _last_record_end(data: bytes, quotes: np.ndarray) -> int:
    """Offset behind the last newline that an even number of quotes precedes; 0 when there is none."""
    stop = len(data)
    while True:
        newline = data.rfind(b"\n", 0, stop)
        before = int(np.searchsorted(quotes, newline))
        if newline < 0 or before % 2 == 0:
            return newline + 1
        stop = int(quotes[before - 1])  # all newlines back to this opening quote are inside its field


def scan(data: bytes, line: int, dialect: Dialect, *, more: bool = False) -> Iterator[Record]:
    """The records of `data` one by one.

    A quote that does not stand at the start of a field is text. A row in which a quoted field is never closed, or is
    closed on a later line in the middle of text, is bad by itself: scanning goes on at the line below it, so that one
    forgotten quote does not swallow the rows after it.

    Args:
        data: bytes from the start of a record.
        line: its line number.
        dialect: how the file is written.
        more: whether the file goes on behind `data`; an unfinished last record is then left out.
    """
    position = 0
    while position < len(data):
        newline = data.find(b"\n", position)
        end = newline + 1 if newline >= 0 else len(data)
        if newline < 0 and more and len(data) - position < RECORD_BYTES:
            return
        if not dialect.quotes or data.find(b'"', position, end) < 0:
            yield _record(data[position:end].rstrip(b"\r\n"), None, line, end, dialect)
        else:
            fields, record_end, closed = _quoted(data, position, dialect)
            unfinished = record_end == len(data) and (fields is None or not data.endswith(b"\n"))
            if unfinished and more and len(data) - position < RECORD_BYTES:
                return
            if fields is None or (not closed and record_end > end):
                problem = "a quoted field that opens in this row is not closed; write a quote inside quoted text twice"
                yield Record(line, [], problem, end)
            else:
                end = record_end
                yield _record(data[position:end], fields, line, end, dialect)
        line += data.count(b"\n", position, end)
        position = end


def _quoted(data: bytes, position: int, dialect: Dialect) -> tuple[list[bytes] | None, int, bool]:
    """Fields of a record with quotes (None when one is never closed), its end, and whether all quotes closed at a field's end."""
    separator = re.escape(dialect.separator.encode())
    edge = re.compile(separator + rb"|\n")
    fields: list[bytes] = []
    closed = True
    while True:
        text = b""
        if data[position : position + 1] == b'"':
            closing = _CLOSING.match(data, position + 1)
            if closing is None:
                return None, len(data), False
            text = data[position + 1 : closing.end() - 1].replace(b'""', b'"')
            position = closing.end()
        found = edge.search(data, position)
        rest = data[position : found.start() if found else len(data)]
        if found is None or found.group() == b"\n":
            rest = rest.removesuffix(b"\r")
        closed &= not (text and rest)
        fields.append(text + rest)
        if found is None:
            return fields, len(data), closed
        position = found.end()
        if found.group() == b"\n":
            return fields, position, closed


def _record(raw: bytes, fields: list[bytes] | None, line: int, end: int, dialect: Dialect) -> Record:
    try:
        texts = raw.decode().split(dialect.separator) if fields is None else [field.decode() for field in fields]
    except UnicodeDecodeError as error:
        byte = error.object[error.start]
        return Record(line, [], f"the byte 0x{byte:02x} is not valid UTF-8", end)
    return Record(line, texts, "", end)
