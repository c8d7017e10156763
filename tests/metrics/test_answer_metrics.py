"""Exact match, F1 and the threshold of no answer: worked cases of the SQuAD v2 rules, and what must hold of any answers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recurra.metrics.answers import (
    answer_intervals,
    answer_metrics,
    answer_scores,
    answerable,
    best_threshold,
    exact_match,
    fitted_threshold,
    normalized_answer,
    overlap_f1,
    refused,
)

TEXTS = st.text(alphabet="ab the,. \n'-é", max_size=12)


@pytest.mark.parametrize(
    ("text", "normalized"),
    [
        ("The  Cat", "cat"),
        ("a an the", ""),
        ("an apple, a day", "apple day"),
        ("U.S.", "us"),
        ("anti-glare", "antiglare"),
        ("theatre", "theatre"),
        ("“quoted”", "“quoted”"),  # signs beyond ASCII stay, as in the script
        ("  two\n\tlines ", "two lines"),
        ("the-end", "theend"),  # signs go before articles do
        ("...", ""),
    ],
)
def test_what_is_compared(text: str, normalized: str) -> None:
    assert normalized_answer(text) == normalized


@pytest.mark.parametrize(
    ("answer", "reference", "exact", "f1"),
    [
        ("the garden", "garden", 1, 1),
        ("old barn", "barn", 0, 2 / 3),
        ("barn barn", "barn", 0, 2 / 3),  # a word counts as often as it stands in both
        ("barn barn", "barn barn door", 0, 4 / 5),
        ("", "", 1, 1),
        ("", "barn", 0, 0),
        ("the", "", 1, 1),  # nothing is left of an article
        ("the", "a", 1, 1),
        ("cellar", "barn", 0, 0),
    ],
)
def test_worked_cases(answer: str, reference: str, exact: float, f1: float) -> None:
    assert exact_match(answer, reference) == exact
    assert overlap_f1(answer, reference) == pytest.approx(f1, abs=1e-15)


@given(TEXTS, TEXTS)
def test_f1_is_symmetric_bounded_and_one_for_an_exact_match(one: str, other: str) -> None:
    f1 = overlap_f1(one, other)
    assert f1 == overlap_f1(other, one)
    assert 0.0 <= f1 <= 1.0
    assert exact_match(one, other) <= f1
    assert overlap_f1(one, one) == 1.0


def test_the_best_reference_counts_and_empty_ones_do_not_where_there_are_others() -> None:
    exact, f1 = answer_scores(["barn", "", "", "x"], [["old barn", "barn"], ["", "barn"], [""], []])
    assert exact.tolist() == [1, 0, 1, 0]
    assert f1.tolist() == [1, 0, 1, 0]
    assert answerable([["old barn"], ["", "barn"], [""], ["the"], []]).tolist() == [True, True, False, False, False]


def test_figures_by_kind_are_parts_of_the_whole() -> None:
    found = answer_metrics(["barn", "attic", "", "x"], [["old barn"], ["attic"], [], []])
    assert found["answered_f1"] == pytest.approx((2 / 3 + 1) / 2)
    assert found["answered_exact_match"] == 0.5
    assert found["unanswered_accuracy"] == 0.5
    assert found["f1"] == pytest.approx((found["answered_f1"] + found["unanswered_accuracy"]) / 2)
    assert answer_metrics(["a b"], [["b"]]).keys() == {"f1", "exact_match"}


def test_characters_count_where_there_are_no_blanks() -> None:
    assert overlap_f1("北京市", "北京", characters=True) == pytest.approx(0.8)
    assert overlap_f1("北京市", "北京") == 0.0


def test_intervals_hold_the_figures() -> None:
    draw = np.random.default_rng(0)
    answers = [str(draw.integers(3)) for _ in range(60)]
    references = [[str(draw.integers(3))] if draw.random() < 0.7 else [] for _ in range(60)]
    found, bounds = answer_metrics(answers, references), answer_intervals(answers, references, samples=200)
    assert bounds.keys() == found.keys()
    assert all(bounds[name][0] <= value <= bounds[name][1] for name, value in found.items())
    assert answer_intervals(answers, references, samples=0) == {}


@given(st.lists(st.tuples(st.sampled_from([0.0, 0.1, 0.4, 0.5, 0.9, 1.0]), st.sampled_from([0.0, 0.25, 1.0]), st.booleans()), min_size=1))
def test_no_other_threshold_is_better(rows: list[tuple[float, float, bool]]) -> None:
    nothing, overlap, known = (np.array(column) for column in zip(*rows, strict=True))

    def value(threshold: float) -> float:
        return float(np.where(refused(nothing, threshold), ~known, np.where(known, overlap, 0.0)).sum())

    chosen = best_threshold(nothing, overlap, known)
    assert 0.0 <= chosen <= 1.0
    best = max(value(threshold) for threshold in [0.0, 0.05, 0.2, 0.45, 0.7, 0.95, 1.0])
    assert value(chosen) >= best - 1e-12


def test_a_threshold_of_one_answers_what_is_surely_unanswered_too() -> None:
    nothing = np.array([0.0, 0.4, 1.0])
    for threshold, none in (
        (1.0, [False, False, False]),
        (0.999, [False, False, True]),
        (0.4, [False, True, True]),
        (0.0, [True, True, True]),
    ):
        assert refused(nothing, threshold).tolist() == none


def test_a_fitted_threshold_lies_where_answers_begin_to_cost_more_than_they_bring() -> None:
    draw = np.random.default_rng(0)
    odds = draw.normal(size=20_000) * 2.0
    nothing = 1.0 / (1.0 + np.exp(-odds))
    known = draw.random(len(odds)) > nothing  # calibrated
    overlap = np.full(len(odds), 0.25)
    # Answering brings 0.25 (1 - p) and costs p: as much at p = 0.2.
    assert fitted_threshold(nothing, overlap, known) == pytest.approx(0.2, abs=0.02)  # 20,000 questions: a standard error of 0.006
    assert fitted_threshold(nothing, np.ones(len(odds)), known) == pytest.approx(0.5, abs=0.03)


def test_a_fitted_threshold_is_steadier_than_the_best_one() -> None:
    draw = np.random.default_rng(1)
    found: dict[str, list[float]] = {"fitted": [], "best": []}
    for _ in range(50):
        nothing = 1.0 / (1.0 + np.exp(-draw.normal(size=300)))
        known = draw.random(300) > nothing
        for name, threshold in (("fitted", fitted_threshold), ("best", best_threshold)):
            found[name].append(threshold(nothing, np.full(300, 0.5), known))
    assert np.std(found["fitted"]) < np.std(found["best"]) / 1.5


@pytest.mark.parametrize(
    ("nothing", "overlap", "known", "wanted"),
    [
        ([0.2, 0.8], [1.0, 1.0], [True, True], 1.0),
        ([0.2, 0.8], [0.0, 0.0], [False, False], 0.0),
        ([0.2, 0.8], [0.0, 0.0], [True, False], 0.0),
        ([0.8, 0.8, 0.1], [1.0, 1.0, 0.0], [True, True, False], 1.0),
        ([0.8, 0.1, 0.1], [0.5, 0.0, 0.0], [True, False, False], 0.0),
    ],
)
def test_a_fitted_threshold_where_one_side_is_missing_or_the_probabilities_are_wrong(
    nothing: list[float], overlap: list[float], known: list[bool], wanted: float
) -> None:
    assert fitted_threshold(np.array(nothing), np.array(overlap), np.array(known)) == wanted


def test_a_fitted_threshold_parts_what_is_certain() -> None:
    nothing = np.array([0.0, 0.0, 1e-12, 1.0, 1.0])
    threshold = fitted_threshold(nothing, np.ones(5), np.array([True, True, True, False, False]))
    assert 0.1 < threshold < 0.9
