"""What a gated recurrence on a GPU is given, and what its kernels are launched with."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch

from recurra.kernels.linear_scan.previous import previous_steps
from recurra.kernels.triton.language import blocks, power_of_two
from recurra.shapes import Tensor

__all__ = ["Arguments", "Gradients", "d_weights", "grid", "run_arguments", "work_states", "zeros_in_padding"]

ROWS = 16
"""Most rows of a program: fewest that a tensor core takes. Not tuned."""

COLUMNS, DEPTH = 32, 32
"""Most units, and most terms of their sums, in one product inside a kernel. Not tuned."""

WARPS = 4
"""Warps of a program. Not tuned."""


class Arguments(NamedTuple):
    """A recurrence from its input's products on; all tensors of one precision, float32 or float64.

    Attributes:
        operation: a name of `recurra.kernels.triton.custom_op.OPERATIONS`.
        gates: (B, T, 4*H) what each step's input adds to the gates, biases included.
        w_hh: (4*H, D).
        norms: numbers of the normalizations in one row, or None.
        states: (B, fields, H) before the first step.
        begin: (B, fields, H) what resets begin with, or None.
        lengths: (B,) integers, or None.
        resets: (B, T) booleans, or None.
        dropout: (B, H) factors, or None.
        zone_h: (B, T, H) share of h that is kept, or None.
        zone_memory: the same of the state's other fields.
        rate_h: the share where `zone_h` is None.
        rate_memory: the share where `zone_memory` is None.
        reverse: read from the last step to the first.
    """

    operation: str
    gates: Tensor
    w_hh: Tensor
    norms: Tensor | None
    states: Tensor
    begin: Tensor | None
    lengths: Tensor | None
    resets: Tensor | None
    dropout: Tensor | None
    zone_h: Tensor | None
    zone_memory: Tensor | None
    rate_h: float
    rate_memory: float
    reverse: bool

    @property
    def hidden_size(self) -> int:
        """H."""
        return int(self.states.shape[2])


class Gradients(NamedTuple):
    """Gradients of a call's inputs; None of those that are None."""

    gates: Tensor
    w_hh: Tensor
    norms: Tensor | None
    states: Tensor
    begin: Tensor | None


def run_arguments(given: Arguments) -> dict[str, Any]:
    """What both kernels of every operation take."""
    lengths = None if given.lengths is None else given.lengths.to(given.gates.device).contiguous()
    sizes = {"batch": len(given.gates), "steps": given.gates.shape[1], "hidden": given.hidden_size, "size": given.w_hh.shape[1]}
    tensors = {name: getattr(given, name) for name in ("w_hh", "resets", "dropout", "zone_h", "zone_memory")}
    return {
        **{name: None if tensor is None else tensor.contiguous() for name, tensor in tensors.items()},
        **sizes,
        "lengths": lengths,
        "order": None if lengths is None else lengths.argsort(descending=True),
        "REVERSE": given.reverse,
        "RATE_H": given.rate_h,
        "RATE_MEMORY": given.rate_memory,
        "ZONEOUT": _zoned(given.zone_h, given.rate_h) or _zoned(given.zone_memory, given.rate_memory),
        "ROWS": power_of_two(len(given.gates), ROWS),
        "COLUMNS": power_of_two(sizes["size"], COLUMNS),
        "DEPTH": max(power_of_two(sizes["size"], DEPTH), 8),
        "PRECISION": _precision(given.w_hh.dtype),
        "num_warps": WARPS,
    }


def _zoned(zone: Tensor | None, rate: float) -> bool:
    return zone is not None or rate != 0.0


def _precision(dtype: torch.dtype) -> str:
    """Exact products, unless the program allows TF32 (`torch.set_float32_matmul_precision`)."""
    return "ieee" if dtype == torch.float64 or torch.get_float32_matmul_precision() == "highest" else "tf32"


def grid(given: Arguments) -> tuple[int, ...]:
    """One program for each block of rows."""
    return (blocks(len(given.gates), power_of_two(len(given.gates), ROWS)),)


def work_states(given: Arguments) -> dict[str, Tensor]:
    """Where the kernels keep the state: h (3, B, H), in two slabs and that of resets; the memory (fields - 1, 2, B, H)."""
    h, *memory = given.states.unbind(1)
    begins = given.states.unbind(1) if given.begin is None else given.begin.unbind(1)
    pairs = [torch.stack([field, begin]) for field, begin in zip(memory, begins[1:], strict=True)]
    return {"h": torch.stack([h, h, begins[0]]), "memory": torch.stack(pairs)}


def zeros_in_padding(given: Arguments, *shape: int) -> Tensor:
    """A tensor for the kernels to fill, which leave padding alone."""
    return given.gates.new_empty(shape) if given.lengths is None else given.gates.new_zeros(shape)


def d_weights(given: Arguments, output: Tensor, d_products: Tensor) -> Tensor:
    """Gradient of the recurrent weights: one product over all steps of all rows."""
    begin = None if given.begin is None else given.begin[:, 0]
    read = previous_steps(output, given.states[:, 0], begin, lengths=given.lengths, resets=given.resets, reverse=given.reverse)
    if given.dropout is not None:
        read = read * given.dropout[:, None]
    size = given.w_hh.shape[1]
    if size == given.hidden_size:
        return d_products.flatten(0, 1).mT @ read.flatten(0, 1)
    d_products, read = d_products.view(*read.shape[:2], 4, -1, size), read.view(*read.shape[:2], -1, size)
    return torch.einsum("btgki,btkj->gkij", d_products, read).reshape(given.w_hh.shape)
