"""From the rows of a table to flat arrays: rows that cannot be used are named, the others encoded."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import polars as pl

from recurra.data.read import BadRow, Table
from recurra.errors import RowError
from recurra.features import Encoded, Feature
from recurra.heads import Output

__all__ = ["encode_columns", "row_place", "usable_rows"]

PLACED, PLACED_AMONG = 20, 100_000
"""Rows left out that are named by file and line, of one piece and among the first rows of a table; the others are named
by their number, because finding a line means reading the file up to there."""


def usable_rows(
    table: Table, frame: pl.DataFrame, rows: Sequence[int], *, columns: Sequence[Feature | Output], on_error: Literal["fail", "skip"]
) -> tuple[pl.Series, list[BadRow]]:
    """Which rows of a frame can be encoded.

    Args:
        table: the frame comes from; it knows the files and lines.
        frame: some of the table's rows.
        rows: number of each of them in the table.
        columns: features and head that will encode them.
        on_error: "fail" raises for the first row with a problem.

    Returns:
        True where a row can be used, and the other rows with the reason, in order.

    Raises:
        RowError: a row has a problem and on_error is "fail".
    """
    problems: dict[int, str] = {}
    for column in columns:
        problems = (column.row_problems(frame) if isinstance(column, Output) else column.problems(frame[column.name])) | problems
    bad = []
    for number, row in enumerate(sorted(problems)):
        if on_error == "fail":
            source, line = row_place(table, rows[row])
            raise RowError(problems[row], source=source, line=line)
        exact = number < PLACED and rows[row] < PLACED_AMONG
        bad.append(BadRow(*(row_place(table, rows[row]) if exact else (f"{table.description}, row", rows[row] + 1)), problems[row]))
    mask = pl.Series([row not in problems for row in range(len(frame))], dtype=pl.Boolean)
    return mask, bad


def row_place(table: Table, row: int) -> tuple[str, int]:
    """File (or description of a frame) and 1-based line (or row of a frame) of a table's row."""
    source, _, line = table.place(row).rpartition(":")
    return source, int(line.removeprefix(" row "))


def encode_columns(frame: pl.DataFrame, features: Sequence[Feature]) -> dict[str, Encoded]:
    """Encoded columns by feature name."""
    return {feature.name: feature.encode(frame[feature.name]) for feature in features}
