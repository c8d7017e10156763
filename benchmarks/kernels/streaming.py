"""One streamed step: one stream or many, the state carried from call to call, no gradients.

Beside each time stands the least that it can take, measured in the same rounds: the weights have to be read once, from the
cache they fit in. A new contender is a function `(cell, stack, batch_size) -> step` in `STEPPERS`.
"""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from benchmarks.kernels.cases import GATES, Case, Data, Shape, Unable, make_data, weight_bytes
from benchmarks.kernels.contenders import make_cells, make_layer, make_stack
from benchmarks.kernels.gate import Finding, refuse
from benchmarks.kernels.grid import pick
from benchmarks.kernels.options import Effort, Options
from benchmarks.kernels.report import Report, Target, table, times
from benchmarks.kernels.timing import interleave, pair_ratios
from recurra.kernels import RecurrentWeights
from recurra.kernels.compiled import UNAVAILABLE
from recurra.kernels.stepper import CompiledStepper, StepLayer
from recurra.layers import Stack, torch_weights
from recurra.layers import Stepper as PackedStepper
from recurra.testing.rounding import allowed_error, rounding_error

__all__ = ["STEPPERS", "StepRecord", "Stepper", "measure_step", "run_streaming"]

Stepper = Callable[[Tensor], Tensor]
"""`(B, I) -> (B, H)`; it keeps the state itself."""

SIZES = (64, 128, 256, 512)
STREAMS = (1, 64)
GATE_STEPS = 12
"""Steps that are compared with the reference."""
SHORTER = 10
"""A step takes microseconds: so many times as many samples as of a sequence, so many times shorter, of which most are not interrupted."""
HALF = "recurra stepper, 16-bit weights"
"""Name of the contender whose weights are rounded: it is held against the reference with the same rounded weights."""
READING = "reading the weights"
"""Name of the samples of that."""


def _cell(case: Case, data: Data) -> Stepper:
    """The cell's `step`."""
    cell = make_stack(case, data, "auto").eval().cells[0]
    state = cell.initial_state(case.shape.batch_size)  # type: ignore[operator]

    def step(x: Tensor) -> Tensor:
        nonlocal state
        output, state = cell.step(x, state)  # type: ignore[operator]
        return output  # type: ignore[no-any-return]

    return step


def _stack(case: Case, data: Data) -> Stepper:
    """A stack of one layer, called with sequences of one step."""
    stack = make_stack(case, data, "auto").eval()
    state = stack.initial_state(case.shape.batch_size)

    def step(x: Tensor) -> Tensor:
        nonlocal state
        output, state = stack(x[:, None], state)
        return output[:, 0]  # type: ignore[no-any-return]

    return step


def _torch(case: Case, data: Data) -> Stepper:
    """torch's layer, called with sequences of one step."""
    layer = make_layer(case, data).eval()
    state: Any = None

    def step(x: Tensor) -> Tensor:
        nonlocal state
        output, state = layer(x[:, None], state)
        return output[:, 0]  # type: ignore[no-any-return]

    return step


def _torch_cell(case: Case, data: Data) -> Stepper:
    """torch's single step."""
    cell = make_cells(case, data)[0].eval()
    state: Any = None

    def step(x: Tensor) -> Tensor:
        nonlocal state
        state = cell(x, state)
        return state[0] if case.cell == "lstm" else state  # type: ignore[no-any-return]

    return step


def _onnxruntime(case: Case, data: Data) -> Stepper:
    """ONNX Runtime's operator for the layer, over one step; the state goes out and in again."""
    from benchmarks.kernels.onnx_layers import step_runner

    return step_runner(case.cell, torch_weights(data.stack), case.shape.batch_size)


def _stepper(case: Case, data: Data) -> Stepper:
    """Recurra's stepper: packed weights and the state in C++, without torch in between."""
    if UNAVAILABLE:
        raise Unable(UNAVAILABLE)
    return PackedStepper(make_stack(case, data, "cpu").eval(), streams=case.shape.batch_size).step


def _half_stepper(case: Case, data: Data) -> Stepper:
    """The same with weights in 16 bits."""
    if UNAVAILABLE:
        raise Unable(UNAVAILABLE)
    return PackedStepper(make_stack(case, data, "cpu").eval(), streams=case.shape.batch_size, half_weights=True).step


