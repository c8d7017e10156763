"""An operator for every way in which torch calls it: eagerly, compiled, exported, and under torch.func's transforms."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.utils._pytree import tree_flatten, tree_unflatten

from recurra.shapes import Tensor

__all__ = ["transformable"]


def transformable(
    operator: Any, save: Callable[..., None], backward: Callable[..., Any], mapped: Callable[..., Any] | None = None
) -> Callable[..., Any]:
    """A custom operator with its gradient and its rule for vmap, for ordinary calls, compilation and torch.func's transforms.

    The gradient that an operator registers is not seen by torch.func (grad, vjp, per-sample gradients), which wants an
    autograd.Function of single tensors; tracing wants the operator. Both get the same three functions.

    Args:
        operator: what `torch.library.custom_op` made; it returns several tensors, and takes tensors, lists of tensors and others.
        save: `setup_context` as `register_autograd` takes it.
        backward: as `register_autograd` takes it; gradients of a list of outputs come one by one or as that list.
        mapped: as `register_vmap` takes it; None for one call after the other.

    Returns:
        A function of the operator's arguments.
    """

    def forward(structure: Any, *leaves: Any) -> tuple[Tensor, ...]:
        return tuple(operator(*tree_unflatten(leaves, structure)))

    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        ctx.structure, *leaves = inputs
        save(ctx, tree_unflatten(leaves, ctx.structure), output)

    def flat_backward(ctx: Any, *gradients: Tensor | None) -> tuple[Any, ...]:
        needed = ctx.needs_input_grad
        try:
            ctx.needs_input_grad = tree_unflatten(needed[1:], ctx.structure)
            found = backward(ctx, *gradients)
        finally:
            ctx.needs_input_grad = needed
        return None, *ctx.structure.flatten_up_to(found)

    def vmap(info: Any, in_dims: tuple[Any, ...], structure: Any, *leaves: Any) -> tuple[Any, Any]:
        results, dims = rule(info, tree_unflatten(in_dims[1:], structure), *tree_unflatten(leaves, structure))
        return tuple(results), tuple(dims)

    members: dict[str, Any] = {"forward": forward, "setup_context": setup_context, "backward": flat_backward, "vmap": vmap}
    function: Any = type("Transformable", (torch.autograd.Function,), {name: staticmethod(member) for name, member in members.items()})

    def call(*arguments: Any) -> Any:
        if not torch.compiler.is_compiling() and torch._C._are_functorch_transforms_active():  # there is no public name
            leaves, structure = tree_flatten(arguments, is_leaf=_is_leaf)
            return function.apply(structure, *leaves)
        return operator(*arguments)

    rule = _one_by_one(call) if mapped is None else mapped
    operator.register_autograd(backward, setup_context=save)
    operator.register_vmap(rule)
    return call


def _one_by_one(function: Callable[..., Any]) -> Callable[..., Any]:
    """The rule of vmap that is a loop over the mapped dimension."""

    def mapped(info: Any, in_dims: tuple[Any, ...], *arguments: Any) -> tuple[Any, Any]:
        def pick(argument: Any, dim: Any, number: int) -> Any:
            if isinstance(argument, (list, tuple)):
                return [pick(each, at, number) for each, at in zip(argument, dim or [None] * len(argument), strict=True)]
            return argument if dim is None else argument.select(dim, number)

        results = [function(*(pick(a, d, number) for a, d in zip(arguments, in_dims, strict=True))) for number in range(info.batch_size)]
        kind = list if isinstance(results[0], list) else tuple
        stacked = kind(torch.stack(each) for each in zip(*results, strict=True))
        return stacked, kind([0]) * len(stacked)

    return mapped


def _is_leaf(tree: Any) -> bool:
    """Tuples and lists of tensors (also empty ones) are taken apart, as torch does with an operator's arguments."""
    if isinstance(tree, list):
        return any(not isinstance(each, Tensor) for each in tree)
    return not isinstance(tree, tuple)
