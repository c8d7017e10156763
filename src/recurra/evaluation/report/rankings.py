"""What the page shows of a recommender: recall by cutoff and by groups, the catalogue, examples. Not inside: the means (`view`)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from recurra.evaluation import charts
from recurra.evaluation.charts.theme import shorten
from recurra.evaluation.report import prose
from recurra.evaluation.report.content import RankingExample, RankingResults, Report
from recurra.evaluation.report.quantities import baseline, count

__all__ = ["ranking_view"]

_LONGEST = 40
"""Width of an item's name, in Latin letters."""


def ranking_view(report: Report) -> dict[str, Any]:
    """What the template shows of a ranking; empty for another task."""
    results = report.results
    if not isinstance(results, RankingResults):
        return {"examples": [], "ranking": "", "catalogue": "", "charts": dict.fromkeys(("recall", "by_known", "by_clicked", "shares"), "")}
    share = f"recall at {results.k}"
    named = {key: [_called(record) for record in getattr(results, key)] for key in ("curve", "by_known", "by_clicked", "shares")}
    answers = "what came next"
    return {
        "examples": [_example(example) for example in results.examples],
        "ranking": prose.known_sentence(results),
        "catalogue": prose.popularity_sentence(report),
        "charts": {
            "recall": charts.recall_curve(named["curve"]),
            "by_known": charts.by_group(named["by_known"], title=share, groups="clicks of the session that are known"),
            "by_clicked": charts.by_group(named["by_clicked"], title=share, groups="clicks of the answer in the training part"),
            "shares": charts.by_group(
                [record for record in named["shares"] if record["order"] >= _tail(results)],
                title=f"share of the first {results.k}",
                groups="items up to this popularity percentile",
                grey=answers,
            ),
        },
    }


def _tail(results: RankingResults) -> int:
    """The first tenth of the items that takes part in anything: items of one click share the tenth in the middle of them all."""
    return min((int(record["order"]) for record in results.shares if record["value"]), default=0)


def _called(record: Mapping[str, str | float]) -> dict[str, Any]:
    """The record with the model's name as in the tables."""
    return {**record, "model": baseline(str(record["model"])).label}


def _example(example: RankingExample) -> dict[str, Any]:
    hit = example.rank <= len(example.recommended)
    return {
        "before": f"{count(example.before)} more, then " if example.before else "",
        "known": [_short(name) for name in example.known],
        "recommended": [(_short(name), hit and name == example.answer) for name in example.recommended],
        "answer": _short(example.answer),
        "rank": f"{example.rank:,.0f}" if np.isfinite(example.rank) else "–",
        "hit": hit,
    }


def _short(name: str) -> str:
    return shorten(" ".join(name[: 4 * _LONGEST].split()), _LONGEST)
