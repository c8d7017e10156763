"""The linear scan as torch operators, compiled on a CPU and by Triton on a GPU: shapes for tracing, gradients of any order, vmap.

`recurra::linear_scan` and its gradient are opaque to torch.compile and torch.export: one node, whatever the number of steps.
The gradient is a linear scan in the other direction, and the gradient's own derivative one more in the first.
"""

from __future__ import annotations

from typing import Any

import torch

from recurra.kernels.compiled import computed
from recurra.kernels.linear_scan import compiled
from recurra.kernels.linear_scan.previous import previous_steps
from recurra.kernels.transforms import in_rows, rows_apart, transformable
from recurra.shapes import Tensor

__all__ = ["linear_scan", "linear_scan_backward", "run_backward_on_gpu", "run_on_gpu", "widened"]

_GIVEN = "Tensor a, Tensor state, Tensor? begin, Tensor? lengths, Tensor? resets, bool reverse"


def _run(*arguments: Any) -> tuple[Tensor, Tensor]:
    *given, b = arguments
    output, last = compiled.forward(_widened(compiled.Arguments(*given)), *widened(b))
    return output.to(b.dtype), last.to(b.dtype)


_linear_scan = torch.library.custom_op(
    "recurra::linear_scan", _run, mutates_args=(), device_types="cpu", schema=f"({_GIVEN}, Tensor b) -> (Tensor, Tensor)"
)


@_linear_scan.register_kernel("cuda")
def run_on_gpu(*arguments: Any) -> tuple[Tensor, Tensor]:
    """The same by Triton."""
    from recurra.kernels.linear_scan import triton

    *given, b = arguments
    output, last = triton.forward(_widened(compiled.Arguments(*given)), *widened(b))
    return output.to(b.dtype), last.to(b.dtype)


@_linear_scan.register_fake
def _(*arguments: Any) -> tuple[Tensor, Tensor]:
    a, state = arguments[:2]
    return a.new_empty(a.shape), state.new_empty(state.shape)


def _run_backward(*arguments: Any) -> tuple[Tensor, ...]:
    given, rest = compiled.Arguments(*arguments[:6]), arguments[6:]
    found = compiled.backward(_widened(given), *widened(*rest))
    return tuple(gradient.to(given.a.dtype) for gradient in found)


_linear_scan_backward = torch.library.custom_op(
    "recurra::linear_scan_backward",
    _run_backward,
    mutates_args=(),
    device_types="cpu",
    schema=f"({_GIVEN}, Tensor output, Tensor d_output, Tensor d_last) -> (Tensor, Tensor, Tensor, Tensor)",
)


@_linear_scan_backward.register_kernel("cuda")
def run_backward_on_gpu(*arguments: Any) -> tuple[Tensor, ...]:
    """The same by Triton."""
    from recurra.kernels.linear_scan import triton

    given, rest = compiled.Arguments(*arguments[:6]), arguments[6:]
    found = triton.backward(_widened(given), *widened(*rest))
    return tuple(gradient.to(given.a.dtype) for gradient in found)


@_linear_scan_backward.register_fake
def _(*arguments: Any) -> tuple[Tensor, ...]:
    a, state, begin = arguments[:3]
    return a.new_empty(a.shape), a.new_empty(a.shape), state.new_empty(state.shape), a.new_empty(0 if begin is None else begin.shape)


def widened(*tensors: Any) -> list[Any]:
    """Tensors (or None) in the precision that the kernels compute in."""
    return [None if each is None else each.to(computed(each.dtype)) for each in tensors]


def _widened(given: compiled.Arguments) -> compiled.Arguments:
    a, state, begin = widened(given.a, given.state, given.begin)
    return given._replace(a=a, state=state, begin=begin)


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    *tensors, reverse, _ = inputs
    ctx.save_for_backward(*tensors, output[0])
    ctx.reverse = reverse


def _backward(ctx: Any, d_output: Tensor, d_last: Tensor) -> tuple[Tensor | None, ...]:
    *given, output = ctx.saved_tensors
    d_a, d_b, d_state, d_begin = linear_scan_backward(*given, ctx.reverse, output, d_output, d_last)
    return d_a, d_state, d_begin if ctx.needs_input_grad[2] else None, None, None, None, d_b


def _save_backward(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    *tensors, reverse, states, _, _ = inputs
    ctx.save_for_backward(*tensors, states, output[1])
    ctx.reverse = reverse


def _second_backward(ctx: Any, to_a: Tensor, to_b: Tensor, to_state: Tensor, to_begin: Tensor) -> tuple[Tensor | None, ...]:
    # With p_t the state that step t reads and g the adjoint scan g_t = d_t + a_{t+1} g_{t+1}: d_a = g p, d_b = g, and d_state
    # is one more step of g. So what reaches g is the scan of (to_a p + to_b) from to_state, which is linear in everything.
    a, state, begin, lengths, resets, states, g = ctx.saved_tensors
    start = None if begin is None else to_begin

    def read(states: Tensor, state: Tensor, begin: Tensor | None = None) -> Tensor:
        return previous_steps(states, state, begin, lengths=lengths, resets=resets, reverse=ctx.reverse)

    begins = () if begin is None else (begin,)
    before, pull, *_ = torch.func.vjp(read, states, state, *begins)
    back, last = linear_scan(a, to_state, start, lengths, resets, ctx.reverse, to_a * before + to_b)
    d_states, d_state, *d_begin = pull(to_a * g)
    return read(back, to_state, start) * g, d_state, *(d_begin or [None]), None, None, None, d_states, back, last


def _mapped(info: Any, in_dims: tuple[int | None, ...], *arguments: Any) -> tuple[Any, Any]:
    rows = [each if number == 5 else in_rows(each, in_dims[number], info.batch_size) for number, each in enumerate(arguments)]
    return rows_apart((linear_scan if len(rows) == 7 else linear_scan_backward)(*rows), info.batch_size)


linear_scan = transformable(_linear_scan, _save, _backward, on_cpu=_run, mapped=_mapped)
"""`recurra::linear_scan`: (a, state, begin, lengths, resets, reverse, b) -> (outputs, last state)."""

linear_scan_backward = transformable(_linear_scan_backward, _save_backward, _second_backward, on_cpu=_run_backward, mapped=_mapped)
"""`recurra::linear_scan_backward`: the same without b, outputs, d_output, d_last -> (d_a, d_b, d_state, d_begin); the last empty without `begin`."""
