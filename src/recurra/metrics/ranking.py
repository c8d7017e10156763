"""Metrics of rankings: where the item that came next stood among all items.

Inside: ranks from scores with a stated rule for ties, Recall (hit ratio), MRR and NDCG, coverage of the catalogue, popularity bias,
intervals over sessions, and ranks among sampled items under names that say so. Not inside: which clicks are asked for
(`recurra.data.cases`), models and baselines.

One item is right at each step. So Recall at k is the hit ratio HR at k, and NDCG at k is 1 / log2(1 + rank) where the rank is at most k.
Every item of the catalogue takes part, which is the only ranking whose metrics may be compared: against some sampled negatives the order
of two models can be the opposite one.

Ties: an item among m others of the same score has rank 1 + (better ones) + m / 2 by the rule "half", which is what a random order of
them gives on average, and 1 + better + m by "pessimistic". Counting only the better ones would give full marks to a model that scores all
items alike.

Source: Krichene and Rendle, "On Sampled Metrics for Item Recommendation", KDD 2020; Järvelin and Kekäläinen, "Cumulated Gain-Based
Evaluation of IR Techniques", 2002 (NDCG). The rule "half" is `mode="median"` of the official GRU4Rec's evaluation, "pessimistic" its
"conservative".
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from recurra.data.store import Ragged
from recurra.errors import DataError, EmptyData
from recurra.metrics.intervals import Intervals, bootstrap
from recurra.shapes import Float, Int

__all__ = [
    "CUTOFFS",
    "Ranking",
    "Ties",
    "popularity_percentiles",
    "rank",
    "ranking_intervals",
    "ranking_metrics",
    "ranking_statistics",
    "ranks",
    "sampled_ranking_metrics",
    "sampled_ranks",
    "top_items",
]

Ties = Literal["half", "pessimistic"]
CUTOFFS = (5, 10, 20)
"""The k of Recall, MRR and NDCG at k."""


@dataclass(frozen=True)
class Ranking:
    """N questions answered by rankings of all V items.

    Attributes:
        ranks: (N,) rank of the item that came next, from 1; infinite where the model does not know that item.
        masked_ranks: the same with the items that the session already holds taken out of the ranking; None where these were not given.
        top: (N, K) items of the highest scores, best first, -1 where there are fewer.
        answers: (N,) the items that came next, -1 where unknown.
        sessions: (N,) which session each question is about; questions of one session are not independent.
    """

    ranks: Float[np.ndarray, " N"]
    masked_ranks: Float[np.ndarray, " N"] | None
    top: Int[np.ndarray, "N K"]
    answers: Int[np.ndarray, " N"]
    sessions: Int[np.ndarray, " N"]

    def __len__(self) -> int:
        return len(self.ranks)

    @classmethod
    def concatenate(cls, parts: Sequence[Ranking]) -> Ranking:
        """The questions of all parts (at least one), one after another."""
        masked = [part.masked_ranks for part in parts if part.masked_ranks is not None]
        return cls(
            np.concatenate([part.ranks for part in parts]),
            np.concatenate(masked) if len(masked) == len(parts) else None,
            np.concatenate([part.top for part in parts]),
            np.concatenate([part.answers for part in parts]),
            np.concatenate([part.sessions for part in parts]),
        )


def rank(
    scores: Float[np.ndarray, "N V"],
    answers: Int[np.ndarray, " N"],
    *,
    sessions: Int[np.ndarray, " N"],
    seen: Ragged | None = None,
    top: int = max(CUTOFFS),
    ties: Ties = "half",
    exclude_seen: bool = False,
) -> Ranking:
    """Rank all items by their scores: one block of questions, whose (N, V) scores fit into memory.

    Args:
        scores: of every item, higher is better; an infinite one is allowed.
        answers: the items that came next, -1 where the model does not know them (a miss whatever the scores).
        sessions: which session each question is about.
        seen: items that the session holds already (-1 is skipped); gives `masked_ranks`. The answer itself is never taken out: an item
            that comes again is still to be foreseen.
        top: recommended items that are kept; none are looked for with 0.
        ties: rule for equal scores.
        exclude_seen: keep no items in `top` that the session already holds.

    Raises:
        DataError: a score is NaN.
        ValueError: the shapes do not fit, or an answer is no item.
    """
    answers = np.asarray(answers, dtype=np.int64)
    better, equal = _above(scores, answers)
    masked = None
    if seen is not None:
        fewer, alike = _seen_above(scores, answers, seen)
        masked = _ranks(better - fewer, equal - alike, answers, ties)
    best = top_items(scores, top, seen=seen if exclude_seen else None)
    return Ranking(_ranks(better, equal, answers, ties), masked, best, answers, np.asarray(sessions, dtype=np.int64))


def ranks(
    scores: Float[np.ndarray, "N V"], answers: Int[np.ndarray, " N"], *, seen: Ragged | None = None, ties: Ties = "half"
) -> Float[np.ndarray, " N"]:
    """(N,) ranks of the answers among all items, from 1; those that `seen` holds are taken out. Arguments and errors are those of `rank`."""
    answers = np.asarray(answers, dtype=np.int64)
    better, equal = _above(scores, answers)
    if seen is not None:
        fewer, alike = _seen_above(scores, answers, seen)
        better, equal = better - fewer, equal - alike
    return _ranks(better, equal, answers, ties)


def _ranks(better: np.ndarray, equal: np.ndarray, answers: np.ndarray, ties: Ties) -> np.ndarray:
    share = {"half": 0.5, "pessimistic": 1.0}.get(ties)
    if share is None:
        raise ValueError(f"ties must be 'half' or 'pessimistic', not {ties!r}.")
    return np.where(answers < 0, np.inf, 1.0 + better + share * equal)


def _above(scores: np.ndarray, answers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(N,) numbers of the items that score higher than the answer, and of the others that score the same."""
    if scores.ndim != 2 or answers.shape != scores.shape[:1]:
        raise ValueError(f"Scores must be (N, V) and answers (N,), not {scores.shape} and {answers.shape}.")
    if len(answers) and (answers.max() >= scores.shape[1] or answers.min() < -1):
        raise ValueError(f"Answers must lie between -1 (unknown) and {scores.shape[1] - 1}, not {answers.min()} to {answers.max()}.")
    own = _own(scores, answers)
    better = (scores > own).sum(axis=1)
    # NaN is above nothing, below nothing and equal to nothing: one more comparison finds it without another array of (N, V) numbers.
    equal = (scores == own).sum(axis=1)
    if np.isnan(scores.max(axis=1, initial=-np.inf)).any():
        bad = np.isnan(scores)
        raise DataError(
            f"{int(bad.sum())} of {bad.size} scores are NaN (the first is in row {int(bad.any(axis=1).argmax())}). The model has diverged: "
            "train again with a smaller learning rate or a smaller training.clip_norm."
        )
    return better, np.where(answers < 0, 0, equal - 1)


