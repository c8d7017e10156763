"""Rows that belong to none of the classes: what is said of them, from which probability on, and how well it is said."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Self

import numpy as np

from recurra.metrics.intervals import bootstrap
from recurra.shapes import Bool, Float, Int

__all__ = ["OutOfScope", "choose_threshold", "scope_intervals", "scope_metrics"]


@dataclass(frozen=True)
class OutOfScope:
    """What a classifier says of rows that belong to none of its classes.

    Attributes:
        label: what is said.
        by: "class": it is one of the classes that were learnt. "threshold": it is said where no class is probable enough.
        keep: share of the validation rows that stay in scope where none is known to be out of it.
        threshold: probability under which the best class is not believed; None before it was chosen, and for "class".
    """

    label: str
    by: Literal["class", "threshold"]
    keep: float
    threshold: float | None = None

    def state(self) -> dict[str, Any]:
        """As JSON values."""
        return {"label": self.label, "by": self.by, "keep": self.keep, "threshold": self.threshold}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Self:
        """What `state()` described."""
        return cls(state["label"], state["by"], state["keep"], state["threshold"])


def choose_threshold(
    best: Float[np.ndarray, " N"], right: Bool[np.ndarray, " N"], outside: Bool[np.ndarray, " N"], *, keep: float
) -> float:
    """The probability under which the best class is not believed.

    Where rows out of scope are among the given, the threshold with most right answers: in-scope rows that stay and have the right
    class, and rows out of scope that do not stay; of equally good ones the lowest. Else the one that leaves a share of the rows.

    Args:
        best: probability of each row's most probable class.
        right: whether that class is the row's.
        outside: whether the row is out of scope.
        keep: share of the rows that stay, where none is out of scope.

    Source: Larson et al. 2019, An Evaluation Dataset for Intent Classification and Out-of-Scope Prediction, section 4 (oos-threshold).
    """
    if not outside.any():
        return float(np.quantile(best, 1.0 - keep))
    order = np.argsort(best, kind="stable")
    best, right, outside = best[order], right[order] & ~outside[order], outside[order]
    refused = np.concatenate([[0], np.cumsum(outside)])
    answered = right.sum() - np.concatenate([[0], np.cumsum(right)])
    gains = (refused + answered).astype(np.float64)
    gains[1:-1][best[1:] == best[:-1]] = -1.0  # no threshold lies between equal probabilities
    count = int(gains.argmax())
    below = best[count - 1] if count else 0.0
    above = best[count] if count < len(best) else 1.0
    return float((below + above) / 2.0)


def scope_metrics(predicted: Int[np.ndarray, " N"], targets: Int[np.ndarray, " N"], outside: int) -> dict[str, float]:
    """In-scope accuracy, and recall and precision of what is out of scope; each where there are rows that it speaks of.

    Args:
        predicted: classes.
        targets: true classes; rows with -1 are left out.
        outside: number of the class that stands for none of the others.
    """
    known = targets >= 0
    found = _statistics(predicted[known], targets[known], outside)(np.ones((1, int(known.sum()))))
    return {name: float(values[0]) for name, values in found.items() if np.isfinite(values[0])}


def scope_intervals(
    predicted: Int[np.ndarray, " N"], targets: Int[np.ndarray, " N"], outside: int, *, samples: int, confidence: float, seed: int
) -> dict[str, tuple[float, float]]:
    """Bootstrap intervals of `scope_metrics`."""
    known = targets >= 0
    metric = _statistics(predicted[known], targets[known], outside)
    return bootstrap(metric, int(known.sum()), samples=samples, confidence=confidence, seed=seed)


def _statistics(predicted: np.ndarray, targets: np.ndarray, outside: int) -> Any:
    inside, said = targets != outside, predicted == outside
    right = predicted == targets

    def metric(counts: np.ndarray) -> dict[str, np.ndarray]:
        with np.errstate(invalid="ignore", divide="ignore"):
            return {
                "in_scope_accuracy": counts @ (right & inside) / (counts @ inside),
                "out_of_scope_recall": counts @ (right & ~inside) / (counts @ ~inside),
                "out_of_scope_precision": counts @ (right & ~inside) / (counts @ said),
            }

    return metric
