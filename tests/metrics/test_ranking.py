"""Metrics of rankings: against scikit-learn, by hand, and by what must hold of any ranking."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import ndcg_score, top_k_accuracy_score

from recurra.data.store import Ragged
from recurra.errors import DataError, EmptyData
from recurra.metrics.ranking import (
    Ranking,
    popularity_percentiles,
    rank,
    ranking_intervals,
    ranking_metrics,
    ranking_statistics,
    ranks,
    sampled_ranking_metrics,
    sampled_ranks,
    top_items,
)


def drawn(n: int, items: int, seed: int = 0, levels: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Scores (of few levels, so that there are ties) and answers."""
    random = np.random.default_rng(seed)
    scores = random.normal(size=(n, items)) if levels is None else random.integers(0, levels, (n, items)).astype(np.float32)
    return scores, random.integers(0, items, n)


def ranking_of(values: list[float], sessions: list[int] | None = None) -> Ranking:
    n = len(values)
    numbers = np.arange(n) if sessions is None else np.array(sessions)
    return Ranking(np.array(values, np.float64), None, np.zeros((n, 1), np.int64), np.zeros(n, np.int64), numbers)


def by_hand(scores: np.ndarray, answer: int, ties: str, left_out: tuple[int, ...] = ()) -> float:
    """The rank by walking through the items."""
    others = [float(score) for item, score in enumerate(scores) if item != answer and item not in left_out]
    better, equal = sum(other > scores[answer] for other in others), sum(other == scores[answer] for other in others)
    return 1 + better + (equal if ties == "pessimistic" else equal / 2)


def test_ndcg_and_recall_are_those_of_scikit_learn() -> None:
    scores, answers = drawn(200, 40)
    found = ranking_metrics(rank(scores, answers, sessions=np.arange(200)), at=(1, 5, 10, 20))
    relevance = np.eye(40)[answers]
    for k in (1, 5, 10, 20):
        assert found[f"ndcg_at_{k}"] == pytest.approx(ndcg_score(relevance, scores, k=k), abs=1e-12)
        assert found[f"recall_at_{k}"] == pytest.approx(top_k_accuracy_score(answers, scores, k=k, labels=np.arange(40)), abs=1e-12)


def test_a_case_by_hand() -> None:
    """Ranks 1, 3, 7 and 25."""
    found = ranking_metrics(ranking_of([1, 3, 7, 25]))
    assert found["recall_at_5"] == 2 / 4
    assert found["recall_at_20"] == 3 / 4
    assert found["mrr_at_5"] == pytest.approx((1 + 1 / 3) / 4)
    assert found["mrr_at_10"] == pytest.approx((1 + 1 / 3 + 1 / 7) / 4)
    assert found["ndcg_at_10"] == pytest.approx((1 + 1 / 2 + 1 / 3) / 4)  # log2(1 + 3) is 2, log2(1 + 7) is 3


@given(st.integers(1, 12), st.integers(1, 4), st.sampled_from(["half", "pessimistic"]), st.integers(0, 1_000))
def test_ranks_are_those_of_a_walk_through_the_items(items: int, levels: int, ties: str, seed: int) -> None:
    scores, answers = drawn(5, items, seed, levels)
    seen = [tuple(row) for row in np.random.default_rng(seed).integers(-1, items, (5, 3))]
    assert ranks(scores, answers, ties=ties).tolist() == [by_hand(row, answer, ties) for row, answer in zip(scores, answers, strict=True)]
    masked = ranks(scores, answers, seen=Ragged.from_rows(seen, np.int64), ties=ties)
    assert masked.tolist() == [by_hand(row, a, ties, held) for row, a, held in zip(scores, answers, seen, strict=True)]


@given(st.integers(1, 60), st.integers(0, 1_000))
def test_a_constant_scorer_has_the_expected_rank(items: int, seed: int) -> None:
    """(V + 1) / 2 is the mean rank of a random order; the pessimistic rule puts the answer last."""
    answers = np.random.default_rng(seed).integers(0, items, 4)
    scores = np.full((4, items), 0.5)
    assert ranks(scores, answers).tolist() == [(items + 1) / 2] * 4
    assert ranks(scores, answers, ties="pessimistic").tolist() == [items] * 4


@given(st.integers(0, 1_000))
def test_other_names_of_the_items_change_nothing(seed: int) -> None:
    scores, answers = drawn(6, 30, seed, levels=5)
    order = np.random.default_rng(seed + 1).permutation(30)
    renamed = np.argsort(order)
    seen = np.random.default_rng(seed + 2).integers(0, 30, (6, 4))
    first = ranks(scores, answers, seen=Ragged.from_rows(list(seen)))
    assert (first == ranks(scores[:, order], renamed[answers], seen=Ragged.from_rows(list(renamed[seen])))).all()


