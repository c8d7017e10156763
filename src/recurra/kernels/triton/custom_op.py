"""The Triton recurrences as torch operators: shapes for tracing, gradients, second derivatives, vmap.

`recurra::gated_recurrence` and its gradient are opaque to torch.compile and torch.export: one node, whatever the number of steps.
The gradient's own derivative is taken through the reference recurrence, step by step: right, and slow.
"""

from __future__ import annotations

from typing import Any

import torch

from recurra.kernels.loop import RecurrentNoise, Resets
from recurra.kernels.state import LSTMState, SLSTMState
from recurra.kernels.transforms import in_rows, one_by_one, rows_apart, transformable
from recurra.kernels.triton.call import Arguments, zeros_in_padding
from recurra.shapes import Tensor

__all__ = ["OPERATIONS", "recurrence", "recurrence_backward", "run", "run_backward"]

OPERATIONS: dict[str, tuple[type[Any], int]] = {"lstm": (LSTMState, 5), "layernorm_lstm": (LSTMState, 9), "slstm": (SLSTMState, 7)}
"""The recurrences, their states, and how many planes of H numbers a step saves for the gradient."""

STATISTICS = {"layernorm_lstm": 3}
"""Single numbers that a step saves beside the planes."""

_GIVEN = (
    "str operation, Tensor gates, Tensor w_hh, Tensor? norms, Tensor states, Tensor? begin, Tensor? lengths, Tensor? resets, "
    "Tensor? dropout, Tensor? zone_h, Tensor? zone_memory, float rate_h, float rate_memory, bool reverse"
)
_TENSORS = slice(1, 11)
"""Where the tensors stand among these."""


def _kernels(operation: str) -> Any:
    """The module with the kernels of an operation: imported when it first runs."""
    from recurra.kernels.layernorm_lstm import triton as layernorm_lstm
    from recurra.kernels.lstm import triton as lstm
    from recurra.kernels.slstm import triton as slstm

    return {"lstm": lstm, "layernorm_lstm": layernorm_lstm, "slstm": slstm}[operation]


def run(*arguments: Any) -> tuple[Tensor, Tensor, Tensor]:
    """Outputs (B, T, H), states after the last step (B, fields, H), and what the gradient needs; see `Arguments`."""
    *rest, saving = arguments
    given = Arguments(*rest)
    output = zeros_in_padding(given, *given.gates.shape[:2], given.hidden_size)
    last = given.states.new_empty(given.states.shape)
    saved = zeros_in_padding(given, _saved_size(given) if saving else 0)
    _kernels(given.operation).forward(given, output, last, saved if saving else None)
    return output, last, saved


def run_backward(*arguments: Any) -> tuple[Tensor, ...]:
    """Gradients of the gates, the recurrent weights, the norms, the states and `begin`; of what is None, empty ones."""
    given, (output, saved, d_output, d_last) = Arguments(*arguments[:14]), arguments[14:]
    if saved.numel() == 0:
        output, _, saved = run(*given, True)
    found = _kernels(given.operation).backward(given, output, saved, d_output, d_last)
    return tuple(output.new_empty(0) if each is None else each for each in found)


def _saved_size(given: Arguments) -> Any:
    width = OPERATIONS[given.operation][1] * given.hidden_size + STATISTICS.get(given.operation, 0)
    return given.gates.shape[0] * given.gates.shape[1] * width


_recurrence = torch.library.custom_op(
    "recurra::gated_recurrence",
    run,
    mutates_args=(),
    device_types="cuda",
    schema=f"({_GIVEN}, bool saving) -> (Tensor, Tensor, Tensor)",
)
_recurrence_backward = torch.library.custom_op(
    "recurra::gated_recurrence_backward",
    run_backward,
    mutates_args=(),
    device_types="cuda",
    schema=f"({_GIVEN}, Tensor output, Tensor saved, Tensor d_output, Tensor d_last) -> (Tensor, Tensor, Tensor, Tensor, Tensor)",
)


@_recurrence.register_fake
def _(*arguments: Any) -> tuple[Tensor, Tensor, Tensor]:
    *rest, saving = arguments
    given = Arguments(*rest)
    shape = (*given.gates.shape[:2], given.states.shape[2])
    size = _saved_size(given) if saving else 0
    return given.gates.new_empty(shape), given.states.new_empty(given.states.shape), given.gates.new_empty(size)


