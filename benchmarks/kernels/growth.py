"""How the time grows in the rows, the steps and the hidden units: one of them varied at a time, lengths varied too."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.kernels.cases import GATES, Case, Shape, make_data
from benchmarks.kernels.contenders import contenders
from benchmarks.kernels.gate import make_oracle
from benchmarks.kernels.grid import modes_of, pick
from benchmarks.kernels.measure import Record, measure
from benchmarks.kernels.options import Options
from benchmarks.kernels.report import Report, milliseconds, table, times

__all__ = ["AXES", "BASE", "draw_curves", "run_growth"]

BASE = Shape(32, 100, 128, 128)
"""What stands still while one size is varied."""

AXES: dict[str, tuple[int, ...]] = {
    "batch_size": (1, 2, 4, 8, 16, 32, 64, 128, 256),
    "steps": (10, 20, 50, 100, 200, 500, 1000),
    "hidden_size": (16, 32, 64, 128, 256, 512, 1024),
}
LEGEND = {"torch": "torch, padded", "packed": "torch, packed"}
NAMES = {"batch_size": "rows B", "steps": "steps T", "hidden_size": "hidden units H"}


def run_growth(options: Options, report: Report) -> None:
    """Measure, print, write `growth.json`, and draw `growth.png` and `growth.html`."""
    named = contenders(options.backend, options.contenders)
    mine, *others = named
    cells = pick("cell", {cell: cell for cell in GATES}, options.cells or ("lstm",))
    base = Shape(8, 20, 32, 32) if options.quick else BASE
    points: list[tuple[str, Record]] = []
    for cell in cells:
        for axis, values in AXES.items():
            for value in values[:3] if options.quick else values:
                case = Case(cell, base._replace(**{axis: value}), varied=True)
                report.progress(f"growth in {NAMES[axis]}: {case}")
                data = make_data(case)
                oracle = make_oracle(case, data)
                for training in modes_of(options):
                    record = measure(case, data, oracle, contenders=named, training=training, effort=options.effort)
                    points.append((axis, record))
        report.take_rate()
    for axis, name in NAMES.items():
        chosen = [record for varied, record in points if varied == axis]
        report.print(table(f"Growth in the {name}, from {base}: milliseconds", ["", "", name, *named], _rows(chosen, axis, mine, others)))
    curves = [{"axis": axis, **record.describe(report.rate)} for axis, record in points]
    report.write("growth", {"base": base._asdict(), "points": curves})
    draw_curves(curves, report.folder)


def draw_curves(points: list[dict[str, Any]], folder: Path) -> None:
    """One panel a size and mode, both axes logarithmic: a straight line of slope one is time in proportion."""
    import altair as alt

    modes = list(dict.fromkeys(point["mode"] for point in points))
    cells = list(dict.fromkeys(point["cell"] for point in points))
    rows = [
        alt.hconcat(
            *(
                _panel([p for p in points if (p["mode"], p["cell"], p["axis"]) == (mode, cell, axis)], axis, f"{cell}, {mode}")
                for axis in NAMES
            )
        )
        for cell in cells
        for mode in modes
    ]
    chart = alt.vconcat(*rows)
    chart.save(folder / "growth.png", scale_factor=2.0)
    chart.save(folder / "growth.html", inline=True)


def _panel(points: list[dict[str, Any]], axis: str, title: str) -> Any:
    import altair as alt

    values = [
        {"size": point[axis], "milliseconds": seconds * 1e3, "contender": LEGEND.get(name, name)}
        for point in points
        for name, seconds in point["median"].items()
        if seconds is not None
    ]
    sizes = sorted({point[axis] for point in points})
    return (
        alt.Chart({"values": values}, title=title, width=260, height=220)
        .mark_line(point=True)
        .encode(
            x=alt.X("size:Q", scale=alt.Scale(type="log", nice=False), axis=alt.Axis(values=sizes), title=NAMES[axis]),
            y=alt.Y("milliseconds:Q", scale=alt.Scale(type="log", nice=False)),
            color=alt.Color("contender:N", title=None),
        )
    )


def _rows(records: list[Record], axis: str, mine: str, others: list[str]) -> list[list[Any]]:
    rows = []
    for record in records:
        theirs = [f"{milliseconds(record.seconds(name))} ({times(record.ratio(name, mine))})" for name in others]
        size = getattr(record.case.shape, axis)
        rows.append([record.case.cell, "training" if record.training else "forward", size, milliseconds(record.seconds(mine)), *theirs])
    return rows
