"""What a model of text to text gives: texts with their scores, and what they attended to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from recurra.shapes import Float

__all__ = ["Aligned", "Translation", "as_frame"]


@dataclass(frozen=True)
class Translation:
    """What was written for a text.

    Attributes:
        text: that was written.
        score: what it was chosen by: its log-probability over its length to the power of `length_power`.
        log_probability: natural logarithm, the end included where there is one.
        ended: False where it was cut off at the largest length.
        source_cut: whether only the first `text.max_length` tokens of the source were read.
        alternatives: the next best outputs, where more than one was wanted.
    """

    text: str
    score: float
    log_probability: float
    ended: bool = True
    source_cut: bool = False
    alternatives: tuple[Translation, ...] = ()


@dataclass(frozen=True, eq=False)
class Aligned:
    """What each token of an output attended to.

    Attributes:
        source: tokens that were read.
        output: tokens that were written, the last one the end.
        weights: (T, S) of the attention, of sum one over the source.
    """

    source: list[str]
    output: list[str]
    weights: Float[np.ndarray, "T S"]


def as_frame(outputs: Sequence[Translation], n_best: int) -> pl.DataFrame:
    """As a table, a row each: `text` and `score`, with more than one output wanted also `alternatives` and `alternative_scores`."""
    columns: dict[str, Any] = {
        "text": pl.Series([each.text for each in outputs], dtype=pl.String),
        "score": pl.Series([each.score for each in outputs], dtype=pl.Float64),
    }
    if n_best > 1:
        further = [each.alternatives for each in outputs]
        columns["alternatives"] = pl.Series([[each.text for each in row] for row in further], dtype=pl.List(pl.String))
        columns["alternative_scores"] = pl.Series([[each.score for each in row] for row in further], dtype=pl.List(pl.Float64))
    return pl.DataFrame(columns)
