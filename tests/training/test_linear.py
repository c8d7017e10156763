"""The linear model beside a text classifier's network: when it is there, how it is weighed, and what the run says of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import recurra
from jobs import rows, train
from recurra.errors import SettingsError
from recurra.model.model import Model
from recurra.training.tables.linear import choose_factors, some_rows

TEXT: dict[str, Any] = {"data.columns": ["text"], "training.epochs": 1, "embedding.token_ngrams": 1}
"""One text, and a network that has hardly begun to learn: the linear model has to help."""


@pytest.fixture(scope="module")
def model() -> Model:
    found: Model = train(rows(200), settings={**TEXT, "evaluation.baselines": True})
    return found


def test_it_helps_and_the_run_says_what_each_of_both_is_alone(model: Model) -> None:
    run = model.run
    alone = {name: run["baselines"][name]["test"]["accuracy"] for name in ("network_alone", "linear_alone")}
    assert model.network.linear is not None
    assert run["metrics"]["test"]["accuracy"] > alone["network_alone"]
    assert alone["linear_alone"] > alone["network_alone"]
    assert "tfidf_linear" in run["baselines"]
    assert "linear model" in run["timings"]
    assert f"A linear model on {len(model.network.linear.keys)} n-grams" in model.card()


def test_the_network_is_the_same_without_it(model: Model) -> None:
    other = train(rows(200), settings={**TEXT, "head.linear": "none"})
    assert other.network.linear is None
    mine, plain = model.network.state_dict(), other.network.state_dict()
    assert {name for name in mine if name not in plain} == {f"linear.{name}" for name in ("keys", "idf", "weight", "bias", "scale")}
    assert all(torch.equal(mine[name], value) for name, value in plain.items())
    assert other.run["metrics"]["test"]["accuracy"] == model.run["baselines"]["network_alone"]["test"]["accuracy"]
    assert set(other.run["baselines"]) == set()


def test_saved_and_loaded_predicts_the_same_one_by_one_too(model: Model, tmp_path: Path) -> None:
    loaded = recurra.load(model.save(tmp_path / "model"))
    texts = [row["text"] for row in rows(30, seed=5)] + ["", "words that nobody has seen"]
    found = model.predict(texts)
    assert loaded.predict(texts).equals(found)
    for text, label in zip(texts, found["label"], strict=True):
        assert loaded.predict(text)["label"].item() == label
    assert (
        loaded.save(tmp_path / "again").joinpath("weights.safetensors").read_bytes()
        == (tmp_path / "model/weights.safetensors").read_bytes()
    )


def test_evaluate_measures_both_together(model: Model) -> None:
    table = rows(100, seed=7)
    right = (model.predict(table)["label"] == [row["label"] for row in table]).mean()
    assert model.evaluate(table)["accuracy"] == pytest.approx(right)


@pytest.mark.parametrize(
    "settings",
    [
        {"encoder.bidirectional": False},
        {"data.columns": ["title", "text"]},
        {"data.columns": ["price"]},
        {"data.validation_share": 0.0, "training.monitor": "train_loss"},
    ],
)
def test_by_itself_it_stands_only_where_it_can(settings: dict[str, Any]) -> None:
    found = train(rows(60), settings={**TEXT, **settings})
    assert found.network.linear is None
    assert "linear" not in found.state()


@pytest.mark.parametrize(
    ("settings", "target", "said"),
    [
        ({"data.columns": ["title", "text"]}, "label", "reads one column of text or tokens, and this one has 2"),
        ({"data.columns": ["price"]}, "label", "this one has 0"),
        ({"data.validation_share": 0.0, "training.monitor": "train_loss"}, "label", "there are none: give some with --validation"),
        ({}, "topics", "predicts one class a row"),
        ({"head.task": "labels"}, "topics", "has no effect on the task 'labels'"),
    ],
)
def test_asked_for_where_it_cannot_be_is_refused(settings: dict[str, Any], target: str, said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        train(rows(60), target, settings={**TEXT, "head.linear": "ngrams", **settings})


def test_one_that_reads_forward_has_it_when_asked_and_cannot_stream() -> None:
    found = train(rows(200), settings={**TEXT, "encoder.bidirectional": False, "head.linear": "ngrams"})
    assert found.network.linear is not None
    with pytest.raises(SettingsError, match=r"train one with head\.linear=none to stream"):
        found.stream()


def test_numbers_and_categories_may_stand_beside_the_text() -> None:
    found = train(rows(200), settings={**TEXT, "data.columns": ["text", "category", "price"]})
    assert found.network.linear is not None
    assert found.run["metrics"]["test"]["accuracy"] > found.run["baselines"]["network_alone"]["test"]["accuracy"]


def test_a_model_that_begins_with_one_fits_its_own(model: Model, tmp_path: Path) -> None:
    path = model.save(tmp_path / "model")
    table = [{**row, "label": "good" if row["label"] == "pos" else "bad"} for row in rows(200, seed=3)]
    found = train(table, settings={**TEXT, "transfer.model": str(path)})
    assert found.network.linear is not None
    assert set(found.predict(["superb lovely fine", "awful poor dull"])["label"]) == {"good", "bad"}


def test_a_threshold_is_chosen_for_both_together() -> None:
    found = train(rows(400), settings={**TEXT, "out_of_scope.label": "oos", "out_of_scope.keep": 0.7, "data.validation_share": 0.3})
    assert found.network.linear is not None
    outside = (found.predict(rows(400))["label"] == "oos").mean()
    # 3 in 10 of 120 validation rows; of all 400 rows as many but for chance, whose deviation is 0.05.
    assert outside == pytest.approx(0.3, abs=0.15)


def test_weights_of_classes_count_in_it_too() -> None:
    weighted = train(rows(200), settings={**TEXT, "head.class_weights": {"pos": 20.0}})
    plain = train(rows(200), settings=TEXT)
    assert weighted.network.linear.bias[1] / weighted.network.linear.weight.abs().max() > (
        plain.network.linear.bias[1] / plain.network.linear.weight.abs().max()
    )


def test_of_very_many_rows_some_are_drawn() -> None:
    rows, lengths, targets = np.arange(10, 110), np.full(120, 3), np.where(np.arange(120) % 4, 1, -1)
    whole = some_rows(rows, lengths, targets, most=3 * 75, seed=0)
    assert whole.tolist() == [row for row in rows if row % 4]
    found = some_rows(rows, lengths, targets, most=100, seed=0)
    assert len(found) == 33
    assert set(found) < set(whole)
    assert (np.diff(found) > 0).all()
    assert found.tolist() != some_rows(rows, lengths, targets, most=100, seed=1).tolist()


def draw(factors: tuple[float, float], count: int = 2_000) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Outputs, scores, and classes drawn from the softmax of their sum."""
    random = np.random.default_rng(0)
    outputs, scores = random.normal(size=(2, count, 4))
    logits = factors[0] * outputs + factors[1] * scores + random.gumbel(size=(count, 4))
    return outputs, scores, logits.argmax(axis=1)


