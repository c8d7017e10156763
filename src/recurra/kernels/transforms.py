"""An operator for every way in which torch calls it: eagerly, compiled, exported, and under torch.func's transforms; rules of vmap."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.autograd import forward_ad, profiler
from torch.nn.functional import pad

from recurra.shapes import Tensor

__all__ = ["in_rows", "is_traced", "one_by_one", "rows_apart", "transformable"]

_ALONE = -1
"""Stands for an argument that is no list of tensors, among the lengths of those that are."""


def transformable(
    operator: Any,
    save: Callable[..., None],
    backward: Callable[..., Any],
    *,
    on_cpu: Callable[..., Any] | None = None,
    mapped: Callable[..., Any] | None = None,
) -> Callable[..., Any]:
    """A custom operator with its gradient and its rule for vmap, for ordinary calls, compilation and torch.func's transforms.

    The gradient that an operator registers is not seen by torch.func (grad, vjp, per-sample gradients), which wants an
    autograd.Function of single tensors; tracing wants the operator. Both get the same three functions. An ordinary call on a
    CPU, which nothing traces or watches, goes by the autograd.Function too, or straight to the kernel when it needs no
    gradient: the way through torch's dispatcher takes as long as a recurrence of a few steps.

    Args:
        operator: what `torch.library.custom_op` made; it returns several tensors, and takes tensors, lists of tensors and others.
        save: `setup_context` as `register_autograd` takes it.
        backward: as `register_autograd` takes it; gradients of a list of outputs come one by one or as that list.
        on_cpu: what the operator runs on a CPU; None to go through the operator always.
        mapped: as `register_vmap` takes it; None for one call after the other.

    Returns:
        A function of the operator's arguments.
    """

    def forward(structure: tuple[int, ...], *leaves: Any) -> tuple[Tensor, ...]:
        ordinary = on_cpu is not None and _is_ordinary(leaves)
        if on_cpu is not None and not ordinary:
            _check_devices(leaves)
        compute: Any = on_cpu if ordinary else operator
        return tuple(compute(*_in_lists(structure, leaves)))

    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        ctx.structure, *leaves = inputs
        save(ctx, _in_lists(ctx.structure, leaves), output)

    def flat_backward(ctx: Any, *gradients: Tensor | None) -> tuple[Any, ...]:
        needed = ctx.needs_input_grad
        try:
            ctx.needs_input_grad = _in_lists(ctx.structure, needed[1:])
            found = backward(ctx, *gradients)
        finally:
            ctx.needs_input_grad = needed
        return None, *_flat(ctx.structure, found)

    def vmap(info: Any, in_dims: tuple[Any, ...], structure: tuple[int, ...], *leaves: Any) -> tuple[Any, Any]:
        results, dims = rule(info, _in_lists(structure, in_dims[1:]), *_in_lists(structure, leaves))
        return tuple(results), tuple(dims)

    members: dict[str, Any] = {"forward": forward, "setup_context": setup_context, "backward": flat_backward, "vmap": vmap}
    name = operator._qualname.replace("::", "_")
    function: Any = type(name, (torch.autograd.Function,), {name: staticmethod(member) for name, member in members.items()})
    # autograd.Function.apply in Python binds arguments to forward's signature at each call, for defaults that there are none of.
    apply = super(torch.autograd.Function, function).apply

    def call(*arguments: Any) -> Any:
        if torch.compiler.is_compiling():
            return operator(*arguments)
        structure, leaves = _taken_apart(arguments)
        if torch._C._are_functorch_transforms_active():  # there is no public name
            return function.apply(structure, *leaves)
        if on_cpu is None or not _is_ordinary(leaves):
            if on_cpu is not None:
                _check_devices(leaves)
            return operator(*arguments)
        if forward_ad._current_level >= 0 or (torch.is_grad_enabled() and torch._C._any_requires_grad(*leaves)):
            return apply(structure, *leaves)
        return on_cpu(*arguments)

    rule = one_by_one(call) if mapped is None else mapped
    operator.register_autograd(backward, setup_context=save)
    operator.register_vmap(rule)
    return call


def one_by_one(function: Callable[..., Any]) -> Callable[..., tuple[Any, Any]]:
    """The rule of vmap that is a loop over the mapped dimension."""

    def mapped(info: Any, in_dims: Sequence[Any], *arguments: Any) -> tuple[Any, Any]:
        def pick(argument: Any, dim: Any, number: int) -> Any:
            if isinstance(argument, (list, tuple)):
                return [pick(each, at, number) for each, at in zip(argument, dim or [None] * len(argument), strict=True)]
            return argument if dim is None else argument.select(dim, number)

        results = [function(*(pick(a, d, number) for a, d in zip(arguments, in_dims, strict=True))) for number in range(info.batch_size)]
        kind = list if isinstance(results[0], list) else tuple
        stacked = kind(_stacked(each) for each in zip(*results, strict=True))
        return stacked, kind([0]) * len(stacked)

    return mapped


def _stacked(results: Sequence[Tensor]) -> Tensor:
    """Results side by side; one that is shorter (what was saved of fewer real steps) is filled up."""
    if len({each.shape for each in results}) > 1:
        largest = [max(sizes) for sizes in zip(*(each.shape for each in results), strict=True)]
        room = [[size - own for own, size in zip(each.shape, largest, strict=True)] for each in results]
        results = [pad(each, [n for size in reversed(more) for n in (0, size)]) for each, more in zip(results, room, strict=True)]
    return torch.stack(tuple(results))


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


def is_traced() -> bool:
    """Whether something is to see every operator as torch's own: compilation, export, torch.func, derivatives in forward mode, or a
    mode that takes operators over.
    """
    if torch.compiler.is_compiling():  # asked first: the compiler can trace none of what follows
        return True
    watched = torch._C._are_functorch_transforms_active() or torch._C._len_torch_dispatch_stack() or torch._C._get_tracing_state()
    return bool(watched) or forward_ad._current_level >= 0  # there are no public names


def _is_ordinary(leaves: Sequence[Any]) -> bool:
    """Whether nothing traces, watches or replaces torch's operators, and all tensors are torch's own, on a CPU."""
    if torch._C._len_torch_dispatch_stack() or torch._C._len_torch_function_stack():
        return False
    if profiler._is_profiler_enabled or torch._C._get_tracing_state():
        return False
    keys = torch._C._dispatch_keys  # called at once, and in a list: this is asked for each tensor of each call
    return all([type(each) in _PLAIN and keys(each).raw_repr() in _PLAIN_KEYS for each in leaves if isinstance(each, Tensor)])  # noqa: C419


def _check_devices(leaves: Sequence[Any]) -> None:
    """Refuse tensors that are not on the CPU: torch would look for the operator on their device, and for "meta" give numbers that mean nothing.

    Raises:
        RuntimeError: there are some.
    """
    places = sorted({str(each.device) for each in leaves if isinstance(each, Tensor)})
    if places not in ([], ["cpu"]):
        raise RuntimeError(
            f"All tensors of a call must be on one device, and these are on {' and '.join(places)}: move the layer, or what it is called with."
        )


_PLAIN = (torch.Tensor, torch.nn.Parameter)
with torch.inference_mode():
    _PLAIN_KEYS = {torch._C._dispatch_keys(torch.empty(0, device="cpu")).raw_repr()}
_PLAIN_KEYS.add(torch._C._dispatch_keys(torch.empty(0, device="cpu")).raw_repr())
"""Who takes part when torch runs an operator on a tensor: those of a tensor that is its numbers in memory: not on another device, not negated or zero by a mark alone, not what a
transform of torch.func has left behind."""


def _taken_apart(arguments: Sequence[Any]) -> tuple[tuple[int, ...], list[Any]]:
    """How long the lists of tensors among the arguments are, also empty ones, and all arguments with the tensors in their place."""
    structure: list[int] = []
    leaves: list[Any] = []
    for each in arguments:
        if isinstance(each, (list, tuple)) and (not each or isinstance(each[0], Tensor)):
            structure.append(len(each))
            leaves.extend(each)
        else:
            structure.append(_ALONE)
            leaves.append(each)
    return tuple(structure), leaves


def _flat(structure: Sequence[int], arguments: Sequence[Any]) -> list[Any]:
    leaves = []
    for count, argument in zip(structure, arguments, strict=True):
        if count == _ALONE:
            leaves.append(argument)
        else:
            leaves.extend(argument)
    return leaves


def _in_lists(structure: Sequence[int], leaves: Sequence[Any]) -> tuple[Any, ...]:
    rest = iter(leaves)
    return tuple([next(rest) if count == _ALONE else [next(rest) for _ in range(count)] for count in structure])