def _own(scores: np.ndarray, answers: np.ndarray) -> np.ndarray:
    """(N, 1) score of each answer."""
    if not scores.shape[1]:
        return np.zeros((len(answers), 1), scores.dtype)
    own: np.ndarray = np.take_along_axis(scores, np.maximum(answers, 0)[:, None], axis=1)
    return own


def _seen_above(scores: np.ndarray, answers: np.ndarray, seen: Ragged) -> tuple[np.ndarray, np.ndarray]:
    """(N,) numbers of the items of `seen`, each counted once, above the answer and level with it; the answer is not among them."""
    if len(seen) != len(answers):
        raise ValueError(f"There must be a row of seen items for each of the {len(answers)} answers, not {len(seen)}.")
    rows, items = _distinct(seen, scores.shape[1])
    others = items != answers[rows]
    rows, items = rows[others], items[others]
    held, own = scores[rows, items], _own(scores, answers)[rows, 0]
    counted = [np.bincount(rows[where], minlength=len(answers)) for where in (held > own, held == own)]
    return counted[0], counted[1]


def _distinct(seen: Ragged, items: int) -> tuple[np.ndarray, np.ndarray]:
    """Row and item of each known item of each row, once."""
    rows = np.repeat(np.arange(len(seen)), seen.lengths)
    values = np.asarray(seen.values[seen.offsets[0] : seen.offsets[-1]], dtype=np.int64)
    known = values >= 0
    pairs = np.unique(rows[known] * items + values[known])
    return pairs // max(items, 1), pairs % max(items, 1)


