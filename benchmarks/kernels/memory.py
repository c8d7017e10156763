"""Bytes that a layer keeps for its backward pass, and the growth of a process over many steps of varied shapes.

Two measures of what is kept, as each has a blind spot. *Process*: how much resident memory a forward pass leaves behind while
its output is held; it sees what a kernel holds, and misses what finds room in memory that was free and resident. *Saved*:
bytes of the tensors that pass through `torch.autograd.graph.saved_tensors_hooks`, each storage once, without the input and the
weights; it is exact, blind to what a kernel holds on its own, and counts room that was never touched. Ours lies in blocks that are
kept between calls, so that the first measure sees little of it. Targets compare the larger of the two, of each side. *Peak* is the
most resident memory of a whole training step, over that before it.

Each measurement has a process of its own, whose blocks from 4 KiB on come from the system and go back to it at once (torch keeps
blocks of a few KiB a step, and what the step before left free would hide them), and is taken at the second training step: what
the first sets up and keeps for ever is not kept for a backward pass.
"""

from __future__ import annotations

import itertools
import multiprocessing
import os
import statistics
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor

from benchmarks.kernels.cases import GATES, GRID, Case, Shape, make_data
from benchmarks.kernels.contenders import OTHERS, Layer, ours, rival
from benchmarks.kernels.grid import pick
from benchmarks.kernels.options import Options
from benchmarks.kernels.report import Report, Target, table, times
from recurra.layers import Stack

__all__ = ["Kept", "measure_kept", "resident_bytes", "run_memory", "run_varied_shapes", "saved_bytes"]

STATUS = Path("/proc/self/status")
CLEAR = Path("/proc/self/clear_refs")
RESET_PEAK = "5"
"""What makes Linux forget the peak so far, written to `CLEAR`."""

SHAPES = (GRID[0], GRID[1], GRID[2], GRID[5])
PAGES = 0.02
"""Share by which two measurements of resident memory differ that are of the same: memory comes in pages."""

STEPS = 1000
"""Of the run whose growth is measured."""

SETTLED = 100
"""Steps after which the process has met shapes of every size and its allocator has its arenas."""

LARGEST = (64, 100)
"""Most rows and steps of a batch of that run. It comes first: the first time that a largest batch is met is no growth."""

T = TypeVar("T")


class Kept(NamedTuple):
    """Bytes of one contender; see the module."""

    process: int
    saved: int
    peak: int


def run_memory(options: Options, report: Report) -> None:
    """Measure, print and write `memory.json`."""
    if not STATUS.is_file() or not CLEAR.is_file():
        raise SystemExit("Resident memory is read from /proc, which only Linux has: measure it there.")
    cells = pick("cell", {cell: cell for cell in GATES}, options.cells or ("lstm", "gru"))
    lengths = pick("lengths", {"full": False, "varied": True}, options.lengths)
    directions = pick("direction", {"forward": False, "both": True}, options.directions)
    shapes = [Shape.parse(text) for text in options.shapes] or (SHAPES[:1] if options.quick else SHAPES)
    backend = options.backend[0] if options.backend else "auto"
    kept: list[tuple[Case, Kept, Kept]] = []
    for shape, cell, bidirectional, varied in itertools.product(shapes, cells, directions, lengths):
        case = Case(cell, shape, bidirectional, varied)
        report.progress(f"memory of {case}")
        mine, other = (_in_own_process(measure_kept, case, name, torch.get_num_threads()) for name in (f"recurra {backend}", rival(case)))
        kept.append((case, mine, other))
    steps = STEPS // 10 if options.quick else STEPS
    report.progress(f"{steps} steps of varied shapes")
    growth = {cell: _in_own_process(run_varied_shapes, cell, backend, steps, torch.get_num_threads(), exact=False) for cell in cells}
    _print(report, kept)
    grown = {cell: _growth(samples) for cell, samples in growth.items()}
    targets = [
        Target(
            "bytes kept for backward, times of torch's",
            [max(mine.process, mine.saved) / max(other.process, other.saved, 1) for _, mine, other in kept],
            least=1.0 + PAGES,
            at_most=True,
        ),
        Target(
            f"resident memory after {steps} steps of varied shapes, times of that before", list(grown.values()), least=1.05, at_most=True
        ),
    ]
    report.print_targets(targets)
    described = [{**case.describe(), "recurra": mine._asdict(), rival(case): other._asdict()} for case, mine, other in kept]
    report.write("memory", {"kept": described, "resident": growth, "growth": grown}, targets)


