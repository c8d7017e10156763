"""From the rows of a table to flat arrays: rows that cannot be used are named, the others encoded."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import polars as pl

from recurra.data.read import BadRow, Table
from recurra.errors import RowError
from recurra.features import Encoded, Feature
from recurra.heads import Head

__all__ = ["TARGET", "encode_columns", "usable_rows"]

TARGET = "target:"
"""Prefix of the head's array among the encoded columns, so that it never meets a feature of the same name."""


def usable_rows(
    table: Table, frame: pl.DataFrame, rows: Sequence[int], *, columns: Sequence[Feature | Head], on_error: Literal["fail", "skip"]
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
        problems = column.problems(frame[column.name]) | problems
    bad = []
    for row in sorted(problems):
        source, line = table.place(rows[row])
        if on_error == "fail":
            raise RowError(problems[row], source=source, line=line)
        bad.append(BadRow(source, line, problems[row]))
    mask = pl.Series([row not in problems for row in range(len(frame))], dtype=pl.Boolean)
    return mask, bad


def encode_columns(frame: pl.DataFrame, features: Sequence[Feature], head: Head | None = None) -> dict[str, Encoded]:
    """Encoded columns by feature name, and the target under `TARGET` and the head's name."""
    columns: dict[str, Encoded] = {feature.name: feature.encode(frame[feature.name]) for feature in features}
    if head is not None:
        columns[TARGET + head.name] = head.encode(frame[head.name])
    return columns
