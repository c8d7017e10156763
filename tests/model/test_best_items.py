"""Recommendations by blocks, or by a graph, are those of all scores at once, what earlier clicks add included."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
import torch

from recurra.config import load_settings
from recurra.data.store import Ragged
from recurra.features.items import ItemVocabulary
from recurra.metrics.ranking import top_items
from recurra.model.recommend.batch import Seen
from recurra.model.recommend.best import approximate_top, best_items, exact_top
from recurra.model.recommend.model import Recommender
from recurra.model.recommend.network import RecommendNetwork

ITEMS = 300


@pytest.fixture
def model() -> Recommender:
    """An untrained network whose biases and repeats are far from zero."""
    torch.manual_seed(0)
    settings = load_settings({"recommend": {"session": "s", "item": "i"}, "embedding.size": 16, "encoder.hidden_size": 16})
    names = pl.Series([f"item {number}" for number in range(ITEMS)])
    items = ItemVocabulary(names, np.arange(ITEMS, 0, -1))
    network = RecommendNetwork(items, settings)
    for name, parameter in network.named_parameters():
        if name in {"bias.weight", "repeats"} or name.startswith("embedding"):
            torch.nn.init.normal_(parameter, std=0.3)
    return Recommender(settings, items, network=network)


def questions(count: int) -> tuple[torch.Tensor, Seen, Ragged]:
    """Outputs, and sessions of 0 to 6 clicks before them, some items clicked twice."""
    random = np.random.default_rng(0)
    rows = [random.integers(0, 5, length % 7) * 60 for length in range(count)]
    seen = Ragged.from_rows(rows, np.int64)
    ends = seen.offsets[1:] - 1
    return torch.randn(count, 16, generator=torch.Generator().manual_seed(1)), Seen.before(ends, seen.lengths, seen.values), seen


@pytest.mark.parametrize("exclude", [False, True])
def test_best_items_are_those_of_all_scores(model: Recommender, exclude: bool) -> None:
    vectors, before, seen = questions(25)
    network = model.network
    with torch.no_grad():
        scores = network.scores(vectors, before).numpy()
        expected = top_items(scores, 20, seen=seen if exclude else None)
        found = best_items(network, exact_top(network), vectors, 20, seen=before, excluded=seen if exclude else None)
    assert (found.items.numpy() == expected).all()
    # The same products in another order: 16 of them near 1, in single precision.
    np.testing.assert_allclose(found.scores.numpy(), np.take_along_axis(scores, expected, 1), atol=1e-5)


def test_sessions_by_blocks_and_by_a_graph(model: Recommender) -> None:
    pytest.importorskip("usearch", reason="usearch is not installed (pip install 'recurra[search]')")
    exact, fast = model.session(), model.session(approximate=True)
    other = model.session(approximate=True)
    for item in (3, 50, 3, 299):
        exact.click(f"item {item}")
        fast.click(f"item {item}")
    # 300 items are fewer than the graph looks at, so that nothing is missed.
    assert fast.recommend(10)["item"].to_list() == exact.recommend(10)["item"].to_list()
    assert not set(fast.recommend(10, exclude_seen=True)["item"]) & set(fast.clicks)
    assert other._search is fast._search  # built once
    assert len(approximate_top(model.network)) == ITEMS


def test_a_session_before_any_click(model: Recommender) -> None:
    session = model.session()
    bias = model.network.bias
    assert bias is not None
    best = bias.weight[:, 0].argsort(descending=True)[:5]
    assert session.recommend(5)["item"].to_list() == [f"item {number}" for number in best.tolist()]
