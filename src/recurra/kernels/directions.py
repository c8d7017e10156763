"""A call of a recurrence by direction: one alone, or both directions of a layer at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch

from recurra.kernels.custom_op import recurrence
from recurra.kernels.dispatch import check_input, choose_backend, on_cpu, saves, typed
from recurra.kernels.loop import RecurrentNoise, Resets
from recurra.kernels.signatures import SIGNATURES
from recurra.shapes import Float, Int, Tensor

__all__ = ["Direction", "run_compiled", "run_directions"]


class Direction(NamedTuple):
    """What one direction of a layer does not share with the other.

    Attributes:
        state: the state before the first step read.
        weights: the operation's weights.
        resets: where inside the sequences the state starts anew.
        noise: recurrent dropout and zoneout.
        reverse: read each row from its own last real step to its first.
    """

    state: Any
    weights: Any
    resets: Resets | None = None
    noise: RecurrentNoise | None = None
    reverse: bool = False


def run_directions(
    operation: str,
    function: Callable[..., tuple[Tensor, Any]],
    x: Float[Tensor, "B T F"],
    directions: Sequence[Direction],
    *,
    lengths: Int[Tensor, " B"] | None = None,
    backend: str = "auto",
) -> tuple[Float[Tensor, "B T DH"], list[Any]]:
    """All directions of a layer over the same input; compiled kernels run them side by side, others one after the other.

    Args:
        operation: a name of `recurra.kernels.backend.OPERATIONS`.
        function: its recurrence, such as `lstm_recurrence`.
        x: inputs.
        directions: the directions, in the order of their outputs.
        lengths: real steps of each row.
        backend: "auto", or a name of `BACKENDS`.

    Returns:
        Outputs of the directions next to each other, and the state of each after the last step it read.
    """
    compiled = all([choose_backend(operation, backend, x, each.resets, each.noise) == "cpu" for each in directions])  # noqa: C419 - a list is faster
    if compiled and (len(directions) == 1 or len({_options(each) for each in directions}) == 1) and x.shape[0] * x.shape[1]:
        for each in directions:
            check_input(x, each.state, each.weights.w_ih.shape[1], lengths, each.resets)
        return run_compiled(operation, x, directions, lengths)
    outputs, states = [], []
    for each in directions:
        output, state = function(
            x,
            each.state,
            each.weights,
            lengths=lengths,
            resets=each.resets,
            reverse=each.reverse,
            noise=each.noise,
            backend=backend,
        )
        outputs.append(output)
        states.append(state)
    return (outputs[0] if len(outputs) == 1 else torch.cat(outputs, 2)), states


def _options(direction: Direction) -> tuple[bool, bool, int]:
    """Which options are in force: only directions that agree share a call."""
    noise = direction.noise or RecurrentNoise()
    return direction.resets is not None, noise.dropout is not None, len(noise.zoneout)


def run_compiled(
    operation: str, x: Float[Tensor, "B T F"], directions: Sequence[Direction], lengths: Int[Tensor, " B"] | None
) -> tuple[Float[Tensor, "B T DH"], list[Any]]:
    """The compiled kernels, in the precision of the weights (autocast or not). All directions have the same options.

    Raises:
        ValueError: the input is of another type than the weights (unless autocast is on); a rate beside masks, for several fields
            of the state.
        RuntimeError: the tensors are on several devices.
    """
    dtype = directions[0].weights.w_hh.dtype
    weights = [weight for each in directions for weight in each.weights]
    states = _cast([field for each in directions for field in each.state], dtype)
    resets = [each.resets for each in directions if each.resets is not None]
    noises = [each.noise for each in directions if each.noise is not None]
    shares = [share for noise in noises for share in noise.zoneout]
    rates = [share for share in shares if isinstance(share, float)]
    zones: list[Tensor] = []
    if len(rates) < len(shares):
        zones = _masks(operation, shares, [field.shape[1] for field in directions[0].state], x.shape[1], states[0])
        rates = []
    reset_states = _cast([field for each in resets for field in each.state], dtype)
    x = typed(x, dtype)
    output, last, _ = recurrence(
        operation,
        x,
        on_cpu(lengths),
        weights,
        states,
        [each.where for each in resets],
        reset_states,
        _cast([noise.dropout.expand_as(states[0]) for noise in noises if noise.dropout is not None], dtype),
        zones,
        rates,
        [each.reverse for each in directions],
        saves((x, *weights, *states, *reset_states)),
    )
    fields = len(states) // len(directions)
    kind = type(directions[0].state)
    # Fields narrower than the widest fill only a part of theirs.
    ends = [
        end if end.shape[1] == before.shape[1] else end[:, : before.shape[1]] for end, before in zip(last.unbind(), states, strict=True)
    ]
    return output, [kind(*ends[number * fields : (number + 1) * fields]) for number in range(len(directions))]


def _masks(operation: str, shares: Sequence[Tensor | float], widths: Sequence[int], steps: int, like: Tensor) -> list[Tensor]:
    """Shares of zoneout as (B, T, width), truth values or numbers: rates beside masks become masks, and what stands for several rows or
    steps is spread over them.
    """
    count = SIGNATURES[operation].zones
    if count < len(widths) and any(share for share in shares[count - 1 :: count] if isinstance(share, float)):
        raise ValueError(
            f"The shares of zoneout of {operation} are all rates or all masks: the rate of several fields at once is no mask of each."
        )
    marks = all(isinstance(share, Tensor) and share.dtype is torch.bool for share in shares)
    each = zip(shares, [*widths[:count]] * (len(shares) // count), strict=True)
    dtype = torch.bool if marks else like.dtype
    return [torch.as_tensor(share, dtype=dtype, device=like.device).expand(like.shape[0], steps, width) for share, width in each]


def _cast(tensors: Sequence[Tensor], dtype: torch.dtype) -> list[Tensor]:
    return [each if each.dtype is dtype else each.to(dtype) for each in tensors]
