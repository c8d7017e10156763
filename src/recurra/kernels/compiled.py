"""The compiled CPU kernels: whether they are there, and tensors handed to them as addresses.

The torch operators made of them, with gradients, are in `custom_op.py`.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from importlib import import_module
from types import ModuleType
from typing import NamedTuple

import torch  # before the extension, whose threads are then torch's own
from torch.nn.functional import pad

from recurra.errors import SettingsError
from recurra.kernels.signatures import SIGNATURES, Signature, Sizes
from recurra.shapes import Tensor

_cpu: ModuleType | None
try:
    # Not `from recurra.kernels import`, whose error suspects a circular import where the file is simply not there.
    _cpu = import_module("recurra.kernels._cpu")
except ImportError as error:
    _cpu = None
    UNAVAILABLE: str | None = (
        f"the compiled kernels are not installed ({error}); where there is a C++17 compiler, installing Recurra again builds them"
    )
    """Why the compiled kernels cannot run; None when they can."""
else:
    UNAVAILABLE = None
    if _named := os.environ.get("RECURRA_INSTRUCTION_SET"):
        if _named not in _cpu.instruction_sets():
            raise SettingsError(
                f"RECURRA_INSTRUCTION_SET={_named}: this machine has {', '.join(_cpu.instruction_sets())}. Name one of them."
            )
        _cpu.use_instruction_set(_named)

__all__ = [
    "INSTRUCTION_SET",
    "UNAVAILABLE",
    "Arguments",
    "Gradients",
    "check_tensor",
    "computed",
    "real_steps",
    "room",
    "run_backward",
    "run_forward",
    "saved_width",
    "whole_vectors",
]

_FIELDS, _WEIGHTS = 4, 8
"""Fields of a state and weights of a direction that the extension reads, null where an operation has fewer."""
_NO_OPTIONS = (0,) * (1 + _FIELDS + 1 + 2 * 3 + 1)
"""Null for resets, their states, recurrent dropout and the shares of zoneout."""
_NO_GRADIENTS = (0,) * (3 + _FIELDS + _WEIGHTS + 2 * _FIELDS)
"""Null for what the backward pass alone is given."""


class Arguments(NamedTuple):
    """What a call is given; lists hold one element a direction, or are empty where the option is off.

    Attributes:
        operation: a name of `SIGNATURES`.
        x: (B, T, F).
        lengths: (B,) int64 on the CPU, or None.
        weights: those of each direction: w_ih, w_hh, b_ih, b_hh, and what more the operation has.
        states: (B, H), the fields of each direction; the first is (B, P) where it is projected.
        resets: (B, T) booleans.
        reset_states: (B, H), the fields of each direction.
        dropouts: (B, P).
        zones: (B, T, H), the shares of each direction, all numbers or all truth values; the first is (B, T, P).
        zone_rates: the shares of each direction; used where `zones` is empty.
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
    def signature(self) -> Signature:
        """The operation's."""
        return SIGNATURES[self.operation]

    @property
    def sizes(self) -> Sizes:
        """Those of the weights."""
        return Sizes.of(self.operation, self.weights)


class Gradients(NamedTuple):
    """Gradients of a call's inputs; x is empty when it was not asked for."""

    x: Tensor
    weights: list[Tensor]
    states: list[Tensor]
    reset_states: list[Tensor]


INSTRUCTION_SET = str(_cpu.instruction_set()) if _cpu is not None else "no"
"""Name of the instruction set that the kernels use on this machine: its best, or what `$RECURRA_INSTRUCTION_SET` names."""


def saved_width(operation: str, units: int, dtype: torch.dtype) -> int:
    """Numbers that a real step of one direction saves for the backward pass, one step's behind the other's."""
    signature = SIGNATURES[operation]
    return signature.planes * whole_vectors(units, dtype) + whole_vectors(signature.numbers, dtype)


def computed(dtype: torch.dtype) -> torch.dtype:
    """What numbers are computed in: half precision is only a way to store them."""
    return torch.float32 if dtype in {torch.bfloat16, torch.float16} else dtype


