"""Elementwise scans of linear units by operations over the whole sequence: gates, a linear scan, output."""

from __future__ import annotations

from collections.abc import Callable

from recurra.kernels.elementwise_scan.units import UNITS, ScanWeights, gates_of
from recurra.kernels.lengths import real_steps
from recurra.kernels.linear_scan.aten import linear_scan_aten
from recurra.kernels.loop import Resets
from recurra.shapes import Float, Int, Tensor

__all__ = ["elementwise_scan_aten"]


def elementwise_scan_aten(
    x: Float[Tensor, "B T F"],
    state: Float[Tensor, "B H"],
    weights: ScanWeights,
    *,
    unit: str,
    lengths: Int[Tensor, " B"] | None = None,
    resets: Resets | None = None,
    reverse: bool = False,
    scan: Callable[..., tuple[Tensor, Tensor]] = linear_scan_aten,
) -> tuple[Float[Tensor, "B T H"], Float[Tensor, "B H"]]:
    """See `elementwise_scan_recurrence` for the arguments; `scan` computes the linear scan."""
    kind = UNITS[unit]
    assert kind.coefficients is not None
    padding = None if lengths is None else ~real_steps(lengths.to(x.device), x.shape[1])[..., None]
    if padding is not None:
        x = x.masked_fill(padding, 0.0)
    gates = gates_of(kind, x, weights, state.shape[1])
    a, b = kind.coefficients(*gates, *([] if weights.parameters is None else weights.parameters.unbind(0)))
    output, last = scan(a, b, state, lengths=lengths, resets=resets, reverse=reverse)
    if kind.output is not None:
        output = kind.output(*gates, output)
        output = output if padding is None else output.masked_fill(padding, 0.0)
    return output, last