@pytest.mark.parametrize("factors", [(1.0, 2.0), (0.3, 1.0)])
def test_the_factors_are_those_that_the_rows_were_drawn_with(factors: tuple[float, float]) -> None:
    found = choose_factors(*draw(factors))
    # Each row tells at least 0.1 of a factor (the variance of a score over the classes under the softmax): deviations up to 1 / sqrt(200).
    assert found == pytest.approx(factors, abs=0.2)


def test_scores_that_say_nothing_are_left_out() -> None:
    outputs, scores, targets = draw((1.0, 0.0))
    assert choose_factors(outputs, np.zeros_like(scores), targets) is None
    assert choose_factors(outputs, outputs, targets) is None
    assert choose_factors(outputs, -outputs, targets) is None


def test_a_few_rows_that_are_all_right_do_not_make_it_sure_of_everything() -> None:
    scores = np.eye(2)[[0, 1] * 10]
    factors = choose_factors(np.zeros((20, 2)), scores, np.array([0, 1] * 10))
    assert factors is not None
    # The best factor gives the smoothed probability of the class: 1 - half of 2 / (N + 2).
    assert 1 / (1 + np.exp(-factors[1])) == pytest.approx(1 - 1 / 22, rel=1e-3)


def test_rows_count_by_the_weight_of_their_class() -> None:
    outputs, scores, targets = draw((1.0, 1.0))
    random = np.random.default_rng(1)
    scores[targets == 0] = random.normal(size=(int((targets == 0).sum()), 4))  # they say nothing of one class
    weighted = choose_factors(outputs, scores, targets, weights=torch.tensor([1e3, 1.0, 1.0, 1.0], dtype=torch.float64))
    plain = choose_factors(outputs, scores, targets)
    assert plain is not None
    assert weighted is None or weighted[1] < 0.2 * plain[1]
