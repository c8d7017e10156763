"""Noise around a recurrence. Noise inside it (recurrent dropout, zoneout, weight drop) is in `recurra.cells.noise`."""

from __future__ import annotations

from torch import nn

from recurra.cells.noise import check_rate, drop
from recurra.shapes import Float, Tensor

__all__ = ["StepDropout", "VariationalDropout", "drop_locked", "drop_steps"]


def drop_steps(x: Tensor, rate: float) -> Tensor:
    """Features dropped anew at each step, as in training; see `StepDropout`. A rate of 1 leaves zeros."""
    if rate == 1.0:
        return x * 0.0
    return drop(x, rate) if rate else x


def drop_locked(x: Float[Tensor, "B T F"], rate: float) -> Float[Tensor, "B T F"]:
    """Features dropped by one mask for all steps of a row, as in training; see `VariationalDropout`."""
    return x * drop(x.new_ones(x.shape[0], 1, x.shape[2]), rate) if rate else x


class StepDropout(nn.Module):
    """Dropout drawn anew at each step; kept features are scaled up by 1/(1 - rate).

    Source: Srivastava et al. 2014, section 4.

    Args:
        rate: share of the features set to zero in training.
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        check_rate("rate", rate)
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        """The masked features; the input itself in evaluation."""
        return drop_steps(x, self.rate) if self.training else x

    def extra_repr(self) -> str:
        """The rate, for `print(module)`."""
        return str(self.rate)


class VariationalDropout(nn.Module):
    """Dropout with one mask for all steps of a row; kept features are scaled up by 1/(1 - rate).

    Source: Gal & Ghahramani 2016, section 4. Also called locked dropout.

    Args:
        rate: share of the features set to zero in training.
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        check_rate("rate", rate)
        self.rate = rate

    def forward(self, x: Float[Tensor, "B T F"]) -> Float[Tensor, "B T F"]:
        """The masked steps; the input itself in evaluation."""
        return drop_locked(x, self.rate) if self.training else x

    def extra_repr(self) -> str:
        """The rate, for `print(module)`."""
        return str(self.rate)
