"""Several targets on one encoder: learnt together, measured each on its own, saved, interrupted, and told what is wrong."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import recurra
from jobs import SMALL
from recurra.config import Settings, SeveralSettings, load_settings
from recurra.errors import DataError, RecurraError, SettingsError, TrainingInterrupted
from recurra.heads import SeveralHeads
from recurra.model.load import load

NAMES = {"LOC": ["Paris", "Ulm", "Oslo"], "PER": ["Ada", "Grace", "Alan"]}
TARGETS = ["intent", "tags", "price", "topics"]
LEARN = {"training.epochs": 12, "optimizer.learning_rate": 0.03, "head.dropout": 0.0, "embedding.dropout": 0.0, "training.patience": 0}


def rows(count: int = 60, seed: int = 0, *, gaps: bool = True) -> list[dict[str, Any]]:
    """Requests with an intent, a name that is tagged, a price and topics; some targets are missing."""
    draw = random.Random(seed)
    table = []
    for number in range(count):
        intent = draw.choice(["go", "meet"])
        kind = "LOC" if intent == "go" else "PER"
        polite = draw.random() < 0.5
        table.append(
            {
                "tokens": [*(["please"] if polite else []), intent, draw.choice(NAMES[kind])],
                "intent": None if gaps and number % 10 == 0 else intent,
                "tags": None if gaps and number % 10 == 1 else [*(["O"] if polite else []), "O", f"B-{kind}"],
                "price": None if gaps and number % 10 == 2 else 2.0 * (intent == "go") + draw.random(),
                "topics": None if gaps and number % 10 == 3 else [intent, *(["polite"] if polite else [])],
            }
        )
    return table


def train(data: Any = None, target: Any = TARGETS, *, output: Path | None = None, resume: bool = False, **changes: Any) -> Any:
    chosen = {**SMALL, **{key.replace("__", "."): value for key, value in changes.items()}}
    return recurra.train(rows() if data is None else data, target=target, output=output, resume=resume, settings=chosen)


@pytest.fixture(scope="module")
def model() -> Any:
    return train(rows(100), **LEARN)


def test_each_target_is_inferred_learnt_and_measured(model: Any) -> None:
    assert model.settings.head.task == "several"
    assert [head.task for head in model.head.heads] == ["classify", "tag", "regress", "labels"]
    found = model.evaluate(rows(60, seed=5, gaps=False))
    assert found["intent.accuracy"] > 0.95
    assert found["tags.f1"] > 0.95
    assert found["topics.micro_f1"] > 0.8
    assert found["price.r2"] > 0.5
    assert found["score"] == pytest.approx(np.mean([found[name] for name in ("intent.accuracy", "tags.f1", "topics.micro_f1", "price.r2")]))
    assert "all_right" not in found  # a price is near or far
    assert found["tags.f1_low"] <= found["tags.f1"] <= found["tags.f1_high"]
    assert model.run["training"]["monitor"] == "score"


def test_predictions_bear_the_names_of_their_targets(model: Any) -> None:
    [row] = model.predict("please go Oslo").to_dicts()
    assert (row["intent.label"], row["tags.spans"][0]["label"], row["tags.spans"][0]["text"]) == ("go", "LOC", "Oslo")
    assert set(row["topics.labels"]) <= {"go", "meet", "polite"}
    assert isinstance(row["price.value"], float)
    top = model.predict([{"tokens": ["meet", "Ada"]}], top=2)
    assert top["intent.top_labels"].to_list()[0][0] == "meet"
    assert "tags.top_labels" not in top.columns
    assert model.head.predict(model.head.nothing()).columns == model.predict("go Ulm").columns


def test_a_row_is_measured_by_the_heads_whose_target_it_has(model: Any) -> None:
    whole = rows(40, seed=3, gaps=False)
    gaps = [{**row, "tags": None} if number % 2 else row for number, row in enumerate(whole)]
    found, all_rows = model.evaluate(gaps), model.evaluate(whole)
    assert found["intent.accuracy"] == all_rows["intent.accuracy"]
    assert found["tags.token_accuracy"] == model.evaluate(whole[::2])["tags.token_accuracy"]
    nothing = [dict.fromkeys(TARGETS) | {"tokens": ["go"]}]
    assert model.evaluate([*whole, *nothing])["rows_without_target"] == 1


def test_all_right_counts_rows_without_any_mistake() -> None:
    both = train(rows(80, gaps=False), ["intent", "tags"], **LEARN)
    table = rows(30, seed=7, gaps=False)
    predicted = both.predict(table)
    right = [
        row["intent"] == label and row["tags"] == tags
        for row, label, tags in zip(table, predicted["intent.label"], predicted["tags.tags"].to_list(), strict=True)
    ]
    assert both.evaluate(table)["all_right"] == pytest.approx(np.mean(right))


def test_the_loss_is_the_weighted_sum() -> None:
    from recurra.data.batch import Batch, Sequence

    weighted = train(target=["intent", "price"], training__epochs=1, data__columns=["tokens"], **{"several.weights": {"price": 3.0}})
    network, head = weighted.network, weighted.head
    assert isinstance(head, SeveralHeads)
    values = torch.tensor([[2, 3], [3, 2]])
    batch = Batch(
        {"tokens": Sequence(values, torch.tensor([2, 2]))},
        {"intent": torch.tensor([0, 1]), "price": torch.tensor([0.5, -1.0])},
        torch.arange(2),
    )
    with torch.inference_mode():
        outputs = network(batch)
        intent, price = (each.loss(found, batch.targets[each.name]) for each, found in zip(head.heads, outputs, strict=True))
        torch.testing.assert_close(network.loss(outputs, batch), intent + 3.0 * price)


def test_saved_and_loaded_it_predicts_the_same(model: Any, tmp_path: Path) -> None:
    model.save(tmp_path / "model")
    again = load(tmp_path / "model")
    table = rows(20, seed=4)
    assert again.predict(table).equals(model.predict(table))
    assert "intent: 2 classes" in (tmp_path / "model" / "README.md").read_text()


def test_an_interrupted_training_goes_on_bit_by_bit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from recurra.training.fitting import Fitting

    whole = train(rows(40), training__epochs=3)
    calls = iter([False] * 4 + [True] * 99)
    with monkeypatch.context() as patch:
        patch.setattr(Fitting, "_interrupted", lambda self: next(calls))
        with pytest.raises(TrainingInterrupted):
            train(rows(40), output=tmp_path / "m", training__epochs=3)
    resumed = train(rows(40), output=tmp_path / "m", resume=True, training__epochs=3)
    for name, value in whole.network.state_dict().items():
        assert torch.equal(value, resumed.network.state_dict()[name]), name


def test_the_report_has_a_part_for_each_target(tmp_path: Path) -> None:
    train(rows(60), output=tmp_path / "m", evaluation__baselines=True)
    page = (tmp_path / "m" / "report.html").read_text()
    for part in (
        "By target",
        "Classification of “intent”",
        "Tags of “tags”",
        "Regression of “price”",
        "Labels of “topics”",
        "Window linear",
    ):
        assert part in page
    run = json.loads((tmp_path / "m" / "run.json").read_text())
    assert {"intent.tfidf_linear", "tags.window_linear", "price.mean", "topics.majority"} <= set(run["baselines"])


def test_a_monitor_of_one_head_selects_by_it() -> None:
    chosen = train(target=["intent", "price"], training__monitor="price.rmse")
    assert chosen.run["training"]["monitor"] == "price.rmse"
    history = [record["price.rmse"] for record in chosen.run["training"]["history"]]
    assert chosen.run["training"]["best_epoch"] == 1 + int(np.argmin(history))


CHANGES: dict[str, dict[str, Any]] = {
    "targets": {"several.targets": ["intent", "topics"]},
    "tasks": {"several.tasks": {"price": "regress"}},
    "weights": {"several.weights": {"price": 5.0}},
}


@pytest.mark.parametrize("name", CHANGES)
def test_every_setting_matters(name: str) -> None:
    base = {"several.targets": ["intent", "price"]}
    table = [{**row, "price": None if row["price"] is None else round(row["price"])} for row in rows()]
    before, after = (train(table, None, **{**base, **change}) for change in ({}, CHANGES[name]))
    states = [{key: value.tolist() for key, value in each.network.state_dict().items()} for each in (before, after)]
    assert states[0] != states[1]


def test_every_setting_of_the_group_has_an_entry() -> None:
    assert set(CHANGES) == set(SeveralSettings.model_fields)


@pytest.mark.parametrize(
    ("given", "task"),
    [
        ({"target": ["a", "b"]}, "several"),
        ({"target": ["a", "b"], "tag.crf": False}, "several"),
        ({"target": ["a", "b"], "forecast.horizon": 3}, "forecast"),
        ({"target": ["a", "b"], "data.time": "day"}, "forecast"),
        ({"target": ["a", "*"]}, "forecast"),
        ({"target": ["a", "b"], "data.time": "day", "head.task": "several"}, "several"),
        ({"target": ["a"]}, "auto"),
        ({"several.targets": ["a", "b"]}, "several"),
    ],
)
def test_a_list_of_targets_goes_where_the_other_settings_say(given: dict[str, Any], task: str) -> None:
    found = load_settings(given)
    assert found.head.task == task
    named = {"several": found.several.targets, "forecast": found.forecast.targets, "auto": [found.target]}
    assert named[task] == given.get("target", ["a", "b"])
    assert load_settings(found) == found == Settings.model_validate(found.model_dump(mode="json"))


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"target": ["intent", "price"], "head.task": "classify"}, "has one target, and 2 are named"),
        ({"target": "intent", "several.targets": ["intent", "tags"]}, "give one of them"),
        ({"several.targets": ["intent", "intent"]}, "names a column twice"),
        ({"several.targets": ["intent", "tags"], "several.weights": {"price": 2.0}}, "is no target"),
        ({"several.targets": ["intent"], "head.task": "several"}, "needs two targets"),
        ({"several.targets": ["intent", "price"], "tag.crf": False}, "no target is tags"),
        ({"several.targets": ["intent", "absent"]}, "absent"),
        ({"several.targets": ["intent", "price"], "data.columns": ["tokens", "price"]}, "cannot be an input too"),
        ({"several.targets": ["intent", "price"], "data.ignore_labels": ["go"]}, "no effect"),
    ],
)
def test_what_cannot_be_is_told(settings: dict[str, Any], told: str) -> None:
    with pytest.raises(RecurraError, match=told):
        recurra.train(rows(20), settings={**SMALL, **settings})


def test_two_columns_of_tags_and_streams_are_refused(model: Any) -> None:
    table = [{**row, "more": row["tags"]} for row in rows(20, gaps=False)]
    with pytest.raises(SettingsError, match="one can be"):
        train(table, ["tags", "more"])
    with pytest.raises(SettingsError, match="several targets"):
        model.stream()
    with pytest.raises(DataError, match="as many as its tokens"):
        train(
            [{**row, "tags": ["O", "B-LOC", "O", "O", "O"]} for row in rows(20, gaps=False)],
            ["intent", "tags"],
            **{"several.tasks": {"tags": "tag"}},
        )
