"""What is done with states: select rows, reset, detach, copy. Written once, for every cell and stack.

A state is a NamedTuple of tensors whose first dimension is the batch; of several layers, a tuple of such states.
"""

from __future__ import annotations

from typing import Any, TypeVar

import torch

from recurra.kernels.state import ElmanState, GRUState, LSTMState, MemoryState, QRNNState, ScanState, SLSTMState, map_state, where_rows
from recurra.shapes import Bool, Int, Tensor

__all__ = [
    "ElmanState",
    "GRUState",
    "LSTMState",
    "MemoryState",
    "QRNNState",
    "SLSTMState",
    "ScanState",
    "clone",
    "detach",
    "map_state",
    "reset",
    "select",
]

S = TypeVar("S", bound=tuple[Any, ...])


def select(state: S, rows: Int[Tensor, " N"] | Bool[Tensor, " B"]) -> S:
    """The state of some rows, in the order given: to reorder, to repeat (beam search, forking a stream) or to leave out.

    Args:
        state: of B rows.
        rows: (N,) numbers of rows, or (B,) booleans.
    """
    return map_state(lambda field: field[rows.to(field.device)], state)


def reset(state: S, where: Bool[Tensor, " B"], initial: S | None = None) -> S:
    """The state with some rows started anew; no gradient flows from them into the past.

    Args:
        state: of B rows.
        where: (B,) true for the rows that start anew.
        initial: what they start with (`cell.initial_state(B)`); zeros when None.
    """
    return where_rows(where, map_state(torch.zeros_like, state) if initial is None else initial, state)


def detach(state: S) -> S:
    """The same values cut off from the graph: truncated back-propagation between chunks."""
    return map_state(Tensor.detach, state)


def clone(state: S) -> S:
    """A snapshot that later in-place changes of the state do not reach; gradients flow through it."""
    return map_state(Tensor.clone, state)
