"""Bootstrap intervals: the resampled formulas, the theory they must meet, and their speed."""

from __future__ import annotations

import time

import numpy as np
import pytest

from recurra.metrics import (
    bootstrap,
    classification_intervals,
    label_intervals,
    label_metrics,
    prediction_intervals,
    prediction_metrics,
    regression_intervals,
    regression_metrics,
)
from recurra.metrics.intervals import label_statistics, number_statistics


def test_a_mean_has_the_interval_of_theory() -> None:
    values = np.random.default_rng(0).normal(size=2_000)
    low, high = bootstrap(lambda counts: {"mean": counts @ values / 2_000}, 2_000, samples=4_000, seed=1)["mean"]
    error = values.std() / np.sqrt(2_000)
    # The 2.5% quantile of 4,000 draws has a standard error of sqrt(0.025 * 0.975 / 4000) / 0.0584 = 0.042 errors; five of them are allowed.
    assert low == pytest.approx(values.mean() - 1.96 * error, abs=0.21 * error)
    assert high == pytest.approx(values.mean() + 1.96 * error, abs=0.21 * error)


def test_accuracy_has_the_interval_of_the_binomial() -> None:
    targets = np.zeros(1_000, dtype=np.int64)
    predictions = (np.arange(1_000) < 200).astype(np.int64)
    low, high = prediction_intervals(predictions, targets, samples=4_000)["accuracy"]
    error = np.sqrt(0.8 * 0.2 / 1_000)
    # As above, and the binomial's steps of 1/1000 = 0.08 errors.
    assert (low, high) == pytest.approx((0.8 - 1.96 * error, 0.8 + 1.96 * error), abs=0.3 * error)


def test_cells_drawn_are_rows_drawn() -> None:
    """Macro F1 by the multinomial short cut has the interval of drawing the rows themselves."""
    random = np.random.default_rng(2)
    targets = random.choice(6, size=400, p=[0.4, 0.3, 0.2, 0.05, 0.04, 0.01])
    predictions = np.where(random.random(400) < 0.7, targets, random.integers(0, 6, 400))
    found = prediction_intervals(predictions, targets, samples=2_000)
    drawn = [prediction_metrics(predictions[i], targets[i]) for i in random.integers(0, 400, size=(2_000, 400))]
    for name in ("accuracy", "macro_f1", "weighted_f1"):
        values = np.array([record[name] for record in drawn])
        # Two estimates of a quantile, each with a standard error of 0.06 of the spread: five of their difference.
        assert found[name] == pytest.approx(tuple(np.percentile(values, [2.5, 97.5])), abs=5 * 1.5 * 0.06 * values.std())


def test_resampled_formulas_are_those_of_the_metrics() -> None:
    """With every row drawn once, and with some drawn twice, the statistics are the metrics of those rows."""
    random = np.random.default_rng(3)
    labels, guesses = (random.random((2, 60, 4)) < 0.4).astype(np.int64)
    labels[::7, 1] = -1
    numbers = random.normal(size=60) + 1e6  # far from zero: sums of squares must not lose their digits
    near = numbers + random.normal(size=60)
    chosen = random.integers(0, 60, 60)
    counts = np.bincount(chosen, minlength=60)[None].astype(np.float64)
    found = {name: float(value[0]) for name, value in label_statistics(guesses, labels)(counts).items()}
    expected = label_metrics(guesses[chosen].astype(np.float64), labels[chosen])
    assert found == pytest.approx({name: expected[name] for name in found}, rel=1e-12)
    found = {name: float(value[0]) for name, value in number_statistics(near, numbers)(counts).items()}
    # Numbers of 1e6 carry rounding errors of 1e-10 into differences of size 1.
    assert found == pytest.approx(regression_metrics(near[chosen], numbers[chosen]), rel=1e-8)


def test_point_lies_inside_and_confidence_widens() -> None:
    random = np.random.default_rng(4)
    targets = random.integers(0, 3, 300)
    probabilities = random.dirichlet(np.ones(3), 300) * 0.8 + 0.2 * np.eye(3)[targets]
    narrow, wide = (classification_intervals(probabilities, targets, confidence=level) for level in (0.5, 0.99))
    assert set(narrow) == {"accuracy", "macro_f1", "weighted_f1", "log_loss"}
    for name, (low, high) in narrow.items():
        assert wide[name][0] < low < high < wide[name][1]


def test_same_seed_same_interval() -> None:
    targets, predictions = np.random.default_rng(5).integers(0, 3, (2, 200))
    assert prediction_intervals(predictions, targets, seed=7) == prediction_intervals(predictions, targets, seed=7)
    assert prediction_intervals(predictions, targets, seed=7) != prediction_intervals(predictions, targets, seed=8)


def test_none_where_none_can_be() -> None:
    targets = np.array([0, 1, -1])
    assert prediction_intervals(targets, targets, samples=0) == {}
    assert prediction_intervals(targets, np.full(3, -1)) == {}
    assert regression_intervals(np.ones(4), np.array([1.0, np.nan, 1.0, 1.0])) == {"mae": (0.0, 0.0), "rmse": (0.0, 0.0)}
    assert "micro_f1" not in label_intervals(np.zeros((4, 2), dtype=np.int64), np.zeros((4, 2), dtype=np.int64))


def test_one_row() -> None:
    assert prediction_intervals(np.array([1]), np.array([1]))["accuracy"] == (1.0, 1.0)


@pytest.mark.parametrize("classes", [4, 150])
def test_fast_enough(classes: int) -> None:
    random = np.random.default_rng(6)
    targets = random.integers(0, classes, 7_600)
    probabilities = random.dirichlet(np.ones(classes), 7_600).astype(np.float32) * 0.9 + 0.1 * np.eye(classes, dtype=np.float32)[targets]
    started = time.process_time()
    intervals = classification_intervals(probabilities, targets, samples=1_000)
    assert len(intervals) == 4
    assert time.process_time() - started < 2.0