def top_items(scores: Float[np.ndarray, "N V"], k: int, *, seen: Ragged | None = None) -> Int[np.ndarray, "N K"]:
    """The k items of the highest scores, best first; of equal scores the smaller number first (which of those equal to the last one
    are among the k is left to chance).

    Args:
        scores: of every item.
        k: how many; columns beyond the items there are hold -1.
        seen: items that are not recommended.
    """
    count = scores.shape[1]
    if not k:
        return np.zeros((len(scores), 0), dtype=np.int64)
    if seen is not None:
        scores = np.array(scores, dtype=np.result_type(scores, np.float32))
        scores[_distinct(seen, count)] = -np.inf
    kept = min(k, count)
    best = np.argpartition(scores, count - kept, axis=1)[:, count - kept :] if kept < count else np.tile(np.arange(count), (len(scores), 1))
    best.sort(axis=1)
    values = np.take_along_axis(scores, best, axis=1)
    order = np.argsort(-values, axis=1, kind="stable")
    best, values = np.take_along_axis(best, order, axis=1), np.take_along_axis(values, order, axis=1)
    found = np.full((len(scores), k), -1, dtype=np.int64)
    found[:, :kept] = np.where(np.isneginf(values), -1, best)
    return found


def ranking_metrics(ranking: Ranking, *, at: Sequence[int] = CUTOFFS, popularity: Int[np.ndarray, " V"] | None = None) -> dict[str, float]:
    """Metrics of a ranking, the mean over all questions.

    Args:
        ranking: the ranked questions.
        at: the cutoffs k.
        popularity: (V,) clicks of each item in the training part; gives coverage and popularity bias.

    Returns:
        For each k `recall_at_k` (the answer is among the first k; also called hit ratio), `mrr_at_k` (1 / rank, 0 beyond k) and
        `ndcg_at_k` (1 / log2(1 + rank), 0 beyond k); the same with `masked_` before them where the items that a session already holds
        were taken out; with `popularity` also `coverage_at_K` (share of the catalogue that anybody was recommended within the K kept),
        `recommended_popularity_at_K` and `answer_popularity` (mean popularity percentile of what was recommended and of what came next:
        the first above the second means that the model pushes what is popular anyway).

    Raises:
        EmptyData: there is no question.
    """
    if not len(ranking):
        raise EmptyData("There is no click to foresee: every session has one click only. Give sessions of two clicks or more.")
    found = _means(ranking.ranks, at, "")
    if ranking.masked_ranks is not None:
        found |= _means(ranking.masked_ranks, at, "masked_")
    if popularity is not None and ranking.top.shape[1]:
        found |= _catalogue(ranking, popularity)
    return found


def _means(values: np.ndarray, at: Sequence[int], prefix: str) -> dict[str, float]:
    return {name: float(column.mean()) for name, column in _gains(values, at, prefix).items()}


def _gains(values: np.ndarray, at: Sequence[int], prefix: str) -> dict[str, np.ndarray]:
    """(N,) what each question contributes to each metric."""
    reciprocal, discounted = 1.0 / values, 1.0 / np.log2(1.0 + values)
    gains = {}
    for k in at:
        hit = values <= k
        gains[f"{prefix}recall_at_{k}"] = hit.astype(np.float64)
        gains[f"{prefix}mrr_at_{k}"] = np.where(hit, reciprocal, 0.0)
        gains[f"{prefix}ndcg_at_{k}"] = np.where(hit, discounted, 0.0)
    return gains


def _catalogue(ranking: Ranking, popularity: np.ndarray) -> dict[str, float]:
    k, recommended = ranking.top.shape[1], ranking.top[ranking.top >= 0]
    percentiles = popularity_percentiles(popularity)
    found = {f"coverage_at_{k}": len(np.unique(recommended)) / len(popularity)}
    if len(recommended):
        found[f"recommended_popularity_at_{k}"] = float(percentiles[recommended].mean())
    known = ranking.answers[ranking.answers >= 0]
    if len(known):
        found["answer_popularity"] = float(percentiles[known].mean())
    return found


