"""What every typed input has in common.

A feature is fit on the training rows of one column, encodes values of that column into flat arrays, and builds the
module that turns a batch's encoded values into vectors. It holds no tensors: what it learns is saved in `model.json`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, Literal, Self

import numpy as np
import polars as pl
from torch import nn

from recurra.config import ColumnType, Settings
from recurra.data.store import Ragged

__all__ = ["Encoded", "Feature"]

Encoded = Ragged | np.ndarray
"""`Ragged` token numbers of a sequence feature, or an array (N, ...) of a static one."""


class Feature(ABC):
    """A typed input column.

    Attributes:
        type: the column type it serves.
        kind: "sequence" when a batch holds a `Sequence` of it, "static" when it holds one (B, ...) tensor.
        name: the column.
    """

    type: ClassVar[ColumnType]
    kind: ClassVar[Literal["sequence", "static"]]

    def __init__(self, name: str) -> None:
        self.name = name

    @classmethod
    @abstractmethod
    def fit(cls, name: str, values: Iterable[pl.Series], settings: Settings) -> Self:
        """Learn from the training rows, read chunk by chunk.

        Args:
            name: the column.
            values: the column's training rows, in chunks; nulls are missing values.
            settings: of the run.

        Raises:
            DataError: the values cannot be of this type.
        """

    def problems(self, values: pl.Series) -> dict[int, str]:  # noqa: ARG002
        """What is wrong with a value, by its 0-based place: a word where a number belongs. Missing values are no problem."""
        return {}

    @abstractmethod
    def encode(self, values: pl.Series) -> Encoded:
        """Values as arrays, one entry a row. Nulls are encoded as missing, and so is a value with a problem."""

    @abstractmethod
    def build(self, settings: Settings) -> nn.Module:
        """The module from a batch's entry of this feature to vectors: (B, T, F) for a sequence, (B, F) for a static one.

        It has an attribute `output_size`, which is F.
        """

    @abstractmethod
    def describe(self) -> str:
        """What was learnt, in a few words: `"text: 12,345 words"`."""

    @abstractmethod
    def state(self) -> dict[str, Any]:
        """What was learnt, as JSON values; `from_state` reads it back."""

    @classmethod
    @abstractmethod
    def from_state(cls, name: str, state: Mapping[str, Any]) -> Self:
        """The feature that `state()` described."""
