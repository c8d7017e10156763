"""Weights of torch.nn.LSTM, GRU and RNN to and from a `Stack`: the only place where other names of weights are known."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch

from recurra.cells import StandardCell
from recurra.layers.stack import Stack
from recurra.shapes import Tensor

__all__ = ["load_torch_weights", "torch_weights"]


def torch_weights(stack: Stack) -> dict[str, Tensor]:
    """A stack's weights as a state_dict that the torch.nn layer of the same shape loads; copies, on the same device.

    Raises:
        ValueError: the stack has what torch's layers lack (a cell of the user's own, normalization, residuals, a learned
            initial state).
    """
    lacking = [name for name, there in (("layer normalization", len(stack.norms) > 0), ("residuals", stack.residual)) if there]
    lacking += ["a learned initial state"] if any(cell.initialization.learn_state for _, cell in _named_cells(stack)) else []
    if lacking:
        raise ValueError(f"torch.nn has no layer with {' and '.join(lacking)}: these weights can only be saved with the stack itself.")
    return {
        f"{name}_{suffix}": getattr(cell, name).detach().clone()
        for suffix, cell in _named_cells(stack)
        for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    }


def load_torch_weights(stack: Stack, weights: Mapping[str, Tensor]) -> None:
    """Copy the state_dict of a torch.nn.LSTM, GRU or RNN into a stack of the same shape.

    Args:
        stack: of built-in cells; norms and learned initial states keep their values.
        weights: the state_dict. A layer made with bias=False has no biases: they become zero.

    Raises:
        ValueError: names or shapes do not fit the stack; nothing is copied then.
    """
    wanted = {
        f"{name}_{suffix}": getattr(cell, name)
        for suffix, cell in _named_cells(stack)
        for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    }
    unknown = sorted(set(weights) - set(wanted))
    missing = sorted(name for name in set(wanted) - set(weights) if name.startswith("weight"))
    if unknown or missing:
        raise ValueError(
            f"These weights are of another layer: not known here: {unknown or 'none'}; missing: {missing or 'none'}. "
            "The stack must have torch's number of layers and directions; projections (proj_size) have no place in it."
        )
    for name, parameter in wanted.items():
        if name in weights and weights[name].shape != parameter.shape:
            raise ValueError(f"{name} must be of shape {tuple(parameter.shape)}, not {tuple(weights[name].shape)}.")
    with torch.no_grad():
        for name, parameter in wanted.items():
            parameter.copy_(weights[name] if name in weights else torch.zeros_like(parameter))


def _named_cells(stack: Stack) -> Iterator[tuple[str, StandardCell]]:
    """Cells with torch's suffix of their weights: l0, l0_reverse, l1 and so on."""
    for number, cell in enumerate(stack.cells):
        if not isinstance(cell, StandardCell):
            raise ValueError(f"torch.nn has no layer of {type(cell).__name__}s: only stacks of built-in cells have torch's weights.")  # noqa: TRY004
        layer, direction = divmod(number, stack.directions)
        yield f"l{layer}" + ("_reverse" if direction else ""), cell