def _rounded(stack: Stack) -> Stack:
    """A stack with matrices as 16 bits hold them."""
    with torch.no_grad():
        for cell in stack.cells:
            for weight in (cell.weight_ih, cell.weight_hh):
                weight.copy_(weight.half())  # type: ignore[operator]
    return stack


def _reader(case: Case, data: Data) -> Callable[[], None]:
    """Reads the packed weights as the stepper does, on its threads."""
    cell = make_stack(case, data, "cpu").cells[0]
    names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    layer = StepLayer(case.cell, RecurrentWeights(*(getattr(cell, name) for name in names)))
    return CompiledStepper([layer], streams=case.shape.batch_size).read_weights


STEPPERS: dict[str, Callable[[Case, Data], Stepper]] = {
    "recurra stepper": _stepper,
    HALF: _half_stepper,
    "recurra cell": _cell,
    "recurra stack": _stack,
    "torch": _torch,
    "torch cell": _torch_cell,
    "onnxruntime": _onnxruntime,
}
"""Contenders, ours first: the first one that is there is compared with the others."""


class StepRecord(NamedTuple):
    """What was measured of one step.

    Attributes:
        case: of one step; its rows are the streams.
        samples: seconds of a step of all streams, by contender.
        left_out: contenders without samples, and why.
        findings: of the gate.
        reading: seconds to read the weights once; empty without compiled steps.
    """

    case: Case
    samples: dict[str, list[float]]
    left_out: dict[str, str]
    findings: dict[str, Finding]
    reading: list[float]

    @property
    def mine(self) -> str:
        """The contender that is compared with the others."""
        return next(name for name in STEPPERS if name in self.samples)

    def seconds(self, name: str) -> float | None:
        """Median of a contender's samples; None when it has none."""
        return statistics.median(self.samples[name]) if name in self.samples else None

    def ratio(self, name: str, mine: str | None = None) -> float | None:
        """How many times longer a contender takes, as the median over the rounds; `mine` is compared with it, by default the first."""
        mine = mine or self.mine
        there = name in self.samples and mine in self.samples
        return statistics.median(pair_ratios(self.samples[mine], self.samples[name])) if there else None

    @property
    def read(self) -> float:
        """Median seconds to read the weights once; NaN without compiled steps."""
        return statistics.median(self.reading) if self.reading else math.nan

    def describe(self) -> dict[str, Any]:
        """Plain values with every sample, for JSON."""
        streams = self.case.shape.batch_size
        return {
            **self.case.describe(),
            "compared": self.mine,
            "weight_bytes": weight_bytes(self.case),
            "reading": self.reading,
            "times_of_reading": {name: (self.seconds(name) or math.nan) / self.read for name in self.samples if self.reading},
            "samples": self.samples,
            "median": {name: self.seconds(name) for name in self.samples},
            "ratios": {name: self.ratio(name) for name in self.samples if name != self.mine},
            "ratios_of_16_bits": {name: self.ratio(name, HALF) for name in self.samples if HALF in self.samples},
            "steps_per_second": {name: streams / (self.seconds(name) or math.nan) for name in self.samples},
            "gate": {name: finding._asdict() for name, finding in self.findings.items()},
            "left_out": self.left_out,
        }


def run_streaming(options: Options, report: Report) -> None:
    """Measure, print and write `step.json`."""
    cells = pick("cell", {cell: cell for cell in GATES}, options.cells or ("lstm", "gru"))
    sizes = SIZES[1:2] if options.quick else SIZES
    effort = replace(options.effort, repeats=options.effort.repeats * SHORTER, sample=options.effort.sample / SHORTER)
    records = []
    for streams, cell, size in itertools.product(STREAMS, cells, sizes):
        case = Case(cell, Shape(streams, 1, size, size))
        report.progress(f"step of {case}")
        records.append(measure_step(case, effort))
    for cell, streams in itertools.product(cells, STREAMS):
        chosen = [record for record in records if record.case.cell == cell and record.case.shape.batch_size == streams]
        report.print(_table(cell, streams, chosen))
    targets = [
        Target("one streamed step, lstm, over torch.nn.LSTM", _ratios(records, "torch", 1), least=10.0),
        Target("one streamed step, lstm, over ONNX Runtime", _ratios(records, "onnxruntime", 1), least=2.0),
        Target("the same with 16-bit weights, over torch.nn.LSTM", _ratios(records, "torch", 1, HALF), least=10.0),
        Target("the same with 16-bit weights, over ONNX Runtime", _ratios(records, "onnxruntime", 1, HALF), least=2.0),
        Target("64 streams, lstm, over torch.nn.LSTM", _ratios(records, "torch", 64)),
        Target("64 streams, lstm, over ONNX Runtime", _ratios(records, "onnxruntime", 64)),
    ]
    report.print_targets(targets)
    report.write("step", {"steps": [record.describe() for record in records]}, targets)


