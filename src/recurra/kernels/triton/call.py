"""What a gated recurrence on a GPU is given, and what its kernels are launched with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch

from recurra.kernels.linear_scan.previous import previous_steps
from recurra.kernels.loop import RecurrentWeights
from recurra.kernels.triton.language import blocks, launch, power_of_two
from recurra.shapes import Tensor

__all__ = [
    "Arguments",
    "Gradients",
    "d_weights",
    "from_gates",
    "grid",
    "launch_backward",
    "run_arguments",
    "state_gradients",
    "work_states",
    "zeros_in_padding",
]

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


def state_gradients(given: Arguments, d_last: Tensor) -> dict[str, Any]:
    """Where the kernels keep the gradients of the states, from those of the last ones on, and of what resets begin with."""
    d_states = d_last.clone(memory_format=torch.contiguous_format)
    return {"d_states": d_states, "d_begin": None if given.begin is None else torch.zeros_like(d_states)}


def launch_backward(kernel: Any, given: Arguments, tensors: tuple[Tensor, Tensor, Tensor, Tensor], **constants: Any) -> Gradients:
    """The way back of a recurrence whose gates are sums: their gradients are those of the recurrent products as well.

    Args:
        kernel: what runs.
        given: what the recurrence was given.
        tensors: outputs, what was saved, gradients of the outputs and of the last states.
        constants: more that the kernel takes.
    """
    output, saved, d_output, d_last = tensors
    d_gates, states = zeros_in_padding(given, *given.gates.shape), state_gradients(given, d_last)
    read = {"saved": saved, "d_output": d_output.contiguous()}
    launch(kernel, grid(given), **read, d_gates=d_gates, **states, **constants, **run_arguments(given))
    return Gradients(d_gates, d_weights(given, output, d_gates), None, *states.values())


def from_gates(reference: Callable[..., Any], gates: Tensor, state: Any, w_hh: Tensor, **options: Any) -> Any:
    """A reference recurrence whose inputs already are what they add to the gates: it can be differentiated again."""
    zeros, identity = w_hh.new_zeros(len(w_hh)), torch.eye(len(w_hh), dtype=w_hh.dtype, device=w_hh.device)
    return reference(gates, state, RecurrentWeights(identity, w_hh, zeros, zeros), **options)
