"""Elementwise scans over whole sequences: checks, and dispatches to a backend."""

from __future__ import annotations

from functools import partial

from recurra.kernels.dispatch import check_input, on_cpu, run_nothing, saves, tell_what_is_missing, typed
from recurra.kernels.elementwise_scan.aten import elementwise_scan_aten
from recurra.kernels.elementwise_scan.custom_op import elementwise_scan
from recurra.kernels.elementwise_scan.reference import elementwise_scan_reference
from recurra.kernels.elementwise_scan.units import UNITS, ScanWeights
from recurra.kernels.linear_scan.operator import choose_scan, linear_scan_recurrence
from recurra.kernels.loop import Resets
from recurra.shapes import Float, Int, Tensor

__all__ = ["elementwise_scan_recurrence"]


def elementwise_scan_recurrence(
    x: Float[Tensor, "B T F"],
    state: Float[Tensor, "B H"],
    weights: ScanWeights,
    *,
    unit: str,
    lengths: Int[Tensor, " B"] | None = None,
    resets: Resets | None = None,
    reverse: bool = False,
    backend: str = "auto",
) -> tuple[Float[Tensor, "B T H"], Float[Tensor, "B H"]]:
    """A recurrence whose units read only themselves, over all steps of all rows.

        gates = split(W_ih x + b_ih)
        c' = step(gates, c), of most units a(gates) c + b(gates)
        h' = output(gates, c'), of most units c'

    Args:
        x: inputs; what stands beyond a row's length means nothing (NaN included).
        state: c before the first step read.
        weights: one gate after the other, as the cell that a unit makes says. Where W_ih has one gate too few, the last is x.
        unit: a name of `UNITS`; its equations are in units.py.
        lengths: real steps of each row, on any device, unsorted, 0 allowed; None when all are real.
        resets: where inside the sequences the state starts anew, and the tensor (B, H) that it starts with.
        reverse: read each row from its own last real step to its first.
        backend: "auto", or a name of `BACKENDS`.

    Returns:
        Outputs in the order of the input, zero in the padding, and c after the last step read (of a row of length zero: the
        state it came with).

    Raises:
        BackendUnavailable: the backend named cannot run this.
        ValueError: shapes that do not fit.
    """
    kind, hidden_size, rows = UNITS[unit], state.shape[1], weights.w_ih.shape[0]
    may_read_input = kind.reads_input and x.shape[2] == hidden_size
    if rows != kind.gates * hidden_size and not (may_read_input and rows == (kind.gates - 1) * hidden_size):
        raise ValueError(f"The weights of {unit} must have {kind.gates} gates of {hidden_size} rows each, not {rows} rows.")
    check_input(x, (state,), weights.w_ih.shape[1], lengths, resets)
    tell_what_is_missing(x)
    shape = (x.shape[0], x.shape[1], hidden_size)
    chosen = choose_scan(unit, backend, x.device.type, shape=shape, linear=kind.coefficients is not None).backend
    if x.shape[0] * x.shape[1] == 0:
        output, (last,) = run_nothing(x, hidden_size, (state,), (each for each in weights if each is not None))
        return output, last
    if chosen == "cpu":
        where, begin = (None, None) if resets is None else resets
        x = typed(x, weights.w_ih.dtype)
        saving = saves((x, *weights, state, begin))
        output, _, last, _ = elementwise_scan(unit, x, *weights, state, begin, on_cpu(lengths), where, reverse, saving)
        return output, last
    if chosen == "triton":
        scan = partial(linear_scan_recurrence, backend="triton")
        return elementwise_scan_aten(x, state, weights, unit=unit, lengths=lengths, resets=resets, reverse=reverse, scan=scan)
    compute = elementwise_scan_aten if chosen == "aten" else elementwise_scan_reference
    return compute(x, state, weights, unit=unit, lengths=lengths, resets=resets, reverse=reverse)
