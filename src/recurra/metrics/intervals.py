"""Percentile bootstrap intervals over rows, for every metric that is a function of sums over rows.

The N rows are drawn N times with replacement, the metric is computed for each such resample, and the interval spans the middle share
(the confidence) of the values. It says how far the figure would move with another test part of the same size; it says nothing of
another seed of the training.

Two exact short cuts keep it fast. Metrics of counts (accuracy, F1) draw the cells of the confusion matrix from a multinomial
distribution, which is what drawing rows comes to, at a cost that does not grow with N. All others are products of the
resamples' row counts with per-row contributions. Calibration error and ROC area have no interval here: the bootstrap of the first is
biased upwards, the second is no function of sums.

Source: Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, section 13.3.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import numpy as np

from recurra.metrics.classification import f_scores, known_rows, true_class_losses
from recurra.metrics.regression import known_numbers
from recurra.shapes import Float, Int

__all__ = [
    "Intervals",
    "bootstrap",
    "classification_intervals",
    "label_intervals",
    "prediction_intervals",
    "regression_intervals",
]

Intervals = dict[str, tuple[float, float]]
"""Lower and upper bound by name of the metric."""

_CELLS = 4_000_000
"""Most numbers of one block of resamples held at a time (32 MB)."""


def bootstrap(
    metric: Callable[[Float[np.ndarray, "S N"]], Mapping[str, np.ndarray]],
    n: int,
    *,
    block: int = 1,
    samples: int = 1_000,
    confidence: float = 0.95,
    seed: int = 0,
) -> Intervals:
    """Bootstrap intervals of metrics of n rows.

    Args:
        metric: from (S, N) counts of how often each row was drawn in each of S resamples, to (S,) values by name.
            A value may be NaN where a resample leaves it undefined.
        n: rows.
        block: neighbouring rows that are drawn together, the last one being the first one's neighbour: for rows that depend on each other.
        samples: resamples; 0 returns no interval.
        confidence: share of the resamples' values that the interval spans.
        seed: of the draws.

    Returns:
        (low, high) by name; a metric undefined in more than half of the resamples is left out.
    """
    if not samples or not n:
        return {}
    blocks = [metric(counts) for counts in _row_counts(n, block=block, samples=samples, seed=seed)]
    return _percentiles({name: np.concatenate([block[name] for block in blocks]) for name in blocks[0]}, confidence)


def prediction_intervals(
    predictions: Int[np.ndarray, " N"], targets: Int[np.ndarray, " N"], *, samples: int = 1_000, confidence: float = 0.95, seed: int = 0
) -> Intervals:
    """Intervals of `accuracy`, `macro_f1` and `weighted_f1` from predicted classes; rows with target -1 are left out."""
    known = targets >= 0
    predictions, targets = predictions[known].astype(np.int64), targets[known].astype(np.int64)
    if not samples or not len(targets):
        return {}
    size = int(max(predictions.max(), targets.max())) + 1
    cells, counts = np.unique(targets * size + predictions, return_counts=True)
    random = np.random.default_rng(seed)
    block = max(1, min(samples, _CELLS // len(cells)))
    values = [
        _count_metrics(
            random.multinomial(len(targets), counts / len(targets), size=min(block, samples - start)), cells // size, cells % size
        )
        for start in range(0, samples, block)
    ]
    return _percentiles({name: np.concatenate([value[name] for value in values]) for name in values[0]}, confidence)


def classification_intervals(
    probabilities: Float[np.ndarray, "N C"],
    targets: Int[np.ndarray, " N"],
    *,
    samples: int = 1_000,
    confidence: float = 0.95,
    seed: int = 0,
) -> Intervals:
    """Intervals of `accuracy`, `macro_f1`, `weighted_f1` and `log_loss`. Raises as `classification_metrics` does."""
    probabilities, targets = known_rows(probabilities, targets)
    losses = true_class_losses(probabilities, targets)
    intervals = prediction_intervals(probabilities.argmax(axis=1), targets, samples=samples, confidence=confidence, seed=seed)
    return intervals | bootstrap(
        lambda counts: {"log_loss": counts @ losses / len(losses)}, len(losses), samples=samples, confidence=confidence, seed=seed
    )


def label_intervals(
    predictions: Int[np.ndarray, "N L"], targets: Int[np.ndarray, "N L"], *, samples: int = 1_000, confidence: float = 0.95, seed: int = 0
) -> Intervals:
    """Intervals of `micro_f1`, `macro_f1`, `subset_accuracy` and `hamming_loss` from predicted labels (0 or 1; target -1 missing)."""
    rows = (targets >= 0).any(axis=1)
    metric = label_statistics(predictions[rows], targets[rows])
    return bootstrap(metric, int(rows.sum()), samples=samples, confidence=confidence, seed=seed)


def regression_intervals(
    predictions: Float[np.ndarray, " N"], targets: Float[np.ndarray, " N"], *, samples: int = 1_000, confidence: float = 0.95, seed: int = 0
) -> Intervals:
    """Intervals of `mae`, `rmse` and `r2`. Raises as `regression_metrics` does."""
    predictions, targets = known_numbers(predictions, targets)
    metric = number_statistics(predictions, targets)
    return bootstrap(metric, len(targets), samples=samples, confidence=confidence, seed=seed)


def label_statistics(predictions: np.ndarray, targets: np.ndarray) -> Callable[[np.ndarray], dict[str, np.ndarray]]:
    """The metrics of several labels as a function of how often each row was drawn, for `bootstrap`."""
    from scipy.sparse import csr_matrix

    known, chosen, true = targets >= 0, predictions > 0, targets > 0
    # Labels are sparse: products with sparse matrices cost as much as there are labels set, whatever L is.
    hits, predicted, support = (csr_matrix(cells.astype(np.float64)) for cells in (chosen & true, chosen & known, true))
    wrong = known & (chosen != true)
    errors, cells, right = wrong.sum(axis=1).astype(np.float64), known.sum(axis=1).astype(np.float64), ~wrong.any(axis=1)

    def metric(counts: np.ndarray) -> dict[str, np.ndarray]:
        drawn = [(matrix.T @ counts.T).T for matrix in (hits, predicted, support)]
        sums = [block.sum(axis=1) for block in drawn]
        with np.errstate(invalid="ignore", divide="ignore"):
            micro = 2.0 * sums[0] / (sums[1] + sums[2])
        macro = f_scores(*drawn)[0]
        subset, hamming = counts @ right / counts.sum(axis=1), counts @ errors / (counts @ cells)
        return {"micro_f1": micro, "macro_f1": macro, "subset_accuracy": subset, "hamming_loss": hamming}

    return metric


def number_statistics(predictions: np.ndarray, targets: np.ndarray) -> Callable[[np.ndarray], dict[str, np.ndarray]]:
    """The metrics of a number as a function of how often each row was drawn, for `bootstrap`."""
    centred = targets - targets.mean()  # sums of squares of far-off numbers would lose their digits
    errors = predictions - targets
    columns = np.stack([np.abs(errors), np.square(errors), centred, np.square(centred)], axis=1)

    def metric(counts: np.ndarray) -> dict[str, np.ndarray]:
        absolute, squared, mean, square = (counts @ columns / counts.sum(axis=1, keepdims=True)).T
        variance = square - np.square(mean)
        enough = variance > 1e-12 * max(columns[:, 3].mean(), np.finfo(np.float64).tiny)
        r2 = 1.0 - np.divide(squared, variance, out=np.full_like(squared, np.nan), where=enough)
        return {"mae": absolute, "rmse": np.sqrt(squared), "r2": r2}

    return metric


def _row_counts(n: int, *, block: int, samples: int, seed: int) -> Iterator[np.ndarray]:
    """(S, N) pieces of how often each row is drawn in each resample; the same for every metric of the same n, block and seed."""
    random = np.random.default_rng(seed)
    piece = max(1, min(samples, _CELLS // n))
    for start in range(0, samples, piece):
        size = min(piece, samples - start)
        starts = random.integers(0, n, size=(size, -(-n // block), 1))
        drawn = ((starts + np.arange(block)) % n).reshape(size, -1)[:, :n] + (np.arange(size) * n)[:, None]
        yield np.bincount(drawn.ravel(), minlength=size * n).reshape(size, n).astype(np.float64)


def _count_metrics(counts: np.ndarray, true: np.ndarray, predicted: np.ndarray) -> dict[str, np.ndarray]:
    """(S,) metrics from (S, K) counts of the K occupied cells of a confusion matrix."""
    classes = int(max(true.max(), predicted.max())) + 1
    hits, predictions, support = (np.zeros((len(counts), classes), dtype=np.int64) for _ in range(3))
    diagonal = np.flatnonzero(true == predicted)
    hits[:, true[diagonal]] = counts[:, diagonal]
    for into, key in ((support, true), (predictions, predicted)):
        order = np.argsort(key, kind="stable")
        names, starts = np.unique(key[order], return_index=True)
        into[:, names] = np.add.reduceat(counts[:, order], starts, axis=1)
    macro, weighted = f_scores(hits, predictions, support)
    return {"accuracy": hits.sum(axis=1) / counts.sum(axis=1), "macro_f1": macro, "weighted_f1": weighted}


def _percentiles(values: Mapping[str, np.ndarray], confidence: float) -> Intervals:
    tail = 100.0 * (1.0 - confidence) / 2.0
    defined = {name: value[np.isfinite(value)] for name, value in values.items()}
    bounds = {name: np.percentile(v, [tail, 100.0 - tail]) for name, v in defined.items() if 2 * len(v) > len(values[name])}
    return {name: (float(low), float(high)) for name, (low, high) in bounds.items()}
