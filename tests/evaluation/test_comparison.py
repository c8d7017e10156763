"""The paired comparison: its sign, its verdict, and that it sees what separate intervals do not."""

from __future__ import annotations

import numpy as np
import pytest

from recurra.config import EvaluationSettings
from recurra.evaluation.comparison import compare
from recurra.metrics import prediction_intervals


def test_pairing_sees_what_separate_intervals_do_not() -> None:
    targets = np.zeros(1_000, dtype=np.int64)
    baseline = (np.arange(1_000) < 200).astype(np.int64)  # wrong on 200 rows
    model = (np.arange(1_000) < 180).astype(np.int64)  # right on 20 of those, never worse
    found = compare("classify", model, baseline, targets)
    assert found is not None
    assert found.gain == pytest.approx(0.02)
    assert found.verdict == "better"
    first, second = (prediction_intervals(predictions, targets)["accuracy"] for predictions in (model, baseline))
    assert first[0] < second[1]  # the two intervals overlap
    swapped = compare("classify", baseline, model, targets)
    assert swapped is not None
    assert swapped.verdict == "worse"
    assert (swapped.gain, swapped.low, swapped.high) == pytest.approx((-found.gain, -found.high, -found.low))


def test_equal_predictions_are_even() -> None:
    targets = np.array([0, 1, 1, -1])
    found = compare("classify", targets, targets, targets)
    assert found is not None
    assert (found.gain, found.low, found.high, found.verdict) == (0.0, 0.0, 0.0, "even")


def test_a_lower_error_is_a_gain() -> None:
    random = np.random.default_rng(0)
    targets = random.normal(size=300)
    found = compare("regress", targets + 0.1 * random.normal(size=300), targets + random.normal(size=300), np.append(targets[:-1], np.nan))
    assert found is not None
    assert found.metric == "rmse"
    assert 0.7 < found.low < found.gain < found.high < 1.1  # the errors' deviations are 0.1 and 1, known to 4% each


def test_labels() -> None:
    random = np.random.default_rng(0)
    targets = (random.random((200, 4)) < 0.4).astype(np.int64)
    found = compare("labels", targets, 1 - targets, targets)
    assert found is not None
    assert (found.metric, found.gain, found.verdict) == ("micro_f1", 1.0, "better")


def test_none_where_nothing_can_be_said() -> None:
    targets = np.array([0, 1])
    assert compare("classify", targets, targets, np.array([-1, -1])) is None
    assert compare("classify", targets, targets, targets, settings=EvaluationSettings(bootstrap_samples=0)) is None
    empty = np.zeros((3, 2), dtype=np.int64)
    assert compare("labels", empty, empty, empty) is None
