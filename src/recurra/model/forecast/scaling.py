"""What a window is freed of before a network reads it, and what its outputs get back: levels may drift, and the network need not know them.

| name | center | spread |
| --- | --- | --- |
| last | the last known value | 1 |
| mean | 0 | the mean of the known values' sizes |
| mean_std | the mean of the known values | their deviation |
| revin | the same, with a learnt gain and bias for each identity | |
| none | 0 | 1 |
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import nn

from recurra.shapes import Bool, Float, Int, Tensor

__all__ = ["Scaled", "WindowScale"]

SMALLEST = 1e-5
"""Added to a variance: a window of one value throughout has a spread too."""


class Scaled(NamedTuple):
    """A window as the network reads it.

    Attributes:
        values: (B, L, C) without missing ones: the value before stands for one, the center where there is none before.
        known: (B, L, C) where there is a value.
        center: (B, 1, C).
        spread: (B, 1, C), positive.
    """

    values: Float[Tensor, "B L C"]
    known: Bool[Tensor, "B L C"]
    center: Float[Tensor, "B 1 C"]
    spread: Float[Tensor, "B 1 C"]


class WindowScale(nn.Module):
    """Frees windows of their level, and of their spread.

    Source: RevIN, Kim et al. 2022, section 2; the last value, Zeng et al. 2023 (NLinear), section 4; the mean, Salinas et al. 2020, section 3.3.

    Args:
        kind: see the module.
        identities: of learnt gains and biases.
        channels: C.
        counts: whether the values are counts; the mean of their sizes then is one more, so that it is never zero.
    """

    def __init__(self, kind: str, *, identities: int, channels: int, counts: bool) -> None:
        super().__init__()
        self.kind, self.counts = kind, counts
        if kind == "revin":
            self.gain = nn.Parameter(torch.zeros(max(1, identities), channels))
            self.bias = nn.Parameter(torch.zeros(max(1, identities), channels))

    def forward(self, history: Float[Tensor, "B L C"], identity: Int[Tensor, " B"]) -> Scaled:
        """Windows without their levels.

        Args:
            history: NaN where missing.
            identity: -1 for none: the mean of all gains and biases.
        """
        known = history.isfinite()
        zeroed = history.masked_fill(~known, 0.0)
        steps = torch.arange(history.shape[1], device=history.device)[:, None]
        latest = torch.where(known, steps, -1).cummax(1).values
        filled = zeroed.gather(1, latest.clamp(min=0))
        center, spread = self._measure(zeroed, known, filled)
        if self.kind == "revin":
            gain, bias = self._learnt(self.gain, identity).exp(), self._learnt(self.bias, identity)
            spread = spread / gain
            center = center - bias * spread
        values = ((filled - center) / spread).masked_fill(latest < 0, 0.0)
        return Scaled(values, known, center, spread)

    def _measure(self, zeroed: Tensor, known: Tensor, filled: Tensor) -> tuple[Tensor, Tensor]:
        """Center and spread."""
        zero = zeroed.new_zeros(zeroed.shape[0], 1, zeroed.shape[2])
        count = known.sum(1, keepdim=True).clamp(min=1)
        match self.kind:
            case "last":
                return filled[:, -1:], zero + 1.0
            case "mean":
                size = zeroed.abs().sum(1, keepdim=True) / count
                return zero, size + (1.0 if self.counts else SMALLEST)
            case "mean_std" | "revin":
                mean = zeroed.sum(1, keepdim=True) / count
                variance = ((zeroed - mean).square() * known).sum(1, keepdim=True) / count
                return mean, (variance + SMALLEST).sqrt()
        return zero, zero + 1.0

    @staticmethod
    def _learnt(parameter: Tensor, identity: Tensor) -> Tensor:
        """(B, 1, C) of each row's identity."""
        every = torch.cat([parameter, parameter.mean(0, keepdim=True)])
        return every[identity.clamp(max=len(parameter) - 1)][:, None]
