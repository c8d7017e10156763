"""The compiled CPU kernels: whether they are there, and tensors handed to them as addresses.

The torch operators made of them, with gradients, are in `custom_op.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch  # before the extension, whose threads are then torch's own

from recurra.shapes import Tensor

try:
    from recurra.kernels import _cpu  # type: ignore[attr-defined]
except ImportError as error:
    _cpu = None
    UNAVAILABLE: str | None = f"the compiled kernels are not installed ({error}); a C++ compiler at installation makes them"
    """Why the compiled kernels cannot run; None when they can."""
else:
    UNAVAILABLE = None

__all__ = ["FIELDS", "UNAVAILABLE", "Arguments", "Gradients", "instruction_set", "run_backward", "run_forward", "saved_width"]

FIELDS = {"elman": 1, "elman_relu": 1, "gru": 1, "lstm": 2}
"""Operations, and the tensors of their states."""

_GATES = {"elman": 1, "elman_relu": 1, "gru": 3, "lstm": 4}
_SAVED = {"elman": 1, "elman_relu": 1, "gru": 4, "lstm": 5}
"""Planes of a hidden size's numbers that a real step saves for the backward pass."""


class Arguments(NamedTuple):
    """What a call is given; lists hold one element a direction, or are empty where the option is off.

    Attributes:
        operation: a name of `FIELDS`.
        x: (B, T, F).
        lengths: (B,) int64 on the CPU, or None.
        weights: w_ih, w_hh, b_ih, b_hh of each direction.
        states: (B, H), the fields of each direction.
        resets: (B, T) booleans.
        reset_states: (B, H), the fields of each direction.
        dropouts: (B, H).
        zones: (B, T, H), the fields of each direction.
        zone_rates: the fields of each direction; used where `zones` is empty.
        reverse: whether a direction reads from the last step to the first.
    """

    operation: str
    x: Tensor
    lengths: Tensor | None
    weights: Sequence[Tensor]
    states: Sequence[Tensor]
    resets: Sequence[Tensor]
    reset_states: Sequence[Tensor]
    dropouts: Sequence[Tensor]
    zones: Sequence[Tensor]
    zone_rates: Sequence[float]
    reverse: Sequence[bool]

    @property
    def hidden_size(self) -> int:
        """H."""
        return int(self.weights[1].shape[1])


class Gradients(NamedTuple):
    """Gradients of a call's inputs; x is empty when it was not asked for."""

    x: Tensor
    weights: list[Tensor]
    states: list[Tensor]
    reset_states: list[Tensor]


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def instruction_set() -> str:
    """Name of the instruction set that the kernels use on this machine."""
    assert _cpu is not None
    return str(_cpu.instruction_set())


