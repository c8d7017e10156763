"""Every cell side by side in one layer of one size: parameters, operations, memory for the backward pass, time."""

from __future__ import annotations

import statistics
from typing import Any, NamedTuple

import torch
from torch import Tensor

from benchmarks.kernels.cases import Case, Shape, make_data
from benchmarks.kernels.contenders import OTHERS, make_stack, ours, timed_call
from benchmarks.kernels.gate import check, make_oracle, refuse
from benchmarks.kernels.options import Effort, Options
from benchmarks.kernels.report import Report, milliseconds, table, times
from benchmarks.kernels.timing import interleave, pair_ratios
from recurra.cells import CELLS
from recurra.layers import Stack

__all__ = ["CellRecord", "kept_bytes", "measure_cell", "run_overview"]

SHAPE = Shape(32, 200, 128, 128)


class CellRecord(NamedTuple):
    """What was measured of a cell.

    Attributes:
        case: the cell and the size.
        parameters: numbers that are trained.
        operations: floating-point operations in the products of one step of one row: two for each weight of a matrix.
        kept: bytes that one step of one row keeps for the backward pass, the input and the output among them.
        path: the backend that ran.
        samples: seconds of a forward call and of a training step, and of a training step of torch's LSTM.
    """

    case: Case
    parameters: int
    operations: int
    kept: float
    path: str
    samples: dict[str, list[float]]

    def describe(self) -> dict[str, Any]:
        """Plain values with every sample, for JSON."""
        return {**self.case.describe(), **{name: getattr(self, name) for name in self._fields[1:]}}


def run_overview(options: Options, report: Report) -> None:
    """Measure, print and write `overview.json`."""
    shape = Shape.parse(options.shapes[0]) if options.shapes else Shape(4, 20, 16, 16) if options.quick else SHAPE
    backend = options.backend[0] if options.backend else "auto"
    records = []
    for cell in options.cells or tuple(CELLS):
        report.progress(f"{cell} {shape}")
        records.append(measure_cell(Case(cell, shape), backend=backend, effort=options.effort))
    heads = ["cell", "parameters", "operations a step", "kept a step", "forward ms", "training ms", "speed against torch's LSTM", "runs on"]
    report.print(table(f"One layer at B,T,I,H = {shape}", heads, [_row(record) for record in records]))
    report.write("overview", {"cells": [record.describe() for record in records]}, [])


def measure_cell(case: Case, *, backend: str, effort: Effort) -> CellRecord:
    """Check a cell and time it beside torch's LSTM.

    Raises:
        RedGate: its values are wrong.
    """
    data = make_data(case)
    refuse("recurra", case, check(ours(backend), make_oracle(case, data), training=True))
    stack = make_stack(case, data, backend)
    lstm = case._replace(cell="lstm")
    calls = {
        "forward": timed_call(ours(backend)(case, data), data, training=False),
        "training": timed_call(ours(backend)(case, data), data, training=True),
        "lstm of torch": timed_call(OTHERS["torch"](lstm, make_data(lstm)), make_data(lstm), training=True),
    }
    parameters = list(stack.parameters())
    return CellRecord(
        case,
        sum(each.numel() for each in parameters),
        2 * sum(each.numel() for each in parameters if each.ndim == 2),
        kept_bytes(stack, data.x) / (case.shape.batch_size * case.shape.steps),
        stack.explain_backend().partition("runs on ")[2].partition(":")[0],
        interleave(calls, effort=effort),
    )


def kept_bytes(stack: Stack, x: Tensor) -> int:
    """Bytes of all tensors that a training call keeps for its backward pass, but for the parameters."""
    storages = {parameter.untyped_storage().data_ptr() for parameter in stack.parameters()}
    kept: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in storages:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    alive = []  # a storage must not be freed and its place taken while they are counted
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: alive.append(tensor) or note(tensor), lambda tensor: tensor):
        stack(x.clone().requires_grad_())
    return sum(kept.values())


def _row(record: CellRecord) -> list[Any]:
    medians = {name: statistics.median(samples) for name, samples in record.samples.items()}
    ratio = statistics.median(pair_ratios(record.samples["training"], record.samples["lstm of torch"]))
    return [
        record.case.cell,
        f"{record.parameters:,}",
        f"{record.operations:,}",
        f"{record.kept:,.0f} bytes",
        milliseconds(medians["forward"]),
        milliseconds(medians["training"]),
        times(ratio),
        record.path,
    ]
