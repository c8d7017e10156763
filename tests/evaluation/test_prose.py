"""The sentences: each verdict, each state of the gradient, each shape of a learning curve, and the numbers as written."""

from __future__ import annotations

from dataclasses import replace

import pytest

from recurra.evaluation.comparison import Comparison
from recurra.evaluation.report import Report, Result, Training
from recurra.evaluation.report.prose import (
    calibration_sentence,
    course_sentence,
    gradient_flow,
    length_sentence,
    overlap_sentence,
    parts_sentence,
    verdict,
)
from recurra.evaluation.report.quantities import METRICS, duration, interval, metric, number


def report(comparison: Comparison | None, interval: tuple[float, float] | None = None, linear: float = 0.9) -> Report:
    network = Result("network", "", {"accuracy": 0.91}, {"accuracy": interval} if interval else {})
    return Report(
        "t", "classify", "y", network, baselines=[Result("tfidf_linear", "", {"accuracy": linear}, {}, 3.0)], comparison=comparison
    )


@pytest.mark.parametrize(
    ("given", "start"),
    [
        (report(Comparison("accuracy", 0.01, 0.002, 0.02, 0.95)), "The recurrent network pays: 1.0 point of accuracy more"),
        (report(Comparison("accuracy", -0.01, -0.02, -0.001, 0.9)), "The recurrent network does not pay here: 1.0 point of accuracy less"),
        (
            report(Comparison("accuracy", 0.004, -0.002, 0.01, 0.95)),
            "The recurrent network and the linear model cannot be told apart: 0.4 points",
        ),
        (report(None, (0.905, 0.915)), "The recurrent network pays: accuracy 91.0% against 90.0%"),
        (report(None, (0.89, 0.93)), "The recurrent network and the linear model cannot be told apart"),
        (report(None, (0.905, 0.915), linear=0.95), "The recurrent network does not pay here"),
        (report(None), "Accuracy 91.0% against 90.0% of the linear model; without intervals"),
        (Report("t", "classify", "y", Result("n", "", {"accuracy": 0.5})), "No linear model was trained"),
    ],
)
def test_verdict(given: Report, start: str) -> None:
    assert verdict(given).startswith(start)


def test_what_stands_beside_the_network_is_named() -> None:
    both = report(Comparison("accuracy", 0.01, 0.002, 0.02, 0.95))
    assert parts_sentence(both) == ""
    alone = [Result("network_alone", "", {"accuracy": 0.902}), Result("linear_alone", "", {"accuracy": 0.9})]
    both = replace(both, baselines=[*both.baselines, *alone])
    assert parts_sentence(both).endswith("accuracy 91.0% together, 90.2% of the network alone, 90.0% of that linear model alone.")
    assert verdict(both).startswith("The recurrent network with the linear model beside it pays: 1.0 point of accuracy more")


def test_the_linear_models_cost_is_named_where_it_does_not_lose() -> None:
    assert verdict(report(Comparison("accuracy", 0.004, -0.002, 0.01, 0.95))).endswith("The linear model is simpler, and trains in 3.0 s.")


@pytest.mark.parametrize(
    ("rate", "state", "words"),
    [(0.98, "healthy", "neither vanishes nor explodes"), (0.5, "vanishing", "it vanishes"), (1.2, "exploding", "it explodes")],
)
def test_gradient_flow(rate: float, state: str, words: str) -> None:
    good = [{"epoch": e, "layer": "a", "distance": d, "norm": 0.99**d} for e in (1, 2) for d in range(50)]
    other = [{"epoch": 2, "layer": "b", "distance": d, "norm": rate**d} for d in range(50)]
    found = gradient_flow(Training(gradient_distances=good + other))
    assert found.state == state
    assert found.distance == 49
    assert words in found.sentence
    assert "(layer b)" in found.sentence


def test_gradient_flow_without_numbers() -> None:
    assert gradient_flow(Training()).state == "unknown"
    one = [{"epoch": 1, "layer": "a", "distance": 0, "norm": 1.0}]
    assert gradient_flow(Training(gradient_distances=one)).state == "unknown"
    broken = [{"epoch": 1, "layer": "a", "distance": d, "norm": float("nan")} for d in range(4)]
    assert gradient_flow(Training(gradient_distances=broken)).state == "exploding"
    silent = [{"epoch": 1, "layer": "a", "distance": d, "norm": 0.0} for d in range(4)]
    assert gradient_flow(Training(gradient_distances=silent)).state == "vanishing"


@pytest.mark.parametrize(
    ("losses", "words"),
    [
        ([1.0, 0.5, 0.9], "learns its training rows by heart"),
        ([1.0, 0.5, 0.4], "still falling"),
        ([1.0, 0.5, 0.51], "levelled off after epoch 2"),
        ([1.0], "One epoch draws no curve"),
        ([], ""),
    ],
)
def test_course(losses: list[float], words: str) -> None:
    history = [{"epoch": place, "validation_loss": loss} for place, loss in enumerate(losses, 1)]
    found = course_sentence(Training(history, "rmse", 2))
    assert words in found
    assert ("by validation RMSE" in found) == bool(losses)