def popularity_percentiles(popularity: Int[np.ndarray, " V"]) -> Float[np.ndarray, " V"]:
    """(V,) share of the items that are clicked less often than each, those clicked as often counting half; the mean is a half."""
    ordered = np.sort(popularity)
    below, upto = (np.searchsorted(ordered, popularity, side=side) for side in ("left", "right"))
    percentiles: np.ndarray = (below + upto) / (2.0 * len(ordered))
    return percentiles


def ranking_statistics(ranking: Ranking, *, at: Sequence[int] = CUTOFFS) -> tuple[Callable[[np.ndarray], dict[str, np.ndarray]], int]:
    """The metrics as a function of how often each session was drawn, for `bootstrap`; and how many sessions there are."""
    gains = _gains(ranking.ranks, at, "")
    if ranking.masked_ranks is not None:
        gains |= _gains(ranking.masked_ranks, at, "masked_")
    names, place = np.unique(ranking.sessions, return_inverse=True)
    questions = np.bincount(place, minlength=len(names)).astype(np.float64)
    sums = np.stack([np.bincount(place, weights=gain, minlength=len(names)) for gain in gains.values()], axis=1)

    def metric(counts: np.ndarray) -> dict[str, np.ndarray]:
        return dict(zip(gains, (counts @ sums / (counts @ questions)[:, None]).T, strict=True))

    return metric, len(names)


def ranking_intervals(
    ranking: Ranking, *, at: Sequence[int] = CUTOFFS, samples: int = 1_000, confidence: float = 0.95, seed: int = 0
) -> Intervals:
    """Bootstrap intervals of Recall, MRR and NDCG over sessions.

    Whole sessions are drawn, not clicks: clicks of one session are right and wrong together, and an interval over clicks is too narrow.
    """
    metric, sessions = ranking_statistics(ranking, at=at)
    return bootstrap(metric, sessions, samples=samples, confidence=confidence, seed=seed)


def sampled_ranks(
    scores: Float[np.ndarray, "N V"],
    answers: Int[np.ndarray, " N"],
    *,
    negatives: int = 99,
    seen: Ragged | None = None,
    ties: Ties = "half",
    seed: int = 0,
) -> Float[np.ndarray, " N"]:
    """(N,) ranks of the answers among a few other items drawn at random, which many papers report.

    These are not ranks: they depend on the number drawn, they are far better, and two models may change places. Use them only to compare
    with a published table that was made this way.

    Args:
        scores: of every item.
        answers: the items that came next, -1 where unknown.
        negatives: other items drawn for each question, without replacement; neither the answer nor those of `seen`.
        seen: items that the session already holds.
        ties: rule for equal scores.
        seed: of the draws.

    Raises:
        ValueError: fewer than `negatives` items are left to draw from.
    """
    answers = np.asarray(answers, dtype=np.int64)
    keys = np.random.default_rng(seed).random(scores.shape)
    known = np.flatnonzero(answers >= 0)
    keys[known, answers[known]] = np.inf
    if seen is not None:
        keys[_distinct(seen, scores.shape[1])] = np.inf
    left = np.isfinite(keys).sum(axis=1)
    if len(left) and left.min() < negatives:
        raise ValueError(f"{negatives} negatives cannot be drawn where {left.min()} items are left: ask for fewer.")
    drawn = np.argpartition(keys, negatives - 1, axis=1)[:, :negatives]
    others, own = np.take_along_axis(scores, drawn, axis=1), _own(scores, answers)
    return _ranks((others > own).sum(axis=1), (others == own).sum(axis=1), answers, ties)


def sampled_ranking_metrics(values: Float[np.ndarray, " N"], *, negatives: int, at: Sequence[int] = CUTOFFS) -> dict[str, float]:
    """The means of `sampled_ranks`, under names that say so: `sampled_99_recall_at_10`."""
    return _means(values, at, f"sampled_{negatives}_")
