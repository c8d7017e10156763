"""The compiled recurrences as torch operators: shapes for tracing, gradients of any order, vmap.

`recurra::recurrence` and its gradient are opaque to torch.compile and torch.export: one node, whatever the number of steps.
The gradient's own derivative is taken through the reference recurrence, step by step: right, and slow. There is no
forward-mode derivative (jvp); the reference has one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from recurra.kernels.compiled import Arguments, computed, real_steps, run_backward, run_forward, saved_width
from recurra.kernels.reference import run_reference
from recurra.kernels.transforms import transformable
from recurra.shapes import Tensor

__all__ = ["recurrence"]

_GIVEN = (
    "str operation, Tensor x, Tensor? lengths, Tensor[] weights, Tensor[] states, Tensor[] resets, Tensor[] reset_states, "
    "Tensor[] dropouts, Tensor[] zones, float[] zone_rates, bool[] reverse"
)
_COUNT = len(Arguments._fields)
_LISTS = ("weights", "states", "resets", "reset_states", "dropouts", "zones")


def _run(*arguments: Any, padded: bool = False) -> tuple[Tensor, Tensor, Tensor]:
    given, saving = Arguments(*arguments[:_COUNT]), arguments[_COUNT]
    wide = _widened(given)
    output, last, saved = run_forward(wide, saving=saving, padded=padded)
    return (output, last, saved) if wide is given else (output.to(given.x.dtype), last.to(given.x.dtype), saved)


def _run_traced(*arguments: Any) -> tuple[Tensor, Tensor, Tensor]:
    """With sizes that are known before the lengths are."""
    return _run(*arguments, padded=True)


_recurrence = torch.library.custom_op(
    "recurra::recurrence", _run_traced, mutates_args=(), device_types="cpu", schema=f"({_GIVEN}, bool saving) -> (Tensor, Tensor, Tensor)"
)


@_recurrence.register_fake
def _(*arguments: Any) -> tuple[Tensor, Tensor, Tensor]:
    given, saving = Arguments(*arguments[:_COUNT]), arguments[_COUNT]
    x, directions, sizes = given.x, len(given.reverse), given.sizes
    batch_size, steps = x.shape[:2]
    dtype = computed(x.dtype)
    width = saved_width(given.operation, sizes.units, dtype)
    return (
        x.new_empty(batch_size, steps, directions * sizes.outputs),
        x.new_empty(len(given.states), batch_size, sizes.widest),
        x.new_empty(directions, batch_size * steps if saving else 0, width, dtype=dtype),
    )


def _run_backward(*arguments: Any) -> list[Tensor]:
    """Gradients of x (empty if not asked for), the weights, the states and the reset states, in this order."""
    given, (output, saved, d_output, d_last, input_gradient) = Arguments(*arguments[:_COUNT]), arguments[_COUNT:]
    wide = _widened(given)
    kind = wide.x.dtype
    if saved.shape[1] < real_steps(given) or saved.shape[2] != saved_width(given.operation, given.sizes.units, kind):
        output, _, saved = run_forward(wide, saving=True)
    found = run_backward(wide, output.to(kind), saved, d_output.to(kind), d_last.to(kind), input_gradient=input_gradient)
    return [each.to(given.x.dtype) for each in (found.x, *found.weights, *found.states, *found.reset_states)]


_recurrence_backward = torch.library.custom_op(
    "recurra::recurrence_backward",
    _run_backward,
    mutates_args=(),
    device_types="cpu",
    schema=f"({_GIVEN}, Tensor output, Tensor saved, Tensor d_output, Tensor d_last, bool input_gradient) -> Tensor[]",
)


@_recurrence_backward.register_fake
def _(*arguments: Any) -> list[Tensor]:
    given, input_gradient = Arguments(*arguments[:_COUNT]), arguments[-1]
    first = given.x.new_empty(given.x.shape if input_gradient else 0)
    return [first, *(each.new_empty(each.shape) for each in (*given.weights, *given.states, *given.reset_states))]


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    ctx.mark_non_differentiable(output[2])
    ctx.set_materialize_grads(False)  # what is saved would get a gradient as large as itself
    _keep(ctx, Arguments(*inputs[:_COUNT]), output[0], output[2])


def _keep(ctx: Any, given: Arguments, *more: Tensor) -> None:
    lists = [getattr(given, name) for name in _LISTS]
    nothing: dict[str, Any] = {"x": None, "lengths": None, **dict.fromkeys(_LISTS, ())}
    ctx.given = given._replace(**nothing)
    ctx.counts = [len(each) for each in lists]
    ctx.save_for_backward(given.x, given.lengths, *(each for some in lists for each in some), *more)


def _kept(ctx: Any) -> tuple[Arguments, Tensor, Tensor]:
    """What `_keep` was given."""
    x, lengths, *rest = ctx.saved_tensors
    lists = {}
    for name, count in zip(_LISTS, ctx.counts, strict=True):
        lists[name], rest = rest[:count], rest[count:]
    first, second = rest
    return ctx.given._replace(x=x, lengths=lengths, **lists), first, second


def _backward(ctx: Any, d_output: Tensor | None, d_last: Tensor | None, _: None) -> tuple[Any, ...]:
    given, output, saved = _kept(ctx)
    if d_output is None:
        d_output = torch.zeros_like(output)
    if d_last is None:
        d_last = output.new_zeros(len(given.states), output.shape[0], given.sizes.widest)
    wanted = bool(ctx.needs_input_grad[1])
    x, *rest = _gradient(*given, output, saved, d_output, d_last, wanted)
    return *_by_argument(given, x if wanted else None, rest), None


def _by_argument(given: Arguments, x: Tensor | None, rest: Sequence[Any]) -> tuple[Any, ...]:
    """Gradients of x, weights, states and reset states where torch expects them: one an argument, or a list of them."""
    weights, states = len(given.weights), len(given.states)
    found: dict[str, Any] = {name: [None] * len(getattr(given, name)) for name in _LISTS}
    found |= {"weights": rest[:weights], "states": rest[weights : weights + states], "reset_states": rest[weights + states :]}
    found["zone_rates"] = None if given.zone_rates else []  # an empty list is taken for one of tensors
    return tuple(given._replace(**{**dict.fromkeys(Arguments._fields), "x": x, **found}))


def _save_backward(ctx: Any, inputs: tuple[Any, ...], output: Sequence[Tensor]) -> None:  # noqa: ARG001 - torch gives it by name
    ctx.set_materialize_grads(False)
    _keep(ctx, Arguments(*inputs[:_COUNT]), *inputs[_COUNT + 2 : _COUNT + 4])


def _second_backward(ctx: Any, *gradients: Any) -> tuple[Any, ...]:
    """Derivatives of the gradients by everything they depend on, through the reference recurrence."""
    upstream = gradients[0] if isinstance(gradients[0], list) else gradients
    given, d_output, d_last = _kept(ctx)
    weights, states = len(given.weights), len(given.states)

    def run(x: Tensor, *rest: Tensor) -> tuple[Tensor, ...]:
        split: dict[str, Any] = {
            "weights": rest[:weights],
            "states": rest[weights : weights + states],
            "reset_states": rest[weights + states :],
        }
        results = run_reference(_widened(given._replace(x=x, **split)))
        return tuple(each.to(x.dtype) for each in results)

    def gradient(d_output: Tensor, d_last: Tensor, *values: Tensor) -> tuple[Tensor, ...]:
        _, pull, *_ = torch.func.vjp(run, *values)
        found: tuple[Tensor, ...] = pull((d_output, d_last))
        return found

    first, pull, *_ = torch.func.vjp(gradient, d_output, d_last, given.x, *given.weights, *given.states, *given.reset_states)
    # The gradient of x may not have been asked for, and is empty then.
    wanted = tuple(torch.zeros_like(a) if b is None or b.shape != a.shape else b for a, b in zip(first, upstream, strict=True))
    to_output, to_last, x, *rest = pull(wanted)
    return *_by_argument(given, x, rest), None, None, to_output, to_last, None


_gradient: Callable[..., Sequence[Tensor]] = transformable(_recurrence_backward, _save_backward, _second_backward, on_cpu=_run_backward)

recurrence: Callable[..., tuple[Tensor, Tensor, Tensor]] = transformable(_recurrence, _save, _backward, on_cpu=_run)
"""`recurra::recurrence`: the fields of `recurra.kernels.compiled.Arguments` and whether to save for the gradient -> outputs
(B, T, D*H), states after the last step (D*fields, B, H), what was saved."""


def _widened(given: Arguments) -> Arguments:
    """The call in a precision that the kernels compute in."""
    wide = computed(given.x.dtype)
    if given.x.dtype is wide:
        return given
    numbers = {name: [each if each.dtype is torch.bool else each.to(wide) for each in getattr(given, name)] for name in _LISTS}
    lists: dict[str, Any] = numbers
    return given._replace(x=given.x.to(wide), **lists)