@given(st.integers(0, 1_000))
def test_only_the_order_of_the_scores_counts(seed: int) -> None:
    scores, answers = drawn(6, 30, seed, levels=6)
    assert (ranks(scores, answers) == ranks(np.exp(scores / 3) - 7, answers)).all()


def test_both_rankings_come_out_of_one_pass() -> None:
    scores, answers = drawn(50, 30, levels=8)
    seen = Ragged.from_rows(list(np.random.default_rng(1).integers(0, 30, (50, 6))))
    found = rank(scores, answers, sessions=np.arange(50), seen=seen)
    assert (found.ranks == ranks(scores, answers)).all()
    assert found.masked_ranks is not None
    assert (found.masked_ranks == ranks(scores, answers, seen=seen)).all()
    assert (found.masked_ranks <= found.ranks).all()
    metrics = ranking_metrics(found)
    assert metrics["masked_recall_at_10"] == pytest.approx((found.masked_ranks <= 10).mean())
    assert rank(scores, answers, sessions=np.arange(50)).masked_ranks is None


def test_an_answer_that_was_seen_stays_in_the_ranking() -> None:
    scores = np.array([[3.0, 2.0, 1.0]])
    assert ranks(scores, np.array([1]), seen=Ragged.from_rows([[0, 1, 1]])).tolist() == [1]


def test_an_unknown_answer_is_a_miss() -> None:
    scores, _ = drawn(2, 30)
    found = rank(scores, np.array([-1, 4]), sessions=np.arange(2), seen=Ragged.from_rows([[1], [2]]))
    assert found.ranks[0] == np.inf
    assert ranking_metrics(found, at=(30,))["recall_at_30"] == 0.5
    assert ranking_metrics(found, at=(30,))["masked_recall_at_30"] == 0.5


def test_nan_scores_are_an_error() -> None:
    scores, answers = drawn(4, 10)
    scores[2, answers[2]] = np.nan
    with pytest.raises(DataError, match=r"1 of 40 scores are NaN \(the first is in row 2\)"):
        ranks(scores, answers)


def test_what_does_not_fit_is_an_error() -> None:
    scores, answers = drawn(4, 10)
    with pytest.raises(ValueError, match=r"between -1 \(unknown\) and 9"):
        ranks(scores, answers + 10)
    with pytest.raises(ValueError, match="must be"):
        ranks(scores, answers[:3])
    with pytest.raises(ValueError, match="row of seen items"):
        ranks(scores, answers, seen=Ragged.from_rows([[1]]))
    with pytest.raises(ValueError, match="'half' or 'pessimistic'"):
        ranks(scores, answers, ties="lucky")  # type: ignore[arg-type]
    with pytest.raises(EmptyData, match="no click to foresee"):
        ranking_metrics(ranking_of([]))


def test_blocks_are_one_ranking() -> None:
    scores, answers = drawn(60, 30, levels=9)
    sessions = np.arange(60) // 4
    seen = Ragged.from_rows([[row % 30] for row in range(60)])
    blocks = [slice(0, 7), slice(7, 40), slice(40, 60)]
    parts = [rank(scores[b], answers[b], sessions=sessions[b], seen=seen.take(np.arange(60)[b])) for b in blocks]
    whole = rank(scores, answers, sessions=sessions, seen=seen)
    assert ranking_metrics(Ranking.concatenate(parts)) == ranking_metrics(whole)
    assert (Ranking.concatenate(parts).top == whole.top).all()


@given(st.integers(1, 40), st.integers(1, 45), st.integers(0, 1_000))
def test_the_first_items_are_those_of_a_whole_sort(items: int, k: int, seed: int) -> None:
    scores, _ = drawn(3, items, seed)
    found = top_items(scores, k)
    kept = min(k, items)
    assert (found[:, :kept] == np.argsort(-scores, axis=1)[:, :kept]).all()
    assert (found[:, kept:] == -1).all()


def test_no_items_are_looked_for() -> None:
    scores, answers = drawn(3, 10)
    found = rank(scores, answers, sessions=np.arange(3), top=0)
    assert found.top.shape == (3, 0)
    assert "coverage_at_0" not in ranking_metrics(found, popularity=np.arange(10))


