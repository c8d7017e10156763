"""From an operation's arguments to the torch operator of its Triton kernels, and back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch

from recurra.kernels.lengths import real_steps
from recurra.kernels.loop import RecurrentNoise, Resets
from recurra.kernels.triton.custom_op import recurrence
from recurra.shapes import Float, Int, Tensor

__all__ = ["run_triton"]

S = TypeVar("S", bound=tuple[Any, ...])


def run_triton(
    operation: str,
    gates: Callable[[Tensor], Tensor],
    x: Float[Tensor, "B T F"],
    state: S,
    w_hh: Float[Tensor, "4*H D"],
    *,
    norms: Tensor | None = None,
    lengths: Int[Tensor, " B"] | None,
    resets: Resets | None,
    reverse: bool,
    noise: RecurrentNoise | None,
) -> tuple[Float[Tensor, "B T H"], S]:
    """All steps of a gated recurrence; computed in float32 or float64, returned in the precision of the weights.

    Args:
        operation: a name of `recurra.kernels.triton.custom_op.OPERATIONS`.
        gates: from the inputs to what they add to the gates, biases included; one product for all steps, under autocast
            in its precision.
        x: inputs.
        state: before the first step read.
        w_hh: recurrent weights.
        norms: numbers of the normalizations in one row.
        lengths: real steps of each row.
        resets: where inside the sequences the state starts anew.
        reverse: read from the last step to the first.
        noise: recurrent dropout and zoneout.
    """
    if lengths is not None:
        x = x.masked_fill(~real_steps(lengths.to(x.device), x.shape[1])[..., None], 0.0)
    dtype = w_hh.dtype
    wide = torch.float64 if dtype == torch.float64 else torch.float32

    def cast(tensor: Tensor | None) -> Tensor | None:
        return None if tensor is None else tensor.to(wide)

    dropout, zoneout = noise or RecurrentNoise()
    hidden = len(w_hh) // 4
    dropout = None if dropout is None else dropout.expand(len(x), hidden)
    masks = [cast(zone.expand(*x.shape[:2], hidden)) if isinstance(zone, Tensor) else None for zone in zoneout] or [None, None]
    rates = [zone if isinstance(zone, float) else 0.0 for zone in zoneout] or [0.0, 0.0]
    begin = None if resets is None else torch.stack(tuple(resets.state), 1)
    where = None if resets is None else resets.where
    tensors = [cast(gates(x)), cast(w_hh), cast(norms), cast(torch.stack(tuple(state), 1)), cast(begin)]
    saving = torch.is_grad_enabled() and any(tensor is not None and tensor.requires_grad for tensor in tensors)
    output, last, _ = recurrence(operation, *tensors, lengths, where, cast(dropout), *masks, *rates, reverse, saving)
    return output.to(dtype), type(state)(*last.to(dtype).unbind(1))
