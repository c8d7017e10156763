"""What every typed output has in common.

A head is fit on the target column of the training rows, encodes targets, and says how outputs become a loss, a
prediction and metrics. It holds no tensors: what it learns is saved in `model.json`. Its module is an `OutputLayer`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, Self

import numpy as np
import polars as pl
from torch import nn

from recurra.config import HeadSettings, Settings
from recurra.shapes import Float, Tensor

__all__ = ["Head", "OutputLayer"]


class OutputLayer(nn.Module):
    """From the vector of a row to the head's outputs: dropout, an optional hidden layer, a linear layer.

    Args:
        input_size: features of the row's vector.
        output_size: C, the outputs.
        settings: dropout and hidden_size.
    """

    def __init__(self, input_size: int, output_size: int, *, settings: HeadSettings) -> None:
        super().__init__()
        self.dropout = nn.Dropout(settings.dropout)
        self.hidden = nn.Linear(input_size, settings.hidden_size) if settings.hidden_size else None
        self.output = nn.Linear(settings.hidden_size or input_size, output_size)

    def forward(self, vectors: Float[Tensor, "B F"]) -> Float[Tensor, "B C"]:
        """The outputs of each row."""
        vectors = self.dropout(vectors)
        if self.hidden is not None:
            vectors = self.dropout(nn.functional.gelu(self.hidden(vectors)))
        outputs: Tensor = self.output(vectors)
        return outputs


class Head(ABC):
    """A typed output.

    Attributes:
        task: its name in `head.task`.
        monitor: the validation metric that selects the model when none is named.
        name: the target column.
    """

    task: ClassVar[str]
    monitor: ClassVar[str]

    def __init__(self, name: str) -> None:
        self.name = name

    @classmethod
    @abstractmethod
    def fit(cls, name: str, values: Iterable[pl.Series], settings: Settings) -> Self:
        """Learn the classes, or the scale, from the targets of the training rows.

        Raises:
            DataError: the targets do not make a task (one class only, no number).
        """

    @property
    @abstractmethod
    def output_size(self) -> int:
        """C, the outputs of the network."""

    @abstractmethod
    def problems(self, values: pl.Series) -> dict[int, str]:
        """What is wrong with a target, by its 0-based place: a label that the training rows do not have. Missing ones are no problem."""

    @abstractmethod
    def encode(self, values: pl.Series) -> np.ndarray:
        """Targets as an array, (N,) or (N, C). A missing target, and one with a problem, is -1 or NaN and brings no loss."""

    @classmethod
    def missing(cls, values: pl.Series) -> pl.Series:
        """True where a row has no target: null, NaN or an empty text."""
        if values.dtype.is_float():
            return values.is_null() | values.is_nan().fill_null(value=False)
        if values.dtype == pl.String:
            return values.is_null() | (values.str.strip_chars() == "").fill_null(value=False)
        return values.is_null()

    @classmethod
    def ignored(cls, values: pl.Series, labels: Sequence[str]) -> pl.Series:  # noqa: ARG003
        """True where a row is left out because its label is one of `data.ignore_labels`."""
        return pl.repeat(False, len(values), eager=True)

    @abstractmethod
    def loss(self, outputs: Float[Tensor, "B C"], targets: Tensor) -> Float[Tensor, ""]:
        """Mean loss of the batch's rows."""

    @abstractmethod
    def predict(self, outputs: np.ndarray, *, top: int | None = None) -> pl.DataFrame:
        """Outputs (N, C) as a table of predictions, one row each.

        Args:
            outputs: of the network.
            top: also the `top` most probable labels and their probabilities, as lists.
        """

    @abstractmethod
    def probabilities(self, outputs: np.ndarray) -> np.ndarray:
        """What metrics and reports take: (N, C) probabilities; the predicted number (N,) for a regression."""

    @abstractmethod
    def metrics(self, outputs: np.ndarray, targets: np.ndarray) -> dict[str, float]:
        """Metrics of outputs (N, C) against encoded targets, by name."""

    @abstractmethod
    def intervals(self, outputs: np.ndarray, targets: np.ndarray, settings: Settings) -> dict[str, tuple[float, float]]:
        """Bootstrap confidence intervals of the metrics."""

    @abstractmethod
    def describe(self) -> str:
        """What was learnt, in a few words: `"4 classes"`."""

    @abstractmethod
    def state(self) -> dict[str, Any]:
        """What was learnt, as JSON values; `from_state` reads it back."""

    @classmethod
    @abstractmethod
    def from_state(cls, name: str, state: Mapping[str, Any], settings: HeadSettings) -> Self:
        """The head that `state()` described."""
