"""A trained recommender: what it recommends, how it is measured, saved and served."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

import recurra
from clicks import clicks, recommender
from recurra.errors import DataError, EmptyData, MissingColumn, SettingsError
from recurra.model.recommend.model import Recommender
from recurra.model.recommend.session import RecommenderSession

LEARNT = {"training.epochs": 30, "training.patience": 0}


@pytest.fixture(scope="module")
def model() -> Recommender:
    """Knows that item n + 1 follows item n."""
    found = recommender(clicks(80), settings=LEARNT)
    assert isinstance(found, Recommender)
    return found


@pytest.fixture(scope="module")
def with_gaps() -> Recommender:
    found = recommender(settings={"recommend.time_gaps": True, "encoder.cell": "lstm", "encoder.hidden_size": 7})
    assert isinstance(found, Recommender)
    return found


def test_it_learns_what_follows(model: Recommender) -> None:
    assert model.recommend(["i2", "i3"], top=1)["item"].to_list() == ["i4"]
    assert model.run["metrics"]["test"]["recall_at_5"] > 0.75  # four in five clicks follow the rule


def test_a_table_gives_rows_for_each_session(model: Recommender) -> None:
    found = model.recommend(clicks(5), top=3)
    assert found.columns == ["session", "rank", "item", "score"]
    assert found["rank"].to_list() == [1, 2, 3] * 5
    assert sorted(found["session"].unique()) == [f"u{n}" for n in range(5)]
    for _, one in found.group_by("session"):
        assert one["score"].to_list() == sorted(one["score"], reverse=True)
    alone = pl.DataFrame(clicks(5)).filter(pl.col("who") == "u0")
    assert model.recommend(alone["what"].to_list(), top=3)["item"].to_list() == found.filter(pl.col("session") == "u0")["item"].to_list()


def test_seen_items_are_left_out_where_that_is_asked_for(model: Recommender) -> None:
    seen = ["i3", "i4", "i5"]
    assert not set(model.recommend(seen, exclude_seen=True, top=9)["item"]) & set(seen)
    assert set(model.recommend(seen, exclude_seen=False, top=9)["item"]) > set(seen)
    assert not model.excludes_seen
    assert len(model.recommend(seen, top=100, exclude_seen=True)) == 6


def test_unknown_items_are_stepped_over_and_nothing_known_gives_the_popular(model: Recommender) -> None:
    plain = model.recommend(["i1", "i2"])
    assert model.recommend(["new", "i1", "other", "i2", "new"])["item"].to_list() == plain["item"].to_list()
    nothing = model.recommend(["new"], top=3)
    assert len(nothing) == 3
    assert model.recommend(["new", "newer"], top=3)["item"].to_list() == nothing["item"].to_list()
    with pytest.raises(EmptyData):
        model.recommend([])
    half = "\udcff"  # of bytes that were no UTF-8
    assert model.recommend(["i1", half, "i2"])["item"].to_list() == plain["item"].to_list()
    assert not model.session().click(half)


@pytest.fixture(scope="module")
def of_numbers() -> Recommender:
    """A model whose items are whole numbers."""
    found = recommender([{**row, "what": int(row["what"][1:])} for row in clicks(60)])
    assert isinstance(found, Recommender)
    return found


@pytest.mark.parametrize(
    "form",
    [list, tuple, np.array, pl.Series, lambda items: [np.int64(item) for item in items], lambda items: [float(item) for item in items],
     lambda items: [f" {item}.0" for item in items], lambda items: np.array(items).astype(str), lambda items: pl.Series(items).to_pandas()],
)  # fmt: skip
def test_items_come_in_any_form(of_numbers: Recommender, form: Any) -> None:
    expected = of_numbers.recommend([2, 3], top=3)
    assert of_numbers.recommend(form([2, 3]), top=3).equals(expected)
    assert of_numbers.recommend([{"who": "a", "what": item} for item in (2, 3)], top=3)["item"].to_list() == expected["item"].to_list()


@pytest.mark.parametrize("top", [-1, 2.5, True])
def test_a_number_of_items_that_is_none_is_refused(model: Recommender, top: Any) -> None:
    for recommend in (lambda: model.recommend(["i1"], top=top), lambda: model.session().recommend(top)):
        with pytest.raises(SettingsError, match=f"top={top} is no number of items"):
            recommend()


def test_lists_of_lists_are_no_items(model: Recommender) -> None:
    with pytest.raises(DataError, match="A table cannot be made of list"):
        model.recommend([["i1", "i2"], ["i3"]])


def test_a_table_without_its_columns_is_refused(model: Recommender) -> None:
    with pytest.raises(MissingColumn, match="no column 'what'"):
        model.recommend([{"who": "a", "whatt": "i1"}])
    assert len(model.recommend([{"who": "a", "what": "i1"}], top=2)) == 2, "times may be left out where the rows are in order"


def test_evaluation_asks_for_every_click_but_the_first(model: Recommender) -> None:
    table = clicks(12, seed=3)
    found = model.evaluate(table)
    lengths = np.bincount([int(row["who"][1:]) for row in table])
    assert found["rows"] == int((lengths - 1).clip(0).sum())
    assert found["recall_at_10"] == 1.0, "nine items have no rank above nine"
    assert found["ndcg_at_5_low"] <= found["ndcg_at_5"] <= found["ndcg_at_5_high"]
    with pytest.raises(EmptyData, match="no click that follows"):
        model.evaluate([{"who": "a", "what": "i1", "when": 1}])


def test_answers_that_are_not_known_count_as_misses(model: Recommender) -> None:
    found = model.evaluate([{"who": "a", "what": name, "when": n} for n, name in enumerate(["i1", "new", "newer"])])
    assert found["rows"] == 2
    assert found["recall_at_20"] == 0.0


@pytest.mark.parametrize("name", ["model", "with_gaps"])
def test_it_is_the_same_from_its_folder(name: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    model = request.getfixturevalue(name)
    again: Any = recurra.load(model.save(tmp_path / "model"))
    assert isinstance(again, Recommender)
    table = clicks(6, seed=4)
    assert again.recommend(table).equals(model.recommend(table))
    assert again.run == model.run
    assert "What" not in again.card()
    assert "model.recommend" in again.card()


def played(session: RecommenderSession, table: list[dict[str, Any]], *, timed: bool) -> list[dict[str, Any]]:
    for row in table:
        session.click(row["what"], **({"time": row["when"]} if timed else {}))
    return session.recommend(5).to_dicts()


@pytest.mark.parametrize("name", ["model", "with_gaps"])
def test_a_session_in_service_is_the_history_refed(name: str, request: pytest.FixtureRequest) -> None:
    model: Recommender = request.getfixturevalue(name)
    table = [row for row in clicks() if row["who"] == "u0"]
    table.insert(3, {"who": "u0", "what": "unknown", "when": table[2]["when"] + 1})
    for count in range(1, len(table) + 1):
        found = played(model.session(), table[:count], timed=name == "with_gaps")
        right = model.recommend(table[:count], top=5).drop("session").to_dicts()
        assert [row["item"] for row in found] == [row["item"] for row in right]
        # compiled steps and whole sequences round apart: a few float32 roundings of scores of about 10
        np.testing.assert_allclose([row["score"] for row in found], [row["score"] for row in right], atol=1e-4)


@pytest.mark.parametrize("name", ["model", "with_gaps"])
def test_a_session_survives_a_restart(name: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    model: Recommender = request.getfixturevalue(name)
    timed, table = name == "with_gaps", [row for row in clicks() if row["who"] == "u0"]
    session = model.session()
    played(session, table[:4], timed=timed)
    session.save(tmp_path / "session.safetensors")
    again = model.session()
    again.restore(tmp_path / "session.safetensors")
    assert again.clicks == session.clicks == [row["what"] for row in table[:4]]
    assert played(again, table[4:], timed=timed) == played(session, table[4:], timed=timed)


def test_a_state_of_another_model_is_refused(model: Recommender, with_gaps: Recommender, tmp_path: Path) -> None:
    model.session().save(tmp_path / "state")
    with pytest.raises(DataError, match="another model"):
        with_gaps.session().restore(tmp_path / "state")
    (tmp_path / "state").write_bytes(b"nothing")
    with pytest.raises(DataError, match="holds no state"):
        model.session().restore(tmp_path / "state")
    with pytest.raises(DataError, match="holds no state"):
        model.session().restore(tmp_path / "missing")


def test_times_are_asked_for_where_they_are_read(model: Recommender, with_gaps: Recommender) -> None:
    with pytest.raises(DataError, match="reads no times"):
        model.session().click("i1", time=3.0)
    with pytest.raises(DataError, match="give `time`"):
        with_gaps.session().click("i1")
    with pytest.raises(DataError, match="reads the time between clicks"):
        with_gaps.recommend(["i1"])
    session = with_gaps.session()
    session.click("i1", time=3.0)
    for time in (float("nan"), float("inf"), "4", datetime(2026, 1, 1)):
        with pytest.raises(DataError, match="is no number: give the time in the unit"):
            session.click("i1", time=time)  # type: ignore[arg-type]
    with pytest.raises(DataError, match="cannot follow"):
        session.click("i1", time=2.0)


def test_nothing_is_no_item_not_even_one_of_that_name() -> None:
    session = recommender([{**row, "what": row["what"].replace("i1", "None")} for row in clicks()]).session()
    assert session.click("None")
    for nothing in (None, float("nan"), " "):
        assert not session.click(nothing)  # type: ignore[arg-type]
    assert session.clicks == ["None"]


def test_an_item_that_is_not_known_is_told(model: Recommender) -> None:
    session = model.session()
    assert not session.click("new")
    assert session.click("i1")
    assert session.clicks == ["i1"]
    assert model.items.suggest("i11") == " Did you mean 'i1'?"
