"""Which items the answers of a batch are compared with, and how probably each of them is there."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["Negatives"]

Numbers = npt.NDArray[np.int64]


class Negatives:
    """Items drawn for a batch by popularity, besides its own.

    Args:
        counts: (V,) clicks of each item in the training part.
        drawn: n items drawn for a batch, with replacement.
        alpha: an item is drawn with a probability in proportion to its clicks to this power.
        logq: share of the correction for the probability of being among a batch's items.
    """

    def __init__(self, counts: Numbers, *, drawn: int, alpha: float, logq: float) -> None:
        weights = counts.astype(np.float64) ** alpha
        self._cumulative = np.cumsum(weights / weights.sum())
        self._cumulative[-1] = 1.0
        self.drawn = drawn
        self.logq = logq
        self._log_missed = np.log1p(-np.minimum(counts / counts.sum(), 1.0 - 1e-12))  # by one click of the batch
        self._log_undrawn = np.log1p(-np.minimum(weights / weights.sum(), 1.0 - 1e-12))  # by one draw

    def rows(self, own: Numbers, random: np.random.Generator) -> Numbers:
        """The batch's own items and those drawn, each once, ascending.

        Args:
            own: items of the batch, one for each click.
            random: what draws.
        """
        drawn = np.searchsorted(self._cumulative, random.random(self.drawn), side="right")
        return np.unique(np.concatenate([own, drawn]))

    def log_weights(self, rows: Numbers, clicks: int) -> npt.NDArray[np.float32]:
        """Minus `logq` times the log of the probability that each item is among a batch's.

        With p an item's share of the clicks, q its probability of a draw, m clicks and n draws, that is
        1 - (1 - p)^m (1 - q)^n: the clicks of a batch are taken for independent draws from all.

        Args:
            rows: items of the batch.
            clicks: m, those of the batch; one that is an answer and read at the next step is one.
        """
        log_absent = clicks * self._log_missed[rows] + self.drawn * self._log_undrawn[rows]
        return np.asarray(-self.logq * np.log(-np.expm1(log_absent)), np.float32)
