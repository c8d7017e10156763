"""The compiled elementwise scans as torch operators: shapes for tracing, gradients, second derivatives, vmap.

`recurra::elementwise_scan` and its gradient are opaque to torch.compile and torch.export: one node, whatever the number of
steps. The gradient's own derivative is taken through operations over the whole sequence around `recurra::linear_scan`; that
of a unit that is not linear in its state (IndRNN) through the reference, step by step.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch

from recurra.kernels.compiled import computed
from recurra.kernels.elementwise_scan.aten import elementwise_scan_aten
from recurra.kernels.elementwise_scan.compiled import Arguments, kept_shape, run_backward, run_forward
from recurra.kernels.elementwise_scan.reference import elementwise_scan_reference
from recurra.kernels.elementwise_scan.units import UNITS, ScanWeights
from recurra.kernels.linear_scan.custom_op import linear_scan, widened
from recurra.kernels.loop import Resets
from recurra.kernels.transforms import in_rows, one_by_one, rows_apart, transformable
from recurra.shapes import Tensor

__all__ = ["elementwise_scan", "elementwise_scan_backward"]

_GIVEN = (
    "str unit, Tensor x, Tensor w_ih, Tensor b_ih, Tensor? parameters, Tensor state, Tensor? begin, Tensor? lengths, Tensor? resets, "
    "bool reverse"
)


_COUNT = len(Arguments._fields)


def _run(*arguments: Any) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Outputs, states of all steps (empty when they are the outputs), last state, and the gates that were kept."""
    given, saving = Arguments(*arguments[:_COUNT]), arguments[_COUNT]
    output, states, last, kept = run_forward(_widened(given), saving=saving)
    dtype = given.x.dtype
    return output.to(dtype), states.to(dtype), last.to(dtype), kept


_elementwise_scan = torch.library.custom_op(
    "recurra::elementwise_scan",
    _run,
    mutates_args=(),
    device_types="cpu",
    schema=f"({_GIVEN}, bool saving) -> (Tensor, Tensor, Tensor, Tensor)",
)


@_elementwise_scan.register_fake
def _(*arguments: Any) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    given, saving = Arguments(*arguments[:_COUNT]), arguments[_COUNT]
    x, state = given.x, given.state
    shape = (*x.shape[:2], state.shape[1])
    states = x.new_empty(0 if UNITS[given.unit].output is None else shape)
    dtype = computed(x.dtype)
    return x.new_empty(shape), states, x.new_empty(state.shape), x.new_empty(kept_shape(given, dtype) if saving else 0, dtype=dtype)


def _run_backward(*arguments: Any) -> tuple[Tensor, ...]:
    """Gradients of x (empty if not asked for), w_ih, b_ih, the parameters, the state and `begin` (empty when None)."""
    given, (states, kept, d_output, d_last, input_gradient) = Arguments(*arguments[:_COUNT]), arguments[_COUNT:]
    wide = _widened(given)
    if kept.shape != kept_shape(given, wide.x.dtype):
        *_, kept = run_forward(wide, saving=True)
    others = [tensor for tensor in widened(states, d_output, d_last) if tensor is not None]
    found = run_backward(wide, others[0], kept, *others[1:], input_gradient=input_gradient)
    return tuple(gradient.to(given.x.dtype) for gradient in found)


_elementwise_scan_backward = torch.library.custom_op(
    "recurra::elementwise_scan_backward",
    _run_backward,
    mutates_args=(),
    device_types="cpu",
    schema=f"({_GIVEN}, Tensor states, Tensor kept, Tensor d_output, Tensor d_last, bool input_gradient)"
    " -> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)",
)


@_elementwise_scan_backward.register_fake
def _(*arguments: Any) -> tuple[Tensor, ...]:
    given, input_gradient = Arguments(*arguments[:_COUNT]), arguments[-1]
    x = given.x
    rest = (given.w_ih, given.b_ih, given.parameters, given.state, given.begin)
    return x.new_empty(x.shape if input_gradient else 0), *(x.new_empty(0 if each is None else each.shape) for each in rest)


def _widened(given: Arguments) -> Arguments:
    numbers = ("x", "w_ih", "b_ih", "parameters", "state", "begin")
    return given._replace(**dict(zip(numbers, widened(*(getattr(given, name) for name in numbers)), strict=True)))


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor, Tensor]) -> None:
    given = Arguments(*inputs[:_COUNT])
    ctx.mark_non_differentiable(output[1], output[3])
    ctx.set_materialize_grads(False)  # what is kept would get a gradient as large as itself
    states = output[0] if UNITS[given.unit].output is None else output[1]
    ctx.save_for_backward(*given[1:9], states, output[3])
    ctx.unit, ctx.reverse = given.unit, given.reverse