def test_calibration() -> None:
    bins = [{"count": 10, "confidence": 0.9, "accuracy": 0.7}]
    assert "surer than it should be, by 20.0 points" in calibration_sentence(bins)
    assert "more often right than it claims" in calibration_sentence([{**bins[0], "accuracy": 1.0}])
    assert calibration_sentence([]) == ""


def test_lengths_and_overlap() -> None:
    assert length_sentence([0, 2, 4], "token") == "Median 2 tokens; 95% of the rows have at most 4, the longest 4. 1 row is empty."
    assert length_sentence([], "token") == ""
    assert overlap_sentence({"test": 0}, {}) == "No input of the other parts also stands in the training part."
    assert overlap_sentence({}, {}) == ""


def test_numbers_as_written() -> None:
    assert [number(value) for value in (0.0, 0.5, -1.2345, 12.345, 123456.0, 2e-6, 2e-4, float("nan"), -1e-9)] == [
        "0.000", "0.500", "−1.234", "12.35", "123,456", "0.000", "0.0002", "–", "0.000",
    ]  # fmt: skip
    assert [duration(seconds) for seconds in (0.1, 3.21, 59.4, 59.6, 200, 7500)] == [
        "0.10 s",
        "3.2 s",
        "59 s",
        "1 min 00 s",
        "3 min 20 s",
        "2 h 05 min",
    ]
    assert interval("accuracy", (0.1, 0.25)) == "10.0–25.0%"
    assert interval("rmse", (1.5, 2.5)) == "1.500 to 2.500"


def test_every_metric_has_its_label() -> None:
    import numpy as np

    from recurra.data.store import Ragged
    from recurra.heads.out_of_scope import scope_metrics
    from recurra.metrics import classification_metrics, forecast_metrics, label_metrics, regression_metrics
    from recurra.metrics.answers import answer_metrics
    from recurra.metrics.language import token_metrics
    from recurra.metrics.ranking import rank, ranking_metrics
    from recurra.metrics.spans import span_metrics
    from recurra.metrics.translation import text_metrics

    square = np.array([[0.7, 0.1, 0.1, 0.1]] * 3 + [[0.1, 0.7, 0.1, 0.1], [0.1, 0.1, 0.7, 0.1], [0.1, 0.1, 0.1, 0.7]])
    found = {
        *classification_metrics(square, np.array([0, 0, 0, 1, 2, 3])),
        *label_metrics(square, (square > 0.5).astype(np.int64)),
        *regression_metrics(np.array([1.0, 2.0]), np.array([1.0, 3.0])),
        *forecast_metrics(
            np.zeros((2, 1, 1)), np.ones((2, 1, 1)), quantiles=np.zeros((2, 1, 1, 1)), levels=[0.5], scale=np.ones(1), deviation=np.ones(1)
        ),
    }
    seen = Ragged.from_rows([[2], [0], [3]])
    ranking = rank(square[:3], np.array([1, 1, 2]), sessions=np.arange(3), seen=seen, top=2)
    ranked = set(ranking_metrics(ranking, at=(2,), popularity=np.arange(4)))
    found |= set(span_metrics(np.array([[1, 1, 1]]), np.array([[1, 1]])))
    found |= set(answer_metrics(["one", ""], [["one"], []]))
    found |= set(token_metrics(np.ones(2), np.ones(2, int), characters=2))
    found |= set(text_metrics(["one two"], ["one"]))
    found |= set(scope_metrics(np.array([0, 1]), np.array([0, 1]), 1))
    elsewhere = {
        "all_right",
        "answer_popularity",
        "cache_perplexity",
        "dynamic_perplexity",
        "score",
        "unknown_tags",
    }  # `recurra.model` and `recurra.heads` make these
    assert (found - {"tokens"}) | elsewhere == set(METRICS)
    assert {metric(name).label for name in ranked - set(METRICS)} == {
        *(f"{name} at 2{end}" for name in ("Recall", "MRR", "NDCG") for end in ("", ", seen items taken out")),
        "Coverage at 2", "Popularity of the recommended at 2",
    }  # fmt: skip


def test_a_recommender_is_compared_with_the_best_baseline() -> None:
    results = [Result(name, "", {"recall_at_20": value}, {}, 2.0) for name, value in (("popularity", 0.1), ("item_neighbours", 0.3))]
    network = Result("network", "", {"recall_at_20": 0.35, "mrr_at_20": 0.12345}, {"recall_at_20": (0.34, 0.36)})
    given = Report("t", "recommend", "item", network, baselines=results)
    assert verdict(given) == "The recurrent network pays: recall at 20 35.0% against 30.0% of item-kNN, outside the interval 34.0–36.0%."
    against = replace(given, comparison=Comparison("recall_at_20", -0.02, -0.03, -0.01, 0.95, "popularity"))
    assert verdict(against).startswith("The recurrent network does not pay here: 2.0 points of recall at 20 less than what is popular (95%")
    assert verdict(against).endswith("on the same sessions). What is popular is simpler, and trains in 2.0 s.")
    assert verdict(replace(given, baselines=[])).startswith("No baseline was trained")
    assert metric("mrr_at_20").write(0.12345) == "0.1235"
    assert interval("mrr_at_20", (0.1, 0.12345)) == "0.1000 to 0.1235"
