"""What a forecast is, whatever made it: a point and quantiles for every step ahead."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["Forecasts"]


@dataclass(frozen=True)
class Forecasts:
    """Forecasts of N windows, H steps ahead, for C columns, in the user's unit.

    Attributes:
        point: (N, H, C).
        quantiles: (N, H, C, Q), ascending along Q.
        levels: (Q,) of the quantiles, ascending; none where there are points only.
    """

    point: npt.NDArray[np.float64]
    quantiles: npt.NDArray[np.float64]
    levels: tuple[float, ...]

    def __len__(self) -> int:
        return len(self.point)

    def quantile(self, level: float) -> npt.NDArray[np.float64]:
        """(N, H, C) of a level: one that is there, or between two by interpolation.

        Raises:
            ValueError: it lies outside those that are there.
        """
        if not self.levels or not self.levels[0] <= level <= self.levels[-1]:
            raise ValueError(f"Quantiles are there from level {self.levels[0] if self.levels else None} on, not for {level}.")
        above = int(np.searchsorted(self.levels, level))
        if self.levels[above] == level:
            found: npt.NDArray[np.float64] = self.quantiles[..., above]
            return found
        low, high = self.levels[above - 1], self.levels[above]
        share = (level - low) / (high - low)
        between: npt.NDArray[np.float64] = (1 - share) * self.quantiles[..., above - 1] + share * self.quantiles[..., above]
        return between
