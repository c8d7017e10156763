"""Metrics of a number: against scikit-learn, and where they are not defined."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn import metrics as reference

from recurra.errors import DataError, EmptyData
from recurra.metrics import regression_metrics

CLOSE = {"rel": 1e-12}  # sums of 300 doubles in another order


def test_metrics_equal_scikit_learn() -> None:
    random = np.random.default_rng(0)
    targets = random.normal(size=300) * 3 + 10
    predictions = targets + random.normal(size=300)
    assert regression_metrics(predictions, targets) == pytest.approx(
        {
            "mae": reference.mean_absolute_error(targets, predictions),
            "rmse": reference.root_mean_squared_error(targets, predictions),
            "r2": reference.r2_score(targets, predictions),
        },
        **CLOSE,
    )
    holes = np.where(np.arange(300) % 3 == 0, np.nan, targets)
    kept = np.isfinite(holes)
    assert regression_metrics(predictions, holes) == regression_metrics(predictions[kept], targets[kept])


def test_r2_of_a_constant_target_is_left_out() -> None:
    assert regression_metrics(np.array([1.0, 3.0]), np.array([2.0, 2.0])) == {"mae": 1.0, "rmse": 1.0}
    assert regression_metrics(np.array([1.0]), np.array([2.0])) == {"mae": 1.0, "rmse": 1.0}


def test_bad_input() -> None:
    with pytest.raises(EmptyData, match="known number"):
        regression_metrics(np.array([1.0]), np.array([np.nan]))
    with pytest.raises(DataError, match=r"1 of 2 predictions .*the first is row 1"):
        regression_metrics(np.array([1.0, np.inf]), np.array([1.0, 2.0]))
    with pytest.raises(ValueError, match=r"\(1,\) and \(2,\)"):
        regression_metrics(np.array([1.0]), np.array([1.0, 2.0]))
