"""Padding inside a recurrence: which steps are real, rows read backwards, lengths checked."""

from __future__ import annotations

from typing import Any

import torch

from recurra.shapes import Bool, Float, Int, Tensor

__all__ = ["check_is_tensor", "check_lengths", "real_steps", "reverse_rows", "values_are_known"]


def values_are_known(lengths: Tensor) -> bool:
    """Whether Python can look at them now, without waiting for a device: nothing traces or transforms them."""
    # There is no public name for what torch.func is doing.
    return lengths.device.type == "cpu" and not torch.compiler.is_compiling() and not torch._C._are_functorch_transforms_active()


def check_is_tensor(name: str, given: Any, what: str) -> None:
    """Refuse lists and arrays in words.

    Raises:
        TypeError: it is no tensor.
    """
    if not isinstance(given, Tensor):
        raise TypeError(f"{name} must be a tensor of {what}, not a {type(given).__name__}: pass torch.as_tensor({name}).")


def check_lengths(lengths: Tensor, batch_size: int, steps: int) -> None:
    """Lengths must be (B,) integers between 0 and T; values are only looked at where they are known.

    Raises:
        ValueError: wrong shape, or a length out of range.
        TypeError: lengths are not integers.
    """
    check_is_tensor("lengths", lengths, "integers")
    if lengths.is_floating_point() or lengths.is_complex() or lengths.dtype == torch.bool:
        raise TypeError(f"lengths must be integers, not {lengths.dtype}: pass lengths.long().")
    if lengths.shape != (batch_size,):
        raise ValueError(f"lengths must be of shape ({batch_size},), one a row of the batch, not {tuple(lengths.shape)}.")
    if batch_size and values_are_known(lengths):
        shortest, longest = (int(extreme) for extreme in lengths.aminmax())
        if shortest < 0 or longest > steps:
            raise ValueError(f"lengths must be from 0 to {steps}, the steps of the input; given are {shortest} to {longest}.")


def real_steps(lengths: Int[Tensor, " B"], steps: int) -> Bool[Tensor, "B T"]:
    """True where a step is real, False where it is padding."""
    return torch.arange(steps, device=lengths.device) < lengths[:, None]


def reverse_rows(x: Float[Tensor, "B T F"], lengths: Int[Tensor, " B"]) -> Float[Tensor, "B T F"]:
    """Every row's real steps in reverse order; the padding stays where it is. It is its own inverse."""
    batch_size, steps = x.shape[:2]
    time = torch.arange(steps, device=lengths.device)
    source = torch.where(time < lengths[:, None], lengths[:, None] - 1 - time, time)
    flat = source + steps * torch.arange(batch_size, device=lengths.device)[:, None]
    return x.flatten(0, 1).index_select(0, flat.flatten()).view_as(x)
