"""Metrics of one class out of C: from predicted classes, and from their probabilities.

Inside: accuracy, F1, log loss, calibration, ROC, the confusion matrix and its per-class figures.
Not inside: intervals (`intervals`), several labels at once (`labels`).
Rows whose target is missing (-1) are left out everywhere.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from recurra.errors import DataError, EmptyData
from recurra.shapes import Float, Int

__all__ = [
    "classification_metrics",
    "confusion",
    "f_scores",
    "known_rows",
    "per_class",
    "prediction_metrics",
    "reliability",
    "roc_curves",
    "true_class_losses",
]

_SMALLEST_PROBABILITY = 1e-15
"""A true class given no probability at all costs -log of this (34.5), so that one such row does not make the mean infinite."""


def classification_metrics(probabilities: Float[np.ndarray, "N C"], targets: Int[np.ndarray, " N"]) -> dict[str, float]:
    """All metrics of one class out of C.

    Args:
        probabilities: (N, C), rows sum to 1.
        targets: (N,) true classes 0..C-1; -1 where missing (the row is left out).

    Returns:
        `accuracy`, `macro_f1`, `weighted_f1`, `log_loss` (natural logarithm), `calibration_error` (0 to 1); `top_3_accuracy`
        where C > 3; `roc_auc` (macro, one class against the rest) where C > 1 and every class has rows and non-rows.

    Raises:
        EmptyData: no row has a target.
        DataError: a probability is NaN or outside 0 to 1.
        ValueError: the shapes do not agree, or a target is not one of the C classes.
    """
    probabilities, targets = known_rows(probabilities, targets)
    metrics = prediction_metrics(probabilities.argmax(axis=1), targets)
    metrics["log_loss"] = float(true_class_losses(probabilities, targets).mean())
    metrics["calibration_error"] = _calibration_error(reliability(probabilities, targets))
    if probabilities.shape[1] > 3:
        best = np.argsort(-probabilities, axis=1, kind="stable")[:, :3]
        metrics["top_3_accuracy"] = float((best == targets[:, None]).any(axis=1).mean())
    area = _roc_auc(probabilities, targets)
    if area is not None:
        metrics["roc_auc"] = area
    return metrics


def prediction_metrics(predictions: Int[np.ndarray, " N"], targets: Int[np.ndarray, " N"]) -> dict[str, float]:
    """The metrics that need no probabilities: `accuracy`, `macro_f1`, `weighted_f1`.

    F1 is averaged over the classes that stand in the targets or the predictions, as scikit-learn does:
    `macro_f1` gives each of them the same weight, `weighted_f1` its share of the targets.

    Raises:
        EmptyData: no row has a target.
    """
    known = targets >= 0
    predictions, targets = predictions[known], targets[known]
    if not len(targets):
        raise EmptyData("There is no row with a known class to measure on: give rows whose target is one of the model's classes.")
    size = int(max(predictions.max(), targets.max())) + 1
    hits = np.bincount(targets[predictions == targets], minlength=size)
    predicted, support = np.bincount(predictions, minlength=size), np.bincount(targets, minlength=size)
    macro, weighted = f_scores(hits[None], predicted[None], support[None])
    return {"accuracy": float(hits.sum() / len(targets)), "macro_f1": float(macro[0]), "weighted_f1": float(weighted[0])}


def f_scores(hits: np.ndarray, predicted: np.ndarray, support: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Macro and weighted F1 of S sets of counts at once (a set is the test part, or one resample of it).

    Args:
        hits: (S, C) rows of a class that were predicted as that class.
        predicted: (S, C) rows predicted as a class.
        support: (S, C) rows of a class.

    Returns:
        (S,) macro F1 and (S,) weighted F1; NaN where no class occurs at all.
    """
    total = np.asarray(predicted + support, dtype=np.float64)
    scores = np.divide(2.0 * hits, total, out=np.zeros_like(total), where=total > 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        macro = scores.sum(axis=1) / (total > 0).sum(axis=1)
        weighted = (scores * support).sum(axis=1) / support.sum(axis=1)
    return macro, weighted


def confusion(predictions: Int[np.ndarray, " N"], targets: Int[np.ndarray, " N"], *, classes: int) -> Int[np.ndarray, "C C"]:
    """Rows counted by true class (first axis) and predicted class (second axis)."""
    known = targets >= 0
    cells = targets[known].astype(np.int64) * classes + predictions[known]
    return np.bincount(cells, minlength=classes * classes).reshape(classes, classes)


def per_class(counts: Int[np.ndarray, "C C"], names: Sequence[str]) -> dict[str, dict[str, float]]:
    """Precision, recall, F1 and support by class, from the confusion matrix.

    Args:
        counts: (C, C) true by predicted, as `confusion` returns.
        names: the C classes.

    Returns:
        By class: `support` (rows of the class) and `predicted` (rows predicted as it), always; `precision` where the class was
        predicted, `recall` where it has rows, `f1` where either holds.
    """
    hits, predicted, support = counts.diagonal(), counts.sum(axis=0), counts.sum(axis=1)
    return {
        name: class_figures(*figures) for name, *figures in zip(names, hits.tolist(), predicted.tolist(), support.tolist(), strict=True)
    }


def class_figures(hits: float, predicted: float, support: float) -> dict[str, float]:
    """Precision, recall and F1 of one class or label from its counts; what is undefined is left out."""
    figures: dict[str, float] = {}
    if predicted:
        figures["precision"] = hits / predicted
    if support:
        figures["recall"] = hits / support
    if predicted or support:
        figures["f1"] = 2 * hits / (predicted + support)
    return {**figures, "support": support, "predicted": predicted}


def reliability(probabilities: Float[np.ndarray, "N C"], targets: Int[np.ndarray, " N"], *, bins: int = 15) -> list[dict[str, float]]:
    """How often the model is right at each level of confidence: the reliability diagram.

    The confidence of a row is the probability of its predicted class. Bins have equal width over 0 to 1, closed on the right.

    Returns:
        One record for each bin that holds rows: `low`, `high` (its bounds), `confidence` (mean), `accuracy`, `count`.

    Source: Guo et al., "On Calibration of Modern Neural Networks", 2017, section 2.
    """
    probabilities, targets = known_rows(probabilities, targets)
    confidence = probabilities.max(axis=1).astype(np.float64)
    right = probabilities.argmax(axis=1) == targets
    place = np.clip(np.ceil(confidence * bins).astype(np.int64) - 1, 0, bins - 1)
    count = np.bincount(place, minlength=bins)
    sums = np.bincount(place, weights=confidence, minlength=bins), np.bincount(place, weights=right, minlength=bins)
    return [
        {
            "low": index / bins,
            "high": (index + 1) / bins,
            "confidence": float(sums[0][index] / count[index]),
            "accuracy": float(sums[1][index] / count[index]),
            "count": int(count[index]),
        }
        for index in np.flatnonzero(count).tolist()
    ]


def roc_curves(
    probabilities: Float[np.ndarray, "N C"], targets: Int[np.ndarray, " N"], names: Sequence[str], *, points: int = 200
) -> dict[str, list[tuple[float, float]]]:
    """ROC curves, one class against the rest, thinned to at most `points` corners each.

    Of two classes only the second gets a curve (the other is its mirror image). A class without rows, or with all rows, has none.

    Returns:
        By class, (false positive rate, true positive rate) from (0, 0) to (1, 1).
    """
    from sklearn.metrics import roc_curve

    probabilities, targets = known_rows(probabilities, targets)
    curves: dict[str, list[tuple[float, float]]] = {}
    for index in range(len(names)) if len(names) > 2 else range(1, len(names)):
        positive = targets == index
        if positive.all() or not positive.any():
            continue
        false_rate, true_rate, _ = roc_curve(positive, probabilities[:, index])
        keep = np.unique(np.linspace(0, len(false_rate) - 1, min(points, len(false_rate))).round().astype(np.int64))
        curves[names[index]] = list(zip(false_rate[keep].tolist(), true_rate[keep].tolist(), strict=True))
    return curves


def true_class_losses(probabilities: Float[np.ndarray, "N C"], targets: Int[np.ndarray, " N"]) -> Float[np.ndarray, " N"]:
    """Each row's log loss, -log of the probability of its true class (nats)."""
    chosen = probabilities[np.arange(len(targets)), targets].astype(np.float64)
    losses: np.ndarray = -np.log(np.clip(chosen, _SMALLEST_PROBABILITY, 1.0))
    return losses


def known_rows(
    probabilities: Float[np.ndarray, "N C"], targets: Int[np.ndarray, " N"]
) -> tuple[Float[np.ndarray, "K C"], Int[np.ndarray, " K"]]:
    """The rows that have a target, checked. Raises as `classification_metrics` says."""
    if probabilities.ndim != 2 or len(probabilities) != len(targets):
        raise ValueError(f"probabilities must be (N, C) and targets (N,), not {probabilities.shape} and {targets.shape}.")
    known = targets >= 0
    if not known.all():
        probabilities, targets = probabilities[known], targets[known]
    if not len(targets):
        raise EmptyData("There is no row with a known class to measure on: give rows whose target is one of the model's classes.")
    if targets.max() >= probabilities.shape[1]:
        raise ValueError(f"A target is class {targets.max()}, but there are probabilities for {probabilities.shape[1]} classes only.")
    check_probabilities(probabilities)
    return probabilities, targets


def check_probabilities(probabilities: np.ndarray) -> None:
    """Raises DataError where a probability is NaN or outside 0 to 1 (by more than half precision's rounding)."""
    bad = np.asarray(~((probabilities >= -1e-3) & (probabilities <= 1 + 1e-3)).all(axis=1))
    if bad.any():
        raise DataError(
            f"{int(bad.sum())} of {len(bad)} rows have probabilities that are NaN or outside 0 to 1 (the first is row {int(bad.argmax())}). "
            "The model has diverged or its outputs are not probabilities: train again with a smaller learning rate, or apply softmax first."
        )


def _calibration_error(bins: Sequence[dict[str, float]]) -> float:
    """Expected calibration error: mean gap between confidence and accuracy, weighted by the rows of a bin.

    Source: Guo et al. 2017, equation 3; 15 bins of equal width.
    """
    gaps = sum(record["count"] * abs(record["confidence"] - record["accuracy"]) for record in bins)
    return float(gaps / sum(record["count"] for record in bins))


def _roc_auc(probabilities: np.ndarray, targets: np.ndarray) -> float | None:
    """Area under the ROC curve, mean over the classes of one against the rest; None where a class has no rows, or all."""
    from scipy.stats import rankdata

    names, support = np.unique(targets, return_counts=True)
    classes = probabilities.shape[1]
    if classes < 2 or len(names) < classes:
        return None
    # Mann and Whitney's statistic: the ranks of a class's own rows say how many others they beat, ties count half.
    ranks = rankdata(probabilities, axis=0)
    own = np.bincount(targets, weights=ranks[np.arange(len(targets)), targets], minlength=classes)
    areas = (own - support * (support + 1) / 2) / (support * (len(targets) - support))
    return float(areas[1] if classes == 2 else areas.mean())
