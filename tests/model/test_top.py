"""The best of many items: by blocks as by one sort, in bounded memory; and nearly the same by a graph."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recurra.data.store import Ragged
from recurra.errors import MissingDependency
from recurra.model.recommend.top import ApproximateTop, ExactTop


def catalogue(items: int, width: int = 8, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(items, width, generator=generator), torch.randn(items, generator=generator)


def queries(n: int, width: int = 8, seed: int = 1) -> torch.Tensor:
    return torch.randn(n, width, generator=torch.Generator().manual_seed(seed))


@settings(deadline=None)
@given(st.integers(1, 60), st.integers(1, 70), st.integers(1, 25), st.booleans(), st.integers(0, 100))
def test_blocks_find_what_one_sort_finds(items: int, block: int, k: int, with_bias: bool, seed: int) -> None:
    vectors, bias = catalogue(items, seed=seed)
    excluded = Ragged.from_rows(list(np.random.default_rng(seed).integers(-1, items, (3, 4))), np.int64)
    scores = queries(3) @ vectors.T + (bias if with_bias else 0)
    for row, left_out in enumerate(excluded):
        scores[row, left_out[left_out >= 0]] = -torch.inf
    expected, order = scores.sort(dim=1, descending=True)
    found = ExactTop(vectors, bias if with_bias else None, block=block).search(queries(3), k, excluded=excluded)
    kept = min(k, items)
    # The products of a block and of the whole matrix are summed in another order: 8 products in single precision, of numbers near 1.
    torch.testing.assert_close(found.scores[:, :kept], expected[:, :kept], rtol=0, atol=1e-5)
    assert found.scores[:, kept:].isneginf().all()
    left = expected[:, :kept].isfinite()
    assert (found.items[:, :kept][left] == order[:, :kept][left]).all()
    assert (found.items[:, :kept][~left] == -1).all()
    assert (found.items[:, kept:] == -1).all()


def test_memory_is_that_of_a_block() -> None:
    """16 queries and 400,000 items would be 6.4 million scores; no tensor is larger than 16 times a block."""
    vectors, _ = catalogue(400_000, 2)
    sizes: list[int] = []

    class Watched(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            result = function(*args, **(kwargs or {}))
            sizes.extend(
                part.numel()
                for part in (result if isinstance(result, tuple) else (result,))
                if isinstance(part, torch.Tensor) and part.data_ptr() != vectors.data_ptr()
            )
            return result

    with Watched():
        ExactTop(vectors, block=4_096).search(queries(16, 2), 20)
    assert max(sizes) == 16 * 4_096


def test_what_does_not_fit_is_an_error() -> None:
    vectors, bias = catalogue(10)
    with pytest.raises(ValueError, match="the bias"):
        ExactTop(vectors, bias[:3])
    with pytest.raises(ValueError, match="row of excluded items"):
        ExactTop(vectors).search(queries(2), 3, excluded=Ragged.from_rows([[1]]))


def test_nothing_asked_for() -> None:
    top = ExactTop(catalogue(10)[0])
    assert top.search(queries(2), 0).items.shape == (2, 0)
    assert top.search(queries(0), 5).items.shape == (0, 5)
    assert len(top) == 10


def test_the_graph_finds_nearly_all() -> None:
    """Vectors of very different lengths, where the nearest direction is not the best item."""
    pytest.importorskip("usearch", reason="usearch is not installed (pip install 'recurra[search]')")
    vectors, bias = catalogue(5_000, 16)
    vectors *= torch.linspace(0.2, 2.0, 5_000)[:, None]
    exact = ExactTop(vectors, bias).search(queries(50, 16), 20)
    found = ApproximateTop(vectors, bias).search(queries(50, 16), 20)
    shared = [len(set(a) & set(b)) for a, b in zip(exact.items.tolist(), found.items.tolist(), strict=True)]
    assert np.mean(shared) / 20 > 0.95
    assert (found.scores[:, 1:] <= found.scores[:, :-1]).all()
    # Scores are exact whatever the graph: 17 products in single precision.
    torch.testing.assert_close(
        found.scores, torch.einsum("nh,nkh->nk", queries(50, 16), vectors[found.items]) + bias[found.items], rtol=1e-5, atol=1e-5
    )


def test_the_graph_leaves_out_what_it_must() -> None:
    pytest.importorskip("usearch", reason="usearch is not installed (pip install 'recurra[search]')")
    vectors, bias = catalogue(500)
    best = ExactTop(vectors, bias).search(queries(4), 30).items
    excluded = Ragged.from_rows(list(best.numpy()), np.int64)
    top = ApproximateTop(vectors, bias, candidates=64)
    found = top.search(queries(4), 10, excluded=excluded).items
    for left_out, row in zip(best.tolist(), found.tolist(), strict=True):
        assert not set(left_out) & set(row)
        assert min(row) >= 0
    few = ApproximateTop(*catalogue(3)).search(queries(2), 5)
    assert sorted(few.items[0].tolist()) == [-1, -1, 0, 1, 2]
    alone = top.search(queries(4)[:1], 10, excluded=excluded.take([0])).items
    assert alone[0].tolist() == top.search(queries(4), 10, excluded=excluded).items[0].tolist()
    assert top.search(queries(2), 0).items.shape == (2, 0)


def test_without_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "usearch.index", None)
    with pytest.raises(MissingDependency, match=r"recurra\[search\]"):
        ApproximateTop(*catalogue(10))
