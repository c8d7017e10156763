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
from recurra.data.batch import Batch
from recurra.data.store import Array, Ragged, Rows
from recurra.layers.dropout import StepDropout
from recurra.shapes import Float, Tensor

__all__ = ["Head", "Output", "OutputLayer", "RowHead"]


class OutputLayer(nn.Module):
    """From the vector of a row to the head's outputs: dropout, an optional hidden layer, a linear layer.

    Args:
        input_size: features of the row's vector.
        output_size: C, the outputs.
        settings: dropout and hidden_size.
    """

    def __init__(self, input_size: int, output_size: int, *, settings: HeadSettings) -> None:
        super().__init__()
        self.dropout = StepDropout(settings.dropout)
        self.hidden = nn.Linear(input_size, settings.hidden_size) if settings.hidden_size else None
        self.output = nn.Linear(settings.hidden_size or input_size, output_size)

    def forward(self, vectors: Float[Tensor, "*B F"]) -> Float[Tensor, "*B C"]:
        """The outputs of each row, or of each step of each row."""
        vectors = self.dropout(vectors)
        if self.hidden is not None:
            vectors = self.dropout(nn.functional.gelu(self.hidden(vectors)))
        outputs: Tensor = self.output(vectors)
        return outputs


class Output(ABC):
    """What a model puts out: a head, or several beside each other.

    Attributes:
        task: its name in `head.task`.
        monitor: the validation metric that selects the model when none is named.
        name: the target column, or all of them.
    """

    task: ClassVar[str]
    monitor: str

    def __init__(self, name: str) -> None:
        self.name = name

    @property
    @abstractmethod
    def heads(self) -> tuple[Head, ...]:
        """The heads, one a target column."""

    @property
    def columns(self) -> list[str]:
        """The target columns."""
        return [head.name for head in self.heads]

    @abstractmethod
    def row_problems(self, frame: pl.DataFrame) -> dict[int, str]:
        """What is wrong with the targets of a row, by its 0-based place."""

    @abstractmethod
    def encode_rows(self, frame: pl.DataFrame) -> Rows:
        """The targets of a table as arrays, an entry a row."""

    def without_target(self, frame: pl.DataFrame, ignored: Sequence[str]) -> pl.Series:
        """True where a row has no target that is learnt or measured.

        Args:
            frame: rows with the target columns.
            ignored: labels that are left out.
        """
        gone = pl.repeat(True, len(frame), eager=True)
        for head in self.heads:
            gone &= head.missing(frame[head.name]) | head.ignored(frame[head.name], ignored)
        return gone

    @abstractmethod
    def batch_loss(self, layer: nn.Module, outputs: Any, batch: Batch) -> Float[Tensor, ""]:
        """Mean loss of a batch.

        Args:
            layer: that of `Head.build`; a list of them for several heads.
            outputs: what it gave for the batch.
            batch: with the encoded targets under the names of their columns.
        """

    @abstractmethod
    def results(self, layer: nn.Module, outputs: Any, batch: Batch) -> Rows:
        """The outputs of a batch in evaluation mode as arrays, an entry a row: what `predict` and `metrics` take."""

    @abstractmethod
    def nothing(self) -> Rows:
        """The results of no rows."""

    @abstractmethod
    def predict(self, outputs: Any, *, top: int | None = None, rows: pl.DataFrame | None = None) -> pl.DataFrame:
        """Results as a table of predictions, one row each.

        Args:
            outputs: results of the network.
            top: also the `top` most probable labels and their probabilities, as lists.
            rows: what the predictions are for, where a prediction speaks of it (spans of a text).
        """

    def settle(self, outputs: Any, targets: Any) -> None:  # noqa: B027  # most heads have nothing to choose
        """Choose, after training, what is chosen on the validation rows.

        Args:
            outputs: results of the network for these rows.
            targets: their encoded targets.
        """

    @abstractmethod
    def metrics(self, outputs: Any, targets: Any) -> dict[str, float]:
        """Metrics of results against encoded targets, by name."""

    @abstractmethod
    def intervals(self, outputs: Any, targets: Any, settings: Settings) -> dict[str, tuple[float, float]]:
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
        """The output that `state()` described."""


