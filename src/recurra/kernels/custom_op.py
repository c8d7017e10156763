"""The compiled recurrences as torch operators: shapes for tracing, gradients, second derivatives, vmap.

`recurra::recurrence` and its gradient are opaque to torch.compile and torch.export: one node, whatever the number of steps.
The gradient's own derivative is taken through the reference recurrence, step by step: right, and slow.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from recurra.kernels.compiled import FIELDS, Arguments, run_backward, run_forward, saved_width
from recurra.kernels.reference import run_reference
from recurra.shapes import Tensor

__all__ = ["recurrence"]


_GIVEN = (
    "str operation, Tensor x, Tensor? lengths, Tensor[] weights, Tensor[] states, Tensor[] resets, Tensor[] reset_states, "
    "Tensor[] dropouts, Tensor[] zones, float[] zone_rates, bool[] reverse"
)


@torch.library.custom_op(
    "recurra::recurrence", mutates_args=(), device_types="cpu", schema=f"({_GIVEN}, bool saving) -> (Tensor, Tensor, Tensor)"
)
def recurrence(
    operation: str,
    x: Tensor,
    lengths: Tensor | None,
    weights: Sequence[Tensor],
    states: Sequence[Tensor],
    resets: Sequence[Tensor],
    reset_states: Sequence[Tensor],
    dropouts: Sequence[Tensor],
    zones: Sequence[Tensor],
    zone_rates: Sequence[float],
    reverse: Sequence[bool],
    saving: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Outputs, last states and what the gradient needs; see `recurra.kernels.compiled.Arguments`."""
    given = Arguments(operation, x, lengths, weights, states, resets, reset_states, dropouts, zones, zone_rates, reverse)
    wide, dtype = _widened(given)
    output, last, saved = run_forward(wide, saving=saving)
    return output.to(dtype), last.to(dtype), saved


