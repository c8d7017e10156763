"""A number (a price, an age): standardised, with a flag for missing values."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, Literal, Self

import numpy as np
import polars as pl
from torch import nn

from recurra.config import ColumnType, Settings
from recurra.data.columns import parse_numbers
from recurra.errors import DataError
from recurra.features.feature import Feature
from recurra.shapes import Float, Tensor

__all__ = ["NumberFeature", "NumberInput"]


ROUNDING = 1e-12
"""Deviation, as a share of the mean, that is rounding: float64 carries 16 digits, sums over a million rows some four fewer."""


class NumberInput(nn.Module):
    """(B, 2): the standardised number and the missing flag, passed on as they are."""

    output_size = 2

    def forward(self, values: Float[Tensor, "B 2"]) -> Float[Tensor, "B 2"]:
        """The values themselves."""
        return values


class NumberFeature(Feature):
    """A column of numbers, encoded as `((x - mean) / deviation, missing)`; a missing number is `(0, 1)`.

    Args:
        name: the column.
        mean: of the training rows.
        deviation: standard deviation of the training rows, 1 where they are all equal.
    """

    type: ClassVar[ColumnType] = "number"
    kind: ClassVar[Literal["sequence", "static"]] = "static"

    def __init__(self, name: str, mean: float, deviation: float) -> None:
        super().__init__(name)
        self.mean = mean
        self.deviation = deviation

    @classmethod
    def fit(cls, name: str, values: Iterable[pl.Series], settings: Settings) -> Self:  # noqa: ARG003
        """Mean and deviation over all chunks (Chan et al. 1979, pairwise update)."""
        count, mean, squares = 0, 0.0, 0.0
        for chunk in values:
            numbers = parse_numbers(chunk)[0].drop_nulls().to_numpy()
            if not numbers.size:
                continue
            difference = float(numbers.mean()) - mean
            total = count + numbers.size
            squares += float(((numbers - numbers.mean()) ** 2).sum()) + difference**2 * count * numbers.size / total
            mean += difference * numbers.size / total
            count = total
        if not count:
            raise DataError(f"Column {name!r} holds no number in the training rows: leave it out with --type {name}=ignore.")
        deviation = math.sqrt(squares / count)
        # Equal numbers leave a deviation of rounding errors; divided by it, any other number would be huge.
        return cls(name, mean, deviation if deviation > ROUNDING * max(abs(mean), deviation) else 1.0)

    def problems(self, values: pl.Series) -> dict[int, str]:
        """Values that are there and are no numbers of a size that can be used."""
        _, wrong = parse_numbers(values)
        advice = f"Correct it, leave such rows out with on_error='skip' (--on-error skip), or train with --type {self.name}=category."
        return {
            row: f"{values[row]!r} in column {self.name!r} is not a number between -1e30 and 1e30. {advice}"
            for row in wrong.arg_true().to_list()
        }

    def encode(self, values: pl.Series) -> np.ndarray:
        """(N, 2) float32: standardised number and missing flag."""
        numbers, _ = parse_numbers(values)
        missing = numbers.is_null().to_numpy()
        scaled = (numbers.fill_null(self.mean).to_numpy() - self.mean) / self.deviation
        return np.stack([scaled, missing], axis=1).astype(np.float32)

    def build(self, settings: Settings) -> NumberInput:  # noqa: ARG002
        """Nothing to learn: the encoded number is the vector."""
        return NumberInput()

    def describe(self) -> str:
        """Mean and deviation."""
        return f"mean {self.mean:.4g}, deviation {self.deviation:.4g}"

    def state(self) -> dict[str, Any]:
        """Mean and deviation."""
        return {"mean": self.mean, "deviation": self.deviation}

    @classmethod
    def from_state(cls, name: str, state: Mapping[str, Any]) -> Self:
        """The feature that `state()` described."""
        return cls(name, float(state["mean"]), float(state["deviation"]))
