"""The parts of `python -m benchmarks recurrences` by name."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from benchmarks.kernels.grid import run_grid
from benchmarks.kernels.growth import run_growth
from benchmarks.kernels.memory import run_memory
from benchmarks.kernels.options import Options
from benchmarks.kernels.overview import run_overview
from benchmarks.kernels.report import Report
from benchmarks.kernels.scan import run_scan
from benchmarks.kernels.streaming import run_streaming
from benchmarks.kernels.variants import run_variants

__all__ = ["PARTS", "run_parts"]

PARTS: dict[str, Callable[[Options, Report], None]] = {
    "grid": run_grid,
    "step": run_streaming,
    "growth": run_growth,
    "variants": run_variants,
    "scan": run_scan,
    "memory": run_memory,
    "overview": run_overview,
}


def run_parts(names: Sequence[str], options: Options) -> None:
    """Run parts one after the other on one number of threads."""
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    report = Report(options.output, matrix_size=1024 if options.quick else 2048)
    report.open()
    for name in names:
        PARTS[name](options, report)
