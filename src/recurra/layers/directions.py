"""What layers of recurrences share, whatever holds their weights: resets read backwards, and noise between the layers."""

from __future__ import annotations

import torch

from recurra.shapes import Bool, Int, Tensor

__all__ = ["reversed_reset"]


def reversed_reset(reset: Bool[Tensor, "B T"], lengths: Int[Tensor, " B"] | None = None) -> Bool[Tensor, "B T"]:
    """Where a sequence read backwards begins: at the last step before the next one's first, which is a real step.

    Args:
        reset: where sequences begin.
        lengths: real steps of each row; None when all are real.
    """
    following = torch.arange(1, reset.shape[1] + 1, device=reset.device)
    real = reset.shape[1] if lengths is None else lengths.to(reset.device)[:, None]
    return reset.roll(-1, 1) & (following < real)