@_recurrence_backward.register_fake
def _(*arguments: Any) -> tuple[Tensor, ...]:
    given = Arguments(*arguments[:14])
    inputs = (given.gates, given.w_hh, given.norms, given.states, given.begin)
    return tuple(given.gates.new_empty(0 if each is None else each.shape) for each in inputs)


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
    ctx.mark_non_differentiable(output[2])
    ctx.save_for_backward(*inputs[_TENSORS], output[0], output[2])
    ctx.operation, ctx.options = inputs[0], inputs[11:14]


def _backward(ctx: Any, d_output: Tensor, d_last: Tensor, _: Tensor | None) -> tuple[Tensor | None, ...]:
    *given, output, saved = ctx.saved_tensors
    found = recurrence_backward(ctx.operation, *given, *ctx.options, output, saved, d_output, d_last)
    wanted = (each if needed else None for each, needed in zip(found, ctx.needs_input_grad[1:6], strict=True))
    return None, *wanted, *(None,) * 9


def _save_backward(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:  # noqa: ARG001 - torch gives it by name
    ctx.save_for_backward(*inputs[_TENSORS], *inputs[16:18])
    ctx.operation, ctx.options = inputs[0], inputs[11:14]


def _second_backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
    # The gradient as a function of all it depends on, differentiated. Inputs that are None take no part.
    *tensors, d_output, d_last = ctx.saved_tensors
    given = Arguments(ctx.operation, *tensors, *ctx.options)
    there = [number for number, each in enumerate(given[1:6]) if each is not None]

    def gradient(d_output: Tensor, d_last: Tensor, *values: Tensor) -> tuple[Tensor, ...]:
        _, pull, *_ = torch.func.vjp(lambda *values: _composed(given, there, values), *values)
        found: tuple[Tensor, ...] = pull((d_output, d_last))
        return found

    _, pull, *_ = torch.func.vjp(gradient, d_output, d_last, *(tensors[number] for number in there))
    back, last, *rest = pull(tuple(upstream[number] for number in there))
    by_input = dict(zip(there, rest, strict=True))
    return None, *(by_input.get(number) for number in range(5)), *(None,) * 8, None, None, back, last


def _composed(given: Arguments, there: list[int], values: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
    """The same recurrence of operations that can be differentiated again, of other values."""
    by_input = dict(zip(there, values, strict=True))
    gates, w_hh, norms, states, begin = (by_input.get(number) for number in range(5))
    assert gates is not None and w_hh is not None and states is not None  # noqa: PT018 - for the type checker
    kind = OPERATIONS[given.operation][0]
    zoneout = (
        given.rate_h if given.zone_h is None else given.zone_h,
        given.rate_memory if given.zone_memory is None else given.zone_memory,
    )
    resets = None if given.resets is None or begin is None else Resets(given.resets, kind(*begin.unbind(1)))
    noise = RecurrentNoise(given.dropout, () if zoneout == (0.0, 0.0) else zoneout)
    options = {"lengths": given.lengths, "resets": resets, "reverse": given.reverse, "noise": noise}
    output, last = _kernels(given.operation).composed(gates, kind(*states.unbind(1)), w_hh, norms, **options)
    return output, torch.stack(tuple(last), 1)


def _mapped(info: Any, in_dims: tuple[int | None, ...], *arguments: Any) -> tuple[Any, Any]:
    if any(dim is not None for dim in in_dims[2:4]):
        return one_by_one(recurrence)(info, in_dims, *arguments)
    # The same weights for all: more rows.
    rows = [
        in_rows(each, dim, info.batch_size) if number in {1, *range(4, 11)} else each
        for number, (each, dim) in enumerate(zip(arguments, in_dims, strict=True))
    ]
    output, last, saved = recurrence(*rows)
    (output, last), _ = rows_apart((output, last), info.batch_size)
    # Rows lie one after the other in what is saved, but for single numbers that come behind all of them.
    saved = torch.zeros(info.batch_size, 0, dtype=saved.dtype, device=saved.device)
    return (output, last, saved), (0, 0, 0)


recurrence = transformable(_recurrence, _save, _backward, mapped=_mapped)
"""`recurra::gated_recurrence`: see `Arguments`; then whether to save -> (outputs, last states, what the gradient needs)."""

# Gradients of shared weights are sums over rows, so those of single samples cannot share a call: no rule of vmap but the loop.
recurrence_backward = transformable(_recurrence_backward, _save_backward, _second_backward)
"""`recurra::gated_recurrence_backward`: the same, outputs, saved, d_output, d_last -> gradients."""
