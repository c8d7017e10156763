"""Metrics of several labels: against scikit-learn, with missing cells, and where nothing is defined."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn import metrics as reference

from recurra.errors import DataError, EmptyData
from recurra.metrics import label_metrics, per_label
from recurra.metrics.labels import predicted_labels

CLOSE = {"rel": 1e-12, "abs": 1e-12}  # sums of at most 2,000 doubles in another order


def rows(n: int = 400, labels: int = 5) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(1)
    targets = (random.random((n, labels)) < 0.3).astype(np.int64)
    return np.clip(0.2 + 0.5 * targets + random.normal(scale=0.25, size=targets.shape), 0.01, 0.99), targets


def test_metrics_equal_scikit_learn() -> None:
    probabilities, targets = rows()
    predictions = predicted_labels(probabilities)
    flat = np.stack([1 - probabilities.ravel(), probabilities.ravel()], axis=1)
    assert label_metrics(probabilities, targets) == pytest.approx(
        {
            "micro_f1": reference.f1_score(targets, predictions, average="micro"),
            "macro_f1": reference.f1_score(targets, predictions, average="macro"),
            "micro_precision": reference.precision_score(targets, predictions, average="micro"),
            "micro_recall": reference.recall_score(targets, predictions, average="micro"),
            "subset_accuracy": reference.accuracy_score(targets, predictions),
            "hamming_loss": reference.hamming_loss(targets, predictions),
            "log_loss": reference.log_loss(targets.ravel(), flat),
        },
        **CLOSE,
    )


def test_threshold_is_reached_not_passed() -> None:
    assert predicted_labels(np.array([[0.5, 0.49]])).tolist() == [[1, 0]]
    targets = np.array([[1, 0]])
    assert label_metrics(np.array([[0.4, 0.1]]), targets, threshold=0.4)["subset_accuracy"] == 1.0


def test_missing_cells_count_nowhere() -> None:
    probabilities, targets = rows()
    holes = targets.copy()
    holes[:, 2] = -1  # a whole label is missing: as if it were not there
    expected = label_metrics(np.delete(probabilities, 2, axis=1), np.delete(targets, 2, axis=1))
    assert label_metrics(probabilities, holes) == pytest.approx(expected, **CLOSE)


def test_per_label_equals_scikit_learn() -> None:
    probabilities, targets = rows()
    predictions = predicted_labels(probabilities)
    _, recall, f1, support = reference.precision_recall_fscore_support(targets, predictions)
    found = per_label(predictions, targets, list("abcde"))
    assert [found[name]["recall"] for name in "abcde"] == pytest.approx(recall.tolist(), **CLOSE)
    assert [found[name]["f1"] for name in "abcde"] == pytest.approx(f1.tolist(), **CLOSE)
    assert [found[name]["support"] for name in "abcde"] == support.tolist()


def test_no_label_anywhere_leaves_f1_out() -> None:
    found = label_metrics(np.full((3, 2), 0.1), np.zeros((3, 2), dtype=np.int64))
    assert set(found) == {"subset_accuracy", "hamming_loss", "log_loss"}
    assert found["subset_accuracy"] == 1.0


def test_bad_input() -> None:
    with pytest.raises(EmptyData, match="known labels"):
        label_metrics(np.full((2, 2), 0.5), np.full((2, 2), -1))
    with pytest.raises(DataError, match="NaN"):
        label_metrics(np.array([[np.nan, 0.5]]), np.array([[1, 0]]))
    with pytest.raises(ValueError, match=r"\(2, 2\) and \(2, 3\)"):
        label_metrics(np.full((2, 2), 0.5), np.zeros((2, 3), dtype=np.int64))