def _backward(ctx: Any, d_output: Tensor | None, _states: None, d_last: Tensor | None, _kept: None) -> tuple[Any, ...]:
    *given, states, kept = ctx.saved_tensors
    if d_output is None:
        d_output = torch.zeros_like(states)
    if d_last is None:
        d_last = torch.zeros_like(given[4])
    needed = ctx.needs_input_grad
    found = elementwise_scan_backward(ctx.unit, *given, ctx.reverse, states, kept, d_output, d_last, bool(needed[1]))
    x, w_ih, b_ih, parameters, state, begin = (each if wanted else None for each, wanted in zip(found, needed[1:7], strict=True))
    return None, x, w_ih, b_ih, parameters, state, begin, None, None, None, None


def _save_backward(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:  # noqa: ARG001 - torch gives it by name
    given, (_, _, d_output, d_last, input_gradient) = Arguments(*inputs[:_COUNT]), inputs[_COUNT:]
    ctx.save_for_backward(*given[1:9], d_output, d_last)
    ctx.unit, ctx.reverse, ctx.input_gradient = given.unit, given.reverse, input_gradient


def _second_backward(ctx: Any, *upstream: Tensor) -> tuple[Any, ...]:
    # The gradient as a function of all it depends on, differentiated. Inputs that are None take no part.
    *inputs, lengths, resets, d_output, d_last = ctx.saved_tensors
    there = [number for number, each in enumerate(inputs) if each is not None]

    def gradient(d_output: Tensor, d_last: Tensor, *values: Tensor) -> tuple[Tensor, ...]:
        _, pull, *_ = torch.func.vjp(partial(_composed, ctx.unit, there, lengths, resets, ctx.reverse), *values)
        found: tuple[Tensor, ...] = pull((d_output, d_last))
        return found

    found, pull, *_ = torch.func.vjp(gradient, d_output, d_last, *(inputs[number] for number in there))
    wanted = [
        torch.zeros_like(mine) if number == 0 and not ctx.input_gradient else upstream[number]
        for number, mine in zip(there, found, strict=True)
    ]
    back, last, *rest = pull(tuple(wanted))
    by_input = dict(zip(there, rest, strict=True))
    return None, *(by_input.get(number) for number in range(6)), None, None, None, None, None, back, last, None


def _composed(
    unit: str, there: list[int], lengths: Tensor | None, resets: Tensor | None, reverse: bool, *values: Tensor
) -> tuple[Tensor, Tensor]:
    """The same scan of operations that can be differentiated again."""
    given: list[Tensor | None] = [None] * 6
    for number, value in zip(there, values, strict=True):
        given[number] = value
    x, w_ih, b_ih, parameters, state, begin = given
    assert x is not None and w_ih is not None and b_ih is not None and state is not None  # noqa: PT018 - for the type checker
    starts = None if resets is None else Resets(resets, torch.zeros_like(state) if begin is None else begin)
    weights = ScanWeights(w_ih, b_ih, parameters)
    compute = elementwise_scan_reference if UNITS[unit].coefficients is None else partial(elementwise_scan_aten, scan=_linear)
    return compute(x, state, weights, unit=unit, lengths=lengths, resets=starts, reverse=reverse)


def _linear(a: Tensor, b: Tensor, state: Tensor, *, lengths: Tensor | None, resets: Resets | None, reverse: bool) -> tuple[Tensor, Tensor]:
    where, begin = (None, None) if resets is None else resets
    output, last = linear_scan(a, state, begin, lengths, where, reverse, b)
    return output, last


def _mapped(info: Any, in_dims: tuple[int | None, ...], *arguments: Any) -> tuple[Any, Any]:
    if any(dim is not None for dim in in_dims[2:5]):
        return one_by_one(elementwise_scan)(info, in_dims, *arguments)
    # The same weights for all: more rows.
    unit, x, w_ih, b_ih, parameters, *others, reverse, saving = arguments
    x, *others = (in_rows(each, dim, info.batch_size) for each, dim in zip((x, *others), (in_dims[1], *in_dims[5:9]), strict=True))
    return rows_apart(elementwise_scan(unit, x, w_ih, b_ih, parameters, *others, reverse, saving), info.batch_size)


elementwise_scan = transformable(_elementwise_scan, _save, _backward, on_cpu=_run, mapped=_mapped)
"""`recurra::elementwise_scan`: the fields of `Arguments` and whether to keep the gates for the gradient -> outputs, states of all
steps or empty, last state, gates or empty."""

# Gradients of shared weights are sums over rows, so those of single samples cannot share a call: no rule of vmap but the loop.
elementwise_scan_backward = transformable(_elementwise_scan_backward, _save_backward, _second_backward, on_cpu=_run_backward)
"""`recurra::elementwise_scan_backward`: the fields of `Arguments`, states, gates, d_output, d_last, input_gradient -> gradients of all."""
