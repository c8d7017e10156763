"""The compiled elementwise scans with their input product: tensors handed to the extension as addresses.

The torch operators made of them, with gradients, are in `custom_op.py`.
"""

from __future__ import annotations

from typing import NamedTuple

import torch

from recurra.kernels.compiled import check_tensor, room, whole_vectors
from recurra.kernels.elementwise_scan.units import UNITS
from recurra.kernels.linear_scan.compiled import ScanCall, address, check_scan, dense, is_empty, run, where_rows_stand
from recurra.shapes import Tensor

__all__ = ["Arguments", "Gradients", "kept_shape", "run_backward", "run_forward"]


class Arguments(NamedTuple):
    """What a call is given.

    Attributes:
        unit: a name of `UNITS`.
        x: (B, T, F).
        w_ih: (G*H, F).
        b_ih: (G*H,).
        parameters: (K, H), or None.
        state: (B, H).
        begin: (B, H) what resets begin with; zeros when None.
        lengths: (B,) integers, or None.
        resets: (B, T) booleans, or None.
        reverse: read from the last step to the first.
    """

    unit: str
    x: Tensor
    w_ih: Tensor
    b_ih: Tensor
    parameters: Tensor | None
    state: Tensor
    begin: Tensor | None
    lengths: Tensor | None
    resets: Tensor | None
    reverse: bool


class Gradients(NamedTuple):
    """Gradients of a call's inputs; empty where there is no input, or its gradient was not asked for."""

    x: Tensor
    w_ih: Tensor
    b_ih: Tensor
    parameters: Tensor
    state: Tensor
    begin: Tensor


def kept_shape(given: Arguments, dtype: torch.dtype) -> tuple[int, ...]:
    """Of the gates that a way back reads: (B, T, ...), or (0,) where it reads none."""
    if not UNITS[given.unit].keeps_gates:
        return (0,)
    units = given.state.shape[1]
    return *given.x.shape[:2], given.w_ih.shape[0] // units * whole_vectors(units, dtype)


def run_forward(given: Arguments, *, saving: bool) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """What came out, and what the way back needs.

    Returns:
        Outputs (B, T, H), states of all steps (the same; empty when they are the outputs), the last state (B, H), and the activated gates as
        `kept_shape` says (empty if not `saving`).
    """
    given = _prepared(given)
    x, state = given.x, given.state
    shape, last = (*x.shape[:2], state.shape[1]), x.new_empty(state.shape)
    output = room(x.dtype, *shape) if saving else x.new_empty(shape)
    states = room(x.dtype, *((0,) if UNITS[given.unit].output is None else shape))
    kept = room(x.dtype, *(kept_shape(given, x.dtype) if saving else (0,)))
    if is_empty(x):
        return output, states, last.copy_(state), kept
    call = _call(given, kept)._replace(states=address(states if states.numel() else output), output=address(output), last=address(last))
    run(call, x.dtype, backward=False)
    return output, states, last, kept


def run_backward(given: Arguments, states: Tensor, kept: Tensor, d_output: Tensor, d_last: Tensor, *, input_gradient: bool) -> Gradients:
    """Gradients of everything that `run_forward` was given, from those of what it returned, all states and the gates."""
    given = _prepared(given)
    x = given.x
    found = Gradients(
        room(x.dtype, *(x.shape if input_gradient else (0,))),
        *(x.new_empty(0 if each is None else each.shape) for each in (given.w_ih, given.b_ih, given.parameters, given.state, given.begin)),
    )
    if is_empty(x):
        for gradient in found:
            gradient.zero_()
        found.state.copy_(d_last)
        return found
    check_tensor("kept", kept, kept_shape(given, x.dtype), x.dtype)
    states, kept, d_output, d_last = states.contiguous(), kept.contiguous(), d_output.contiguous(), d_last.contiguous()
    call = _call(given, kept)._replace(
        states=address(states),
        grad_output=address(d_output),
        grad_last=address(d_last),
        grad_state=address(found.state),
        grad_begin=0 if given.begin is None else address(found.begin),
        grad_parameters=address(found.parameters),
        grad_x=address(found.x) if input_gradient else 0,
        grad_weight=address(found.w_ih),
        grad_bias=address(found.b_ih),
    )
    run(call, x.dtype, backward=True)
    return found


def _prepared(given: Arguments) -> Arguments:
    """Checked, and with every tensor laid out as the extension reads it."""
    check_scan(given.x, given.state, given.begin, given.lengths, given.resets)
    rows, dtype = given.w_ih.shape[0], given.x.dtype
    check_tensor("w_ih", given.w_ih, (rows, given.x.shape[2]), dtype)
    check_tensor("b_ih", given.b_ih, (rows,), dtype)
    if given.parameters is not None:
        check_tensor("parameters", given.parameters, (UNITS[given.unit].parameters, given.state.shape[1]), dtype)
    lengths, resets = where_rows_stand(given.lengths, given.resets)
    return given._replace(
        x=dense(given.x),
        w_ih=given.w_ih.contiguous(),
        b_ih=given.b_ih.contiguous(),
        parameters=None if given.parameters is None else given.parameters.contiguous(),
        state=given.state.contiguous(),
        begin=None if given.begin is None else given.begin.contiguous(),
        lengths=lengths,
        resets=resets,
    )


def _call(given: Arguments, kept: Tensor) -> ScanCall:
    batch_size, steps, features = given.x.shape
    hidden_size = given.state.shape[1]
    return ScanCall(
        UNITS[given.unit].number,
        batch_size,
        steps,
        hidden_size,
        given.reverse,
        torch.get_num_threads(),
        address(given.lengths),
        address(given.resets),
        address(given.state),
        address(given.begin),
        address(given.parameters),
        features=features,
        products=len(given.w_ih) // hidden_size,
        x=address(given.x),
        x_row=given.x.stride(0),
        x_step=given.x.stride(1),
        weight=address(given.w_ih),
        bias=address(given.b_ih),
        kept=address(kept) if kept.numel() else 0,
    )
