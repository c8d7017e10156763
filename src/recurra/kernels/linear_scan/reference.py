"""The linear scan as a Python loop in plain PyTorch: the oracle."""

from __future__ import annotations

import torch

from recurra.kernels.loop import Resets, run_loop
from recurra.shapes import Float, Int, Tensor

__all__ = ["linear_scan_reference"]


def linear_scan_reference(
    a: Float[Tensor, "B T H"],
    b: Float[Tensor, "B T H"],
    state: Float[Tensor, "B H"],
    *,
    lengths: Int[Tensor, " B"] | None = None,
    resets: Resets | None = None,
    reverse: bool = False,
) -> tuple[Float[Tensor, "B T H"], Float[Tensor, "B H"]]:
    """See `linear_scan_recurrence` for the equation and the arguments."""

    def step(both: Tensor, state: tuple[Tensor]) -> tuple[Tensor, tuple[Tensor]]:
        a, b = both.chunk(2, 1)
        h = a * state[0] + b
        return h, (h,)

    resets = None if resets is None else Resets(resets.where, (resets.state,))
    output, (last,) = run_loop(step, torch.cat([a, b], 2), (state,), lengths=lengths, resets=resets, reverse=reverse)
    return output, last
