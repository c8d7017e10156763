"""One of a few values (a country, a product line): a learned vector a value."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, Literal, Self

import numpy as np
import polars as pl
import torch
from torch import nn

from recurra.config import ColumnType, Settings
from recurra.features.feature import Feature
from recurra.shapes import Float, Int, Tensor

__all__ = ["CategoryEmbedding", "CategoryFeature"]

UNKNOWN = 0
"""Number of a missing value and of one that the training rows do not have."""


class CategoryEmbedding(nn.Module):
    """Category numbers to vectors, (B,) to (B, F) with F the square root of the number of categories."""

    def __init__(self, categories: int, init_range: float) -> None:
        super().__init__()
        self.output_size = max(2, min(64, math.ceil(math.sqrt(categories + 1))))
        self.weight = nn.Parameter(torch.empty(categories + 1, self.output_size).uniform_(-init_range, init_range))

    def forward(self, numbers: Int[Tensor, " B"]) -> Float[Tensor, "B F"]:
        """The vector of each row's category."""
        return nn.functional.embedding(numbers, self.weight)


class CategoryFeature(Feature):
    """A column of few distinct values.

    Args:
        name: the column.
        categories: values of the training rows, the most frequent first.
    """

    type: ClassVar[ColumnType] = "category"
    kind: ClassVar[Literal["sequence", "static"]] = "static"

    def __init__(self, name: str, categories: list[str]) -> None:
        super().__init__(name)
        self.categories = categories
        self._numbers = {category: number for number, category in enumerate(categories, start=1)}

    @classmethod
    def fit(cls, name: str, values: Iterable[pl.Series], settings: Settings) -> Self:
        """Count the values; at most `text.vocabulary_size` are kept."""
        counts: Counter[str] = Counter()
        for chunk in values:
            counts.update(value for value in chunk.cast(pl.String).to_list() if value is not None)
        ranked = sorted(counts, key=lambda category: (-counts[category], category))
        return cls(name, ranked[: settings.text.vocabulary_size])

    def encode(self, values: pl.Series) -> np.ndarray:
        """(N,) int64 category numbers; 0 for a missing or unseen value."""
        texts = values.cast(pl.String).to_list()
        return np.fromiter((self._numbers.get(text, UNKNOWN) if text is not None else UNKNOWN for text in texts), np.int64, len(texts))

    def build(self, settings: Settings) -> CategoryEmbedding:
        """A learned vector a category."""
        return CategoryEmbedding(len(self.categories), settings.embedding.init_range)

    def describe(self) -> str:
        """The number of categories."""
        return f"{len(self.categories):,} categories"

    def state(self) -> dict[str, Any]:
        """The categories in order."""
        return {"categories": self.categories}

    @classmethod
    def from_state(cls, name: str, state: Mapping[str, Any]) -> Self:
        """The feature that `state()` described."""
        return cls(name, list(state["categories"]))
