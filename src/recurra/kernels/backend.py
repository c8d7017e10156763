"""Who computes a recurrence: the names, what each can do, what "auto" picks and why.

A backend asked for by name runs or raises; "auto" picks the fastest that can, and says which and why.
"""

from __future__ import annotations

from typing import NamedTuple

from recurra.errors import BackendUnavailable, SettingsError, nearest

__all__ = ["BACKENDS", "Choice", "Needs", "available_backends", "check_backend", "choose"]

BACKENDS = {
    "reference": "a Python loop over the steps in plain PyTorch: every option, any device, any order of derivative",
    "aten": "torch's own fused operation: one call for all steps",
}
"""Names of the backends, and what they are."""


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
    return list(BACKENDS)


def check_backend(name: str) -> None:
    """Raise SettingsError when there is no backend of this name."""
    if name != "auto" and name not in BACKENDS:
        raise SettingsError(f"There is no backend {name!r}: use auto, {', '.join(BACKENDS)}.{nearest(name, BACKENDS)}")


def choose(operation: str, requested: str, needs: Needs, *, steps: int | None = None) -> Choice:
    """The backend for one call.

    Args:
        operation: name of the recurrence (lstm, gru, elman), for the message.
        requested: "auto" or a name of `BACKENDS`.
        needs: the options in force.
        steps: T of the call; None when it is not known yet (many).

    Raises:
        SettingsError: there is no backend of this name.
        BackendUnavailable: the backend was named and cannot do what is needed.
    """
    check_backend(requested)
    missing = " and ".join(name.replace("_", " ") for name, needed in needs._asdict().items() if needed)
    if requested == "reference":
        return Choice("reference", f"asked for by name: {BACKENDS['reference']}")
    if requested == "auto" and steps == 1:
        return Choice("reference", "a single step has nothing to fuse, and plain PyTorch starts faster")
    if not missing:
        asked = "asked for by name" if requested == "aten" else "the fastest that can run this"
        return Choice("aten", f"{asked}: {BACKENDS['aten']}")
    if requested == "auto":
        return Choice("reference", f"torch's fused {operation} has no {missing}: {BACKENDS['reference']}")
    raise BackendUnavailable(
        f"The backend 'aten' cannot run this {operation}: torch's fused operation has no {missing}. "
        "Use backend 'auto' or 'reference', or leave that option out."
    )
