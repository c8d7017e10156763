"""Where a language model is good and bad: by how often a token stands in the training text, and along the text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from recurra.shapes import Float, Int

__all__ = ["by_frequency", "by_place"]

PLACES = 10
FEWEST = 20
"""Tokens of a group that is shown."""


def by_frequency(
    losses: Mapping[str, Float[np.ndarray, " N"]], answers: Int[np.ndarray, " N"], counts: Int[np.ndarray, " V"]
) -> list[dict[str, Any]]:
    """Mean loss by how often the token stands in the training text, in powers of ten.

    Args:
        losses: by name of the model, of each token.
        answers: the tokens.
        counts: of each token of the vocabulary in the training text.

    Returns:
        Records {"model", "group", "order", "value", "count"}; groups of fewer than 20 tokens are left out.
    """
    size = np.where(counts > 0, np.floor(np.log10(np.maximum(counts, 1))).astype(np.int64) + 1, 0)[answers]
    return _records(losses, size, {0: "never", **{power + 1: f"{10**power:,}+" for power in range(12)}})


def by_place(losses: Mapping[str, Float[np.ndarray, " N"]]) -> list[dict[str, Any]]:
    """Mean loss of each tenth of the text; see `by_frequency`."""
    count = len(next(iter(losses.values())))
    return _records(losses, np.arange(count) * PLACES // max(count, 1), {place: f"{place * 10}%" for place in range(PLACES)})


def _records(losses: Mapping[str, Float[np.ndarray, " N"]], group: Int[np.ndarray, " N"], names: Mapping[int, str]) -> list[dict[str, Any]]:
    counts = np.bincount(group)
    records: list[dict[str, Any]] = []
    for model, values in losses.items():
        sums = np.bincount(group, weights=values)
        records += [
            {
                "model": model,
                "group": names[order],
                "order": order,
                "value": float(sums[order] / counts[order]),
                "count": int(counts[order]),
            }
            for order in np.flatnonzero(counts >= FEWEST).tolist()
        ]
    return records
