"""Who computes a recurrence: the names, what each can do, what "auto" picks and why.

A backend asked for by name runs or raises; "auto" picks the fastest that can, and says which and why.
"""

from __future__ import annotations

from typing import NamedTuple

from recurra.errors import BackendUnavailable, SettingsError, nearest
from recurra.kernels.compiled import UNAVAILABLE, instruction_set

__all__ = ["BACKENDS", "OPERATIONS", "Choice", "Needs", "available_backends", "check_backend", "choose"]

BACKENDS = {
    "reference": "a Python loop over the steps in plain PyTorch: every option, any device, any order of derivative",
    "aten": "torch's own fused operation: one call for all steps",
    "cpu": "compiled kernels: every option, on a CPU",
}
"""Names of the backends, and what they are."""

OPERATIONS = {
    **dict.fromkeys(("elman", "elman_relu", "lstm", "gru"), ("cpu", "aten", "reference")),
    **dict.fromkeys(
        ("layernorm_lstm", "layernorm_gru", "gru_reset_before", "projected_lstm", "peephole_lstm", "slstm"),
        ("reference",),
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


def available_backends() -> list[str]:
    """Names of the backends that can run on this machine."""
    return [name for name in BACKENDS if name != "cpu" or UNAVAILABLE is None]


def check_backend(name: str) -> None:
    """Raise SettingsError when there is no backend of this name."""
    if name != "auto" and name not in BACKENDS:
        raise SettingsError(f"There is no backend {name!r}: use auto, {', '.join(BACKENDS)}.{nearest(name, BACKENDS)}")


def choose(operation: str, requested: str, needs: Needs | None = None, *, device: str = "cpu", steps: int | None = None) -> Choice:
    """The backend for one call.

    Args:
        operation: a name of `OPERATIONS`.
        requested: "auto" or a name of `BACKENDS`.
        needs: the options in force; None for none.
        device: type of the device that the tensors are on.
        steps: T of the call; None when it is not known yet (many).

    Raises:
        SettingsError: there is no backend of this name.
        BackendUnavailable: the backend was named and cannot do what is needed.
    """
    check_backend(requested)
    if requested == "auto" and steps == 1:
        return Choice("reference", "a single step has nothing to fuse, and plain PyTorch starts faster (a stepper is faster still)")
    refusals: dict[str, str] = {}
    for name in OPERATIONS[operation]:
        refusal = _refusal(name, operation, needs or Needs(), device)
        if refusal is None and requested in {name, "auto"}:
            return Choice(name, _reason(name, operation, asked=requested == name, refusals=refusals))
        if refusal is not None:
            refusals[name] = refusal
    why = refusals.get(requested, f"there is none for {operation}, only {' and '.join(OPERATIONS[operation])}")
    raise BackendUnavailable(
        f"The backend {requested!r} cannot run this {operation}: {why}. Use backend 'auto' or 'reference', or leave out what it cannot do."
    )


def _refusal(name: str, operation: str, needs: Needs, device: str) -> str | None:
    """Why a backend cannot run a call; None when it can."""
    if name == "cpu":
        return UNAVAILABLE or (None if device == "cpu" else f"the compiled kernels run on a CPU, and the input is on {device}")
    missing = " and ".join(option.replace("_", " ") for option, needed in needs._asdict().items() if needed)
    return f"torch's fused {operation} has no {missing}" if name == "aten" and missing else None


def _reason(name: str, operation: str, *, asked: bool, refusals: dict[str, str]) -> str:
    what = f"{BACKENDS[name]} ({instruction_set()} instructions)" if name == "cpu" else BACKENDS[name]
    if asked:
        return f"asked for by name: {what}"
    if refusals:
        return "; ".join([*refusals.values(), what])
    return f"the fastest that can run this: {what}" if len(OPERATIONS[operation]) > 1 else f"the only backend of {operation}: {what}"
