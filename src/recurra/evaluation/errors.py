"""The mistakes worth reading: the rows a model got wrong with the most confidence."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from recurra.evaluation.results import ErrorExample
from recurra.metrics.classification import known_rows
from recurra.shapes import Float, Int

__all__ = ["confident_errors", "confident_label_errors", "largest_errors"]

Describe = Callable[[int], tuple[str, str]]
"""From the number of a row to where it stands ("test.csv:17") and its text. Called for the chosen rows only."""


def confident_errors(
    probabilities: Float[np.ndarray, "N C"], targets: Int[np.ndarray, " N"], classes: Sequence[str], describe: Describe, *, limit: int = 20
) -> list[ErrorExample]:
    """The wrongly classified rows, the most confident first; rows without a target (-1) are passed over."""
    numbers = np.flatnonzero(targets >= 0)
    if not len(numbers):
        return []
    probabilities, targets = known_rows(probabilities, targets)
    predictions, confidence = probabilities.argmax(axis=1), probabilities.max(axis=1)
    wrong = np.flatnonzero(predictions != targets)
    chosen = wrong[np.argsort(-confidence[wrong], kind="stable")][:limit]
    return [
        ErrorExample(*describe(int(numbers[i])), classes[targets[i]], classes[predictions[i]], float(confidence[i]))
        for i in chosen.tolist()
    ]


def confident_label_errors(
    probabilities: Float[np.ndarray, "N L"], targets: Int[np.ndarray, "N L"], labels: Sequence[str], describe: Describe, *, limit: int = 20
) -> list[ErrorExample]:
    """The rows with the most confidently wrong label: set against a probability near 1, or not set against one near 0.

    The score is the probability the model gave to its wrong answer on that label.
    """
    gap = np.where(targets < 0, 0.0, np.where(targets > 0, 1.0 - probabilities, probabilities))
    worst = gap.max(axis=1, initial=0.0)
    chosen = [i for i in np.argsort(-worst, kind="stable")[:limit].tolist() if worst[i] > 0.5]

    def named(cells: np.ndarray) -> str:
        return ", ".join(labels[j] for j in np.flatnonzero(cells).tolist()) or "(none)"

    return [ErrorExample(*describe(i), named(targets[i] > 0), named(probabilities[i] >= 0.5), float(worst[i])) for i in chosen]


def largest_errors(
    predictions: Float[np.ndarray, " N"], targets: Float[np.ndarray, " N"], describe: Describe, *, limit: int = 20
) -> list[ErrorExample]:
    """The rows whose number is furthest off, the worst first; the score is predicted minus true, in the target's unit."""
    errors = np.where(np.isfinite(targets), predictions - targets, 0.0)
    chosen = np.argsort(-np.abs(errors), kind="stable")[:limit].tolist()
    return [ErrorExample(*describe(i), f"{targets[i]:.6g}", f"{predictions[i]:.6g}", float(errors[i])) for i in chosen if errors[i] != 0]