def measure_kept(case: Case, name: str, threads: int) -> Kept:
    """What a contender keeps and needs at its second training step.

    Args:
        case: what is computed.
        name: "recurra" and a backend, or another contender.
        threads: of torch.
    """
    torch.set_num_threads(threads)
    data = make_data(case)
    mine, _, backend = name.partition(" ")
    layer = (ours(backend) if mine == "recurra" else OTHERS[name])(case, data)
    assert layer.weights is not None
    x = data.x.clone().requires_grad_()
    leaves = [x, *layer.weights]
    saved = saved_bytes(layer, x)
    torch.autograd.grad(layer.run(x), leaves, data.gradient)
    CLEAR.write_text(RESET_PEAK)
    before = resident_bytes()
    output = layer.run(x)
    after = resident_bytes()
    torch.autograd.grad(output, leaves, data.gradient)
    return Kept(after - before, saved, resident_bytes("VmHWM") - before)


def saved_bytes(layer: Layer, x: Tensor) -> int:
    """Bytes of all tensors that a forward pass saves for its backward pass, each storage once, without input and weights."""
    known = {tensor.untyped_storage().data_ptr() for tensor in (x, *(layer.weights or ()))}
    kept: dict[int, torch.UntypedStorage] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        # Held here, so that no other storage takes its address while we count.
        kept[storage.data_ptr()] = storage
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        output = layer.run(x)
    total = sum(storage.nbytes() for address, storage in kept.items() if address not in known)
    del output
    return total


def resident_bytes(field: str = "VmRSS") -> int:
    """Resident memory of this process; VmHWM for its peak."""
    for line in STATUS.read_text(encoding="ascii").splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    raise SystemExit(f"There is no {field} in {STATUS}.")


def run_varied_shapes(cell: str, backend: str, steps: int, threads: int) -> list[int]:
    """Resident memory after every training step of a run in which each batch has a shape of its own."""
    torch.set_num_threads(threads)
    generator = torch.Generator().manual_seed(0)
    stack = Stack(cell, 64, 96, bidirectional=True, backend=backend)
    optimizer = torch.optim.SGD(stack.parameters(), lr=1e-3)
    resident = []
    for step in range(steps):
        rows, length = (int(torch.randint(1, most + 1, (), generator=generator)) for most in LARGEST) if step else LARGEST
        x = torch.randn(rows, length, 64, generator=generator)
        lengths = torch.randint(0 if step else length, length + 1, (rows,), generator=generator)
        optimizer.zero_grad()
        stack(x, lengths=lengths)[0].square().mean().backward()
        optimizer.step()
        resident.append(resident_bytes())
    return resident


def _growth(resident: list[int]) -> float:
    """Memory at the end over memory once settled, each as the median of some steps: single steps differ in shape."""
    settled = min(SETTLED, len(resident) // 2)
    span = max(settled // 2, 1)
    return statistics.median(resident[-span:]) / statistics.median(resident[settled - span : settled])


def _in_own_process(function: Callable[..., T], *arguments: Any, exact: bool = True) -> T:
    """The function's result, from a new process; `exact` for an allocator that keeps nothing back."""
    settings = {"MALLOC_MMAP_THRESHOLD_": "4096", "MALLOC_TRIM_THRESHOLD_": "0"} if exact else {}
    before = {name: os.environ.get(name) for name in settings}
    os.environ.update(settings)
    try:
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
            return pool.submit(function, *arguments).result()
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _print(report: Report, kept: list[tuple[Case, Kept, Kept]]) -> None:
    def pair(mine: int, other: int) -> str:
        return f"{mine / 2**20:,.1f} / {other / 2**20:,.1f} ({times(mine / max(other, 1))})"

    rows = [[str(case), *(pair(a, b) for a, b in zip(mine, other, strict=True))] for case, mine, other in kept]
    heads = ["case", "kept, process", "kept, saved tensors", "peak of a step"]
    report.print(table("Memory of a training step, MiB: recurra / torch (packed where lengths vary)", heads, rows))
