"""What columns and targets are taken for."""

from __future__ import annotations

import datetime as dt

import numpy as np
import polars as pl
import pytest

from recurra.config import DataSettings
from recurra.data.columns import infer_columns, infer_task, parse_numbers, split_labels
from recurra.data.read import read
from recurra.errors import DataError, EmptyData, MissingColumn

N = 200
RANDOM = np.random.default_rng(0)
SENTENCES = [" ".join(RANDOM.choice(["the", "cat", "sat", "on", "mats"], 8).tolist()) + f" {i % 90}" for i in range(N)]
COLUMNS = {
    "text": (SENTENCES, "text"),
    "chinese": ([f"今天天气很好我们去公园{i}次" for i in range(N)], "text"),
    "surname": ([chr(97 + i % 26) * (2 + i // 26) for i in range(N)], "text"),
    "tokens": ([["a", "b"]] * N, "tokens"),
    "price": ([f"{i / 7:.2f}" for i in range(N)], "number"),
    "stars": ([str(i % 5) for i in range(N)], "number"),
    "sparse": ([f"{i / 3:.1f}" if i % 2 else "n/a" for i in range(N)], "number"),
    "float": ([i / 3 for i in range(N)], "number"),
    "colour": ([["red", "green", "navy blue"][i % 3] for i in range(N)], "category"),
    "flag": ([i % 3 == 0 for i in range(N)], "category"),
    "row": (list(range(N)), "ignore"),
    "customer_id": ([(i * 37) % 1009 for i in range(N)], "ignore"),
    "hash": ([f"{i * 7919:08x}" for i in range(N)], "ignore"),
    "mail": ([f"user{i}@example.org" for i in range(N)], "ignore"),
    "constant": (["same"] * N, "ignore"),
    "empty": ([None] * N, "ignore"),
    "blank": (["  "] * N, "ignore"),
    "date": ([f"2026-01-{i % 28 + 1:02d}" for i in range(N)], "ignore"),
    "stamp": ([dt.datetime(2026, 1, 1) + dt.timedelta(hours=i) for i in range(N)], "ignore"),
    "struct": ([{"a": i} for i in range(N)], "ignore"),
    "series": ([[1.0, 2.0]] * N, "ignore"),
}


@pytest.fixture(scope="module")
def frame() -> pl.DataFrame:
    return pl.DataFrame({name: values for name, (values, _) in COLUMNS.items()})


def test_types_of_columns(frame: pl.DataFrame) -> None:
    columns = infer_columns(read(frame), target="stars", settings=DataSettings())
    assert {c.name: c.type for c in columns} == {name: kind for name, (_, kind) in COLUMNS.items() if name != "stars"}
    assert all(column.reason for column in columns)


def test_settings_decide(frame: pl.DataFrame) -> None:
    settings = DataSettings(
        types={"hash": "text"}, columns=["text", "hash", "colour"], group="colour", time="stamp", join={"all": ["text", "colour"]}
    )
    types = {c.name: c.type for c in infer_columns(read(frame, join=settings.join), target="stars", settings=settings)}
    assert {name for name, kind in types.items() if kind != "ignore"} == {"text", "hash", "colour"}
    aside = DataSettings(group="colour", join={"all": ["text", "colour"]})
    reasons = {c.name: c.reason for c in infer_columns(read(frame, join=aside.join), target=None, settings=aside)}
    assert reasons["colour"] == "keeps rows together in the split"
    assert reasons["text"] == "part of the text column 'all'"
    with pytest.raises(MissingColumn, match="Did you mean 'text'"):
        infer_columns(read(frame), target=None, settings=DataSettings(types={"texts": "text"}))
    with pytest.raises(DataError, match="cannot be an input too"):
        infer_columns(read(frame), target="text", settings=DataSettings(columns=["text"]))


def test_the_only_column_is_read_whatever_it_looks_like() -> None:
    def types(**columns: list[str]) -> dict[str, str]:
        table = read({**columns, "label": ["a", "b"] * 15})
        return {c.name: c.type for c in infer_columns(table, target="label", settings=DataSettings())}

    numbers = [f"ticket-{i}" for i in range(30)]
    assert types(ticket=numbers) == {"ticket": "text"}
    assert types(phrase=["good film", "bad film"] * 15, colour=["red", "blue"] * 15) == {"phrase": "text", "colour": "category"}
    assert types(ticket=numbers, colour=["red", "blue"] * 15) == {"ticket": "ignore", "colour": "text"}
    assert types(url=[f"http://example.org/{i}" for i in range(30)], colour=["red", "blue"] * 15) == {"url": "text", "colour": "category"}


def test_nothing_to_learn_from() -> None:
    with pytest.raises(DataError, match=r"text: empty.*--type title=text"):
        infer_columns(read({"text": ["", " ", None], "label": ["a", "b", "a"]}), target="label", settings=DataSettings())
    with pytest.raises(DataError, match="no column besides the target"):
        infer_columns(read({"label": ["a", "b"]}), target="label", settings=DataSettings())


TARGETS = {
    "classes": (["x", "y"] * 30, "classify"),
    "booleans": ([True, False] * 30, "classify"),
    "few integers": ([str(i % 20) for i in range(60)], "classify"),
    "whole floats": ([float(i % 3) for i in range(59)] + [None], "classify"),
    "places": (["Boston, MA", "Austin, TX", "Reno, NV"] * 20, "classify"),
    "many integers": ([str(i % 21) for i in range(60)], "regress"),
    "decimals": (["0.5", "1", "nan"] * 20, "regress"),
    "lists": ([["a"], ["a", "b"], []] * 20, "labels"),
    "joined": (["a,b", "a", "b", "b, c"] * 15, "labels"),
}


@pytest.mark.parametrize("name", TARGETS)
def test_tasks(name: str) -> None:
    values, task = TARGETS[name]
    found, reason = infer_task(read({"target": values}), "target", DataSettings())
    assert found == task, reason
    assert reason.startswith("the target holds")


def test_targets_that_cannot_be_learnt() -> None:
    def task(values: list[object]) -> object:
        return infer_task(read({"target": values}), "target", DataSettings())

    with pytest.raises(DataError, match="holds only one class, 'x'"):
        task(["x"] * 30)
    with pytest.raises(EmptyData, match="missing in every row"):
        task([None, "", " "])
    with pytest.raises(DataError, match="nearly every row would be a class of its own"):
        task([f"sentence {i}" for i in range(100)])
    with pytest.raises(MissingColumn, match="Did you mean 'target'"):
        infer_task(read({"target": ["a", "b"]}), "tarjet", DataSettings())


def test_a_file_sorted_by_class_is_read_on() -> None:
    assert infer_task(read({"target": [None] * 10_001 + ["x"] * 20_000 + ["y"]}), "target", DataSettings())[0] == "classify"


def test_numbers_as_text() -> None:
    numbers, wrong = parse_numbers(pl.Series([" 1 ", "-2.5e3", "NaN", "n/a", "", None, "twelve", "inf"]))
    assert numbers.to_list() == [1.0, -2500.0, None, None, None, None, None, None]
    assert wrong.to_list() == [False] * 6 + [True, True]
    assert parse_numbers(pl.Series([1.5, float("nan"), None]))[0].to_list() == [1.5, None, None]
    assert parse_numbers(pl.Series([[1.0], None]))[1].to_list() == [True, False]


def test_label_lists() -> None:
    assert split_labels(pl.Series(["a, b", "", None, "c;d"]), ",").to_list() == [["a", "b"], [], None, ["c;d"]]
    assert split_labels(pl.Series([["a"], None]), ",").to_list() == [["a"], None]
    assert split_labels(pl.Series([[" a", None, "", " "], [], None]), ",").to_list() == [["a"], [], None]
    assert split_labels(pl.Series([["a", None], None], dtype=pl.Array(pl.String, 2)), ",").to_list() == [["a"], None]
    assert split_labels(pl.Series([[2, None]]), ",").to_list() == [["2"]]


def test_lists_that_are_written_as_json_are_lists() -> None:
    """As `recurra predict` writes them into a CSV file. What only looks like one is text."""
    texts = ['["a, b", "c"]', " [] ", '["a"]', None, "", "[a], b", "[1]", '["a", 1]', '["a"', "[" * 5_000]
    expected = [["a, b", "c"], [], ["a"], None, [], ["[a]", "b"], ["[1]"], ['["a"', "1]"], ['["a"'], ["[" * 5_000]]
    assert split_labels(pl.Series(texts), ",").to_list() == expected
    lists = ['["a", "b"]', '["b"]', "[]", None]
    assert infer_task(read({"target": lists}), "target", DataSettings()) == ("labels", "the target holds lists, written as JSON")
    assert infer_task(read({"target": ["[1]", "[2]", "[1]", "[2]"]}), "target", DataSettings())[0] == "classify"


def test_records_are_no_labels() -> None:
    for values in ([{"name": "x"}, {"name": "y"}], [[{"name": "x"}]], [[["x"]]]):
        with pytest.raises(DataError, match=r"(?s)target 'target' holds .*column of its own"):
            infer_task(read(pl.DataFrame({"target": values})), "target", DataSettings())
        with pytest.raises(DataError, match="which is no label"):
            split_labels(pl.Series("target", values), ",")
