"""`python -m benchmarks recurrences`: the recurrences against torch, a Python loop, ONNX Runtime and torch.compile."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from benchmarks.kernels.options import Options

__all__ = ["recurrences"]


def recurrences(
    *,
    grid: bool = False,
    step: bool = False,
    growth: bool = False,
    variants: bool = False,
    scan: bool = False,
    memory: bool = False,
    overview: bool = False,
    everything: bool = False,
    options: Annotated[Options, Parameter(name="*")] = Options(),  # noqa: B008 - it is frozen
) -> None:
    """Measure recurrent layers: print tables, write JSON.

    Contenders take turns; a figure is the median of several samples, a ratio that of pairs. Before a case is timed its values
    and gradients are compared with the float64 reference; nothing is reported when these are wrong.

    Parameters
    ----------
    grid
        Cells, shapes, directions, lengths, forward and training step; measured when no part is named.
    step
        One streamed step: one stream, and 64 at once.
    growth
        Curves in the rows, the steps and the hidden units, one varied at a time; with a chart.
    variants
        Zoneout, recurrent dropout, layer normalization: against the plain cell and a Python loop.
    scan
        Linear-scan cells over 4,000 steps against an LSTM of equal width.
    memory
        Bytes kept for the backward pass, and the growth of the process over 1,000 steps of varied shapes.
    overview
        Every cell side by side: parameters, operations, memory, time.
    everything
        The grid and all parts.
    """
    from benchmarks.kernels.parts import run_parts

    names = {"grid": grid, "step": step, "growth": growth, "variants": variants, "scan": scan, "memory": memory, "overview": overview}
    chosen = [name for name, wanted in names.items() if wanted or everything]
    run_parts(chosen or ["grid"], options)
