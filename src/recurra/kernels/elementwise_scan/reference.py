"""Elementwise scans as a Python loop in plain PyTorch: the oracle, for every unit."""

from __future__ import annotations

from recurra.kernels.elementwise_scan.units import UNITS, ScanWeights, gates_of
from recurra.kernels.loop import Resets, run_loop
from recurra.shapes import Float, Int, Tensor

__all__ = ["elementwise_scan_reference"]


def elementwise_scan_reference(
    x: Float[Tensor, "B T F"],
    state: Float[Tensor, "B H"],
    weights: ScanWeights,
    *,
    unit: str,
    lengths: Int[Tensor, " B"] | None = None,
    resets: Resets | None = None,
    reverse: bool = False,
) -> tuple[Float[Tensor, "B T H"], Float[Tensor, "B H"]]:
    """See `elementwise_scan_recurrence` for the arguments."""
    kind, hidden_size = UNITS[unit], state.shape[1]
    parameters = [] if weights.parameters is None else weights.parameters.unbind(0)

    def step(x: Tensor, state: tuple[Tensor]) -> tuple[Tensor, tuple[Tensor]]:
        gates = gates_of(kind, x, weights, hidden_size)
        after = kind.after(gates, parameters, state[0])
        return after if kind.output is None else kind.output(*gates, after), (after,)

    resets = None if resets is None else Resets(resets.where, (resets.state,))
    output, (last,) = run_loop(step, x, (state,), lengths=lengths, resets=resets, reverse=reverse)
    return output, last
