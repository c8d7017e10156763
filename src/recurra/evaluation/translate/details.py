"""Where texts are written well and badly: by the length of the source, and one by one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from recurra.metrics.translation import text_metrics
from recurra.shapes import Int

__all__ = ["by_length", "chrf_of_each"]

GROUPS = 5
FEWEST = 20
"""Texts of a group that is shown."""


def by_length(texts: Mapping[str, Sequence[str]], references: Sequence[str], lengths: Int[np.ndarray, " N"]) -> list[dict[str, Any]]:
    """BLEU of the texts in fifths by the length of their sources.

    Args:
        texts: by name of the model, that were written.
        references: of each.
        lengths: tokens of the sources.

    Returns:
        Records {"model", "group", "order", "value", "count"}; groups of fewer than 20 texts are left out.
    """
    edges = np.unique(np.quantile(lengths, np.linspace(0, 1, GROUPS + 1)[1:-1], method="nearest")) if len(lengths) else np.zeros(0)
    group = np.searchsorted(edges, lengths)
    records: list[dict[str, Any]] = []
    for model, written in texts.items():
        for order in range(len(edges) + 1):
            inside = np.flatnonzero(group == order).tolist()
            if len(inside) < FEWEST:
                continue
            name = f"{lengths[inside].min()}–{lengths[inside].max()}"
            value = text_metrics([written[row] for row in inside], [references[row] for row in inside])["bleu"]
            records.append({"model": model, "group": name, "order": order, "value": value, "count": len(inside)})
    return records


def chrf_of_each(texts: Sequence[str], references: Sequence[str]) -> list[float]:
    """ChrF of each text alone."""
    return [text_metrics([text], [reference])["chrf"] for text, reference in zip(texts, references, strict=True)]