def whole_vectors(count: int, dtype: torch.dtype) -> int:
    """How many numbers the vectors have that hold so many."""
    lanes: int = (_cpu.vector_bytes() if _cpu is not None else 1) // dtype.itemsize
    return (count + lanes - 1) // lanes * lanes


def run_forward(given: Arguments, *, saving: bool, padded: bool = False) -> tuple[Tensor, Tensor, Tensor]:
    """Outputs (B, T, D*P), states after the last step, and what the backward pass needs (empty if not `saving`).

    The states are (D*fields, B, W) with W the widest field, a narrower one filled up with zeros. What is saved is (D, N, S), with
    S numbers for each of the N real steps; where it is to be `padded`, so that no size depends on the lengths' values, N is B*T.
    """
    sizes = given.sizes
    given = _prepared(given, sizes)
    (batch_size, steps, _), x = given.x.shape, given.x
    directions, widths = len(given.reverse), sizes.fields(given.operation) * len(given.reverse)
    output_shape = (batch_size, steps, directions * sizes.outputs)
    output = room(x.dtype, *output_shape) if saving else x.new_empty(output_shape)
    last = x.new_empty((len(widths), batch_size, sizes.widest))
    width = saved_width(given.operation, sizes.units, x.dtype)
    saved = room(x.dtype, directions, (batch_size * steps if padded else real_steps(given)) if saving else 0, width)
    narrow: dict[int, Tensor] = {}
    if sizes.units != sizes.outputs:
        narrow = {number: x.new_empty((batch_size, width)) for number, width in enumerate(widths) if width < sizes.widest}
    ends = _planes(last, narrow)
    addresses = [
        (
            *each.inputs(),
            *(saved[number].data_ptr() if saving else 0, *_sequence(output, number * sizes.outputs)),
            *_filled(ends[each.fields()], _FIELDS),
            *_NO_GRADIENTS,
        )
        for number, each in enumerate(_directions(given))
    ]
    _call(False, given, sizes, (*_sequence(x), 0, 0, 0), tuple(addresses))
    for number, end in narrow.items():
        last[number] = pad(end, (0, sizes.widest - end.shape[1]))
    return output, last, saved


def run_backward(given: Arguments, output: Tensor, saved: Tensor, d_output: Tensor, d_last: Tensor, *, input_gradient: bool) -> Gradients:
    """Gradients of everything that `run_forward` was given, from those of what it returned."""
    sizes = given.sizes
    given = _prepared(given, sizes)
    (batch_size, steps, _), x = given.x.shape, given.x
    directions, widths = len(given.reverse), sizes.fields(given.operation) * len(given.reverse)
    for name, tensor in (("output", output), ("d_output", d_output)):
        check_tensor(name, tensor, (batch_size, steps, directions * sizes.outputs), x.dtype)
    width = saved_width(given.operation, sizes.units, x.dtype)
    check_tensor("d_last", d_last, (len(widths), batch_size, sizes.widest), x.dtype)
    check_tensor("saved", saved, (directions, max(saved.shape[1], real_steps(given)), width), x.dtype)
    output, d_output, d_last, saved = _dense(output), _dense(d_output), d_last.contiguous(), saved.contiguous()
    narrow = {number: d_last[number, :, :width].contiguous() for number, width in enumerate(widths) if width < sizes.widest}
    d_ends = _planes(d_last, narrow)
    found = Gradients(
        room(x.dtype, *(x.shape if input_gradient else (0,))),
        [weight.new_empty(weight.shape) for weight in given.weights],
        [state.new_empty(state.shape) for state in given.states],
        [state.new_empty(state.shape) for state in given.reset_states],
    )
    addresses = [
        (
            *each.inputs(),
            *(saved[number].data_ptr(), *_sequence(output, number * sizes.outputs), *(0,) * _FIELDS),
            *_sequence(d_output, number * sizes.outputs),
            *_filled(d_ends[each.fields()], _FIELDS),
            *_addresses(found.weights[each.weights()], _WEIGHTS),
            *_addresses(found.states[each.fields()], _FIELDS),
            *_addresses(found.reset_states[each.fields()], _FIELDS),
        )
        for number, each in enumerate(_directions(given))
    ]
    d_x = _sequence(found.x) if input_gradient else (0, 0, 0)
    _call(True, given, sizes, (*_sequence(x), *d_x), tuple(addresses))
    return found


