"""The linear scan over whole sequences: checks, and dispatches to a backend."""

from __future__ import annotations

from recurra.errors import BackendUnavailable
from recurra.kernels.backend import Choice, check_backend
from recurra.kernels.compiled import UNAVAILABLE
from recurra.kernels.dispatch import check_input, on_cpu, run_nothing, tell_what_is_missing
from recurra.kernels.linear_scan.aten import linear_scan_aten
from recurra.kernels.linear_scan.custom_op import linear_scan
from recurra.kernels.linear_scan.reference import linear_scan_reference
from recurra.kernels.loop import Resets
from recurra.kernels.triton import UNAVAILABLE as NO_TRITON
from recurra.shapes import Float, Int, Tensor

__all__ = ["choose_scan", "linear_scan_recurrence"]

CHUNKED_STEPS, CHUNKED_NUMBERS = 16, 4096
"""Least steps, and on a CPU most numbers of a step (B*H), at which a scan in chunks is faster than a Python loop: beyond, the
loop's own cost no longer counts, and chunks read memory twice (measured, training step, one thread)."""

_WHAT = {
    "cpu": "one compiled kernel for all steps",
    "triton": "a parallel scan on the GPU, by Triton",
    "aten": "torch's own operations over chunks of steps",
    "reference": "a Python loop over the steps in plain PyTorch",
}


def linear_scan_recurrence(
    a: Float[Tensor, "B T H"],
    b: Float[Tensor, "B T H"],
    state: Float[Tensor, "B H"],
    *,
    lengths: Int[Tensor, " B"] | None = None,
    resets: Resets | None = None,
    reverse: bool = False,
    backend: str = "auto",
) -> tuple[Float[Tensor, "B T H"], Float[Tensor, "B H"]]:
    """The linear recurrence of every unit by itself, over all steps of all rows.

        h' = a h + b

    Args:
        a: factors, any numbers; what stands beyond a row's length means nothing (NaN included).
        b: terms, the same.
        state: the state before the first step read.
        lengths: real steps of each row, on any device, unsorted, 0 allowed; None when all are real.
        resets: where inside the sequences the state starts anew, and the tensor (B, H) that it starts with.
        reverse: read each row from its own last real step to its first.
        backend: "auto", or a name of `BACKENDS`.

    Returns:
        States in the order of the input, zero in the padding, and the state after the last step read (of a row of length
        zero: the state it came with).

    Raises:
        BackendUnavailable: the backend named cannot run this.
        ValueError: shapes that do not fit.

    Source: Martin & Cundy 2018, equation 1; Blelloch 1990, section 1.4.
    """
    if a.shape != b.shape or a.shape[2] != state.shape[1]:
        raise ValueError(
            f"a, b and the state must be of shapes (B, T, H) twice and (B, H), not {tuple(a.shape)}, {tuple(b.shape)} and {tuple(state.shape)}."
        )
    check_input(a, (state,), state.shape[1], lengths, resets)
    tell_what_is_missing(a)
    chosen = choose_scan("linear_scan", backend, a.device.type, shape=(a.shape[0], a.shape[1], a.shape[2])).backend
    if a.shape[0] * a.shape[1] == 0:
        output, (last,) = run_nothing(b, a.shape[2], (state,), [a])
        return output, last
    if chosen == "triton":  # what autocast made of the gates may be narrower than the state
        a, b = a.to(state.dtype), b.to(state.dtype)
    if chosen in {"cpu", "triton"}:
        where, begin = (None, None) if resets is None else resets
        output, last = linear_scan(a, state, begin, on_cpu(lengths) if chosen == "cpu" else lengths, where, reverse, b)
        return output, last
    compute = linear_scan_aten if chosen == "aten" else linear_scan_reference
    return compute(a, b, state, lengths=lengths, resets=resets, reverse=reverse)


def choose_scan(
    operation: str,
    requested: str,
    device: str | None = "cpu",
    *,
    shape: tuple[int, int, int] | None = None,
    linear: bool = True,
) -> Choice:
    """The backend of one call of a scan.

    Args:
        operation: name of the scan, for the messages.
        requested: "auto" or a name of `BACKENDS`.
        device: type of the device that the tensors are on; None when it is not known yet (any that the backend runs on).
        shape: B, T and H of the call; None when they are not known yet (many steps of few rows).
        linear: whether the state is linear in the state before.

    Raises:
        SettingsError: there is no backend of this name.
        BackendUnavailable: the backend was named and cannot run it.
    """
    check_backend(requested)
    on_cpu, on_gpu = device in {None, "cpu"}, device in {None, "cuda"}
    nonlinear = None if linear else "its state is not linear in the state before, so"
    no_gpu = None if on_gpu else f"the Triton kernels run on a CUDA GPU, and the input is on {device}"
    refusals = {
        "cpu": UNAVAILABLE if on_cpu else f"the compiled kernels run on a CPU, and the input is on {device}",
        "triton": (nonlinear and f"{nonlinear} its steps cannot be scanned in parallel") or no_gpu or NO_TRITON,
        "aten": nonlinear and f"{nonlinear} torch has nothing for many steps at once",
        "reference": None,
    }
    if requested != "auto":
        refusal = refusals.get(requested, "it has no such kernel")
        if refusal:
            raise BackendUnavailable(f"The backend {requested!r} cannot run {operation}: {refusal}. Use backend 'auto' or 'reference'.")
        return Choice(requested, f"asked for by name: {_WHAT[requested]}")
    if shape is not None and shape[1] == 1:
        return Choice("reference", "a single step has nothing to fuse, and plain PyTorch starts faster")
    if refusals["cpu"] is None:
        return Choice("cpu", f"the fastest that can run this: {_WHAT['cpu']}")
    if refusals["triton"] is None:
        return Choice("triton", f"the fastest that can run this: {_WHAT['triton']}")
    refusal = refusals["triton" if on_gpu else "cpu"]
    worth = shape is None or (shape[1] >= CHUNKED_STEPS and (not on_cpu or shape[0] * shape[2] <= CHUNKED_NUMBERS))
    chosen = "aten" if linear and worth else "reference"
    return Choice(chosen, f"{refusal}; the fastest left: {_WHAT[chosen]}")
