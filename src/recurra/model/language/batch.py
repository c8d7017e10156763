"""What the network of a language model reads: windows of streams side by side, and the tokens that come next."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from recurra.shapes import Bool, Int, Tensor

__all__ = ["TokenBatch"]


@dataclass(frozen=True)
class TokenBatch:
    """A window of B streams.

    Attributes:
        tokens: (B, T) numbers; what stands beyond a row's length means nothing.
        answers: (B, T) the token that comes next; -1 beyond a row's length.
        lengths: (B,) tokens of each row.
        reset: (B, T) true where a stream begins: what was carried is forgotten before the step is read.
        rate: what the learning rate is multiplied by in a step on this window.
    """

    tokens: Int[Tensor, "B T"]
    answers: Int[Tensor, "B T"]
    lengths: Int[Tensor, " B"]
    reset: Bool[Tensor, "B T"]
    rate: float = 1.0

    def __len__(self) -> int:
        """Tokens that are predicted: what a loss is the mean of."""
        return int(self.lengths.sum())

    @property
    def steps(self) -> int:
        """Tokens that are read."""
        return int(self.lengths.sum())

    def to(self, device: torch.device | str) -> TokenBatch:
        """The same window on another device."""
        names = ("tokens", "answers", "lengths", "reset")
        return replace(self, **{name: getattr(self, name).to(device) for name in names})
