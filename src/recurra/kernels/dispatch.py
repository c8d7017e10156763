"""What every operation does before it runs: check the input and choose the backend."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from functools import cache
from typing import Any, TypeVar

import torch

from recurra.kernels.backend import Needs, choose
from recurra.kernels.compiled import UNAVAILABLE
from recurra.kernels.lengths import check_is_tensor, check_lengths
from recurra.kernels.loop import RecurrentNoise, Resets
from recurra.kernels.state import leaves, map_state
from recurra.shapes import Tensor

__all__ = ["check_input", "choose_backend", "on_cpu", "run_nothing", "saves", "tell_what_is_missing", "typed"]


S = TypeVar("S", bound=tuple[Any, ...])


def run_nothing(x: Tensor, width: int, state: S, weights: Iterable[Tensor]) -> tuple[Tensor, S]:
    """What a call without rows or without steps gives: empty outputs (B, T, width), and the state that it came with.

    Both depend on all that others depend on, so that gradients are zeros and not missing, as torch's are.
    """
    nothing = sum((each.flatten()[:0].sum() for each in (x, *weights, *leaves(state)) if each.is_floating_point()), x.new_zeros(()))
    return x.new_zeros(*x.shape[:2], width) + nothing, map_state(lambda field: field + nothing.to(field.dtype), state)


def typed(x: Tensor, dtype: torch.dtype) -> Tensor:
    """The input in the type of the weights.

    Raises:
        ValueError: it is of another one (unless autocast is on).
    """
    if x.dtype is dtype:
        return x
    if not torch.is_autocast_enabled("cpu"):
        raise ValueError(f"The input is of {x.dtype} and the weights are of {dtype}: convert one of them, by x.to() or layer.to().")
    return x.to(dtype)


def saves(tensors: Iterable[Tensor | None]) -> bool:
    """Whether a call keeps what the way back reads. A graph that leaves Python is for inference; trained all the same, it computes that once more."""
    exporting = torch.compiler.is_exporting()
    return torch.is_grad_enabled() and not exporting and any(each is not None and each.requires_grad for each in tensors)


def on_cpu(lengths: Tensor | None) -> Tensor | None:
    """Lengths where the compiled kernels read them."""
    return lengths if lengths is None or lengths.is_cpu else lengths.cpu()


def check_input(x: Tensor, state: tuple[Any, ...], features: int, lengths: Tensor | None, resets: Resets | None) -> None:
    """The shapes that belong together.

    Raises:
        ValueError: they do not fit.
        TypeError: lengths are not integers, or resets not booleans.
    """
    first = state[0]
    while isinstance(first, tuple):  # a state of states
        first = first[0]
    if min((features, *first.shape[1:])) < 1:
        raise ValueError(
            f"A recurrence needs at least one feature and one unit; given are {features} features and a state of shape {tuple(first.shape)}."
        )
    if x.ndim != 3 or x.shape[2] != features:
        raise ValueError(f"The input must be of shape (B, T, {features}), not {tuple(x.shape)}.")
    if first.shape[0] != x.shape[0]:
        raise ValueError(
            f"The state is for {first.shape[0]} rows and the input has {x.shape[0]}: use select(state, rows) or initial_state({x.shape[0]})."
        )
    if lengths is not None:
        check_lengths(lengths, *x.shape[:2])
    if resets is not None:
        check_resets(resets.where, *x.shape[:2])


def check_resets(where: Tensor, batch_size: int, steps: int) -> None:
    """Resets must be (B, T) booleans.

    Raises:
        ValueError: another shape.
        TypeError: another type.
    """
    check_is_tensor("reset", where, "booleans")
    if where.dtype != torch.bool:
        raise TypeError(f"reset must be booleans, not {where.dtype}: pass reset.bool().")
    if where.shape != (batch_size, steps):
        raise ValueError(f"reset must be of shape ({batch_size}, {steps}), one a row and step, not {tuple(where.shape)}.")


def choose_backend(operation: str, requested: str, x: Tensor, resets: Resets | None = None, noise: RecurrentNoise | None = None) -> str:
    """The name of the backend that runs this call; BackendUnavailable when the one named cannot."""
    tell_what_is_missing(x)
    dropout = noise is not None and noise.dropout is not None
    zoneout = noise is not None and bool(noise.zoneout)
    needs = Needs(recurrent_dropout=dropout, zoneout=zoneout, reset=resets is not None)
    return choose(operation, requested, needs, device=x.device.type, shape=x.shape[:2]).backend


def tell_what_is_missing(x: Tensor) -> None:
    """One warning a process, on the logger "recurra", when a recurrence on a CPU runs without the compiled kernels."""
    if UNAVAILABLE is not None and x.device.type == "cpu" and not torch.compiler.is_compiling():
        _warn_once()


@cache
def _warn_once() -> None:
    logging.getLogger("recurra").warning("Recurrences run on PyTorch's own operations, slower: %s.", UNAVAILABLE)