def real_steps(given: Arguments) -> int:
    """Steps of all rows that are no padding, as far as the lengths are such as the kernels accept."""
    batch_size, steps = given.x.shape[:2]
    return batch_size * steps if given.lengths is None else int(given.lengths.clamp(0, steps).sum())


_LARGE = 2**21
"""Bytes from which memory comes from blocks kept between calls: to have fresh pages cleared costs up to a tenth of a training step."""


def room(dtype: torch.dtype, *shape: int) -> Tensor:
    """A tensor of this shape, with whatever is in it."""
    size = math.prod(shape) * dtype.itemsize
    assert _cpu is not None, UNAVAILABLE
    if size < _LARGE:
        return torch.empty(shape, dtype=dtype, device="cpu")
    return torch.from_numpy(_cpu.room(size)).view(dtype).view(shape)


class _Direction(NamedTuple):
    given: Arguments
    number: int

    def mine(self, count: int) -> slice:
        """Where this direction's tensors are in a list of `count` a direction."""
        return slice(self.number * count, (self.number + 1) * count)

    def fields(self) -> slice:
        """Where its fields are in a list of states."""
        return self.mine(self.given.signature.fields)

    def weights(self) -> slice:
        """Where its weights are."""
        return self.mine(self.given.signature.weights)

    def inputs(self) -> tuple[int, ...]:
        """Addresses of its inputs, in the order in which the extension reads them."""
        given, number = self
        plain = (
            int(given.reverse[number]),
            *_addresses(given.weights[self.weights()], _WEIGHTS),
            *_addresses(given.states[self.fields()], _FIELDS),
        )
        if not (given.resets or given.dropouts or given.zones):
            return *plain, *_NO_OPTIONS
        zones = [_sequence(zone) for zone in given.zones[self.mine(given.signature.zones)]]
        return (
            *plain,
            *_addresses(given.resets[number : number + 1], 1),
            *_addresses(given.reset_states[self.fields()], _FIELDS),
            *_addresses(given.dropouts[number : number + 1], 1),
            *(zones[0] if zones else (0, 0, 0)),
            *(zones[1] if len(zones) > 1 else (0, 0, 0)),
            int(bool(zones) and given.zones[0].dtype is torch.bool),
        )


def _directions(given: Arguments) -> list[_Direction]:
    return [_Direction(given, number) for number in range(len(given.reverse))]


def _call(backward: bool, given: Arguments, sizes: Sizes, sequences: tuple[int, ...], directions: tuple[tuple[int, ...], ...]) -> None:
    assert _cpu is not None, UNAVAILABLE
    rates: list[float] = []
    if given.zone_rates and not given.zones:
        rates = [rate for each in _directions(given) for rate in (*given.zone_rates[each.mine(given.signature.zones)], 0.0, 0.0)[:2]]
    (_cpu.backward if backward else _cpu.forward)(
        given.operation,
        given.x.dtype == torch.float64,
        [*given.x.shape, *sizes],
        0 if given.lengths is None else given.lengths.data_ptr(),
        sequences,
        directions,
        rates,
        torch.get_num_threads(),
    )


