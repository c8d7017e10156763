"""The compiled elementwise scans: tensors handed to them as addresses, and the linear scan among them.

The torch operators made of them, with gradients, are in `custom_op.py`.
"""

from __future__ import annotations

from typing import NamedTuple

import torch

from recurra.kernels.compiled import UNAVAILABLE, check_tensor
from recurra.shapes import Tensor

try:
    from recurra.kernels import _cpu  # type: ignore[attr-defined]
except ImportError:
    _cpu = None

__all__ = ["Arguments", "ScanCall", "address", "backward", "check_scan", "dense", "forward", "is_empty", "run", "where_rows_stand"]


class ScanCall(NamedTuple):
    """What the extension is given: the fields of call.h in their order, addresses and numbers; zero where there is none."""

    unit: int
    rows: int
    steps: int
    columns: int
    reverse: bool
    threads: int
    lengths: int = 0
    resets: int = 0
    state: int = 0
    begin: int = 0
    parameters: int = 0
    states: int = 0
    output: int = 0
    last: int = 0
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
    kept: int = 0
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


def check_scan(x: Tensor, state: Tensor, begin: Tensor | None, lengths: Tensor | None, resets: Tensor | None) -> None:
    """What every scan takes on trust: it reads as far as the sizes of x (B, T, ...) and the state say.

    Raises:
        ValueError: a tensor does not fit them.
    """
    rows, steps, features = x.shape
    if min(features, state.shape[1]) < 1:
        raise ValueError(
            f"A scan needs at least one feature and one unit, not x of shape {tuple(x.shape)} and a state of {tuple(state.shape)}."
        )
    check_tensor("state", state, (rows, state.shape[1]), x.dtype)
    if begin is not None:
        check_tensor("begin", begin, tuple(state.shape), x.dtype)
    if lengths is not None:
        check_tensor("lengths", lengths, (rows,), lengths.dtype)
    if resets is not None:
        check_tensor("resets", resets, (rows, steps), torch.bool)


def where_rows_stand(lengths: Tensor | None, resets: Tensor | None) -> tuple[Tensor | None, Tensor | None]:
    """Lengths and resets as the extension reads them."""
    lengths = None if lengths is None else lengths.to("cpu", torch.int64).contiguous()
    return lengths, None if resets is None else resets.contiguous()


class Arguments(NamedTuple):
    """What a linear scan is given beside its terms b.

    Attributes:
        a: (B, T, H).
        state: (B, H).
        begin: (B, H) what resets begin with; zeros when None.
        lengths: (B,) integers, or None.
        resets: (B, T) booleans, or None.
        reverse: read from the last step to the first.
    """

    a: Tensor
    state: Tensor
    begin: Tensor | None
    lengths: Tensor | None
    resets: Tensor | None
    reverse: bool


def forward(given: Arguments, b: Tensor) -> tuple[Tensor, Tensor]:
    """Outputs (B, T, H) and the state after the last step (B, H)."""
    check_tensor("b", b, tuple(given.a.shape), given.a.dtype)
    given, b = _prepared(given), dense(b)
    output, last = given.a.new_empty(given.a.shape), given.a.new_empty(given.state.shape)
    if is_empty(given.a):
        return output, last.copy_(given.state)
    run(_call(given, b)._replace(states=address(output), last=address(last)), given.a.dtype, backward=False)
    return output, last


def backward(given: Arguments, output: Tensor, d_output: Tensor, d_last: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gradients of a, b, the state and what resets begin with (empty where that is None)."""
    given = _prepared(given)
    d_a, d_b, d_state = (given.a.new_empty(shape) for shape in (given.a.shape, given.a.shape, given.state.shape))
    d_begin = given.a.new_empty(0 if given.begin is None else given.begin.shape)
    if is_empty(given.a):
        return d_a, d_b, d_state.copy_(d_last), d_begin.zero_()
    output, d_output, d_last = output.contiguous(), d_output.contiguous(), d_last.contiguous()
    call = _call(given, given.a)._replace(
        states=address(output),
        grad_output=address(d_output),
        grad_last=address(d_last),
        grad_state=address(d_state),
        grad_begin=0 if given.begin is None else address(d_begin),
        grad_gates=(address(d_a), address(d_b)),
    )
    run(call, given.a.dtype, backward=True)
    return d_a, d_b, d_state, d_begin


def _prepared(given: Arguments) -> Arguments:
    """Checked, and with every tensor laid out as the extension reads it."""
    check_scan(given.a, given.state, given.begin, given.lengths, given.resets)
    lengths, resets = where_rows_stand(given.lengths, given.resets)
    begin = None if given.begin is None else given.begin.contiguous()
    return given._replace(a=dense(given.a), state=given.state.contiguous(), begin=begin, lengths=lengths, resets=resets)


def _call(given: Arguments, b: Tensor) -> ScanCall:
    a = given.a
    return ScanCall(
        0,
        a.shape[0],
        a.shape[1],
        a.shape[2],
        given.reverse,
        torch.get_num_threads(),
        address(given.lengths),
        address(given.resets),
        address(given.state),
        address(given.begin),
        gates=(address(a), address(b)),
        gate_row=(a.stride(0), b.stride(0)),
        gate_step=(a.stride(1), b.stride(1)),
    )
