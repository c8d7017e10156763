"""The grid: cells, shapes, directions, lengths and modes, each against every contender that can do it."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from benchmarks.kernels.cases import GATES, GRID, Case, Shape, make_data
from benchmarks.kernels.contenders import contenders, rival
from benchmarks.kernels.gate import make_oracle
from benchmarks.kernels.measure import Record, measure
from benchmarks.kernels.options import Options
from benchmarks.kernels.report import Report, Target, milliseconds, table, times

__all__ = ["grid_cases", "grid_targets", "pick", "run_grid"]

QUICK = (Shape(128, 20, 64, 96), Shape(16, 50, 128, 128))
"""A shape of the grid and a small one."""

T = TypeVar("T")


def run_grid(options: Options, report: Report) -> None:
    """Measure, print and write `grid.json`."""
    modes = modes_of(options)
    named = contenders(options.backend, options.contenders)
    records: list[Record] = []
    cases = list(grid_cases(options))
    for number, case in enumerate(cases):
        report.progress(f"{number + 1} of {len(cases)}: {case}")
        data = make_data(case)
        oracle = make_oracle(case, data)
        records += [measure(case, data, oracle, contenders=named, training=training, effort=options.effort) for training in modes]
        if number + 1 == len(cases) or cases[number + 1].shape != case.shape:
            report.take_rate()
    for cell, training in itertools.product(dict.fromkeys(case.cell for case in cases), modes):
        chosen = [record for record in records if record.case.cell == cell and record.training == training]
        report.print(_table(cell, chosen, list(named), report.rate))
    targets = grid_targets(records, next(iter(named)), report.rate)
    report.print_targets(targets)
    report.write("grid", {"cases": [record.describe(report.rate) for record in records]}, targets)


def grid_cases(options: Options) -> Iterator[Case]:
    """The cases that the options leave, shape by shape."""
    shapes = [Shape.parse(text) for text in options.shapes] or (QUICK if options.quick else GRID)
    cells = pick("cell", {cell: cell for cell in GATES}, options.cells)
    directions = pick("direction", {"forward": False, "both": True}, options.directions)
    lengths = pick("lengths", {"full": False, "varied": True}, options.lengths)
    for shape, cell, bidirectional, varied in itertools.product(shapes, cells, directions, lengths):
        yield Case(cell, shape, bidirectional, varied)


def modes_of(options: Options) -> tuple[bool, ...]:
    """Training or not, in turn."""
    return tuple(pick("mode", {"forward": False, "training": True}, options.modes))


def pick(what: str, there: dict[str, T], wanted: Sequence[str]) -> list[T]:
    """What is wanted of what is there; all when nothing is said.

    Raises:
        SystemExit: a name is unknown.
    """
    unknown = [name for name in wanted if name not in there]
    if unknown:
        raise SystemExit(f"There is no {what} {', '.join(unknown)}: use {', '.join(there)}.")
    return [value for name, value in there.items() if not wanted or name in wanted]


def grid_targets(records: Sequence[Record], mine: str, rate: float) -> list[Target]:
    """What the grid has to show. LSTM and GRU count; Elman's network stands beside them, without a target."""

    def ratios(choose: Callable[[Record], bool]) -> list[float]:
        found = [record.ratio(rival(record.case), mine) for record in records if choose(record)]
        return [ratio for ratio in found if ratio is not None]

    def gated(record: Record) -> bool:
        return record.case.cell in {"lstm", "gru"}

    def wide(record: Record) -> bool:
        return record.training and gated(record) and record.case.shape.batch_size >= 32 and record.case.shape.hidden_size >= 128

    shares = [share for record in records if wide(record) if (share := record.share(mine, rate)) is not None]
    return [
        Target("training, varied lengths, over packed torch", ratios(lambda r: r.training and gated(r) and r.case.varied), 3.0, 1.3),
        Target("training, full lengths, over torch", ratios(lambda r: r.training and gated(r) and not r.case.varied), 1.15, 0.95),
        Target("forward, over torch (packed where varied)", ratios(lambda r: not r.training and gated(r)), 1.5, 1.05),
        Target("forward, varied lengths, over packed torch", ratios(lambda r: not r.training and gated(r) and r.case.varied)),
        Target("forward, full lengths, over torch", ratios(lambda r: not r.training and gated(r) and not r.case.varied)),
        Target("share of the matrix-multiply rate, training, B>=32, H>=128", shares, least=0.7),
        Target("elman, training, over torch (packed where varied)", ratios(lambda r: r.training and not gated(r))),
        Target("elman, forward, over torch (packed where varied)", ratios(lambda r: not r.training and not gated(r))),
    ]


def _table(cell: str, records: Sequence[Record], names: list[str], rate: float) -> Any:
    """A cell in one mode: milliseconds of every contender, and how many times the first's these are."""
    mine, *others = names
    title = f"{cell}, {'training step' if records[0].training else 'forward'}: milliseconds (times {mine}'s)"
    rows = []
    for record in records:
        direction = "both" if record.case.bidirectional else "one"
        share = record.share(mine, rate)
        row = [str(record.case.shape), direction, "varied" if record.case.varied else "full", milliseconds(record.seconds(mine))]
        row.append("-" if share is None else f"{share:.0%}")
        for name in others:
            wrong = "*" if name in record.notes else ""
            there = record.seconds(name) is not None
            row.append(f"{milliseconds(record.seconds(name))} ({times(record.ratio(name, mine))}){wrong}" if there else "-")
        rows.append(row)
    made = table(title, ["B,T,I,H", "directions", "lengths", mine, "of matrix rate", *others], rows)
    left_out = {f"{name}: {reason}" for record in records for name, reason in record.left_out.items()}
    starred = {f"* {name}: {note}" for record in records for name, note in record.notes.items()}
    made.caption, made.caption_justify = "\n".join([*sorted(starred), *sorted(left_out)]), "left"
    return made
