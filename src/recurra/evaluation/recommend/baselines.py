"""The figures of the recommenders without a network, on the same clicks and by the same metrics as the network's.

Not inside: what they are (`scorers`), whether the network beats them (`comparison`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from recurra.config import EvaluationSettings
from recurra.data.cases import Cases
from recurra.data.store import Ragged
from recurra.errors import EmptyData
from recurra.evaluation.comparison import Comparison
from recurra.evaluation.recommend.scorers import LONGEST, SCORERS, Scorer
from recurra.evaluation.results import MAIN_METRIC, Result
from recurra.metrics.intervals import bootstrap
from recurra.metrics.ranking import CUTOFFS, Ranking, Ties, rank, ranking_intervals, ranking_metrics, ranking_statistics

__all__ = ["RankingBaseline", "compare_rankings", "measure_baselines", "rank_cases"]

_CELLS = 16_000_000
"""Most scores held at a time (64 MB)."""


@dataclass(frozen=True)
class RankingBaseline:
    """A baseline's figures.

    Attributes:
        name: of `SCORERS`.
        description: what it is, in half a sentence.
        metrics: by name, see `recurra.metrics.ranking.ranking_metrics`.
        intervals: (low, high) by name.
        ranking: where each answer stood.
        seconds: time that learning and ranking took.
    """

    name: str
    description: str
    metrics: dict[str, float]
    intervals: dict[str, tuple[float, float]]
    ranking: Ranking
    seconds: float

    def result(self) -> Result:
        """What the report shows of it."""
        return Result(self.name, self.description, self.metrics, self.intervals, self.seconds)


def measure_baselines(
    train: Ragged,
    cases: Cases,
    *,
    items: int,
    validation: Cases | None = None,
    settings: EvaluationSettings | None = None,
    at: Sequence[int] = CUTOFFS,
    ties: Ties = "half",
    seed: int = 0,
) -> dict[str, RankingBaseline]:
    """Fit all baselines and measure them.

    Args:
        train: sessions to learn from, the oldest first.
        cases: the clicks to foresee.
        items: V, items of the catalogue.
        validation: other clicks, on which each baseline chooses what an item is worth that the session already holds.
        settings: resamples and confidence of the intervals.
        at: the cutoffs k.
        ties: rule for equal scores.
        seed: of the resamples.

    Raises:
        EmptyData: there is nothing to learn from, or no click to foresee.
    """
    if not len(train.values):
        raise EmptyData("The training part has no click, so the baselines have nothing to go by.")
    settings = settings or EvaluationSettings()
    popularity = np.bincount(train.values[train.values >= 0], minlength=items)
    measured = {}
    for name, make in SCORERS.items():
        started = time.perf_counter()
        scorer: Scorer = make().fit(train, items)
        if validation is not None and len(validation):
            scorer.choose_repeat(validation)
        ranking = rank_cases(scorer.scores, cases, items=items, top=max(at), ties=ties)
        seconds = time.perf_counter() - started
        metrics = ranking_metrics(ranking, at=at, popularity=popularity)
        intervals = ranking_intervals(ranking, at=at, samples=settings.bootstrap_samples, confidence=settings.confidence, seed=seed)
        measured[name] = RankingBaseline(name, _described(scorer), metrics, intervals, ranking, seconds)
    return measured


def _described(scorer: Scorer) -> str:
    if scorer.repeat == 1.0:
        return scorer.description
    return f"{scorer.description}; what the session already holds counts {scorer.repeat:g} of that"


def compare_rankings(
    model: Ranking, baseline: RankingBaseline, *, settings: EvaluationSettings | None = None, seed: int = 0
) -> Comparison | None:
    """The paired comparison of the network with a baseline on the same sessions, in the task's `MAIN_METRIC`.

    Args:
        model: the network's ranking.
        baseline: measured on the same questions.
        settings: number of resamples and level of confidence.
        seed: of the resamples.

    Returns:
        The comparison; None when intervals are switched off.
    """
    settings = settings or EvaluationSettings()
    name = MAIN_METRIC["recommend"]
    cutoff = (int(name.rpartition("_")[2]),)
    (first, count), (second, _) = (ranking_statistics(ranking, at=cutoff) for ranking in (model, baseline.ranking))

    def gain(counts: np.ndarray) -> dict[str, np.ndarray]:
        return {name: first(counts)[name] - second(counts)[name]}

    bounds = bootstrap(gain, count, samples=settings.bootstrap_samples, confidence=settings.confidence, seed=seed)
    if name not in bounds:
        return None
    point = float(gain(np.ones((1, count)))[name][0])
    return Comparison(name, point, *bounds[name], settings.confidence, baseline.name)


def rank_cases(
    scores: Callable[[Ragged], np.ndarray], cases: Cases, *, items: int, top: int = max(CUTOFFS), ties: Ties = "half"
) -> Ranking:
    """Rank all items after each prefix, in blocks of bounded memory.

    Args:
        scores: from prefixes to (n, V) scores.
        cases: the clicks to foresee.
        items: V, items of the catalogue.
        top: recommended items that are kept.
        ties: rule for equal scores.

    Raises:
        EmptyData: there is no click to foresee.
    """
    if not len(cases):
        raise EmptyData("There is no click to foresee: every session has one click only. Give sessions of two clicks or more.")
    rows = max(1, min(4_096, _CELLS // items))
    answers = cases.answers
    parts = []
    for start in range(0, len(cases), rows):
        block = slice(start, start + rows)
        found = scores(cases.prefixes(block, most=LONGEST))
        parts.append(rank(found, answers[block], sessions=cases.session[block], seen=cases.prefixes(block), top=top, ties=ties))
    return Ranking.concatenate(parts)
