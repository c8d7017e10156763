"""The recommenders without a network: by hand, against the plain loop, and what must hold of any of them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recurra.config import EvaluationSettings
from recurra.data.cases import Cases
from recurra.data.store import Ragged
from recurra.errors import EmptyData
from recurra.evaluation.recommend import baselines
from recurra.evaluation.recommend.baselines import measure_baselines, rank_cases
from recurra.evaluation.recommend.scorers import SCORERS, ItemNeighbours, MarkovChain, Popularity, SessionNeighbours
from recurra.metrics.ranking import top_items

ITEMS = 6
SESSIONS = st.lists(st.lists(st.integers(-1, ITEMS - 1), max_size=6), min_size=1, max_size=12)
PREFIXES = st.lists(st.lists(st.integers(-1, ITEMS - 1), max_size=6), min_size=1, max_size=5)


def ragged(rows: list[list[int]]) -> Ragged:
    return Ragged.from_rows(rows, np.int64)


def known(row: list[int]) -> list[int]:
    return [item for item in row if item >= 0]


def by_place(prefix: list[int], most: int, *, decay: bool) -> dict[int, float]:
    """Weight of each item of the prefix, by its last place."""
    last = known(prefix)[-most:]
    return {item: (place + 1) / len(last) if decay else 1.0 for place, item in enumerate(last)}


def test_popularity() -> None:
    model = Popularity().fit(ragged([[0, 1, 1], [1, 2], [-1]]), 4)
    scores = model.scores(ragged([[3], []]))
    assert (scores[0] == scores[1]).all()
    assert top_items(scores, 4).tolist() == [[1, 0, 2, 3]] * 2


def test_markov_chain_by_hand() -> None:
    model = MarkovChain().fit(ragged([[0, 1, 0, 2], [0, 1], [3]]), 5)
    scores = model.scores(ragged([[4, 0], [0, -1], [2], []]))
    assert scores[0, [1, 2]].tolist() == pytest.approx([2 / 3, 1 / 3])
    assert (scores[1] == scores[0]).all()  # an unknown item is as if it had not been
    assert (scores[2:] < 0).all()  # nothing followed item 2: what is left is the order of popularity
    assert (
        top_items(scores[2:], 5)[0].tolist()
        == top_items(Popularity().fit(ragged([[0, 1, 0, 2], [0, 1], [3]]), 5).scores(ragged([[]])), 5)[0].tolist()
    )


@settings(deadline=None)
@given(SESSIONS, PREFIXES, st.integers(1, 4), st.sampled_from([0.0, 5.0]), st.sampled_from([0.0, 0.5, 1.0]))
def test_item_neighbours_are_those_of_the_plain_loop(
    sessions: list[list[int]], prefixes: list[list[int]], most: int, regularization: float, repeat: float
) -> None:
    model = ItemNeighbours(most=most, regularization=regularization).fit(ragged(sessions), ITEMS)
    model.repeat = repeat
    found = model.scores(ragged(prefixes))
    sets = [set(known(row)) for row in sessions]
    support = [sum(item in held for held in sets) + regularization for item in range(ITEMS)]
    for row, prefix in enumerate(prefixes):
        for item in range(ITEMS):
            expected = sum(
                weight * sum({item, other} <= held for held in sets) / np.sqrt(support[item] * support[other])
                for other, weight in by_place(prefix, most, decay=True).items()
                if other != item and support[item] * support[other]
            )
            expected *= repeat if item in prefix else 1.0
            # A sum of at most 4 products of single precision: a few times 4 x 2^-24.
            assert max(found[row, item], 0.0) == pytest.approx(expected, abs=2e-6)


@settings(deadline=None)
@given(SESSIONS, PREFIXES, st.integers(1, 3), st.integers(1, 6), st.booleans())
def test_session_neighbours_are_those_of_the_plain_loop(
    sessions: list[list[int]], prefixes: list[list[int]], neighbours: int, recent: int, decay: bool
) -> None:
    model = SessionNeighbours(neighbours=neighbours, recent=recent, decay=decay, most=4).fit(ragged(sessions), ITEMS)
    found = model.scores(ragged(prefixes))
    sets = [set(known(row)) for row in sessions]
    for row, prefix in enumerate(prefixes):
        weights = by_place(prefix, 4, decay=decay)
        length = np.sqrt(sum(weight**2 for weight in weights.values()))
        latest = [place for place, held in enumerate(sets) if held & set(weights)][-recent:]
        similar = [(sum(weights.get(item, 0.0) for item in sets[place]) / length / np.sqrt(len(sets[place])), place) for place in latest]
        chosen = sorted(similar)[-neighbours:]
        if len(similar) > neighbours and np.isclose(sorted(similar)[-neighbours - 1][0], chosen[0][0]):
            continue  # which of equally similar sessions votes is decided by the last bit
        expected = [sum(score for score, place in chosen if item in sets[place]) for item in range(ITEMS)]
        # Sums of at most 3 similarities, each of at most 4 products, in single precision.
        assert np.maximum(found[row], 0.0) == pytest.approx(expected, abs=5e-6)


@pytest.mark.parametrize("name", SCORERS)
def test_scores_of_a_prefix_do_not_depend_on_the_others(name: str) -> None:
    random = np.random.default_rng(0)
    rows = [random.integers(0, 30, random.integers(1, 9)).tolist() for _ in range(80)]
    model = SCORERS[name]().fit(ragged(rows), 30)
    alone = np.concatenate([model.scores(ragged([row])) for row in rows[:20]])
    assert (alone == model.scores(ragged(rows[:20]))).all()
    assert np.isfinite(alone).all()


@pytest.mark.parametrize("name", SCORERS)
def test_only_the_order_of_time_counts(name: str) -> None:
    """Renamed items are recommended under their new names."""
    random = np.random.default_rng(1)
    rows = [random.integers(0, 20, random.integers(2, 9)) for _ in range(60)]
    names = random.permutation(20)
    first = SCORERS[name]().fit(Ragged.from_rows(rows, np.int64), 20).scores(Ragged.from_rows(rows[:10], np.int64))
    second = SCORERS[name]().fit(Ragged.from_rows([names[row] for row in rows], np.int64), 20)
    renamed = second.scores(Ragged.from_rows([names[row] for row in rows[:10]], np.int64))
    # Sums of the same numbers in another order.
    np.testing.assert_allclose(renamed[:, names], first, atol=1e-5)


def test_the_latest_sessions_are_asked() -> None:
    old, new = [[0, 1]] * 5, [[0, 2]] * 5
    model = SessionNeighbours(neighbours=5, recent=5).fit(ragged(old + new), 3)
    scores = model.scores(ragged([[0]]))[0]
    assert scores[2] > 0 > scores[1]


def test_neighbours_of_an_item_are_cut_at_the_most_similar() -> None:
    model = ItemNeighbours(neighbours=1, regularization=0.0).fit(ragged([[0, 1], [0, 1], [0, 2], [2, 3]]), 4)
    scores = model.scores(ragged([[0]]))[0]
    assert scores[1] > 0 > scores[2]


def test_what_a_repeated_item_is_worth_is_chosen_on_other_sessions() -> None:
    """Where nobody clicks twice, what was clicked is worth nothing; where everybody does, it is worth most."""
    random = np.random.default_rng(4)
    groups = [random.permutation(5)[:4] + 5 * random.integers(0, 8) for _ in range(200)]
    for repeated in (False, True):
        rows = [np.repeat(group, 2) if repeated else group for group in groups]
        cases = Cases.last_step(Ragged.from_rows(rows[150:], np.int64))
        model = SessionNeighbours().fit(Ragged.from_rows(rows[:150], np.int64), 40).choose_repeat(cases)
        assert model.repeat == 1.0 if repeated else model.repeat < 1.0
    found = measure_baselines(
        Ragged.from_rows(groups[:150], np.int64),
        Cases.last_step(Ragged.from_rows(groups[175:], np.int64)),
        items=40,
        validation=Cases.last_step(Ragged.from_rows(groups[150:175], np.int64)),
    )
    assert "already holds counts" in found["session_neighbours"].description


def test_all_baselines_are_measured_on_the_same_clicks() -> None:
    random = np.random.default_rng(2)
    walks = [(random.integers(0, 40) + np.arange(random.integers(3, 9))) % 40 for _ in range(150)]
    train, cases = Ragged.from_rows(walks[:100], np.int64), Cases.every_step(Ragged.from_rows(walks[100:], np.int64))
    found = measure_baselines(train, cases, items=40, settings=EvaluationSettings(bootstrap_samples=50))
    assert list(found) == ["popularity", "markov", "item_neighbours", "session_neighbours"]
    for baseline in found.values():
        assert (baseline.ranking.answers == cases.answers).all()
        assert baseline.ranking.masked_ranks is not None
        assert {"recall_at_20", "mrr_at_20", "ndcg_at_10", "masked_recall_at_10", "coverage_at_20"} <= set(baseline.metrics)
        low, high = baseline.intervals["recall_at_10"]
        assert low <= baseline.metrics["recall_at_10"] <= high
        assert baseline.result().metrics == baseline.metrics
    # Each item is followed by the next one, always.
    assert found["markov"].metrics["recall_at_5"] == 1.0
    assert found["popularity"].metrics["recall_at_5"] < 0.5


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(3)
    rows = [random.integers(0, 10, 5) for _ in range(30)]
    sessions = Ragged.from_rows(rows, np.int64)
    model, cases = MarkovChain().fit(sessions, 10), Cases.every_step(sessions)
    whole = rank_cases(model.scores, cases, items=10)
    monkeypatch.setattr(baselines, "_CELLS", 70)
    sizes: list[int] = []

    def scores(prefixes: Ragged) -> np.ndarray:
        sizes.append(len(prefixes))
        return model.scores(prefixes)

    blocks = rank_cases(scores, cases, items=10)
    assert (blocks.ranks == whole.ranks).all()
    assert max(sizes) == 7


def test_nothing_to_learn_from_and_nothing_to_foresee() -> None:
    with pytest.raises(EmptyData, match="no click"):
        measure_baselines(ragged([]), Cases.every_step(ragged([[0, 1]])), items=2)
    with pytest.raises(EmptyData, match="one click only"):
        measure_baselines(ragged([[0, 1]]), Cases.every_step(ragged([[0]])), items=2)
