"""The loop over single steps, `STEPS` of them at a time compiled by torch.compile: for cells that have no kernel of their own.

What it gains is in docs/log.md.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from functools import cache
from types import FunctionType
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import nn

from recurra.kernels.loop import Resets, run_loop
from recurra.kernels.state import map_state
from recurra.kernels.triton import UNAVAILABLE as NO_TRITON
from recurra.shapes import Float, Int, Tensor

__all__ = ["STEPS", "absence", "run_compiled_loop"]

STEPS = 8
"""Steps of a chunk: more take longer to compile in proportion."""

_COMPILED: WeakKeyDictionary[nn.Module, dict[tuple[Any, ...], Callable[..., Any]]] = WeakKeyDictionary()
"""Of each cell what is compiled, for each way to call it: not in the cell, so that it is copied and pickled without."""


def absence(device: str | None = "cpu") -> str | None:
    """Why loops cannot be compiled for a device of this type; None when they can, or when the device is not known yet."""
    if device == "cuda":
        return NO_TRITON
    if device not in {None, "cpu"}:
        return f"compiled loops run on a CPU or a CUDA GPU, and the input is on {device}"
    name = os.environ.get("CXX") or {"darwin": "clang++", "win32": "cl"}.get(sys.platform, "g++")
    return None if _found(name) else f"torch.compile needs a C++ compiler, and there is no {name!r}: install it, or set CXX to another"


@cache
def _found(program: str) -> bool:
    return shutil.which(program) is not None


def run_compiled_loop(
    cell: Any,
    x: Float[Tensor, "B T F"],
    state: Any,
    *,
    lengths: Int[Tensor, " B"] | None = None,
    resets: Resets | None = None,
    reverse: bool = False,
) -> tuple[Float[Tensor, "B T D"], Any]:
    """What `run_loop` gives for `cell.step`; steps that fill no chunk run as they are.

    Args:
        cell: a module with `step(x, state)`, of operations that torch.compile can trace; it is compiled once for each way to call it.
        x: see `run_loop`, as for what follows.
        state: the state before the first step read.
        lengths: real steps of each row.
        resets: where the state starts anew.
        reverse: read from the last step to the first.

    Returns:
        Outputs in the order of the input, and the state after the last step read.
    """
    tracked = torch.is_grad_enabled() and any(each.requires_grad for each in (x, *cell.parameters()))
    loop = _compiled(cell, x, (lengths is None, resets is None, reverse, tracked))
    parts = torch.split(x, STEPS, 1)
    wheres = [None] * len(parts) if resets is None else torch.split(resets.where, STEPS, 1)
    lengths = None if lengths is None else lengths.to(x.device, torch.int64)
    outputs: list[Tensor] = [x] * len(parts)
    for number in reversed(range(len(parts))) if reverse else range(len(parts)):
        part, where = parts[number], wheres[number]
        left = None if lengths is None else (lengths - number * STEPS).clamp(0, part.shape[1])
        fresh = None if resets is None or where is None else Resets(where.contiguous(), map_state(Tensor.contiguous, resets.state))
        if part.shape[1] < STEPS:
            run = run_loop
        else:  # every chunk looks like every other, or each would be compiled by itself
            run, part, state = loop, part.contiguous(), map_state(_tracked if tracked else Tensor.contiguous, state)
        outputs[number], state = run(cell.step, part, state, lengths=left, resets=fresh, reverse=reverse)
    return torch.cat(outputs, 1), state


def _tracked(field: Tensor) -> Tensor:
    """With a gradient, as the state has after the first chunk."""
    field = field.contiguous()
    return field if field.requires_grad or not field.is_floating_point() else field.detach().requires_grad_()


def _compiled(cell: Any, x: Tensor, way: tuple[object, ...]) -> Callable[..., Any]:
    """`run_loop`, compiled for a cell and a way to call it.

    torch.compile counts what it has compiled by the code of a function, and gives up at eight: so each has code of its own.
    """
    way = (*way, cell.training, x.shape[0] == 1, x.dtype, x.device.type, torch.is_autocast_enabled(x.device.type))
    made = _COMPILED.setdefault(cell, {})
    if way not in made:
        function = FunctionType(run_loop.__code__.replace(), run_loop.__globals__)
        function.__kwdefaults__ = run_loop.__kwdefaults__
        made[way] = torch.compile(function, fullgraph=True, dynamic=True)
    return made[way]
