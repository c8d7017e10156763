"""Padded values with their lengths: the only place that knows about padding.

A mask is derived from lengths when somebody needs it, and never stored.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch

from recurra.shapes import Bool, Int, Tensor

__all__ = ["Batch", "Sequence", "padding_mask"]


def padding_mask(lengths: Int[Tensor, " B"], steps: int) -> Bool[Tensor, "B T"]:
    """True where a step is real, False where it is padding.

    Args:
        lengths: real steps of each row, 0 allowed.
        steps: T, the steps of the padded tensor.
    """
    return torch.arange(steps, device=lengths.device) < lengths[:, None]


@dataclass(frozen=True)
class Sequence:
    """One sequence feature of a batch.

    Attributes:
        values: (B, T) integers (token numbers) or (B, T, F) floats. What stands beyond a row's length means nothing.
        lengths: (B,) integers, real steps of each row, 0 allowed, unsorted.
    """

    values: Tensor
    lengths: Int[Tensor, " B"]

    @property
    def mask(self) -> Bool[Tensor, "B T"]:
        """True where a step is real."""
        return padding_mask(self.lengths, self.values.shape[1])

    def to(self, device: torch.device | str) -> Sequence:
        """The same sequence on another device."""
        return Sequence(self.values.to(device), self.lengths.to(device))


@dataclass(frozen=True)
class Batch:
    """Rows side by side, encoded and padded.

    Attributes:
        inputs: by feature name, a `Sequence` for a sequence feature, a (B, ...) tensor for a static one.
        targets: by head name, (B, ...); empty when the batch is for prediction only.
        rows: (B,) numbers of the rows in the table they come from.
    """

    inputs: Mapping[str, Sequence | Tensor]
    targets: Mapping[str, Tensor]
    rows: Int[Tensor, " B"]

    def __len__(self) -> int:
        return int(self.rows.shape[0])

    @property
    def steps(self) -> int:
        """Real steps (tokens) in the batch, over all sequence features."""
        return sum(int(v.lengths.sum()) for v in self.inputs.values() if isinstance(v, Sequence))

    def to(self, device: torch.device | str) -> Batch:
        """The same batch on another device."""
        return replace(
            self,
            inputs={name: value.to(device) for name, value in self.inputs.items()},
            targets={name: value.to(device) for name, value in self.targets.items()},
            rows=self.rows.to(device),
        )