def _check(given: Arguments, sizes: Sizes) -> None:
    """Whatever the kernels take on trust: they read as far as the sizes say.

    Raises:
        ValueError: a tensor is missing, or does not fit the input and the recurrent weights.
        TypeError: the kernels do not compute in the input's type.
    """
    batch_size, steps, features = given.x.shape
    directions, dtype, zones = len(given.reverse), given.x.dtype, sizes.zones(given.operation)
    if dtype not in {torch.float32, torch.float64}:
        raise TypeError(f"The compiled kernels compute in float32 and float64, not in {dtype}.")
    if min(features, *sizes) < 1:
        widths = [tuple(weight.shape) for weight in given.weights[:2]]
        raise ValueError(f"{given.operation} needs at least one feature and one unit, not weights of shapes {widths}.")
    states = [(batch_size, width) for width in sizes.fields(given.operation)] * directions
    _check_list(given, "weights", sizes.weights(given.operation, features) * directions, dtype)
    _check_list(given, "states", states, dtype)
    if given.resets or given.reset_states:
        _check_list(given, "resets", [(batch_size, steps)] * directions, torch.bool)
        _check_list(given, "reset_states", states, dtype)
    if given.dropouts:
        _check_list(given, "dropouts", [(batch_size, sizes.outputs)] * directions, dtype)
    if given.zones:
        marks = given.zones[0].dtype is torch.bool
        _check_list(given, "zones", [(batch_size, steps, width) for width in zones] * directions, torch.bool if marks else dtype)
    if given.zone_rates and len(given.zone_rates) != directions * len(zones):
        raise ValueError(f"{given.operation} takes {directions * len(zones)} rates of zoneout, not {len(given.zone_rates)}.")
    if given.lengths is not None:
        check_tensor("lengths", given.lengths, (batch_size,), given.lengths.dtype)


def _check_list(given: Arguments, name: str, shapes: Sequence[tuple[int, ...]], dtype: torch.dtype) -> None:
    tensors = getattr(given, name)
    if len(tensors) != len(shapes):
        raise ValueError(f"{given.operation} takes {len(shapes)} {name}, not {len(tensors)}.")
    for tensor, shape in zip(tensors, shapes, strict=True):
        check_tensor(name, tensor, shape, dtype)


def check_tensor(name: str, tensor: Tensor, shape: tuple[int, ...], dtype: torch.dtype) -> None:
    """That a tensor is what its place in the call says.

    Raises:
        ValueError: it is of another shape or type.
    """
    if tensor.shape != shape or tensor.dtype != dtype:
        raise ValueError(f"{name} must be {dtype} of shape {shape}, not {tensor.dtype} of shape {tuple(tensor.shape)}.")


def _prepared(given: Arguments, sizes: Sizes) -> Arguments:
    """Checked, and with every tensor laid out as the kernels read it."""
    _check(given, sizes)
    return Arguments(
        given.operation,
        _dense(given.x),
        None if given.lengths is None else given.lengths.to("cpu", torch.int64).contiguous(),
        _contiguous(given.weights),
        _contiguous(given.states),
        _contiguous(given.resets),
        _contiguous(given.reset_states),
        _contiguous(given.dropouts),
        [_dense(zone) for zone in given.zones] if given.zones else given.zones,
        given.zone_rates,
        given.reverse,
    )


def _contiguous(tensors: Sequence[Tensor]) -> Sequence[Tensor]:
    return [tensor.contiguous() for tensor in tensors] if tensors else tensors


def _dense(x: Tensor) -> Tensor:
    """With the features of a step side by side; rows and steps may lie anywhere."""
    return x if x.stride(2) == 1 or x.shape[2] == 1 else x.contiguous()


def _sequence(x: Tensor, first: int = 0) -> tuple[int, int, int]:
    return x.data_ptr() + first * x.element_size(), x.stride(0), x.stride(1)


def _addresses(tensors: Sequence[Tensor], count: int) -> tuple[int, ...]:
    return _filled([tensor.data_ptr() for tensor in tensors], count)


def _filled(addresses: Sequence[int], count: int) -> tuple[int, ...]:
    return *addresses, *(0,) * (count - len(addresses))


def _planes(whole: Tensor, others: dict[int, Tensor]) -> list[int]:
    """Where the parts of a contiguous tensor begin, but for those that stand elsewhere; without a view of each, which costs more."""
    start, size = whole.data_ptr(), whole.stride(0) * whole.element_size()
    return [others[number].data_ptr() if number in others else start + number * size for number in range(len(whole))]
