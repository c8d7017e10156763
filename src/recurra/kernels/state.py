"""States of recurrences: NamedTuples of batch-first tensors, and the one function that maps over them.

What users do with states (select rows, reset, detach, clone) is in `recurra.cells.state`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

from torch.utils._pytree import _register_namedtuple  # there is no public name

from recurra.shapes import Bool, Float, Tensor

__all__ = [
    "ElmanState",
    "GRUState",
    "LSTMState",
    "MemoryState",
    "QRNNState",
    "SLSTMState",
    "ScanState",
    "leaves",
    "map_state",
    "where_rows",
]

S = TypeVar("S", bound=tuple[Any, ...])


class ElmanState(NamedTuple):
    """State of Elman's network: the hidden units `h`, (B, H)."""

    h: Float[Tensor, "B H"]


class GRUState(NamedTuple):
    """State of every GRU: the hidden units `h`, (B, H)."""

    h: Float[Tensor, "B H"]


class LSTMState(NamedTuple):
    """State of the LSTMs: the hidden units `h` and the memory cells `c`, both (B, H); of a projected LSTM `h` is (B, P)."""

    h: Float[Tensor, "B H"]
    c: Float[Tensor, "B H"]


class SLSTMState(NamedTuple):
    """State of the sLSTM, all (B, H); see `slstm_recurrence`.

    Attributes:
        h: the hidden units.
        c: the memory cells, at the scale of the stabilizer.
        n: what they are normalized by, at the same scale; zero, with `c`, where nothing is remembered yet.
        m: the stabilizer, logarithm of the scale.
    """

    h: Float[Tensor, "B H"]
    c: Float[Tensor, "B H"]
    n: Float[Tensor, "B H"]
    m: Float[Tensor, "B H"]


class ScanState(NamedTuple):
    """State of the cells without a recurrent matrix whose output is their state: the hidden units `h`, (B, H)."""

    h: Float[Tensor, "B H"]


class MemoryState(NamedTuple):
    """State of those whose output is another: the memory cells `c`, (B, H)."""

    c: Float[Tensor, "B H"]


class QRNNState(NamedTuple):
    """State of the QRNN that reads two steps: the memory cells `c`, (B, H), and the input of the step before, `x`, (B, F)."""

    c: Float[Tensor, "B H"]
    x: Float[Tensor, "B F"]


for _state in (ElmanState, GRUState, LSTMState, SLSTMState, ScanState, MemoryState, QRNNState):
    # An exported program with a state among its inputs or results can be saved.
    _register_namedtuple(_state, serialized_type_name=f"recurra.{_state.__name__}")


def map_state(function: Callable[..., Tensor], state: S, *others: S) -> S:
    """The state whose every tensor is `function(tensor, *tensors_of_the_others)`; nested tuples keep their types."""
    fields = [
        map_state(function, field, *rest) if isinstance(field, tuple) else function(field, *rest)
        for field, *rest in zip(state, *others, strict=True)
    ]
    # A NamedTuple takes its fields one by one, a plain tuple takes them as one iterable.
    made: S = type(state)(*fields) if hasattr(state, "_fields") else type(state)(fields)
    return made


def leaves(state: Any) -> list[Tensor]:
    """The tensors of a state in order, whatever NamedTuples and tuples they stand in."""
    return [leaf for field in state for leaf in (leaves(field) if isinstance(field, tuple) else [field])]


def where_rows(condition: Bool[Tensor, " B"], chosen: S, other: S) -> S:
    """Row by row the state `chosen` where the condition holds, `other` elsewhere."""
    return map_state(lambda a, b: a.where(condition.view(-1, *(1,) * (a.ndim - 1)), b), chosen, other)
