"""Rows that belong to none of the classes: learnt as a class, or told by a threshold that is chosen on validation rows."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

import recurra
from jobs import SMALL
from recurra.config import OutOfScopeSettings, load_settings
from recurra.errors import DataError, RecurraError, SettingsError
from recurra.heads import ClassifyHead
from recurra.heads.out_of_scope import choose_threshold, scope_metrics
from recurra.model.load import load

WORDS = {"card": ["card", "lost", "stolen"], "money": ["transfer", "money", "late"], "oos": ["weather", "song", "joke", "moon"]}
LEARN: dict[str, Any] = {**SMALL, "out_of_scope.label": "oos", "training.epochs": 6, "optimizer.learning_rate": 0.03}


def rows(count: int, seed: int = 0, *, kinds: tuple[str, ...] = ("card", "money", "oos")) -> list[dict[str, str]]:
    draw = random.Random(seed)
    return [{"text": " ".join(["my", *draw.choices(WORDS[kind], k=3)]), "intent": kind} for kind in draw.choices(kinds, k=count)]


def train(known: bool = True, **changes: Any) -> Any:
    kinds = ("card", "money", "oos") if known else ("card", "money")
    chosen = {**LEARN, **{key.replace("__", "."): value for key, value in changes.items()}}
    return recurra.train(rows(90, kinds=kinds), target="intent", validation=rows(30, 1, kinds=kinds), test=rows(30, 2), settings=chosen)


@given(st.lists(st.tuples(st.integers(0, 20), st.booleans(), st.booleans()), min_size=1, max_size=12))
def test_no_threshold_has_more_right_answers(cases: list[tuple[int, bool, bool]]) -> None:
    best = np.array([case[0] / 20 for case in cases])
    right, outside = (np.array([case[place] for case in cases]) for place in (1, 2))
    if not outside.any():
        outside[0] = True

    def count(threshold: float) -> int:
        return int(np.where(outside, best < threshold, right & (best >= threshold)).sum())

    best = 0.9 * best  # no softmax is 1 where it must say that a row belongs to nothing
    chosen = choose_threshold(best, right, outside, keep=0.9)
    assert count(chosen) == max(count(threshold) for threshold in [0.0, *(best + 1e-9)])


def test_without_known_rows_a_share_stays() -> None:
    best = np.linspace(0.01, 1.0, 100)
    threshold = choose_threshold(best, np.ones(100, np.bool_), np.zeros(100, np.bool_), keep=0.8)
    assert (best >= threshold).mean() == pytest.approx(0.8, abs=0.01)


def test_metrics_count_by_hand() -> None:
    found = scope_metrics(np.array([0, 2, 1, 2, 0, 1]), np.array([0, 0, 1, 2, 2, -1]), 2)
    assert found == {"in_scope_accuracy": 2 / 3, "out_of_scope_recall": 0.5, "out_of_scope_precision": 0.5}
    assert "out_of_scope_recall" not in scope_metrics(np.array([0, 1]), np.array([0, 1]), 2)


@pytest.mark.parametrize("by", ["class", "threshold"])
def test_both_ways_tell_what_is_out_of_scope(by: str, tmp_path: Path) -> None:
    model = train(out_of_scope__by=by)
    table = rows(60, 5)
    found = model.evaluate(table)
    assert found["in_scope_accuracy"] > 0.8
    assert found["out_of_scope_recall"] > 0.8
    said = model.predict(table)["label"].to_list()
    assert found["accuracy"] == pytest.approx(np.mean([one == row["intent"] for one, row in zip(said, table, strict=True)]))
    inside = [one == row["intent"] for one, row in zip(said, table, strict=True) if row["intent"] != "oos"]
    assert found["in_scope_accuracy"] == pytest.approx(np.mean(inside))
    model.save(tmp_path / "model")
    again = load(tmp_path / "model")
    assert again.predict(table).equals(model.predict(table))
    assert "'oos'" in (tmp_path / "model" / "README.md").read_text()
    assert model.evaluate(rows(5, kinds=("oos",)))["rows"] == 5


def test_unknown_rows_are_told_apart_without_any_in_training() -> None:
    model = train(known=False)
    assert model.head.out_of_scope.by == "threshold"
    assert model.evaluate(rows(60, 5))["out_of_scope_recall"] > 0.5
    assert model.predict("my card lost stolen", top=2)["top_labels"].to_list() == [["card", "money"]]


CHANGES: dict[str, tuple[Any, dict[str, Any]]] = {
    "label": (None, {}),
    "by": ("threshold", {}),
    "keep": (0.5, {"out_of_scope.by": "threshold"}),
}


@pytest.mark.parametrize("name", CHANGES)
def test_every_setting_matters(name: str) -> None:
    value, base = CHANGES[name]
    table = rows(40, 7)
    known = name != "keep"
    before, after = train(known, **base), train(known, **{**base, f"out_of_scope.{name}": value})
    assert before.head.state() != after.head.state()
    assert len(before.predict(table)) == len(after.predict(table)) == 40


def test_every_setting_of_the_group_has_an_entry() -> None:
    assert set(CHANGES) == set(OutOfScopeSettings.model_fields)


def test_labels_that_are_numbers_take_a_number() -> None:
    settings = load_settings({"out_of_scope": {"label": -1, "by": "threshold"}})
    head = ClassifyHead.fit("y", [pl.Series([1, 2, 1, -1])], settings)
    assert head.encode(pl.Series([2, -1, None])).tolist() == [1, 2, -1]
    head.settle(np.array([[3.0, 0.0], [0.0, 3.0], [0.1, 0.0]]), np.array([0, 1, 2]))
    assert head.predict(np.array([[3.0, 0.0], [0.0, 0.1]]))["label"].to_list() == [1, -1]


@pytest.mark.parametrize(
    ("values", "settings", "kind", "told"),
    [
        (["a", "b"], {"label": "oos", "by": "class"}, SettingsError, "no training row has"),
        (["a", "oos"], {"label": "oos", "by": "threshold"}, DataError, "hold 1 class"),
        ([1, 2], {"label": "oos"}, SettingsError, "whole number"),
    ],
)
def test_what_cannot_be_is_told(values: list[Any], settings: dict[str, Any], kind: type[RecurraError], told: str) -> None:
    with pytest.raises(kind, match=told):
        ClassifyHead.fit("y", [pl.Series(values)], load_settings({"out_of_scope": settings}))


def test_a_threshold_needs_validation_rows() -> None:
    with pytest.raises(SettingsError, match="chooses its threshold on validation rows"):
        recurra.train(
            rows(30),
            target="intent",
            settings={**LEARN, "out_of_scope.by": "threshold", "data.validation_share": 0.0, "data.test_share": 0.0},
        )


def test_other_tasks_refuse_it() -> None:
    table = [{"text": row["text"], "price": 1.5 * number} for number, row in enumerate(rows(20))]
    with pytest.raises(SettingsError, match="out_of_scope"):
        recurra.train(table, target="price", settings=LEARN)


def test_an_estimator_refuses_it() -> None:
    from recurra.estimators import RecurrentClassifier

    with pytest.raises(SettingsError, match="one of the classes of y"):
        RecurrentClassifier(settings={"out_of_scope.label": "oos"}).fit(["a b", "c d"] * 5, ["x", "y"] * 5)
