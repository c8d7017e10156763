"""Cells whose state is a linear function of the state before, over long sequences, against an LSTM of equal width.

They compute something else than an LSTM: what is compared is the time that a layer of this width takes. Lengths are full.
"""

from __future__ import annotations

import itertools
import statistics
from typing import Any, NamedTuple

from benchmarks.kernels.cases import Case, Shape, Unable, make_data
from benchmarks.kernels.contenders import OTHERS, Call, ours, timed_call
from benchmarks.kernels.gate import check, make_oracle, refuse
from benchmarks.kernels.grid import modes_of
from benchmarks.kernels.options import Effort, Options
from benchmarks.kernels.report import Report, Target, milliseconds, table, times
from benchmarks.kernels.timing import interleave, pair_ratios
from benchmarks.kernels.variants import cell_named

__all__ = ["SCANS", "ScanRecord", "measure_scan", "run_scan"]

SCANS: tuple[tuple[str, ...], ...] = (
    ("mingru", "min_gru"),
    ("minlstm", "min_lstm"),
    ("sru",),
    ("qrnn",),
    ("rglru", "rg_lru"),
    ("indrnn", "ind_rnn"),
)
"""Cells of this kind, in the ways that their names may be spelt."""

SHAPES = (Shape(8, 4000, 128, 128), Shape(8, 4000, 256, 256), Shape(1, 4000, 128, 128))


class ScanRecord(NamedTuple):
    """Seconds of a call of a cell and of torch's LSTM, sample by sample."""

    case: Case
    training: bool
    samples: dict[str, list[float]]

    @property
    def ratio(self) -> float:
        """How many times longer the LSTM takes, as the median over the rounds."""
        return statistics.median(pair_ratios(self.samples["recurra"], self.samples["lstm of torch"]))

    def describe(self) -> dict[str, Any]:
        """Plain values with every sample, for JSON."""
        mode = "training" if self.training else "forward"
        return {**self.case.describe(), "mode": mode, "samples": self.samples, "ratio": self.ratio}


def run_scan(options: Options, report: Report) -> None:
    """Measure, print and write `scan.json`."""
    shapes = [Shape.parse(text) for text in options.shapes] or ((Shape(2, 400, 32, 32),) if options.quick else SHAPES)
    backend = options.backend[0] if options.backend else "auto"
    records: list[ScanRecord] = []
    left_out = {}
    for spellings in SCANS:
        try:
            cell = cell_named(*spellings)
        except Unable as error:
            left_out[spellings[0]] = str(error)
            continue
        if options.cells and cell not in options.cells:
            continue
        for shape, training in itertools.product(shapes, modes_of(options)):
            report.progress(f"{cell} {shape}, {'training' if training else 'forward'}")
            records.append(measure_scan(Case(cell, shape), training=training, backend=backend, effort=options.effort))
    heads = ["cell", "B,T,I,H", "mode", "recurra", "lstm of torch", "times"]
    report.print(table("Linear-scan cells: milliseconds", heads, [_row(record) for record in records]))
    for name, reason in left_out.items():
        report.print(f"Left out: {name}: {reason}")
    targets = [Target("linear-scan cells, training, over torch.nn.LSTM", [r.ratio for r in records if r.training], least=5.0)]
    report.print_targets(targets)
    report.write("scan", {"cells": [record.describe() for record in records], "left_out": left_out}, targets)


def measure_scan(case: Case, *, training: bool, backend: str, effort: Effort) -> ScanRecord:
    """Check a cell and time it beside torch's LSTM.

    Raises:
        RedGate: its values are wrong.
    """
    data = make_data(case)
    oracle = make_oracle(case, data)
    refuse("recurra", case, check(ours(backend), oracle, training=training))
    lstm = case._replace(cell="lstm")
    other = make_data(lstm)
    calls: dict[str, Call] = {
        "recurra": timed_call(ours(backend)(case, data), data, training=training),
        "lstm of torch": timed_call(OTHERS["torch"](lstm, other), other, training=training),
    }
    return ScanRecord(case, training, interleave(calls, effort=effort))


def _row(record: ScanRecord) -> list[Any]:
    mine, other = (statistics.median(record.samples[name]) for name in ("recurra", "lstm of torch"))
    mode = "training" if record.training else "forward"
    return [record.case.cell, str(record.case.shape), mode, milliseconds(mine), milliseconds(other), times(record.ratio)]
