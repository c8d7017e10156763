"""Metrics of one class: against scikit-learn, and on the cases scikit-learn warns about."""

from __future__ import annotations

import json

import numpy as np
import pytest
from sklearn import metrics as reference

from recurra.errors import DataError, EmptyData
from recurra.metrics import classification_metrics, confusion, per_class, prediction_metrics, reliability, roc_curves

# Both sides compute the same sums of at most 500 doubles in another order: 500 rounding errors of 1e-16, far below this.
CLOSE = {"rel": 1e-12, "abs": 1e-12}


def rows(classes: int, n: int = 500, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    targets = random.integers(0, classes, n)
    scores = random.normal(size=(n, classes)) + 2.0 * (targets[:, None] == np.arange(classes))
    probabilities = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    return probabilities, targets


@pytest.mark.parametrize("classes", [2, 3, 4, 30])
def test_metrics_equal_scikit_learn(classes: int) -> None:
    probabilities, targets = rows(classes)
    predictions = probabilities.argmax(axis=1)
    found = classification_metrics(probabilities, targets)
    expected = {
        "accuracy": reference.accuracy_score(targets, predictions),
        "macro_f1": reference.f1_score(targets, predictions, average="macro"),
        "weighted_f1": reference.f1_score(targets, predictions, average="weighted"),
        "log_loss": reference.log_loss(targets, probabilities, labels=range(classes)),
        "roc_auc": reference.roc_auc_score(targets, probabilities[:, 1])
        if classes == 2
        else reference.roc_auc_score(targets, probabilities, multi_class="ovr"),
    }
    if classes > 3:
        expected["top_3_accuracy"] = reference.top_k_accuracy_score(targets, probabilities, k=3)
    assert {name: found[name] for name in expected} == pytest.approx(expected, **CLOSE)
    assert set(found) == {*expected, "calibration_error"}


def test_ties_count_half_in_the_roc_area() -> None:
    probabilities, targets = rows(3)
    rounded = probabilities.round(1)
    found = classification_metrics(rounded, targets)["roc_auc"]
    expected = np.mean([reference.roc_auc_score(targets == c, rounded[:, c]) for c in range(3)])
    assert found == pytest.approx(expected, **CLOSE)


def test_per_class_equals_scikit_learn() -> None:
    probabilities, targets = rows(5)
    predictions = probabilities.argmax(axis=1)
    counts = confusion(predictions, targets, classes=5)
    np.testing.assert_array_equal(counts, reference.confusion_matrix(targets, predictions))
    found = per_class(counts, "abcde")
    precision, recall, f1, support = reference.precision_recall_fscore_support(targets, predictions)
    for i, name in enumerate("abcde"):
        assert found[name] == pytest.approx(
            {"precision": precision[i], "recall": recall[i], "f1": f1[i], "support": support[i], "predicted": (predictions == i).sum()},
            **CLOSE,
        )


def test_undefined_figures_of_a_class_are_left_out() -> None:
    counts = np.array([[2, 0, 1], [0, 0, 0], [0, 0, 0]])  # class 1 neither occurs nor is predicted; class 2 is only predicted
    figures = per_class(counts, ["a", "b", "c"])
    assert figures["b"] == {"support": 0, "predicted": 0}
    assert figures["c"] == {"precision": 0.0, "f1": 0.0, "support": 0, "predicted": 1}


def test_calibration_error_by_hand() -> None:
    # Bins of 1/15: confidence 0.6 (two rows, one right) and 0.9 (two rows, both right): (2 * 0.1 + 2 * 0.1) / 4.
    probabilities = np.array([[0.6, 0.4], [0.6, 0.4], [0.1, 0.9], [0.9, 0.1]])
    targets = np.array([0, 1, 1, 0])
    assert classification_metrics(probabilities, targets)["calibration_error"] == pytest.approx(0.1, **CLOSE)
    bins = reliability(probabilities, targets)
    assert [(record["count"], record["accuracy"]) for record in bins] == [(2, 0.5), (2, 1.0)]
    assert all(record["low"] < record["confidence"] <= record["high"] + 1e-12 for record in bins)


def test_missing_targets_are_left_out() -> None:
    probabilities, targets = rows(4)
    holes = targets.copy()
    holes[::3] = -1
    kept = holes >= 0
    assert classification_metrics(probabilities, holes) == classification_metrics(probabilities[kept], targets[kept])


def test_classes_missing_from_the_part() -> None:
    probabilities, targets = rows(6)
    some = targets < 3
    found = classification_metrics(probabilities[some], targets[some])
    assert "roc_auc" not in found
    assert found["accuracy"] == reference.accuracy_score(targets[some], probabilities[some].argmax(axis=1))


def test_one_class_only() -> None:
    found = classification_metrics(np.ones((5, 1)), np.zeros(5, dtype=np.int64))
    assert found == {"accuracy": 1.0, "macro_f1": 1.0, "weighted_f1": 1.0, "log_loss": 0.0, "calibration_error": 0.0}


def test_a_certain_mistake_is_finite() -> None:
    found = classification_metrics(np.array([[1.0, 0.0]]), np.array([1]))
    assert found["log_loss"] == pytest.approx(-np.log(1e-15))
    assert all(np.isfinite(value) for value in found.values())


def test_constant_probabilities_do_not_win_top_3() -> None:
    targets = np.arange(10)
    assert classification_metrics(np.full((10, 10), 0.1), targets)["top_3_accuracy"] == pytest.approx(0.3)


def test_values_are_plain_floats() -> None:
    probabilities, targets = rows(4)
    found = classification_metrics(probabilities.astype(np.float32), targets.astype(np.int32))
    assert json.loads(json.dumps(found)) == found
    assert {type(value) for value in found.values()} == {float}


@pytest.mark.parametrize("targets", [np.array([], dtype=np.int64), np.array([-1, -1])])
def test_nothing_to_measure(targets: np.ndarray) -> None:
    with pytest.raises(EmptyData, match="no row with a known class"):
        classification_metrics(np.full((len(targets), 2), 0.5), targets)
    with pytest.raises(EmptyData):
        prediction_metrics(targets, targets)


@pytest.mark.parametrize("bad", [np.nan, -0.5, 3.0])
def test_what_is_no_probability_is_named(bad: float) -> None:
    probabilities = np.full((4, 2), 0.5)
    probabilities[2, 1] = bad
    with pytest.raises(DataError, match=r"1 of 4 rows .*the first is row 2"):
        classification_metrics(probabilities, np.zeros(4, dtype=np.int64))


def test_shapes_that_do_not_agree() -> None:
    with pytest.raises(ValueError, match=r"\(3, 2\) and \(4,\)"):
        classification_metrics(np.full((3, 2), 0.5), np.zeros(4, dtype=np.int64))
    with pytest.raises(ValueError, match="class 2, but there are probabilities for 2 classes"):
        classification_metrics(np.full((1, 2), 0.5), np.array([2]))


def test_roc_curves() -> None:
    probabilities, targets = rows(3)
    curves = roc_curves(probabilities, targets, ["a", "b", "c"], points=50)
    assert list(curves) == ["a", "b", "c"]
    for curve in curves.values():
        assert len(curve) <= 50
        assert (curve[0], curve[-1]) == ((0.0, 0.0), (1.0, 1.0))
        assert curve == sorted(curve)
    assert list(roc_curves(*rows(2), ["no", "yes"])) == ["yes"]
    assert list(roc_curves(probabilities, np.where(targets == 2, 1, targets), ["a", "b", "c"])) == ["a", "b"]
