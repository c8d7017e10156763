"""What a ranking did in detail, for the report: by cutoff, by what was known, by how popular the answer is; and examples.

Not inside: the means over all clicks (`recurra.metrics.ranking`), the pictures (`recurra.evaluation.charts.ranking`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from recurra.data.cases import Cases
from recurra.evaluation.report.content import RankingExample, RankingResults
from recurra.metrics.ranking import Ranking, popularity_percentiles
from recurra.shapes import Int

__all__ = ["ranking_results"]

_CURVE = (1, 2, 3, 4, 5, 7, 10, 15, 20, 30, 50, 70, 100)
_KNOWN = (1, 2, 3, 4, 5, 7, 11, 21, 51)
_CLICKED = (0, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000)
"""First value of each group of clicks known, and of clicks of the answer in training."""
_SHOWN_CLICKS, _SHOWN_ITEMS = 8, 8
_FEW = 20
"""A group of fewer clicks is not drawn: its recall would be noise."""


def ranking_results(
    rankings: Mapping[str, Ranking],
    cases: Cases,
    *,
    popularity: Int[np.ndarray, " V"],
    names: Sequence[str],
    k: int = 20,
    examples: int = 12,
    seed: int = 0,
) -> RankingResults:
    """Collect the details of the network's ranking beside those of the baselines.

    Args:
        rankings: of the same questions by name, the network first.
        cases: these questions.
        popularity: (V,) clicks of each item in the training part.
        names: (V,) of the items.
        k: cutoff of the recall by groups.
        examples: questions drawn at random to be shown.
        seed: of that draw.
    """
    known, answers = np.searchsorted(_KNOWN, cases.position, side="right") - 1, cases.answers
    clicked = np.where(answers >= 0, np.searchsorted(_CLICKED, popularity[np.maximum(answers, 0)], side="right") - 1, 0)
    percentiles = popularity_percentiles(popularity)
    shares = {"what came next": _shares(answers, percentiles)}
    shares |= {name: _shares(ranking.top[:, :k], percentiles) for name, ranking in rankings.items()}
    return RankingResults(
        k=k,
        curve=[
            {"model": name, "k": at, "recall": float((ranking.ranks <= at).mean())} for name, ranking in rankings.items() for at in _CURVE
        ],
        by_known=_recall_by(rankings, known, _labels(_KNOWN), k),
        by_clicked=_recall_by(rankings, clicked, _labels(_CLICKED), k),
        shares=[
            {"model": name, "group": f"{10 * tenth + 10}%", "order": tenth, "value": share}
            for name, values in shares.items()
            for tenth, share in enumerate(values)
        ],
        examples=_examples(next(iter(rankings.values())), cases, names, examples, seed),
    )


def _labels(starts: Sequence[int]) -> list[str]:
    """Such as 1, 2, 3–5, 6+."""
    ends = [following - 1 for following in starts[1:]]
    closed = [f"{start}" if start == end else f"{start}–{end}" for start, end in zip(starts, ends, strict=False)]
    return [*closed, f"{starts[-1]:,}+"]


def _recall_by(rankings: Mapping[str, Ranking], groups: np.ndarray, labels: Sequence[str], k: int) -> list[dict[str, str | float]]:
    counts = np.bincount(groups, minlength=len(labels))
    found: list[dict[str, str | float]] = []
    for name, ranking in rankings.items():
        hits = np.bincount(groups, weights=ranking.ranks <= k, minlength=len(labels))
        found += [
            {"model": name, "group": labels[group], "order": group, "value": hits[group] / counts[group], "count": int(counts[group])}
            for group in range(len(labels))
            if counts[group] >= _FEW
        ]
    return found


def _shares(items: np.ndarray, percentiles: np.ndarray) -> list[float]:
    """How the items spread over the ten tenths of the catalogue by popularity, the least popular first."""
    chosen = items[items >= 0]
    tenths = np.minimum((10 * percentiles[chosen]).astype(np.int64), 9)
    counts = np.bincount(tenths, minlength=10) / max(len(chosen), 1)
    shares: list[float] = counts.tolist()
    return shares


def _examples(ranking: Ranking, cases: Cases, names: Sequence[str], count: int, seed: int) -> list[RankingExample]:
    """Questions drawn at random, in their order, with the last clicks known, the first items recommended and the answer."""
    rows = np.sort(np.random.default_rng(seed).permutation(len(cases))[:count])
    found = []
    shown = cases.prefixes(rows, most=_SHOWN_CLICKS)
    for place, row in enumerate(rows.tolist()):
        answer = int(ranking.answers[row])
        found.append(
            RankingExample(
                before=max(int(cases.position[row]) - _SHOWN_CLICKS, 0),
                known=[_name(names, item) for item in shown[place].tolist()],
                recommended=[names[item] for item in ranking.top[row, :_SHOWN_ITEMS].tolist() if item >= 0],
                answer=_name(names, answer),
                rank=float(ranking.ranks[row]),
            )
        )
    return found


def _name(names: Sequence[str], item: int) -> str:
    return names[item] if item >= 0 else "(an item that the training part does not have)"
