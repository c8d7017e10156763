"""Weights of torch.nn.LSTM, GRU and RNN to and from a `Stack`: the only place where other names of weights are known."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch.nn import Parameter

from recurra.cells import ElmanCell, GRUCell, LSTMCell, ProjectedLSTMCell, StandardCell
from recurra.layers.stack import Stack
from recurra.shapes import Tensor

__all__ = ["load_torch_weights", "torch_weights"]

TORCH_CELLS = (ElmanCell, LSTMCell, ProjectedLSTMCell, GRUCell)
"""Cells whose equations are those of a torch.nn layer; the names and shapes of weights alone do not tell."""


def torch_weights(stack: Stack) -> dict[str, Tensor]:
    """A stack's weights as a state_dict that the torch.nn layer of the same shape loads; copies, on the same device.

    Raises:
        ValueError: the stack has what torch's layers lack (another cell than torch's, normalization, residuals, a learned
            initial state).
    """
    lacking = [name for name, there in (("layer normalization", len(stack.norms) > 0), ("residuals", stack.residual)) if there]
    lacking += ["a learned initial state"] if any(cell.initialization.learn_state for _, cell in _named_cells(stack)) else []
    if lacking:
        raise ValueError(f"torch.nn has no layer with {' and '.join(lacking)}: these weights can only be saved with the stack itself.")
    return {name: parameter.detach().clone() for name, parameter in _named_weights(stack).items()}


def load_torch_weights(stack: Stack, weights: Mapping[str, Tensor]) -> None:
    """Copy the state_dict of a torch.nn.LSTM, GRU or RNN into a stack of the same shape.

    Args:
        stack: of cells that are torch's; norms and learned initial states keep their values.
        weights: the state_dict. A layer made with bias=False has no biases: they become zero.

    Raises:
        ValueError: names or shapes do not fit the stack; nothing is copied then.
    """
    wanted = _named_weights(stack)
    unknown = sorted(set(weights) - set(wanted))
    missing = sorted(name for name in set(wanted) - set(weights) if name.startswith("weight"))
    if unknown or missing:
        raise ValueError(
            f"These weights are of another layer: not known here: {unknown or 'none'}; missing: {missing or 'none'}. "
            "The stack must have torch's number of layers and directions, and ProjectedLSTMCells for a projection (proj_size)."
        )
    for name, parameter in wanted.items():
        if name in weights and weights[name].shape != parameter.shape:
            raise ValueError(f"{name} must be of shape {tuple(parameter.shape)}, not {tuple(weights[name].shape)}.")
    with torch.no_grad():
        for name, parameter in wanted.items():
            parameter.copy_(weights[name] if name in weights else torch.zeros_like(parameter))


def _named_weights(stack: Stack) -> dict[str, Parameter]:
    """Parameters by torch's names; a learned initial state has none."""
    return {
        f"{name}_{suffix}": parameter
        for suffix, cell in _named_cells(stack)
        for name, parameter in cell.named_parameters()
        if not name.startswith("initial_")
    }


def _named_cells(stack: Stack) -> Iterator[tuple[str, StandardCell]]:
    """Cells with torch's suffix of their weights: l0, l0_reverse, l1 and so on."""
    for number, cell in enumerate(stack.cells):
        if not isinstance(cell, TORCH_CELLS):
            allowed = ", ".join(kind.__name__ for kind in TORCH_CELLS)
            raise ValueError(f"torch.nn has no layer of {type(cell).__name__}s: only stacks of {allowed} have torch's weights.")  # noqa: TRY004
        layer, direction = divmod(number, stack.directions)
        yield f"l{layer}" + ("_reverse" if direction else ""), cell
