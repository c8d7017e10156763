"""The best items for a state of the network, out of as many as there are: exactly, by blocks, or approximately, by a graph.

The score of an item is the product of its vector with the network's output, and a number of its own: s = v . h + b.

* `ExactTop` looks at every item, a block at a time: whatever the catalogue, it holds the scores of one block. The cost grows with the
  catalogue.
* `ApproximateTop` walks through a graph of neighbours (HNSW, by the library usearch) and looks at some thousands of items. It may miss a few of the
  best ones; the scores of those that it finds are exact. Its graph takes a while to build and is not part of a model folder.

Both leave out items on request. Not inside: the network that makes h, names of items.

Source: Malkov and Yashunin, "Efficient and robust approximate nearest neighbor search using Hierarchical Navigable Small World graphs", 2018;
Morozov and Babenko, "Non-metric Similarity Graphs for Maximum Inner Product Search", NeurIPS 2018 (the graph of products themselves finds more
than one of distances after a transformation; measured here too, see the experiment log).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch

from recurra.data.store import Ragged
from recurra.errors import MissingDependency
from recurra.shapes import Float, Int, Tensor

__all__ = ["ApproximateTop", "ExactTop", "Found"]


class Found(NamedTuple):
    """The best items of N queries.

    Attributes:
        items: (N, k) numbers, best first; -1 where fewer are left.
        scores: (N, k), minus infinity where fewer are left.
    """

    items: Int[Tensor, "N k"]
    scores: Float[Tensor, "N k"]


class ExactTop:
    """The best of all items.

    Args:
        vectors: (V, H) of the items; kept as they are, not copied.
        bias: (V,) a number of each item, where there is one.
        block: items whose scores are held at a time for each query.
    """

    def __init__(self, vectors: Float[Tensor, "V H"], bias: Float[Tensor, " V"] | None = None, *, block: int = 65_536) -> None:
        if vectors.ndim != 2 or (bias is not None and bias.shape != vectors.shape[:1]):
            raise ValueError(
                f"Vectors must be (V, H) and the bias (V,), not {tuple(vectors.shape)} and {bias is not None and tuple(bias.shape)}."
            )
        self.vectors = vectors.detach()
        self.bias = None if bias is None else bias.detach()
        self.block = block

    def __len__(self) -> int:
        return len(self.vectors)

    @torch.no_grad()
    def search(self, queries: Float[Tensor, "N H"], k: int = 20, *, excluded: Ragged | None = None) -> Found:
        """The k best items of each query; of equal scores any.

        Args:
            queries: outputs h of the network.
            k: how many.
            excluded: items that each query must not get (-1 is skipped).
        """
        best = Found(
            torch.full((len(queries), k), -1, device=queries.device),
            torch.full((len(queries), k), -torch.inf, device=queries.device, dtype=queries.dtype),
        )
        if not k or not len(queries):
            return best
        rows, items = _pairs(excluded, len(queries), queries.device)
        for start in range(0, len(self.vectors), self.block):
            stop = min(start + self.block, len(self.vectors))
            scores = queries @ self.vectors[start:stop].T
            if self.bias is not None:
                scores += self.bias[start:stop]
            inside = (items >= start) & (items < stop)
            scores[rows[inside], items[inside] - start] = -torch.inf
            values, places = scores.topk(min(k, stop - start), dim=1)
            places = torch.where(values.isneginf(), -1, places + start)
            values, order = torch.cat([best.scores, values], 1).topk(k, dim=1)
            best = Found(torch.cat([best.items, places], 1).gather(1, order), values)
        return best


class ApproximateTop:
    """Nearly the best of all items, at a cost that hardly grows with their number.

    Args:
        vectors: (V, H) of the items.
        bias: (V,) a number of each item, where there is one.
        candidates: items that the graph's search keeps for each query, whose scores are then computed exactly; more find more of the best and
            take longer.
        links: of an item in the graph; more find more, and take memory (about 8 bytes each) and time to build, on as many threads as torch has.

    Raises:
        MissingDependency: usearch is not installed.
    """

    def __init__(
        self,
        vectors: Float[Tensor, "V H"],
        bias: Float[Tensor, " V"] | None = None,
        *,
        candidates: int = 256,
        links: int = 16,
    ) -> None:
        self._exact = ExactTop(vectors, bias)
        self.candidates = candidates
        points = self._points().numpy()
        self._graph: Any = _usearch()(
            ndim=points.shape[1], metric="ip", dtype="f16", connectivity=links, expansion_add=128, expansion_search=candidates
        )
        self._graph.add(np.arange(len(points), dtype=np.uint64), points, threads=torch.get_num_threads())

    def __len__(self) -> int:
        return len(self._exact)

    def _points(self) -> Float[Tensor, "V H+1"]:
        """Vector and bias of each item, side by side."""
        vectors, bias = self._exact.vectors.float().cpu(), self._exact.bias
        return vectors if bias is None else torch.cat([vectors, bias.float().cpu()[:, None]], 1)

    @torch.no_grad()
    def search(self, queries: Float[Tensor, "N H"], k: int = 20, *, excluded: Ragged | None = None) -> Found:
        """The k best items that are found; arguments and result are those of `ExactTop.search`.

        So many candidates more are asked for as the longest row of `excluded` has items, so that leaving them out costs no results.
        """
        rows, items = _pairs(excluded, len(queries), torch.device("cpu"))
        wanted = min(len(self), max(self.candidates, k) + (int(excluded.lengths.max(initial=0)) if excluded is not None else 0))
        if not k or not len(queries):
            return Found(torch.full((len(queries), k), -1), torch.full((len(queries), k), -torch.inf))
        asked = queries.float().cpu()
        if self._exact.bias is not None:
            asked = torch.cat([asked, torch.ones(len(asked), 1)], 1)
        matches = self._graph.search(asked.numpy(), wanted, threads=1)
        found = torch.from_numpy(np.asarray(matches.keys).reshape(len(queries), -1).astype(np.int64))
        count = torch.from_numpy(np.atleast_1d(np.asarray(getattr(matches, "counts", found.shape[1]))).astype(np.int64))
        missing = torch.arange(found.shape[1]) >= count[:, None]
        found = found.masked_fill(missing, 0)
        vectors = self._exact.vectors[found]
        scores = torch.einsum("nh,nch->nc", queries, vectors)
        if self._exact.bias is not None:
            scores = scores + self._exact.bias[found]
        scores = scores.masked_fill(missing, -torch.inf)
        for row, item in zip(rows.tolist(), items.tolist(), strict=True):
            scores[row].masked_fill_(found[row] == item, -torch.inf)
        values, order = scores.topk(min(k, scores.shape[1]), dim=1)
        best = torch.where(values.isneginf(), -1, found.gather(1, order))
        short = k - values.shape[1]
        return Found(torch.nn.functional.pad(best, (0, short), value=-1), torch.nn.functional.pad(values, (0, short), value=-torch.inf))


def _pairs(excluded: Ragged | None, queries: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Query and item of everything that is left out."""
    if excluded is None:
        return torch.zeros(0, dtype=torch.int64, device=device), torch.zeros(0, dtype=torch.int64, device=device)
    if len(excluded) != queries:
        raise ValueError(f"There must be a row of excluded items for each of the {queries} queries, not {len(excluded)}.")
    rows = np.repeat(np.arange(queries), excluded.lengths)
    items = np.asarray(excluded.values[excluded.offsets[0] : excluded.offsets[-1]], dtype=np.int64)
    known = items >= 0
    return torch.from_numpy(rows[known]).to(device), torch.from_numpy(items[known]).to(device)


def _usearch() -> Any:
    try:
        from usearch.index import Index
    except ImportError as error:
        raise MissingDependency(
            "Approximate search needs the package usearch: pip install 'recurra[search]', or leave approximate out."
        ) from error
    return Index
