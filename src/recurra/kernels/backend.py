"""Who computes a recurrence: the names, what each can do, what "auto" picks and why.

A backend asked for by name runs or raises; "auto" picks the fastest that can, and says which and why.
"""

from __future__ import annotations

from typing import NamedTuple

import torch

from recurra.errors import BackendUnavailable, SettingsError, nearest
from recurra.kernels import compiled_loop
from recurra.kernels.compiled import INSTRUCTION_SET, UNAVAILABLE
from recurra.kernels.triton import UNAVAILABLE as NO_TRITON

__all__ = ["BACKENDS", "OPERATIONS", "Choice", "Needs", "available_backends", "check_backend", "choose"]

BACKENDS = {
    "reference": "a Python loop over the steps in plain PyTorch: every option, any device, any order of derivative",
    "aten": "torch's own fused operation: one call for all steps",
    "cpu": "compiled kernels: every option, on a CPU",
    "compile": "a loop over chunks of steps, each compiled by torch.compile: for cells without a kernel of their own",
    "triton": "Triton kernels: every option, on a CUDA GPU; their speed there has not been measured",
}
"""Names of the backends, and what they are."""

OPERATIONS = {
    **dict.fromkeys(("elman", "elman_relu", "gru"), ("cpu", "aten", "reference")),
    "lstm": ("cpu", "aten", "triton", "reference"),
    **dict.fromkeys(("layernorm_lstm", "slstm"), ("cpu", "triton", "reference")),
    "step": ("compile", "reference"),  # of a cell without a recurrence of its own
    **dict.fromkeys(
        ("layernorm_gru", "gru_reset_before", "projected_lstm", "peephole_lstm"),
        ("cpu", "reference"),
    ),
}
"""Names of the recurrences, and the backends that each has, the fastest first."""


class Needs(NamedTuple):
    """What a call asks of a backend beyond the plain recurrence over sequences of any lengths."""

    recurrent_dropout: bool = False
    zoneout: bool = False
    reset: bool = False


class Choice(NamedTuple):
    """The backend that runs, and the reason in words."""

    backend: str
    reason: str


def available_backends(device: str = "cpu") -> list[str]:
    """Names of the backends that can run on this machine, with tensors on a device of this type."""
    return [name for name in BACKENDS if _absence(name, device) is None]


def check_backend(name: str) -> None:
    """Raise SettingsError when there is no backend of this name."""
    if name != "auto" and name not in BACKENDS:
        raise SettingsError(f"There is no backend {name!r}: use auto, {', '.join(BACKENDS)}.{nearest(name, BACKENDS)}")


_MANY_ROWS = 64
"""Rows from which a single step is worth packing the weights for."""


def choose(
    operation: str,
    requested: str,
    needs: Needs | None = None,
    *,
    device: str | None = "cpu",
    shape: tuple[int, ...] | None = None,
) -> Choice:
    """The backend for one call.

    Args:
        operation: a name of `OPERATIONS`.
        requested: "auto" or a name of `BACKENDS`.
        needs: the options in force; None for none.
        device: type of the device that the tensors are on; None when it is not known yet (any that the backend runs on).
        shape: B and T of the call; None when they are not known yet (many steps).

    Raises:
        SettingsError: there is no backend of this name.
        BackendUnavailable: the backend was named and cannot do what is needed.
    """
    check_backend(requested)
    if requested == "auto" and shape is not None and shape[1] == 1 and not _is_worth_packing(operation, shape[0], device):
        return Choice("reference", "a single step has nothing to fuse, and plain PyTorch starts faster (a stepper is faster still)")
    refusals: dict[str, str] = {}
    # Who has no GPU need not hear of kernels for it.
    names = [name for name in OPERATIONS[operation] if name != "triton" or device == "cuda" or requested == name]
    for name in names:
        refusal = _refusal(name, operation, needs or Needs(), device)
        if refusal is None and requested in {name, "auto"}:
            return Choice(name, _reason(name, operation, asked=requested == name, alone=len(names) == 1, refusals=refusals))
        if refusal is not None:
            refusals[name] = refusal
    why = refusals.get(requested, f"there is none for {operation}, only {' and '.join(OPERATIONS[operation])}")
    raise BackendUnavailable(
        f"The backend {requested!r} cannot run this {operation}: {why}. Use backend 'auto' or 'reference', or leave out what it cannot do."
    )


def _is_worth_packing(operation: str, rows: int, device: str | None) -> bool:
    """Whether a single step is faster by the compiled kernels. Elman's is little more than one product; a graph serves any number of rows."""
    known = device == "cpu" and UNAVAILABLE is None and not torch.compiler.is_compiling()
    return known and rows >= _MANY_ROWS and not operation.startswith("elman")


def _refusal(name: str, operation: str, needs: Needs, device: str | None) -> str | None:
    """Why a backend cannot run a call; None when it can."""
    if name != "aten":
        return _absence(name, device)
    missing = " and ".join(option.replace("_", " ") for option, needed in needs._asdict().items() if needed)
    return f"torch's fused {operation} has no {missing}" if missing else None


def _absence(name: str, device: str | None) -> str | None:
    """Why a backend cannot run at all on a device of this type; None when it can."""
    if name == "cpu":
        return UNAVAILABLE or (None if device in {None, "cpu"} else f"the compiled kernels run on a CPU, and the input is on {device}")
    if name == "compile":
        return compiled_loop.absence(device)
    if name == "triton":
        return NO_TRITON if device in {None, "cuda"} else f"the Triton kernels run on a CUDA GPU, and the input is on {device}"
    return None


def _reason(name: str, operation: str, *, asked: bool, alone: bool, refusals: dict[str, str]) -> str:
    what = f"{BACKENDS[name]} ({INSTRUCTION_SET} instructions)" if name == "cpu" else BACKENDS[name]
    if asked:
        return f"asked for by name: {what}"
    if refusals:
        return "; ".join([*refusals.values(), what])
    return f"the only backend of {operation}: {what}" if alone else f"the fastest that can run this: {what}"
