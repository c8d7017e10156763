"""The compiled elementwise scans: tensors handed to them as addresses, and the linear scan among them.

The torch operators made of them, with gradients, are in `custom_op.py`.
"""

from __future__ import annotations

from typing import NamedTuple

import torch

from recurra.kernels.compiled import UNAVAILABLE
from recurra.shapes import Tensor

try:
    from recurra.kernels import _cpu
except ImportError:
    _cpu = None

__all__ = ["ScanCall", "address", "backward", "dense", "forward", "is_empty", "run", "where_rows_stand"]


class ScanCall(NamedTuple):
    """What the extension is given: the fields of call.h in their order, addresses and numbers; zero where there is none."""

    unit: int
    rows: int
    steps: int
    columns: int
    reverse: bool
    threads: int
    lengths: int
    resets: int
    state: int
    begin: int
    parameters: int
    states: int
    output: int
    last: int
    gates: tuple[int, int] = (0, 0)
    gate_row: tuple[int, int] = (0, 0)
    gate_step: tuple[int, int] = (0, 0)
    features: int = 0
    products: int = 0
    x: int = 0
    x_row: int = 0
    x_step: int = 0
    weight: int = 0
    bias: int = 0
    grad_output: int = 0
    grad_last: int = 0
    grad_state: int = 0
    grad_begin: int = 0
    grad_parameters: int = 0
    grad_gates: tuple[int, int] = (0, 0)
    grad_x: int = 0
    grad_weight: int = 0
    grad_bias: int = 0


def run(call: ScanCall, dtype: torch.dtype, *, backward: bool) -> None:
    """Run a call; its tensors have to live until it returns."""
    assert _cpu is not None, UNAVAILABLE
    fields = [number for field in call for number in (field if isinstance(field, tuple) else (int(field),))]
    _cpu.scan(backward, dtype == torch.float64, fields)


def address(tensor: Tensor | None) -> int:
    """Where a tensor's numbers begin; zero for none."""
    return 0 if tensor is None else tensor.data_ptr()


def dense(x: Tensor) -> Tensor:
    """With the numbers of a step side by side; rows and steps may lie anywhere."""
    return x if x.stride(2) == 1 or x.shape[2] == 1 else x.contiguous()


def is_empty(x: Tensor) -> bool:
    """Whether there is no step at all, which the extension is not asked about."""
    return x.numel() == 0


def where_rows_stand(lengths: Tensor | None, resets: Tensor | None) -> tuple[Tensor | None, Tensor | None]:
    """Lengths and resets as the extension reads them."""
    lengths = None if lengths is None else lengths.to("cpu", torch.int64).contiguous()
    return lengths, None if resets is None else resets.contiguous()


def forward(
    a: Tensor, b: Tensor, state: Tensor, begin: Tensor | None, lengths: Tensor | None, resets: Tensor | None, reverse: bool
) -> tuple[Tensor, Tensor]:
    """Outputs (B, T, H) and the state after the last step (B, H)."""
    output, last = a.new_empty(a.shape), a.new_empty(state.shape)
    if is_empty(a):
        return output, last.copy_(state)
    a, b, state = dense(a), dense(b), state.contiguous()
    begin = None if begin is None else begin.contiguous()
    lengths, resets = where_rows_stand(lengths, resets)
    run(_call(a, b, state, begin, lengths, resets, reverse)._replace(states=address(output), last=address(last)), a.dtype, backward=False)
    return output, last


def backward(
    d_output: Tensor,
    d_last: Tensor,
    a: Tensor,
    output: Tensor,
    state: Tensor,
    begin: Tensor | None,
    lengths: Tensor | None,
    resets: Tensor | None,
    reverse: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gradients of a, b, the state and what resets begin with (empty where that is None)."""
    d_a, d_b, d_state = a.new_empty(a.shape), a.new_empty(a.shape), a.new_empty(state.shape)
    d_begin = a.new_empty(0) if begin is None else a.new_empty(begin.shape)
    if is_empty(a):
        return d_a, d_b, d_state.copy_(d_last), d_begin.zero_()
    a, state, output, d_output, d_last = dense(a), state.contiguous(), output.contiguous(), d_output.contiguous(), d_last.contiguous()
    begin = None if begin is None else begin.contiguous()
    lengths, resets = where_rows_stand(lengths, resets)
    call = _call(a, a, state, begin, lengths, resets, reverse)._replace(
        states=address(output),
        grad_output=address(d_output),
        grad_last=address(d_last),
        grad_state=address(d_state),
        grad_begin=0 if begin is None else address(d_begin),
        grad_gates=(address(d_a), address(d_b)),
    )
    run(call, a.dtype, backward=True)
    return d_a, d_b, d_state, d_begin


def _call(
    a: Tensor, b: Tensor, state: Tensor, begin: Tensor | None, lengths: Tensor | None, resets: Tensor | None, reverse: bool
) -> ScanCall:
    return ScanCall(
        0,
        *a.shape,
        reverse,
        torch.get_num_threads(),
        address(lengths),
        address(resets),
        address(state),
        address(begin),
        parameters=0,
        states=0,
        output=0,
        last=0,
        gates=(address(a), address(b)),
        gate_row=(a.stride(0), b.stride(0)),
        gate_step=(a.stride(1), b.stride(1)),
    )