def test_seen_items_are_not_recommended() -> None:
    scores = np.array([[4.0, 3.0, 2.0, 1.0]])
    seen = Ragged.from_rows([[0, 2, -1]])
    assert top_items(scores, 4, seen=seen).tolist() == [[1, 3, -1, -1]]
    assert rank(scores, np.array([3]), sessions=np.zeros(1), seen=seen, top=2).top.tolist() == [[0, 1]]
    assert rank(scores, np.array([3]), sessions=np.zeros(1), seen=seen, top=2, exclude_seen=True).top.tolist() == [[1, 3]]
    assert scores.tolist() == [[4.0, 3.0, 2.0, 1.0]]


@given(st.lists(st.integers(0, 9), min_size=1, max_size=50))
def test_popularity_percentiles(clicks: list[int]) -> None:
    """Their mean is a half whatever the ties, and a more popular item never has a lower one."""
    popularity = np.array(clicks)
    found = popularity_percentiles(popularity)
    assert found.mean() == pytest.approx(0.5)
    order = np.argsort(popularity)
    assert (np.diff(found[order]) >= 0).all()


def test_coverage_and_popularity_bias() -> None:
    popularity = np.array([9, 5, 1, 0])  # percentiles .875, .625, .375, .125
    found = Ranking(np.ones(2), None, np.array([[0, 1], [0, -1]]), np.array([2, -1]), np.arange(2))
    metrics = ranking_metrics(found, at=(1,), popularity=popularity)
    assert metrics["coverage_at_2"] == 0.5
    assert metrics["recommended_popularity_at_2"] == pytest.approx((0.875 + 0.625 + 0.875) / 3)
    assert metrics["answer_popularity"] == 0.375


def test_statistics_are_the_metrics() -> None:
    """Each session drawn once gives the metrics; a session drawn twice counts twice with all its clicks."""
    values, sessions = [1, 30, 4, 8, 2], [5, 5, 5, 9, 9]
    metric, count = ranking_statistics(ranking_of(values, sessions))
    assert count == 2
    once = {name: value[0] for name, value in metric(np.ones((1, 2))).items()}
    assert once == pytest.approx(ranking_metrics(ranking_of(values, sessions)))
    twice = {name: value[0] for name, value in metric(np.array([[1.0, 2.0]])).items()}
    assert twice == pytest.approx(ranking_metrics(ranking_of([*values, 8, 2])))


def test_intervals_are_over_sessions() -> None:
    """400 sessions of 25 clicks that are all right or all wrong are 400 draws, not 10,000."""
    hit = np.repeat(np.random.default_rng(0).random(400) < 0.4, 25)
    found = ranking_of(np.where(hit, 1.0, 99.0).tolist(), np.repeat(np.arange(400), 25).tolist())
    low, high = ranking_intervals(found, samples=4_000)["recall_at_5"]
    share = hit.mean()
    error = np.sqrt(share * (1 - share) / 400)
    # As in test_intervals: five standard errors of a 2.5% quantile of 4,000 draws, and the binomial's steps of 1/400 = 0.1 errors.
    assert (low, high) == pytest.approx((share - 1.96 * error, share + 1.96 * error), abs=0.31 * error)
    assert ranking_intervals(found, samples=0) == {}


def test_sampled_ranks_of_all_others_are_ranks() -> None:
    scores, answers = drawn(30, 20, levels=6)
    assert (sampled_ranks(scores, answers, negatives=19) == ranks(scores, answers)).all()
    seen = Ragged.from_rows([[(answer + 1) % 20] for answer in answers])
    assert (sampled_ranks(scores, answers, negatives=18, seen=seen) == ranks(scores, answers, seen=seen)).all()
    with pytest.raises(ValueError, match="19 items are left"):
        sampled_ranks(scores, answers, negatives=20)


def test_sampled_metrics_flatter_and_can_change_the_order_of_two_models() -> None:
    """Of 2,001 items, one model puts half of the answers first and half last; the other puts all of them in the hundredth place."""
    scores, answers = np.tile(np.arange(2_001.0), (400, 1)), np.zeros(400, np.int64)
    sharp, broad = scores.copy(), scores.copy()
    sharp[:200, 0], sharp[200:, 0] = 3_000, -1
    broad[:, 0] = 1_901.5
    full = [ranking_metrics(rank(s, answers, sessions=np.arange(400)), at=(10,))["recall_at_10"] for s in (sharp, broad)]
    few = [sampled_ranking_metrics(sampled_ranks(s, answers), negatives=99, at=(10,))["sampled_99_recall_at_10"] for s in (sharp, broad)]
    assert full == [0.5, 0.0]
    # Of 99 others drawn, 4.9 stand above the hundredth on average; ten or more of them in about 2% of the draws.
    assert few[0] == 0.5
    assert few[1] > 0.9
