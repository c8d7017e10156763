"""Metrics of several labels at once (multi-label classification).

A label is predicted where its probability reaches the threshold. A target of -1 is missing: that cell counts nowhere.
Not inside: intervals (`intervals`).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from recurra.errors import EmptyData
from recurra.metrics.classification import check_probabilities, class_figures, f_scores
from recurra.shapes import Float, Int

__all__ = ["label_metrics", "label_prediction_metrics", "per_label", "predicted_labels"]


def label_metrics(probabilities: Float[np.ndarray, "N L"], targets: Int[np.ndarray, "N L"], *, threshold: float = 0.5) -> dict[str, float]:
    """All metrics of several labels.

    Args:
        probabilities: (N, L), each between 0 and 1 on its own.
        targets: (N, L), 1 where the row has the label, 0 where not, -1 where missing.
        threshold: a label is predicted where its probability is at least this.

    Returns:
        Those of `label_prediction_metrics`, and `log_loss`: binary cross entropy, mean over the known cells (natural logarithm).

    Raises:
        EmptyData: no row has a known label.
        DataError: a probability is NaN or outside 0 to 1.
    """
    _check(probabilities, targets)
    check_probabilities(probabilities)
    metrics = label_prediction_metrics(predicted_labels(probabilities, threshold=threshold), targets)
    known = targets >= 0
    chosen = np.where(targets > 0, probabilities, 1.0 - probabilities)[known].astype(np.float64)
    metrics["log_loss"] = float(-np.log(np.clip(chosen, 1e-15, 1.0)).mean())
    return metrics


def label_prediction_metrics(predictions: Int[np.ndarray, "N L"], targets: Int[np.ndarray, "N L"]) -> dict[str, float]:
    """The metrics that need no probabilities.

    Returns:
        `subset_accuracy` (all labels of a row right) and `hamming_loss` (share of wrong cells); `micro_f1`, `macro_f1` (mean over the
        labels that occur in targets or predictions) where any label occurs; `micro_precision` where any was predicted, `micro_recall`
        where any row has one.

    Raises:
        EmptyData: no row has a known label.
    """
    _check(predictions, targets)
    hits, predicted, support = label_counts(predictions, targets)
    known = targets >= 0
    wrong = known & ((predictions > 0) != (targets > 0))
    rows = known.any(axis=1)
    metrics = {"subset_accuracy": float(1.0 - wrong[rows].any(axis=1).mean()), "hamming_loss": float(wrong.sum() / known.sum())}
    total = class_figures(float(hits.sum()), float(predicted.sum()), float(support.sum()))
    metrics |= {f"micro_{name}": total[name] for name in ("f1", "precision", "recall") if name in total}
    if "f1" in total:
        metrics["macro_f1"] = float(f_scores(hits[None], predicted[None], support[None])[0][0])
    return metrics


def per_label(predictions: Int[np.ndarray, "N L"], targets: Int[np.ndarray, "N L"], names: Sequence[str]) -> dict[str, dict[str, float]]:
    """Precision, recall, F1 and support by label; see `recurra.metrics.per_class` for what is left out when."""
    counts = [values.tolist() for values in label_counts(predictions, targets)]
    return {name: class_figures(*figures) for name, *figures in zip(names, *counts, strict=True)}


def predicted_labels(probabilities: Float[np.ndarray, "N L"], *, threshold: float = 0.5) -> Int[np.ndarray, "N L"]:
    """1 where a label's probability reaches the threshold, else 0."""
    return (probabilities >= threshold).astype(np.int8)


def label_counts(predictions: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(L,) hits, predicted and true cells by label, over the known cells."""
    known, chosen, true = targets >= 0, predictions > 0, targets > 0
    return (chosen & true).sum(axis=0), (chosen & known).sum(axis=0), true.sum(axis=0)


def _check(values: np.ndarray, targets: np.ndarray) -> None:
    if values.ndim != 2 or values.shape != targets.shape:
        raise ValueError(f"Predictions and targets must both be (N, L), not {values.shape} and {targets.shape}.")
    if not (targets >= 0).any():
        raise EmptyData("There is no row with known labels to measure on: give rows whose target is set.")
