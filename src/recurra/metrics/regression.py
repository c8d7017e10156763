"""Metrics of a number. Rows whose target is missing (NaN) are left out. Not inside: intervals (`intervals`)."""

from __future__ import annotations

import numpy as np

from recurra.errors import DataError, EmptyData
from recurra.shapes import Float

__all__ = ["known_numbers", "regression_metrics"]


def regression_metrics(predictions: Float[np.ndarray, " N"], targets: Float[np.ndarray, " N"]) -> dict[str, float]:
    """Metrics of N predicted numbers.

    Args:
        predictions: (N,) in the target's unit.
        targets: (N,), NaN where missing (the row is left out).

    Returns:
        `mae` (mean absolute error) and `rmse` (root of the mean squared error), both in the target's unit; `r2` (1 minus the squared
        error over that of the mean of these rows), left out when the targets are all the same.

    Raises:
        EmptyData: no row has a target.
        DataError: a prediction is NaN or infinite.
    """
    predictions, targets = known_numbers(predictions, targets)
    errors = predictions - targets
    metrics = {"mae": float(np.abs(errors).mean()), "rmse": float(np.sqrt(np.square(errors).mean()))}
    if targets.min() < targets.max():
        metrics["r2"] = float(1.0 - np.square(errors).sum() / np.square(targets - targets.mean()).sum())
    return metrics


def known_numbers(
    predictions: Float[np.ndarray, " N"], targets: Float[np.ndarray, " N"]
) -> tuple[Float[np.ndarray, " K"], Float[np.ndarray, " K"]]:
    """The rows that have a target, in double precision. Raises as `regression_metrics` says."""
    if predictions.ndim != 1 or predictions.shape != targets.shape:
        raise ValueError(f"Predictions and targets must both be (N,), not {predictions.shape} and {targets.shape}.")
    known = np.isfinite(targets)
    predictions, targets = predictions[known].astype(np.float64), targets[known].astype(np.float64)
    if not len(targets):
        raise EmptyData("There is no row with a known number to measure on: give rows whose target is set.")
    bad = ~np.isfinite(predictions)
    if bad.any():
        raise DataError(
            f"{int(bad.sum())} of {len(bad)} predictions are NaN or infinite (the first is row {int(bad.argmax())}). "
            "The model has diverged: train again with a smaller learning rate or a smaller training.clip_norm."
        )
    return predictions, targets