class Head(Output):
    """A typed output: that of one target column.

    Attributes:
        steps: the sequence column for each of whose steps there is an output; None for one output a row.
        score: the metric by which several heads are told good or bad together: larger is better, and 1 is all right.
    """

    steps: str | None = None
    score: str

    @property
    def heads(self) -> tuple[Head, ...]:
        """Itself."""
        return (self,)

    @classmethod
    @abstractmethod
    def fit(cls, name: str, values: Iterable[pl.Series], settings: Settings) -> Self:
        """Learn the classes, or the scale, from the targets of the training rows.

        Raises:
            DataError: the targets do not make a task (one class only, no number).
        """

    @abstractmethod
    def problems(self, values: pl.Series) -> dict[int, str]:
        """What is wrong with a target, by its 0-based place: a label that the training rows do not have. Missing ones are no problem."""

    def row_problems(self, frame: pl.DataFrame) -> dict[int, str]:
        """As `problems`, for rows with all their columns."""
        return self.problems(frame[self.name])

    @abstractmethod
    def encode(self, values: pl.Series) -> Array | Ragged:
        """Targets as arrays, an entry a row. A missing target, and one with a problem, brings no loss."""

    def encode_rows(self, frame: pl.DataFrame) -> Array | Ragged:
        """As `encode`, for rows with all their columns."""
        return self.encode(frame[self.name])

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
    def build(self, size: int, settings: Settings) -> nn.Module:
        """The module from the network's vectors, of so many features, to the head's outputs."""

    @abstractmethod
    def known(self, outputs: Any, targets: Any) -> np.ndarray:
        """(N,) True where an encoded row has a target."""

    @abstractmethod
    def right(self, outputs: Any, targets: Any) -> np.ndarray | None:
        """(N,) True where a row is predicted without a mistake; None where there is no right and wrong, only near and far."""


class RowHead(Head):
    """A head with one vector of outputs a row."""

    @property
    @abstractmethod
    def output_size(self) -> int:
        """C, the outputs of the network."""

    @abstractmethod
    def encode(self, values: pl.Series) -> np.ndarray:
        """Targets as an array, (N,) or (N, C). A missing target, and one with a problem, is -1 or NaN and brings no loss."""

    @abstractmethod
    def loss(self, outputs: Float[Tensor, "B C"], targets: Tensor) -> Float[Tensor, ""]:
        """Mean loss of the batch's rows."""

    @abstractmethod
    def probabilities(self, outputs: np.ndarray) -> np.ndarray:
        """What metrics and reports take: (N, C) probabilities; the predicted number (N,) for a regression."""

    def build(self, size: int, settings: Settings) -> nn.Module:
        """An output layer."""
        return OutputLayer(size, self.output_size, settings=settings.head)

    def batch_loss(self, layer: nn.Module, outputs: Float[Tensor, "B C"], batch: Batch) -> Float[Tensor, ""]:  # noqa: ARG002
        """See `loss`."""
        return self.loss(outputs, batch.targets[self.name])

    def results(self, layer: nn.Module, outputs: Float[Tensor, "B C"], batch: Batch) -> np.ndarray:  # noqa: ARG002
        """(B, C) the outputs."""
        found: np.ndarray = outputs.float().cpu().numpy()
        return found

    def known(self, outputs: np.ndarray, targets: np.ndarray) -> np.ndarray:  # noqa: ARG002
        """True where the target is neither -1 nor NaN, in any of its cells."""
        there: np.ndarray = targets != -1 if targets.dtype.kind == "i" else np.isfinite(targets)
        if there.ndim > 1:
            there = np.any(there, axis=1)
        return there

    def nothing(self) -> np.ndarray:
        """(0, C) results."""
        return np.empty((0, self.output_size), np.float32)
