"""What layers of recurrences share, whatever holds their weights: resets read backwards, and noise between the layers."""

from __future__ import annotations

import torch

from recurra.shapes import Bool, Tensor

__all__ = ["reversed_reset"]


def reversed_reset(reset: Bool[Tensor, "B T"]) -> Bool[Tensor, "B T"]:
    """Where a sequence read backwards begins: at the last step before the next one's first."""
    return torch.cat([reset[:, 1:], torch.zeros_like(reset[:, :1])], 1)
