"""The best items for outputs of the network, with what the clicks of the session add to single items.

The search (`top`) knows vectors and biases alone. The few items whose scores the session changes are scored here, one by one, and take
their places among those that the search finds.
"""

from __future__ import annotations

import numpy as np
import torch

from recurra.data.store import Ragged, offsets_of
from recurra.errors import SettingsError
from recurra.model.recommend.batch import Seen
from recurra.model.recommend.network import RecommendNetwork
from recurra.model.recommend.top import ApproximateTop, ExactTop, Found
from recurra.shapes import Float, Tensor

__all__ = ["approximate_top", "best_items", "exact_top", "require_top"]


def require_top(top: object) -> None:
    """Refuse a number of items that is none.

    Raises:
        SettingsError: it is negative, or no whole number.
    """
    if isinstance(top, bool) or not isinstance(top, (int, np.integer)) or top < 0:
        raise SettingsError(f"top={top!r} is no number of items: give 1 or more.")


def exact_top(network: RecommendNetwork) -> ExactTop:
    """The exact search among the network's items; it holds no copy of them."""
    return ExactTop(network.scoring.weight, None if network.bias is None else network.bias.weight[:, 0])


def approximate_top(network: RecommendNetwork) -> ApproximateTop:
    """An approximate search among the network's items as they are now.

    Raises:
        MissingDependency: usearch is not installed.
    """
    return ApproximateTop(network.scoring.weight, None if network.bias is None else network.bias.weight[:, 0])


def best_items(
    network: RecommendNetwork,
    search: ExactTop | ApproximateTop,
    vectors: Float[Tensor, "N D"],
    k: int,
    *,
    seen: Seen | None,
    excluded: Ragged | None = None,
) -> Found:
    """The k best items for each output.

    Args:
        network: whose outputs these are.
        search: among its items.
        vectors: outputs.
        k: how many.
        seen: the clicks before each question, whose items have other scores; None where these have not.
        excluded: all items that each question must not get; then `seen` says nothing more.
    """
    if excluded is not None or seen is None or network.repeats is None:
        return search.search(vectors, k, excluded=excluded)
    pairs, place = torch.unique(torch.stack([seen.questions, seen.items]), dim=1, return_inverse=True)
    questions, items = pairs
    changed = Ragged(items.cpu().numpy(), offsets_of(np.bincount(questions.cpu().numpy(), minlength=len(vectors))))
    found = search.search(vectors, k, excluded=changed)
    scores = (vectors[questions] * network.scoring.weight[items]).sum(1)
    if network.bias is not None:
        scores = scores + network.bias.weight[items, 0]
    scores = scores.index_add(0, place, network.repeat_scores[seen.distances].to(scores.dtype))
    width = int(changed.lengths.max(initial=0))
    inside = torch.arange(len(questions), device=questions.device) - torch.from_numpy(changed.offsets[:-1]).to(questions.device)[questions]
    others, other_scores = found.items.new_full((len(vectors), width), -1), found.scores.new_full((len(vectors), width), -torch.inf)
    others[questions, inside], other_scores[questions, inside] = items, scores.to(found.scores.dtype)
    best, order = torch.cat([found.scores, other_scores], 1).topk(k, dim=1)
    return Found(torch.cat([found.items, others], 1).gather(1, order), best)
