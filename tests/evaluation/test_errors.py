"""The errors worth reading: order, limit, and that only the chosen rows are described."""

from __future__ import annotations

import numpy as np

from recurra.evaluation.errors import confident_errors, confident_label_errors, largest_errors


def test_confident_errors() -> None:
    probabilities = np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4], [0.99, 0.01], [0.5, 0.5]])
    targets = np.array([1, 1, 1, -1, 1])
    asked = []

    def describe(row: int) -> tuple[str, str]:
        asked.append(row)
        return f"test.csv:{row + 2}", f"text {row}"

    found = confident_errors(probabilities, targets, ["no", "yes"], describe, limit=2)
    assert [(error.row, error.true, error.predicted, error.score) for error in found] == [
        ("test.csv:2", "yes", "no", 0.9),
        ("test.csv:4", "yes", "no", 0.6),
    ]
    assert asked == [0, 2]
    assert confident_errors(probabilities, np.full(5, -1), ["no", "yes"], describe) == []


def test_confident_label_errors() -> None:
    probabilities = np.array([[0.9, 0.2], [0.05, 0.1], [0.6, 0.4]])
    targets = np.array([[1, 0], [1, 0], [0, -1]])
    found = confident_label_errors(probabilities, targets, ["a", "b"], lambda row: (str(row), ""))
    assert [(error.row, error.true, error.predicted, round(error.score, 6)) for error in found] == [
        ("1", "a", "(none)", 0.95),
        ("2", "(none)", "a", 0.6),
    ]


def test_largest_errors() -> None:
    found = largest_errors(np.array([1.0, 5.0, 2.0, 0.0]), np.array([1.0, 2.0, np.nan, 4.5]), lambda row: (str(row), "x"))
    assert [(error.row, error.true, error.predicted, error.score) for error in found] == [("3", "4.5", "0", -4.5), ("1", "2", "5", 3.0)]
