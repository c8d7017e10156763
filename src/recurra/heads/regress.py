"""A number: squared error on the standardised scale."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, Self

import numpy as np
import polars as pl

from recurra.config import HeadSettings, Settings
from recurra.data.columns import parse_numbers
from recurra.errors import DataError, SettingsError
from recurra.heads.head import RowHead
from recurra.metrics.intervals import regression_intervals
from recurra.metrics.regression import regression_metrics
from recurra.shapes import Float, Tensor

__all__ = ["RegressHead"]


class RegressHead(RowHead):
    """A number a row. The network learns it standardised by the training rows; predictions and metrics are in the user's unit.

    Args:
        name: the target column.
        mean: of the training rows.
        deviation: standard deviation of the training rows.
    """

    task: ClassVar[str] = "regress"
    monitor = "rmse"
    score = "r2"

    def __init__(self, name: str, mean: float, deviation: float) -> None:
        super().__init__(name)
        self.mean = mean
        self.deviation = deviation

    @classmethod
    def fit(cls, name: str, values: Iterable[pl.Series], settings: Settings) -> Self:
        """Mean and deviation of the targets; see `Head.fit`."""
        of_classes = settings.head.label_smoothing, settings.head.class_weights != "none", settings.data.ignore_labels
        if any(of_classes) or settings.out_of_scope.label is not None:
            raise SettingsError(
                "head.label_smoothing, head.class_weights, data.ignore_labels and out_of_scope are for classes: leave them out when the target is a number."
            )
        chunks = [parse_numbers(chunk)[0].drop_nulls().to_numpy() for chunk in values]
        numbers = np.concatenate(chunks) if chunks else np.empty(0)
        if not numbers.size:
            raise DataError(f"The training rows hold no number in column {name!r}. Check the target column.")
        if numbers.min() == numbers.max():
            held = f"All training rows ({numbers.size:,}) hold {numbers[0]:g} in column {name!r}"
            raise DataError(f"{held}: there is nothing to learn. Check the target column and the split.")
        return cls(name, float(numbers.mean()), float(numbers.std()))

    @property
    def output_size(self) -> int:
        """One output."""
        return 1

    def problems(self, values: pl.Series) -> dict[int, str]:
        """Values that are there and are no numbers of a size that can be used."""
        _, wrong = parse_numbers(values)
        advice = "Correct it, leave such rows out with on_error='skip' (--on-error skip), or train with head.task=classify."
        return {
            row: f"{values[row]!r} in column {self.name!r} is not a number between -1e30 and 1e30. {advice}"
            for row in wrong.arg_true().to_list()
        }

    def encode(self, values: pl.Series) -> np.ndarray:
        """(N,) float32 standardised targets, NaN where missing."""
        numbers, _ = parse_numbers(values)
        return ((numbers.fill_null(float("nan")).to_numpy() - self.mean) / self.deviation).astype(np.float32)

    @classmethod
    def missing(cls, values: pl.Series) -> pl.Series:
        """True where there is no number and nothing that should be one: null, NaN, blanks, `n/a`."""
        numbers, wrong = parse_numbers(values)
        return numbers.is_null() & ~wrong

    def loss(self, outputs: Float[Tensor, "B 1"], targets: Float[Tensor, " B"]) -> Float[Tensor, ""]:
        """Mean squared error of the rows that have a target; zero when none has."""
        real = targets.isfinite()
        difference = outputs[:, 0][real] - targets[real]
        return difference.square().sum() / max(1, difference.numel())

    def probabilities(self, outputs: np.ndarray) -> np.ndarray:
        """(N,) predicted numbers in the user's unit."""
        result: np.ndarray = outputs[:, 0].astype(np.float64) * self.deviation + self.mean
        return result

    def predict(self, outputs: np.ndarray, *, top: int | None = None, rows: pl.DataFrame | None = None) -> pl.DataFrame:  # noqa: ARG002
        """Column `value`.

        Raises:
            SettingsError: `top` is given, which only labels have.
        """
        if top is not None:
            raise SettingsError("top is for labels: this model predicts a number.")
        return pl.DataFrame({"value": self.probabilities(outputs)})

    def right(self, outputs: np.ndarray, targets: np.ndarray) -> None:  # noqa: ARG002
        """A number is near or far."""
        return

    def metrics(self, outputs: np.ndarray, targets: np.ndarray) -> dict[str, float]:
        """Mean absolute error, root mean squared error and R2, in the user's unit."""
        return regression_metrics(self.probabilities(outputs), self.in_unit(targets))

    def intervals(self, outputs: np.ndarray, targets: np.ndarray, settings: Settings) -> dict[str, tuple[float, float]]:
        """Intervals of the metrics; see `Head.intervals`."""
        return regression_intervals(
            self.probabilities(outputs),
            self.in_unit(targets),
            samples=settings.evaluation.bootstrap_samples,
            confidence=settings.evaluation.confidence,
            seed=settings.training.seed,
        )

    def in_unit(self, targets: np.ndarray) -> np.ndarray:
        """Encoded targets (N,) in the user's unit."""
        result: np.ndarray = targets.astype(np.float64) * self.deviation + self.mean
        return result

    def describe(self) -> str:
        """Mean and deviation of the target."""
        return f"a number, mean {self.mean:.4g}, deviation {self.deviation:.4g}"

    def state(self) -> dict[str, Any]:
        """Mean and deviation."""
        return {"mean": self.mean, "deviation": self.deviation}

    @classmethod
    def from_state(cls, name: str, state: Mapping[str, Any], settings: HeadSettings) -> Self:  # noqa: ARG003
        """The head that `state()` described."""
        return cls(name, float(state["mean"]), float(state["deviation"]))
