"""What an evaluation yields, as plain data: the metrics of one model, and a row it got wrong. Nothing is computed here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

__all__ = ["MAIN_METRIC", "ErrorExample", "Result", "Task"]

Task = Literal["classify", "labels", "regress", "forecast", "language", "recommend", "tag", "token", "several", "translate", "answer"]

MAIN_METRIC: Mapping[Task, str] = {
    "classify": "accuracy",
    "labels": "micro_f1",
    "regress": "rmse",
    "forecast": "mase",
    "language": "perplexity",
    "recommend": "recall_at_20",
    "tag": "f1",
    "token": "token_accuracy",
    "answer": "f1",
    "several": "score",
    "translate": "bleu",
}
"""The metric that headlines a task, selects its model and decides whether the network pays."""


@dataclass(frozen=True)
class Result:
    """The metrics of one model (the network or a baseline) on one part.

    Attributes:
        name: how the report calls it.
        description: what it is, in half a sentence.
        metrics: by name.
        intervals: (low, high) by name of the metric, where there are any.
        seconds: time its training took, where known.
    """

    name: str
    description: str
    metrics: Mapping[str, float]
    intervals: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    seconds: float | None = None


@dataclass(frozen=True)
class ErrorExample:
    """A row the model got wrong.

    Attributes:
        row: where it stands, such as "test.csv:17", or its number.
        text: its input; the report cuts it.
        true: what it is.
        predicted: what the model said.
        score: probability of what the model said (0 to 1); for numbers the error, in the target's unit.
    """

    row: str
    text: str
    true: str
    predicted: str
    score: float
