"""Heads: targets, losses, predictions and metrics of a task."""

from __future__ import annotations

import json

import numpy as np
import polars as pl
import pytest
import torch

from recurra.config import load_settings
from recurra.errors import DataError, SettingsError
from recurra.heads import HEADS, ClassifyHead, Head, LabelsHead, RegressHead

TARGETS = {
    "classify": pl.Series(["spam", "ham", "ham", "eggs"]),
    "labels": pl.Series(["a,b", "b", "", "c, a"]),
    "regress": pl.Series([1.0, 2.0, 4.0, -3.0]),
}


def fitted(task: str, **settings: object) -> Head:
    return HEADS[task].fit(
        "y", [TARGETS[task][:1], TARGETS[task][1:]], load_settings({f"head.{name}": value for name, value in settings.items()})
    )


@pytest.mark.parametrize("task", TARGETS)
def test_json_brings_the_head_back(task: str) -> None:
    head = fitted(task)
    again = type(head).from_state("y", json.loads(json.dumps(head.state())), load_settings().head)
    np.testing.assert_array_equal(again.encode(TARGETS[task]), head.encode(TARGETS[task]))
    outputs = np.random.default_rng(0).normal(size=(4, head.output_size)).astype(np.float32)
    assert again.predict(outputs).equals(head.predict(outputs))


@pytest.mark.parametrize("task", TARGETS)
def test_a_row_without_target_brings_no_loss(task: str) -> None:
    head = fitted(task)
    outputs = torch.randn(4, head.output_size, dtype=torch.float64, requires_grad=True)
    targets = torch.from_numpy(np.concatenate([head.encode(TARGETS[task]), head.encode(TARGETS[task].clear(1).cast(TARGETS[task].dtype))]))
    with_missing = head.loss(torch.cat([outputs, torch.full((1, head.output_size), 7.0)]), targets)
    assert torch.equal(with_missing, head.loss(outputs, targets[:4]))
    nothing = head.loss(outputs, targets[4:].expand(4, *targets.shape[1:]))
    assert nothing.item() == 0.0
    nothing.backward()
    assert torch.equal(outputs.grad, torch.zeros_like(outputs))


def test_cross_entropy_is_torchs() -> None:
    head = fitted("classify", label_smoothing=0.1, class_weights="balanced")
    assert isinstance(head, ClassifyHead)
    outputs, targets = torch.randn(4, 3, dtype=torch.float64), torch.from_numpy(head.encode(TARGETS["classify"]))
    expected = torch.nn.functional.cross_entropy(
        outputs, targets, weight=torch.tensor([4 / 3, 2 / 3, 4 / 3], dtype=torch.float64), label_smoothing=0.1
    )
    torch.testing.assert_close(head.loss(outputs, targets), expected)


def test_class_weights_by_name_and_their_misspelling() -> None:
    head = fitted("classify", class_weights={"spam": 5.0})
    assert isinstance(head, ClassifyHead)
    assert head.weights.tolist() == [1.0, 1.0, 5.0]
    with pytest.raises(SettingsError, match="Did you mean 'spam'"):
        fitted("classify", class_weights={"sapm": 5.0})


def test_labels_smoothing_and_weights_change_the_loss() -> None:
    outputs = torch.randn(4, 3)
    losses = {
        fitted("labels", **options).loss(outputs, torch.from_numpy(fitted("labels").encode(TARGETS["labels"]))).item()
        for options in ({}, {"label_smoothing": 0.2}, {"class_weights": {"a": 3.0}}, {"class_weights": "balanced"})
    }
    assert len(losses) == 4


@pytest.mark.parametrize(("values", "kind"), [([3, 10, 2, 3], int), ([True, False, True, True], bool), (["b", "a", "b", "b"], str)])
def test_predictions_have_the_type_of_the_column(values: list[object], kind: type) -> None:
    head = ClassifyHead.fit("y", [pl.Series(values)], load_settings())
    outputs = np.eye(head.output_size, dtype=np.float32)[head.encode(pl.Series(values))]
    labels = head.predict(outputs)["label"].to_list()
    assert labels == values
    assert all(type(label) is kind for label in labels)


def test_integers_are_sorted_as_numbers() -> None:
    assert ClassifyHead.fit("y", [pl.Series([10, 9, 2])], load_settings()).labels.names == ("2", "9", "10")


def test_top_labels_are_sorted_and_sum_to_one_when_all() -> None:
    head = fitted("classify")
    table = head.predict(np.array([[0.0, 2.0, 1.0]], np.float32), top=3)
    assert table["top_labels"].to_list() == [["ham", "spam", "eggs"]]
    assert sum(table["top_probabilities"][0]) == pytest.approx(1.0, rel=1e-12)
    assert head.predict(np.array([[0.0, 2.0, 1.0]], np.float32), top=99)["top_labels"].to_list() == [["ham", "spam", "eggs"]]


def test_unknown_labels_are_problems_with_the_nearest_name() -> None:
    assert fitted("classify").problems(pl.Series(["ham", "hm", None, " spam "])).keys() == {1}
    assert "Did you mean 'ham'" in fitted("classify").problems(pl.Series(["hm"]))[0]
    assert fitted("labels").problems(pl.Series(["a,b", "a,x", None])).keys() == {1}
    assert fitted("regress").problems(pl.Series(["1", "x", None, "nan"])).keys() == {1}


def test_ignored_labels() -> None:
    assert ClassifyHead.ignored(pl.Series(["a", " b ", None]), ["b"]).to_list() == [False, True, False]
    head = LabelsHead.fit("y", [TARGETS["labels"]], load_settings({"data.ignore_labels": ["b"]}))
    assert head.labels.names == ("a", "c")
    np.testing.assert_array_equal(head.encode(pl.Series(["a,b", "b"])), [[1, 0], [0, 0]])
    assert not head.problems(pl.Series(["a,b"]))


@pytest.mark.parametrize(
    ("task", "values", "message"),
    [
        ("classify", ["a", "a"], "only the class 'a'"),
        ("classify", [None, None], "no class at all"),
        ("labels", ["", " , "], "No row has a label"),
        ("regress", [2.0, 2.0], "nothing to learn"),
        ("regress", [None, None], "no number"),
    ],
)
def test_targets_that_make_no_task(task: str, values: list[object], message: str) -> None:
    with pytest.raises(DataError, match=message):
        HEADS[task].fit("y", [pl.Series(values, dtype=pl.String if task != "regress" else pl.Float64)], load_settings())


def test_regression_predicts_in_the_users_unit() -> None:
    head = fitted("regress")
    assert isinstance(head, RegressHead)
    encoded = head.encode(TARGETS["regress"])
    # Targets are held in float32: their rounding times the deviation bounds the way back.
    np.testing.assert_allclose(head.predict(encoded[:, None])["value"], TARGETS["regress"], atol=2**-23 * 4)
    metrics = head.metrics(encoded[:, None], encoded)
    assert metrics["rmse"] == pytest.approx(0.0, abs=1e-6)
    with pytest.raises(SettingsError, match="predicts a number"):
        head.predict(encoded[:, None], top=2)
    with pytest.raises(SettingsError, match="for classes"):
        fitted("regress", label_smoothing=0.1)


def test_booleans_are_known_however_a_spreadsheet_writes_them() -> None:
    head = ClassifyHead.fit("y", [pl.Series([True, False])], load_settings())
    assert not head.problems(pl.Series(["True", "FALSE", "true"]))
    np.testing.assert_array_equal(head.encode(pl.Series(["True", "FALSE", "true"])), [1, 0, 1])
