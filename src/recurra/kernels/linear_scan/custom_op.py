"""The compiled linear scan as torch operators: shapes for tracing, gradients of any order, vmap.

`recurra::linear_scan` and its gradient are opaque to torch.compile and torch.export: one node, whatever the number of steps.
The gradient is a linear scan in the other direction, and the gradient's own derivative one more in the first.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from recurra.kernels.linear_scan import compiled
from recurra.kernels.linear_scan.previous import previous_steps
from recurra.shapes import Tensor

__all__ = ["in_rows", "linear_scan", "linear_scan_backward", "rows_apart", "transformable", "widened"]

_ROWS = "Tensor? begin, Tensor? lengths, Tensor? resets, bool reverse"


@torch.library.custom_op(
    "recurra::linear_scan", mutates_args=(), device_types="cpu", schema=f"(Tensor a, Tensor b, Tensor state, {_ROWS}) -> (Tensor, Tensor)"
)
def _linear_scan(
    a: Tensor, b: Tensor, state: Tensor, begin: Tensor | None, lengths: Tensor | None, resets: Tensor | None, reverse: bool
) -> tuple[Tensor, Tensor]:
    """Outputs and the state after the last step; `begin` is what resets begin with, zeros when None."""
    dtype = a.dtype
    a, b, state, begin = widened(a, b, state, begin)
    assert a is not None and b is not None and state is not None  # noqa: PT018 - for the type checker
    output, last = compiled.forward(a, b, state, begin, lengths, resets, reverse)
    return output.to(dtype), last.to(dtype)


@_linear_scan.register_fake
def _(
    a: Tensor, b: Tensor, state: Tensor, begin: Tensor | None, lengths: Tensor | None, resets: Tensor | None, reverse: bool
) -> tuple[Tensor, Tensor]:
    return a.new_empty(a.shape), state.new_empty(state.shape)


@torch.library.custom_op(
    "recurra::linear_scan_backward",
    mutates_args=(),
    device_types="cpu",
    schema=f"(Tensor d_output, Tensor d_last, Tensor a, Tensor output, Tensor state, {_ROWS}) -> (Tensor, Tensor, Tensor, Tensor)",
)
def _linear_scan_backward(
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
    """Gradients of a, b, the state and `begin` (empty when that is None)."""
    dtype = a.dtype
    wide = [tensor for tensor in widened(d_output, d_last, a, output, state) if tensor is not None]
    d_output, d_last, a, output, state = wide
    (begin,) = widened(begin)
    d_a, d_b, d_state, d_begin = compiled.backward(d_output, d_last, a, output, state, begin, lengths, resets, reverse)
    return d_a.to(dtype), d_b.to(dtype), d_state.to(dtype), d_begin.to(dtype)


@_linear_scan_backward.register_fake
def _(
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
    return a.new_empty(a.shape), a.new_empty(a.shape), state.new_empty(state.shape), a.new_empty(0 if begin is None else begin.shape)


def widened(*tensors: Tensor | None) -> list[Tensor | None]:
    """In a precision that the kernels compute in: half precision is only a way to store numbers."""
    return [each if each is None or each.dtype in {torch.float32, torch.float64} else each.float() for each in tensors]


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    a, _, state, begin, lengths, resets, reverse = inputs
    ctx.save_for_backward(a, output[0], state, begin, lengths, resets)
    ctx.reverse = reverse


def _backward(ctx: Any, d_output: Tensor, d_last: Tensor) -> tuple[Tensor | None, ...]:
    d_a, d_b, d_state, d_begin = linear_scan_backward(d_output, d_last, *ctx.saved_tensors, ctx.reverse)
    return d_a, d_b, d_state, d_begin if ctx.needs_input_grad[3] else None, None, None, None


def _save_backward(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    _, _, a, states, state, begin, lengths, resets, reverse = inputs
    ctx.save_for_backward(output[1], a, states, state, begin, lengths, resets)
    ctx.reverse = reverse


def _second_backward(ctx: Any, to_a: Tensor, to_b: Tensor, to_state: Tensor, to_begin: Tensor) -> tuple[Tensor | None, ...]:
    # With p_t the state that step t reads and g the adjoint scan g_t = d_t + a_{t+1} g_{t+1}: d_a = g p, d_b = g, and d_state
    # is one more step of g. So what reaches g is the scan of (to_a p + to_b) from to_state, which is linear in everything.
    g, a, states, state, begin, lengths, resets = ctx.saved_tensors
    start = None if begin is None else to_begin

    def read(states: Tensor, state: Tensor, begin: Tensor | None) -> Tensor:
        return previous_steps(states, state, begin, lengths=lengths, resets=resets, reverse=ctx.reverse)

    back, last = linear_scan(a, to_a * read(states, state, begin) + to_b, to_state, start, lengths, resets, ctx.reverse)
    if begin is None:
        _, pull = torch.func.vjp(lambda states, state: read(states, state, None), states, state)
        d_states, d_state = pull(to_a * g)
        d_begin = None
    else:
        _, pull = torch.func.vjp(read, states, state, begin)
        d_states, d_state, d_begin = pull(to_a * g)
    return back, last, read(back, to_state, start) * g, d_states, d_state, d_begin, None, None, None


def in_rows(tensor: Tensor | None, dim: int | None, size: int) -> Tensor | None:
    """A tensor under vmap with the mapped dimension inside its first one: the same rows again where it is not mapped."""
    if tensor is None:
        return None
    tensor = tensor.expand(size, *tensor.shape) if dim is None else tensor.movedim(dim, 0)
    return tensor.reshape(-1, *tensor.shape[2:])


def rows_apart(results: tuple[Tensor, ...], size: int) -> tuple[tuple[Tensor, ...], tuple[int, ...]]:
    """What came of `in_rows`, as vmap wants it; a result without rows (an empty one) is the same for all."""
    apart = tuple(each.view(size, -1, *each.shape[1:]) if each.ndim > 1 else each.expand(size, -1) for each in results)
    return apart, (0,) * len(results)


def _mapped(info: Any, in_dims: tuple[int | None, ...], *arguments: Any) -> tuple[Any, Any]:
    *tensors, reverse = arguments
    rows = [in_rows(tensor, dim, info.batch_size) for tensor, dim in zip(tensors, in_dims[:-1], strict=True)]
    return rows_apart((linear_scan if len(tensors) == 6 else linear_scan_backward)(*rows, reverse), info.batch_size)


def transformable(operator: Any, save: Callable[..., None], backward: Callable[..., Any], mapped: Callable[..., Any]) -> Callable[..., Any]:
    """An operator with its gradient and its rule for vmap, for ordinary calls, compilation and torch.func's transforms.

    The gradient that an operator registers is not seen by torch.func (grad, vjp, per-sample gradients), which wants an
    autograd.Function; tracing wants the operator.
    """
    operator.register_autograd(backward, setup_context=save)
    operator.register_vmap(mapped)
    members = {"forward": operator, "setup_context": save, "backward": backward, "vmap": mapped}
    function: Any = type("Transformable", (torch.autograd.Function,), {name: staticmethod(member) for name, member in members.items()})

    def call(*arguments: Any) -> Any:
        if not torch.compiler.is_compiling() and torch._C._are_functorch_transforms_active():  # noqa: SLF001 - there is no public name
            return function.apply(*arguments)
        return operator(*arguments)

    return call


linear_scan = transformable(_linear_scan, _save, _backward, _mapped)
"""`recurra::linear_scan`: (a, b, state, begin, lengths, resets, reverse) -> (outputs, last state)."""

linear_scan_backward = transformable(_linear_scan_backward, _save_backward, _second_backward, _mapped)
"""`recurra::linear_scan_backward`: (d_output, d_last, a, outputs, state, begin, ...) -> (d_a, d_b, d_state, d_begin)."""