def saved_width(operation: str, hidden_size: int, dtype: torch.dtype) -> int:
    """Numbers that a real step of one direction saves for the backward pass."""
    lanes: int = (_cpu.vector_bytes() if _cpu is not None else 1) // dtype.itemsize
    return _SAVED[operation] * ((hidden_size + lanes - 1) // lanes * lanes)


def run_forward(given: Arguments, *, saving: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Outputs (B, T, D*H), states after the last step (D*fields, B, H), and what the backward pass needs (empty if not `saving`)."""
    given = _prepared(given)
    batch_size, steps, _ = given.x.shape
    directions, fields, hidden = len(given.reverse), FIELDS[given.operation], given.hidden_size
    output = given.x.new_empty(batch_size, steps, directions * hidden)
    last = given.x.new_empty(directions * fields, batch_size, hidden)
    # Room for every step; memory is only taken by those that are real.
    width = saved_width(given.operation, hidden, given.x.dtype)
    saved = given.x.new_empty(directions, batch_size * steps * width if saving else 0)
    addresses = [
        (
            *_Direction(given, number).inputs(),
            *(saved[number].data_ptr() if saving else 0, *_sequence(output, number * hidden)),
            *_addresses(list(last[number * fields : (number + 1) * fields]), 2),
            *(0,) * 13,
        )
        for number in range(directions)
    ]
    _call(False, given, (*_sequence(given.x), 0, 0, 0), tuple(addresses))
    return output, last, saved


def run_backward(given: Arguments, output: Tensor, saved: Tensor, d_output: Tensor, d_last: Tensor, *, input_gradient: bool) -> Gradients:
    """Gradients of everything that `run_forward` was given, from those of what it returned."""
    given = _prepared(given)
    directions, fields, hidden = len(given.reverse), FIELDS[given.operation], given.hidden_size
    batch_size, steps, _ = given.x.shape
    for name, tensor in (("output", output), ("d_output", d_output)):
        _check_tensor(name, tensor, (batch_size, steps, directions * hidden), given.x.dtype)
    _check_tensor("d_last", d_last, (directions * fields, batch_size, hidden), given.x.dtype)
    _check_tensor("saved", saved, (directions, batch_size * steps * saved_width(given.operation, hidden, given.x.dtype)), given.x.dtype)
    output, d_output, d_last, saved = _dense(output), _dense(d_output), d_last.contiguous(), saved.contiguous()
    found = Gradients(
        given.x.new_empty(given.x.shape if input_gradient else 0),
        [torch.empty_like(weight) for weight in given.weights],
        [torch.empty_like(state) for state in given.states],
        [torch.empty_like(state) for state in given.reset_states],
    )
    addresses = [
        (
            *_Direction(given, number).inputs(),
            *(saved[number].data_ptr(), *_sequence(output, number * hidden), 0, 0),
            *_sequence(d_output, number * hidden),
            *_addresses(list(d_last[number * fields : (number + 1) * fields]), 2),
            *_addresses(found.weights[4 * number : 4 * number + 4], 4),
            *_addresses(found.states[number * fields : (number + 1) * fields], 2),
            *_addresses(found.reset_states[number * fields : (number + 1) * fields], 2),
        )
        for number in range(directions)
    ]
    d_x = _sequence(found.x) if input_gradient else (0, 0, 0)
    _call(True, given, (*_sequence(given.x), *d_x), tuple(addresses))
    return found


class _Direction(NamedTuple):
    given: Arguments
    number: int

    def inputs(self) -> tuple[int, ...]:
        """Addresses of one direction's inputs, in the order in which the extension reads them."""
        given, number = self
        fields = FIELDS[given.operation]
        mine = slice(number * fields, (number + 1) * fields)
        zones = [_sequence(zone) for zone in given.zones[mine]]
        return (
            int(given.reverse[number]),
            *_addresses(given.weights[4 * number : 4 * number + 4], 4),
            *_addresses(given.states[mine], 2),
            *_addresses(given.resets[number : number + 1], 1),
            *_addresses(given.reset_states[mine], 2),
            *_addresses(given.dropouts[number : number + 1], 1),
            *(zones[0] if zones else (0, 0, 0)),
            *(zones[1] if len(zones) > 1 else (0, 0, 0)),
        )


def _call(backward: bool, given: Arguments, sequences: tuple[int, ...], directions: tuple[tuple[int, ...], ...]) -> None:
    assert _cpu is not None, UNAVAILABLE
    fields = FIELDS[given.operation]
    rates = [rate for at in range(0, len(given.zone_rates), fields) for rate in (*given.zone_rates[at : at + fields], 0.0, 0.0)[:2]]
    (_cpu.backward if backward else _cpu.forward)(
        given.operation,
        given.x.dtype == torch.float64,
        [*given.x.shape, given.hidden_size],
        0 if given.lengths is None else given.lengths.data_ptr(),
        sequences,
        directions,
        [] if given.zones else rates,
        torch.get_num_threads(),
    )


def _check(given: Arguments) -> None:
    """Whatever the kernels take on trust: they read as far as the sizes say.

    Raises:
        ValueError: a tensor is missing, or does not fit the input and the recurrent weights.
        TypeError: the kernels do not compute in the input's type.
    """
    batch_size, steps, features = given.x.shape
    directions, fields, hidden = len(given.reverse), FIELDS[given.operation], given.hidden_size
    wide = _GATES[given.operation] * hidden
    if given.x.dtype not in {torch.float32, torch.float64}:
        raise TypeError(f"The compiled kernels compute in float32 and float64, not in {given.x.dtype}.")
    row, step = (batch_size, hidden), (batch_size, steps)
    shapes: dict[str, tuple[tuple[int, ...], ...]] = {
        "weights": ((wide, features), (wide, hidden), (wide,), (wide,)),
        "states": (row,) * fields,
        "resets": (step,),
        "reset_states": (row,) * fields,
        "dropouts": (row,),
        "zones": ((*step, hidden),) * fields,
    }
    needed = {"weights", "states", *(["reset_states"] if given.resets else [])}
    for name, each in shapes.items():
        tensors, expected = getattr(given, name), each * directions
        if len(tensors) != len(expected) and (tensors or name in needed):
            raise ValueError(f"{given.operation} takes {len(expected)} {name}, not {len(tensors)}.")
        for tensor, shape in zip(tensors, expected, strict=False):
            _check_tensor(name, tensor, shape, torch.bool if name == "resets" else given.x.dtype)
    if given.zone_rates and len(given.zone_rates) != directions * fields:
        raise ValueError(f"{given.operation} takes {directions * fields} rates of zoneout, not {len(given.zone_rates)}.")
    if given.lengths is not None:
        _check_tensor("lengths", given.lengths, (batch_size,), given.lengths.dtype)


def _check_tensor(name: str, tensor: Tensor, shape: tuple[int, ...], dtype: torch.dtype) -> None:
    if tensor.shape != shape or tensor.dtype != dtype:
        raise ValueError(f"{name} must be {dtype} of shape {shape}, not {tensor.dtype} of shape {tuple(tensor.shape)}.")


def _prepared(given: Arguments) -> Arguments:
    """Checked, and with every tensor laid out as the kernels read it."""
    _check(given)
    names = ("weights", "states", "resets", "reset_states", "dropouts")
    lists: dict[str, Any] = {name: [each.contiguous() for each in getattr(given, name)] for name in names}
    return given._replace(
        x=_dense(given.x),
        lengths=None if given.lengths is None else given.lengths.to("cpu", torch.int64).contiguous(),
        zones=[_dense(zone) for zone in given.zones],
        **lists,
    )


def _dense(x: Tensor) -> Tensor:
    """With the features of a step side by side; rows and steps may lie anywhere."""
    return x if x.stride(2) == 1 or x.shape[2] == 1 else x.contiguous()


def _sequence(x: Tensor, first: int = 0) -> tuple[int, int, int]:
    return x.data_ptr() + first * x.element_size(), x.stride(0), x.stride(1)


def _addresses(tensors: Sequence[Tensor], count: int) -> tuple[int, ...]:
    return tuple(tensor.data_ptr() for tensor in tensors) + (0,) * (count - len(tensors))
