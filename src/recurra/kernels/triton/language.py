"""Triton's language, and one way to launch a kernel; without Triton only names, so that kernels can be read and imported."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch

from recurra.shapes import Tensor

jit: Any
tl: Any
try:
    import triton
    from triton import language
except ImportError:
    jit, tl = (lambda function: function), SimpleNamespace(constexpr=Any)
else:
    jit, tl = triton.jit, language

__all__ = ["blocks", "jit", "launch", "power_of_two", "tl"]


def launch(kernel: Any, grid: tuple[int, ...], **arguments: Any) -> None:
    """Run a kernel once for each place of the grid, on the device of its tensors."""
    tensor = next(each for each in arguments.values() if isinstance(each, Tensor))
    with torch.cuda.device(tensor.device if tensor.is_cuda else -1):
        # Said outright, as its default differs between versions: a product and a sum are rounded once.
        kernel[grid](**arguments, enable_fp_fusion=True)


def blocks(size: int, block: int) -> int:
    """Blocks that hold `size` elements."""
    return -(-size // block)


def power_of_two(size: int, most: int) -> int:
    """The power of two that holds `size`, but no more than `most`: blocks have no other sizes."""
    return int(min(1 << max(size - 1, 0).bit_length(), most))
