"""The tables of a run as one sequence of rows, read in chunks, and the part each row belongs to."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from time import monotonic

import numpy as np
import polars as pl

from recurra.config import Settings
from recurra.data.read import Table
from recurra.data.split import Part, assign_parts

__all__ = ["LEFT_OUT", "OPEN", "UNLABELLED", "Chunk", "Rows", "divide"]

LEFT_OUT = -1
"""Part of a row that is not used."""
OPEN = 3
"""Part of a row that is still to be split."""
UNLABELLED = 4
"""Part of a row that is trained on without a target."""
TELL_SECONDS = 10.0
"""Time between two lines on the reading of a large table."""


@dataclass(frozen=True)
class Chunk:
    """Consecutive rows of one table.

    Attributes:
        frame: the rows.
        start: number of the first of them among all rows of the run.
        table: they come from.
        own: number of the first of them in that table.
        part: of the table, None where its rows are still to be split.
    """

    frame: pl.DataFrame
    start: int
    table: Table
    own: int
    part: Part | None

    @property
    def numbers(self) -> np.ndarray:
        """Numbers of the rows among all rows of the run."""
        return np.arange(self.start, self.start + len(self.frame))


class Rows:
    """The tables of a run end to end, with one numbering of their rows.

    Args:
        tables: each with the part its rows belong to, None where they are still to be split.
        show: called with a line now and then while rows are read.
    """

    def __init__(self, tables: Sequence[tuple[Table, Part | None]], show: Callable[[str], None] | None = None) -> None:
        self.tables = tables
        self._show = show

    @property
    def first(self) -> Table:
        """The table of the training rows."""
        return self.tables[0][0]

    def chunks(self, columns: Sequence[str], stage: str = "reading", *, dividing: Sequence[str] = ()) -> Iterator[Chunk]:
        """All rows, in order; where that takes long, what has been read is told under the name of the stage.

        Args:
            columns: of every table.
            stage: what the reading is for.
            dividing: columns besides, of the tables whose rows are still to be split.
        """
        start = 0
        told = monotonic()
        for table, part in self.tables:
            own = 0
            for frame in table.chunks(list(dict.fromkeys([*columns, *(dividing if part is None else ())]))):
                yield Chunk(frame, start + own, table, own, part)
                own += len(frame)
                if self._show is not None and monotonic() - told > TELL_SECONDS:
                    told = monotonic()
                    self._show(f"{stage}: {start + own:,} rows read")
            start += own

    def gather(self, rows: np.ndarray, columns: Sequence[str]) -> pl.DataFrame:
        """The given rows (ascending) of the given columns, in one pass over the tables."""
        return pl.concat(chunk.frame[inside - chunk.start] for chunk, inside in self._found(rows, columns))

    def places(self, rows: np.ndarray, column: str) -> list[str]:
        """Files and lines of the given rows (ascending); each costs reading its file up to there, so few at a time.

        Args:
            rows: numbers of the rows.
            column: any that all tables have.
        """
        found = self._found(rows, [column])
        return [chunk.table.place(int(row) - chunk.start + chunk.own) for chunk, inside in found for row in inside]

    def _found(self, rows: np.ndarray, columns: Sequence[str]) -> Iterator[tuple[Chunk, np.ndarray]]:
        """Each chunk with those of `rows` that stand in it."""
        for chunk in self.chunks(columns):
            yield chunk, rows[np.searchsorted(rows, chunk.start) : np.searchsorted(rows, chunk.start + len(chunk.frame))]


def divide(
    rows: Rows,
    parts: np.ndarray,
    settings: Settings,
    *,
    stratify: np.ndarray | None = None,
    group: pl.Series | None = None,
    time: pl.Series | None = None,
) -> np.ndarray:
    """The parts with the open rows divided among training, validation and test.

    Args:
        rows: of the run. A part that has a table of its own gets no other rows.
        parts: (N,) the part of each row, `OPEN` where it is still to be split.
        settings: of the run, which hold the shares and the seed.
        stratify: (N,) classes whose shares are to be alike in all parts.
        group: values of `data.group` of the rows without a fixed part; equal ones stay together.
        time: values of `data.time` of these; training rows come first.
    """
    given = {part for _, part in rows.tables[1:]}
    chosen = np.flatnonzero(parts == OPEN)
    divided = parts.copy()
    if len(chosen):
        divided[chosen] = assign_parts(
            len(chosen),
            validation_share=0.0 if Part.VALIDATION in given else settings.data.validation_share,
            test_share=0.0 if Part.TEST in given else settings.data.test_share,
            stratify=pl.Series(stratify[chosen]) if stratify is not None else None,
            group=group.gather(chosen) if group is not None else None,
            time=time.gather(chosen) if time is not None else None,
            seed=settings.training.seed,
        )
    return divided