def measure_step(case: Case, effort: Effort) -> StepRecord:
    """Check the steppers and time them.

    Raises:
        RedGate: one of Recurra's is further off than allowed.
    """
    data = make_data(case)
    steppers: dict[str, Stepper] = {}
    left_out, findings = {}, {}
    for name, make in STEPPERS.items():
        try:
            finding = check_step(make(case, data), case, data, half=name == HALF)
            stepper = make(case, data)
        except Unable as error:
            left_out[name] = str(error)
            continue
        findings[name] = finding
        if name.startswith("recurra"):
            refuse(name, case, [finding])
        if finding.passed:
            steppers[name] = stepper
        else:
            left_out[name] = f"its values are wrong: {finding}"
    x = data.x[:, 0].clone()
    calls: dict[str, Callable[[], object]] = {name: (lambda step=step: step(x)) for name, step in steppers.items()}
    if not UNAVAILABLE:
        calls[READING] = _reader(case, data)
    # What a server runs in: nothing is kept for gradients, and torch does not count changes.
    with torch.inference_mode():
        samples = interleave(calls, effort=effort)
    reading = samples.pop(READING, [])
    return StepRecord(case, samples, left_out, findings, reading)


def check_step(step: Stepper, case: Case, data: Data, *, half: bool = False) -> Finding:
    """Some steps, one by one, against the float64 reference over them as a sequence; allowed is what the gate allows.

    With `half` the reference has matrices rounded to 16 bits.
    """
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(case.shape.batch_size, GATE_STEPS, case.shape.input_size, generator=generator)
    with torch.inference_mode():
        mine = torch.stack([step(x[:, t].contiguous()).clone() for t in range(GATE_STEPS)], 1)
        reference = make_stack(case, data, "reference")
        reference = _rounded(reference) if half else reference
        rounded, _ = reference(x)
        exact, _ = reference.double()(x.double())
    return Finding("output", rounding_error([mine], [exact]), allowed_error([rounded], [exact]))


def _ratios(records: list[StepRecord], name: str, streams: int, mine: str | None = None) -> list[float]:
    chosen = [record for record in records if record.case.cell == "lstm" and record.case.shape.batch_size == streams]
    return [ratio for record in chosen if (ratio := record.ratio(name, mine)) is not None]


def _table(cell: str, streams: int, records: list[StepRecord]) -> Any:
    names = [name for name in STEPPERS if any(name in record.samples for record in records)]
    rows = []
    for record in records:
        seconds = {name: record.seconds(name) for name in names}
        row = [record.case.shape.hidden_size, f"{weight_bytes(record.case) / 2**10:,.0f}", f"{record.read * 1e6:.1f}"]
        row.append(f"{(seconds[record.mine] or math.nan) / record.read:.2f}")
        for name, value in seconds.items():
            ratio = "" if name == record.mine else f" ({times(record.ratio(name))})"
            row.append("-" if value is None else f"{value * 1e6:,.1f}{ratio}")
        rows.append(row)
    heads = ["H = I", "weights KiB", "read once", "ours / that", *names]
    title = f"{cell}, one step of {streams} stream{'s' if streams > 1 else ''}: microseconds"
    made = table(title, heads, rows)
    made.caption = "\n".join(sorted({f"{name}: {reason}" for record in records for name, reason in record.left_out.items()}))
    made.caption_justify = "left"
    return made