@recurrence.register_fake
def _(
    operation: str,
    x: Tensor,
    lengths: Tensor | None,
    weights: Sequence[Tensor],
    states: Sequence[Tensor],
    resets: Sequence[Tensor],
    reset_states: Sequence[Tensor],
    dropouts: Sequence[Tensor],
    zones: Sequence[Tensor],
    zone_rates: Sequence[float],
    reverse: Sequence[bool],
    saving: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    directions, hidden = len(reverse), weights[1].shape[1]
    batch_size, steps = x.shape[0], x.shape[1]
    dtype = _computed(x.dtype)
    width = saved_width(operation, hidden, dtype)
    return (
        x.new_empty(batch_size, steps, directions * hidden),
        x.new_empty(directions * FIELDS[operation], batch_size, hidden),
        x.new_empty(directions, batch_size * steps * width if saving else 0, dtype=dtype),
    )


@torch.library.custom_op(
    "recurra::recurrence_backward",
    mutates_args=(),
    device_types="cpu",
    schema=f"({_GIVEN}, Tensor output, Tensor saved, Tensor d_output, Tensor d_last, bool input_gradient) -> Tensor[]",
)
def recurrence_backward(
    operation: str,
    x: Tensor,
    lengths: Tensor | None,
    weights: Sequence[Tensor],
    states: Sequence[Tensor],
    resets: Sequence[Tensor],
    reset_states: Sequence[Tensor],
    dropouts: Sequence[Tensor],
    zones: Sequence[Tensor],
    zone_rates: Sequence[float],
    reverse: Sequence[bool],
    output: Tensor,
    saved: Tensor,
    d_output: Tensor,
    d_last: Tensor,
    input_gradient: bool,
) -> list[Tensor]:
    """Gradients of x (empty if not asked for), the weights, the states and the reset states, in this order."""
    given = Arguments(operation, x, lengths, weights, states, resets, reset_states, dropouts, zones, zone_rates, reverse)
    wide, dtype = _widened(given)
    if saved.numel() == 0 and x.shape[0] * x.shape[1]:
        output, _, saved = run_forward(wide, saving=True)
    kind = wide.x.dtype
    found = run_backward(wide, output.to(kind), saved, d_output.to(kind), d_last.to(kind), input_gradient=input_gradient)
    return [each.to(dtype) for each in (found.x, *found.weights, *found.states, *found.reset_states)]


@recurrence_backward.register_fake
def _(
    operation: str,
    x: Tensor,
    lengths: Tensor | None,
    weights: Sequence[Tensor],
    states: Sequence[Tensor],
    resets: Sequence[Tensor],
    reset_states: Sequence[Tensor],
    dropouts: Sequence[Tensor],
    zones: Sequence[Tensor],
    zone_rates: Sequence[float],
    reverse: Sequence[bool],
    output: Tensor,
    saved: Tensor,
    d_output: Tensor,
    d_last: Tensor,
    input_gradient: bool,
) -> list[Tensor]:
    first = torch.empty_like(x, memory_format=torch.contiguous_format) if input_gradient else x.new_empty(0)
    return [first, *(torch.empty_like(each, memory_format=torch.contiguous_format) for each in (*weights, *states, *reset_states))]


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    given, saving = Arguments(*inputs[:-1]), inputs[-1]
    y, _, saved = output
    ctx.mark_non_differentiable(saved)
    ctx.set_materialize_grads(False)  # `saved` would get a gradient as large as itself
    ctx.given = given._replace(x=None, lengths=None, weights=(), states=(), resets=(), reset_states=(), dropouts=(), zones=())
    ctx.counts = [len(each) for each in _lists(given)]
    ctx.has_lengths = given.lengths is not None
    tensors = [given.x, *([given.lengths] if ctx.has_lengths else []), *(each for some in _lists(given) for each in some)]
    ctx.save_for_backward(*tensors, y, saved)
    ctx.saving = saving


def _lists(given: Arguments) -> tuple[Sequence[Tensor], ...]:
    return given.weights, given.states, given.resets, given.reset_states, given.dropouts, given.zones


def _restored(ctx: Any) -> tuple[Arguments, Tensor, Tensor]:
    """What `_save` kept: the arguments, the outputs and the saved planes."""
    *tensors, output, saved = ctx.saved_tensors
    x, *tensors = tensors
    lengths = tensors.pop(0) if ctx.has_lengths else None
    lists = []
    for count in ctx.counts:
        lists.append(tensors[:count])
        tensors = tensors[count:]
    names = ("weights", "states", "resets", "reset_states", "dropouts", "zones")
    return ctx.given._replace(x=x, lengths=lengths, **dict(zip(names, lists, strict=True))), output, saved


def _backward(ctx: Any, d_output: Tensor | None, d_last: Tensor | None, _: None) -> tuple[Any, ...]:
    given, output, saved = _restored(ctx)
    if d_output is None:
        d_output = torch.zeros_like(output)
    if d_last is None:
        states = given.states
        d_last = output.new_zeros(len(states), *states[0].shape)
    found = recurrence_backward(*given, output, saved, d_output, d_last, bool(ctx.needs_input_grad[1]))
    x, *rest = found
    weights, states, resets, reset_states, dropouts, zones = (len(each) for each in _lists(given))
    return (
        None,
        x if ctx.needs_input_grad[1] else None,
        None,
        rest[:weights],
        rest[weights : weights + states],
        [None] * resets,
        rest[weights + states :] if reset_states else [],
        [None] * dropouts,
        [None] * zones,
        None if given.zone_rates else [],  # an empty list is taken for one of tensors
        None,
        None,
    )


recurrence.register_autograd(_backward, setup_context=_save)


def _save_backward(ctx: Any, inputs: tuple[Any, ...], output: list[Tensor]) -> None:
    given, d_output, d_last = Arguments(*inputs[:11]), inputs[13], inputs[14]
    _save(ctx, (*given, False), (d_output, d_last, d_last))


def _second_backward(ctx: Any, gradients: Sequence[Tensor | None]) -> tuple[Any, ...]:
    """Derivatives of the gradients by everything they depend on, through the reference recurrence."""
    given, d_output, d_last = _restored(ctx)
    with torch.enable_grad():
        leaves = [each.detach().requires_grad_() for each in (given.x, *given.weights, *given.states, *given.reset_states, d_output, d_last)]
        x, weights, states, reset_states, d_output, d_last = _regrouped(given, leaves)
        output, last = run_reference(given._replace(x=x, weights=weights, states=states, reset_states=reset_states))
        inputs = [x, *weights, *states, *reset_states]
        first = torch.autograd.grad([output, last], inputs, [d_output, d_last], create_graph=True, allow_unused=True)
    pairs = [(mine, given_) for mine, given_ in zip(first, gradients, strict=True) if mine is not None and given_ is not None and given_.numel()]
    found = torch.autograd.grad([a for a, _ in pairs], leaves, [b for _, b in pairs], allow_unused=True) if pairs else [None] * len(leaves)
    x, weights, states, reset_states, d_output, d_last = _regrouped(given, list(found))
    return (
        None,
        x,
        None,
        weights,
        states,
        [None] * len(given.resets),
        reset_states,
        [None] * len(given.dropouts),
        [None] * len(given.zones),
        None if given.zone_rates else [],
        None,
        None,
        None,
        d_output,
        d_last,
        None,
    )


def _regrouped(given: Arguments, flat: list[Any]) -> tuple[Any, list[Any], list[Any], list[Any], Any, Any]:
    x, *rest, d_output, d_last = flat
    weights, states = len(given.weights), len(given.states)
    return x, rest[:weights], rest[weights : weights + states], rest[weights + states :], d_output, d_last


recurrence_backward.register_autograd(_second_backward, setup_context=_save_backward)


def _one_by_one(function: Callable[..., Any]) -> Callable[..., Any]:
    """vmap of an operator as a loop over the mapped dimension: what is packed inside it has no place for one more."""

    def mapped(info: Any, in_dims: tuple[Any, ...], *arguments: Any) -> tuple[Any, Any]:
        def pick(argument: Any, dim: Any, number: int) -> Any:
            if isinstance(argument, (list, tuple)):
                return [pick(each, at, number) for each, at in zip(argument, dim or [None] * len(argument), strict=True)]
            return argument if dim is None else argument.select(dim, number)

        results = [function(*(pick(a, d, number) for a, d in zip(arguments, in_dims, strict=True))) for number in range(info.batch_size)]
        stacked = [torch.stack(each) for each in zip(*results, strict=True)]
        return (stacked, [0] * len(stacked)) if isinstance(results[0], list) else (tuple(stacked), (0,) * len(stacked))

    return mapped


recurrence.register_vmap(_one_by_one(recurrence))
recurrence_backward.register_vmap(_one_by_one(recurrence_backward))


def _computed(dtype: torch.dtype) -> torch.dtype:
    """What numbers are computed in: half precision is only a way to store them."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def _widened(given: Arguments) -> tuple[Arguments, torch.dtype]:
    """The call in a precision that the kernels compute in, and the precision it came in."""
    dtype = given.x.dtype
    wide = _computed(dtype)
    if dtype == wide:
        return given, dtype
    lists = {name: [each.to(wide) for each in getattr(given, name)] for name in ("weights", "states", "reset_states", "dropouts", "zones")}
    return given._replace(x=given.x.to(wide), **lists), dtype
