"""From tables to encoded columns: what is inferred, left out, split, counted and cached."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from jobs import SMALL, csv, rows
from recurra.config import load_settings
from recurra.data.read import read
from recurra.data.split import Part
from recurra.errors import DataError, EmptyData, MissingColumn, RowError, SettingsError
from recurra.training.rows import Rows
from recurra.training.tables.plan import make_plan
from recurra.training.tables.prepare import Prepared, prepare


def prepared(data: Any, target: str | None = "label", *, validation: Any = None, test: Any = None, **settings: Any) -> Prepared:
    chosen = load_settings(
        SMALL, {name.replace("__", "."): value for name, value in settings.items()}, {"target": target} if target else None
    )
    options: dict[str, Any] = {"on_error": chosen.data.on_error, "join": chosen.data.join}
    tables = [(read(data, **options), None)]
    tables += [(read(given, **options), part) for given, part in ((validation, Part.VALIDATION), (test, Part.TEST)) if given is not None]
    return prepare(tables, make_plan(tables, chosen))


def test_columns_and_task_are_inferred_with_reasons() -> None:
    plan = prepared(rows()).plan
    types = {column.name: column.type for column in plan.columns}
    assert types == {
        "title": "text", "text": "text", "category": "category", "price": "number", "who": "category",
        "day": "ignore", "topics": "category", "stars": "number",
    }  # fmt: skip
    assert (plan.task, plan.settings.head.task) == ("classify", "classify")
    assert all(column.reason for column in plan.columns)
    assert plan.targets[0].reason


@pytest.mark.parametrize(("target", "task"), [("label", "classify"), ("topics", "labels"), ("stars", "regress")])
def test_targets_are_encoded_for_their_task(target: str, task: str) -> None:
    found = prepared(rows(), target, data__columns=["text"])
    assert found.plan.task == task
    assert found.targets.shape == ((60, 5) if task == "labels" else (60,))
    assert found.facts.rows == {"train": 48, "validation": 6, "test": 6}
    assert np.bincount(found.parts).tolist() == [48, 6, 6]


def test_every_row_is_encoded_in_its_place() -> None:
    table = rows()
    found = prepared(table, data__columns=["text", "price"])
    feature = next(feature for feature in found.features if feature.name == "text")
    for row in (0, 17, 59):
        np.testing.assert_array_equal(found.inputs["text"][row], feature.encode(pl.Series([table[row]["text"]]))[0])
    assert len(found.inputs["price"]) == 60


def test_the_vocabulary_is_fitted_on_training_rows_only() -> None:
    table = [{**row, "text": f"{row['text']} only{number}"} for number, row in enumerate(rows())]
    found = prepared(table, data__columns=["text"])
    known = {int(token[4:]) for token in found.features[0].tokenizer.tokens if token.startswith("only")}
    assert known == set(found.part(Part.TRAIN).tolist())


def test_cached_equals_fresh_and_the_key_holds_what_matters(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("RECURRA_CACHE", str(tmp_path))
    table = rows()
    first, again = prepared(table), prepared(table)
    entries = lambda: len(list((tmp_path / "encoded-1").iterdir()))  # noqa: E731
    assert entries() == 1
    np.testing.assert_array_equal(first.inputs["text"].values, again.inputs["text"].values)
    assert first.facts == again.facts
    prepared(table, encoder__hidden_size=7, training__epochs=5, head__class_weights="balanced")
    assert entries() == 1
    changes: list[dict[str, Any]] = [
        {"text__lowercase": False}, {"data__test_share": 0.2}, {"training__seed": 1}, {"data__columns": ["text"]},
        {"data__types": {"price": "category"}},
    ]  # fmt: skip
    for change in changes:
        prepared(table, **change)
    prepared(table[:-1])
    assert entries() == 2 + len(changes)


def test_given_parts_are_kept_and_only_the_rest_is_held_out() -> None:
    found = prepared(rows(40), validation=rows(10, seed=1), data__columns=["text"])
    assert found.facts.rows == {"train": 36, "validation": 10, "test": 4}
    np.testing.assert_array_equal(found.part(Part.VALIDATION), np.arange(40, 50))
    found = prepared(rows(40), validation=rows(10, seed=1), test=rows(8, seed=2), data__columns=["text"])
    assert found.facts.rows == {"train": 40, "validation": 10, "test": 8}


def test_groups_stay_together_and_time_goes_forward() -> None:
    table = rows()
    groups = prepared(table, data__group="who", data__columns=["text"])
    by_group: dict[str, set[int]] = {}
    for row, part in zip(table, groups.parts.tolist(), strict=True):
        by_group.setdefault(row["who"], set()).add(part)
    assert all(len(parts) == 1 for parts in by_group.values())
    times = prepared(table, data__time="day", data__columns=["text"])
    days = [max(table[row]["day"] for row in times.part(part)) for part in Part]
    assert days == sorted(days)
    assert min(table[row]["day"] for row in times.part(Part.TEST)) > days[Part.VALIDATION]


def test_overlap_is_counted() -> None:
    table = rows(40)
    found = prepared(table, test=[*table[:3], *rows(5, seed=9)], data__columns=["title", "text", "price"])
    assert found.facts.overlap["test"] == 3


def test_rows_without_target_are_dropped_or_named(tmp_path: Path) -> None:
    table = [{**row, "label": "" if number in (3, 50) else row["label"]} for number, row in enumerate(rows())]
    found = prepared(table, data__columns=["text"])
    assert found.facts.left_out == {"no target": 2}
    assert sum(found.facts.rows.values()) == 58
    assert found.parts[[3, 50]].tolist() == [-1, -1]
    file = csv(tmp_path / "a.csv", table)
    with pytest.raises(RowError, match=r"a\.csv:5: the target is missing.*data\.missing_targets=drop") as error:
        prepared(file, data__missing_targets="fail")
    assert (error.value.source, error.value.line) == (str(file), 5)


@pytest.mark.parametrize("missing", [None, float("nan")])
def test_missing_numbers_of_a_target(missing: float | None) -> None:
    table = [{**row, "stars": missing if number % 10 == 0 else row["stars"]} for number, row in enumerate(rows())]
    found = prepared(table, "stars", data__columns=["text"])
    assert found.facts.left_out == {"no target": 6}


def test_ignored_classes_are_left_out_and_ignored_labels_not_learnt() -> None:
    table = [{**row, "label": "?" if number % 6 == 0 else row["label"]} for number, row in enumerate(rows())]
    found = prepared(table, data__columns=["text"], data__ignore_labels=["?"])
    assert found.facts.left_out == {"ignored label": 10}
    assert found.head.labels.names == ("neg", "pos")
    found = prepared(rows(), "topics", data__columns=["text"], data__ignore_labels=["cheap"])
    assert found.facts.left_out == {}
    assert found.head.labels.names == ("book", "dear", "film", "game")


def test_rows_that_cannot_be_read_or_used_are_skipped_and_counted(tmp_path: Path) -> None:
    file = csv(tmp_path / "a.csv", rows())
    file.write_bytes(
        file.read_bytes() + b"one,two\n" + b"x,y z,film,many,u,2024-01-01,pos,a,1.5\n" + b"caf\xe9,y,film,2,u,2024-01-01,pos,a,1\n"
    )
    types = {"price": "number", "stars": "number"}
    with pytest.raises(RowError, match=r"a\.csv:62: the row has 2 fields.*--on-error skip"):
        prepared(file, data__types=types)
    found = prepared(file, data__on_error="skip", data__types=types)
    assert found.facts.left_out == {"unreadable": 2, "unusable value": 1}
    assert sum(found.facts.rows.values()) == 60
    file.write_text(
        "".join(
            line
            for number, line in enumerate(file.read_bytes().decode(errors="replace").splitlines(keepends=True))
            if number not in (61, 63)
        )
    )
    with pytest.raises(
        RowError, match=r"a\.csv:62: 'many' in column 'price' is not a number between.*--on-error skip.*--type price=category"
    ):
        prepared(file, data__types=types)


def test_labels_of_a_given_part_that_training_lacks() -> None:
    test = [{**row, "label": "poss"} for row in rows(3)]
    with pytest.raises(RowError, match=r"'poss' in column 'label' is none of the 2 labels.*Did you mean 'pos'.*--on-error skip"):
        prepared(rows(), test=test)
    found = prepared(rows(), test=[*test, *rows(2, seed=5)], data__on_error="skip")
    assert found.facts.left_out == {"unusable value": 3}
    assert found.facts.rows["test"] == 2


@pytest.mark.parametrize(
    "names", [("parts", "row"), ("target", "target:label"), ("label.x", "input:text"), ("index", "recurra:row"), ("training", "forward")]
)
def test_column_names_never_meet_ours(names: tuple[str, str]) -> None:
    table = [{names[0]: row["text"], names[1]: row["price"], "label": row["label"]} for row in rows()]
    found = prepared(table)
    assert {feature.name: feature.type for feature in found.features} == {names[0]: "text", names[1]: "number"}
    assert found.targets.tolist()[:2] == [1, 0]


def test_joined_columns_are_one_text_and_their_parts_none() -> None:
    found = prepared(rows(), data__join={"both": ["title", "text"]})
    types = {column.name: column.type for column in found.plan.columns}
    assert (types["both"], types["title"], types["text"]) == ("text", "ignore", "ignore")
    row = rows()[0]
    feature = next(feature for feature in found.features if feature.name == "both")
    np.testing.assert_array_equal(found.inputs["both"][0], feature.encode(pl.Series([f"{row['title']} {row['text']}"]))[0])


def test_gathered_rows_come_in_order_with_their_places(tmp_path: Path) -> None:
    first, second = csv(tmp_path / "a.csv", rows(30)), csv(tmp_path / "b.csv", rows(10, seed=1))
    table = Rows([(read(first), None), (read(second), Part.TEST)])
    wanted = np.array([2, 29, 30, 39])
    assert table.gather(wanted, ["text"])["text"].to_list() == [(rows(30) + rows(10, seed=1))[row]["text"] for row in wanted]
    assert table.places(wanted, "text") == [f"{first}:4", f"{first}:31", f"{second}:2", f"{second}:11"]


BAD: dict[str, tuple[list[dict[str, Any]], dict[str, Any], type[Exception], str]] = {
    "no target named": (rows(), {"target": None}, SettingsError, "No target is named.*--task language.*Columns: title, text"),
    "misspelt target": (rows(), {"target": "lable"}, MissingColumn, "no column 'lable'.*Did you mean 'label'"),
    "misspelt group": (rows(), {"data__group": "whom"}, MissingColumn, "Did you mean 'who'"),
    "misspelt type": (rows(), {"data__types": {"txt": "text"}}, MissingColumn, "Did you mean 'text'"),
    "misspelt join": (rows(), {"data__join": {"both": ["titel", "text"]}}, MissingColumn, "Did you mean 'title'"),
    "target also input": (rows(), {"data__columns": ["text", "label"]}, DataError, "cannot be an input too"),
    "target joined in": (rows(), {"data__join": {"both": ["text", "label"]}}, DataError, "cannot be an input too.*'both'"),
    "one class": ([{**row, "label": "pos"} for row in rows()], {}, DataError, "only one class, 'pos'"),
    "no target at all": ([{**row, "label": None} for row in rows()], {}, EmptyData, "missing in every row"),
    "all classes ignored": (rows(), {"data__ignore_labels": ["pos", "neg"]}, EmptyData, "No row is left.*60 for 'ignored label'"),
    "one class left": (rows(), {"data__ignore_labels": ["pos"]}, DataError, "only the class 'neg'.*data.ignore_labels"),
    "empty texts": ([{"text": " ", "label": row["label"]} for row in rows()], {"data__types": {"text": "text"}}, EmptyData, "'text': All texts.*--type text=ignore"),
    "only the target": ([{"label": row["label"]} for row in rows()], {}, DataError, "left to learn from"),
    "three rows": (rows(3), {"data__columns": ["text"]}, DataError, "too few to hold out"),
    "a row a class": ([{"text": f"a b{n}", "label": f"c{n}"} for n in range(12)], {}, DataError, "every class must keep a row"),
    "too rare tokens": ([{"text": f"a{n}", "label": "xy"[n % 2]} for n in range(9)], {"text__min_frequency": 2, "data__types": {"text": "text"}}, EmptyData, "text.min_frequency=1"),
    "constant number": ([{**row, "stars": 3.0 if n < 59 else 2.5} for n, row in enumerate(rows())], {"target": "stars", "data__time": "day"}, DataError, "All training rows.*hold 3"),
    "weights of no class": (rows(), {"head__class_weights": {"poz": 2.0}}, SettingsError, "Did you mean 'pos'"),
    "lists as a class": ([{**row, "label": [row["label"]]} for row in rows()], {"head__task": "classify"}, DataError, "'label' holds lists.*labels.*tag"),
    "words as a number": (rows(), {"head__task": "regress"}, DataError, "hold no number in column 'label'"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_data_that_make_no_task_are_refused_with_advice(name: str) -> None:
    table, options, error, message = BAD[name]
    with pytest.raises(error, match=f"(?s){message}"):
        prepared(table, **options)


@pytest.mark.parametrize("count", [2, 3])
def test_very_few_rows_train_when_nothing_is_held_out(count: int) -> None:
    found = prepared(rows(count), data__columns=["text"], data__validation_share=0.0, data__test_share=0.0)
    assert found.facts.rows == {"train": count}
