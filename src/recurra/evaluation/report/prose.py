"""The sentences of a report: what its figures say, in plain words.

Each function takes plain data and returns one or two sentences, or "" where there is nothing to say. The command line prints the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any, Literal

import numpy as np

from recurra.evaluation.comparison import Comparison
from recurra.evaluation.report.content import RankingResults, Report, Training
from recurra.evaluation.report.quantities import baseline, count, duration, inline, interval, metric, number, per_cent, points
from recurra.evaluation.results import MAIN_METRIC, Result

__all__ = [
    "GradientFlow",
    "calibration_sentence",
    "copies_sentence",
    "course_sentence",
    "gradient_flow",
    "known_sentence",
    "length_sentence",
    "overlap_sentence",
    "parts_sentence",
    "popularity_sentence",
    "strongest",
    "verdict",
]

_LINEAR = ("classify", "labels", "regress")
"""Tasks whose baseline to beat is the linear model."""
_VANISHED, _EXPLODED = 1e-4, 1e2
"""Share of the gradient that reaches the far end below which, and above which, it is called vanishing or exploding: with less than a
ten-thousandth the far steps no longer move the weights beside the near ones; a hundredfold growth is what clipping is for."""


def verdict(report: Report) -> str:
    """Whether the recurrent network pays against the linear model, by the interval of the difference.

    Without a paired comparison, by whether the linear model's figure lies inside the network's own interval.
    """
    if report.task == "several":
        return "Each target has its own verdict below, beside baselines of its own."
    name = MAIN_METRIC[report.task]
    rival = strongest(report)
    if rival is None or name not in report.model.metrics:
        what = "linear model" if report.task in _LINEAR else "baseline"
        return f"No {what} was trained on this split, so nothing here says whether the recurrent network pays."
    called = baseline(rival.name).inline
    cost = f"{called[0].upper()}{called[1:]} is simpler{f', and trains in {duration(rival.seconds)}' if rival.seconds is not None else ''}."
    if report.comparison is None:
        return _unpaired(report, rival, name, cost)
    subject = "The recurrent network" if parts_sentence(report) == "" else "The recurrent network with the linear model beside it"
    gain = _gain(report.comparison, {"recommend": "sessions", "forecast": "windows", "answer": "questions"}.get(report.task, "rows"))
    if report.comparison.verdict == "better":
        return f"{subject} pays: {gain}."
    if report.comparison.verdict == "worse":
        return f"{subject} does not pay here: {gain}. {cost}"
    return f"{subject} and {called} cannot be told apart: {gain}, which includes zero. {cost}"


def parts_sentence(report: Report) -> str:
    """What network and linear model reach together and alone, where the model is both."""
    name = MAIN_METRIC[report.task]
    alone = {result.name: result.metrics[name] for result in report.baselines if name in result.metrics}
    if "network_alone" not in alone or "linear_alone" not in alone:
        return ""
    shown = metric(name)
    return (
        f"A linear model stands beside the network, and its scores are added: {inline(name)} {shown.write(report.model.metrics[name])} together, "
        f"{shown.write(alone['network_alone'])} of the network alone, {shown.write(alone['linear_alone'])} of that linear model alone."
    )


def strongest(report: Report) -> Result | None:
    """The baseline that the network is compared with: the linear model, or else the best one by the main metric."""
    name = MAIN_METRIC[report.task]
    measured = {result.name: result for result in report.baselines if name in result.metrics}
    if report.comparison is not None or report.task in _LINEAR:
        return measured.get(report.comparison.rival if report.comparison is not None else "tfidf_linear")
    sign = 1 if metric(name).higher else -1
    return max(measured.values(), key=lambda result: sign * result.metrics[name], default=None)


def _gain(comparison: Comparison, drawn: str) -> str:
    """Such as "1.2 points of accuracy more than the linear model (95% interval 0.4 to 2.0, on the same rows)"."""
    shown, ahead = metric(comparison.metric), comparison.gain >= 0
    name, rival = inline(comparison.metric), baseline(comparison.rival).inline
    low, high = (comparison.low, comparison.high) if ahead else (-comparison.high, -comparison.low)
    level = f"{100 * comparison.confidence:g}% interval"
    if shown.share:
        bounds = f"{100 * low:.1f} to {100 * high:.1f}".replace("-", "−")
        what = f"{points(comparison.gain)} of {name} {'more' if ahead else 'less'} than {rival}"
    else:
        bounds = f"{number(low)} to {number(high)}"
        what = f"{name} {'better' if ahead else 'worse'} by {number(abs(comparison.gain))} than {rival}’s"
    return f"{what} ({level} {bounds}, on the same {drawn})"


def _unpaired(report: Report, rival: Result, name: str, cost: str) -> str:
    value, other, shown = report.model.metrics[name], rival.metrics[name], metric(name)
    called = baseline(rival.name).inline
    ahead = value >= other if shown.higher else value <= other
    both = f"{shown.write(value)} against {shown.write(other)}"
    bounds = report.model.intervals.get(name)
    if bounds is None:
        return f"{shown.label} {both} of {called}; without intervals, a small difference may be chance."
    if bounds[0] <= other <= bounds[1]:
        return f"The recurrent network and {called} cannot be told apart: {both}, inside the interval {interval(name, bounds)}."
    if ahead:
        return f"The recurrent network pays: {inline(name)} {both} of {called}, outside the interval {interval(name, bounds)}."
    return f"The recurrent network does not pay here: {inline(name)} {both} of {called}. {cost}"


@dataclass(frozen=True)
class GradientFlow:
    """What the gradient does on its way back through time, at the last epoch measured.

    Attributes:
        state: vanishing, healthy or exploding; unknown where nothing was measured.
        share: norm at the far end over norm at the near end, of the worst layer.
        distance: steps between the two.
        sentence: the same in words.
    """

    state: Literal["vanishing", "healthy", "exploding", "unknown"]
    share: float
    distance: int
    sentence: str


def gradient_flow(training: Training) -> GradientFlow:
    """Read the gradient by distance in time: does it vanish, explode, or arrive?

    The near end is the largest norm among the nearest tenth of the distances, the far end the median of the furthest tenth.
    """
    records = [record for record in training.gradient_distances if isinstance(record["norm"], (int, float))]
    if not records:
        return GradientFlow("unknown", float("nan"), 0, "")
    last = max(record["epoch"] for record in records)
    layers: dict[str, list[tuple[int, float]]] = {}
    for record in records:
        if record["epoch"] == last:
            layers.setdefault(str(record["layer"]), []).append((int(record["distance"]), float(record["norm"])))
    shares = {name: _far_share(pairs) for name, pairs in layers.items() if len(pairs) > 1}
    if not shares:
        return GradientFlow("unknown", float("nan"), 0, "")
    broken = [name for name, (share, _) in shares.items() if not isfinite(share)]
    name = broken[0] if broken else max(shares, key=lambda layer: abs(np.log10(max(shares[layer][0], 1e-300))))
    share, distance = shares[name]
    where = f"In epoch {last} the gradient that reaches {count(distance)} steps back"
    of = f" (layer {name})" if len(shares) > 1 else ""
    if not isfinite(share) or share > _EXPLODED:
        size = f"is {share:,.0f} times as large as near the end" if isfinite(share) else "is not finite"
        advice = "lower the learning rate, clip harder (training.clip_norm) or use gated cells"
        return GradientFlow("exploding", share, distance, f"{where} {size}{of}: it explodes. To tame it, {advice}.")
    if share < _VANISHED:
        advice = (
            "what stands that far back is hardly learnt. Gated cells, orthogonal initialization, a forget bias of 1 or mean pooling help"
        )
        return GradientFlow("vanishing", share, distance, f"{where} is {_portion(share)} that near the end{of}: it vanishes, and {advice}.")
    return GradientFlow(
        "healthy", share, distance, f"{where} is {_portion(share)} that near the end{of}: it neither vanishes nor explodes."
    )


def _far_share(pairs: Sequence[tuple[int, float]]) -> tuple[float, int]:
    ordered = sorted(pairs)
    tenth = max(1, len(ordered) // 10)
    near = max(norm for _, norm in ordered[:tenth])
    far = float(np.median([norm for _, norm in ordered[-tenth:]]))
    distance = ordered[-1][0] - ordered[0][0]
    if not isfinite(near) or not isfinite(far):
        return float("inf"), distance
    return (far / near if near > 0 else (float("inf") if far > 0 else 0.0)), distance


def _portion(share: float) -> str:
    """Such as "4.9 times", "17% of", "0.3% of", "2e−7 of"."""
    if share >= 2:
        return f"{share:.1f} times"
    if share >= 0.1:
        return f"{100 * share:.0f}% of"
    return f"{100 * share:.2g}% of" if share >= 1e-4 else f"{share:.0e} of".replace("e-0", "e-").replace("-", "−")


def course_sentence(training: Training) -> str:
    """Which epoch was kept, and whether the network learnt its training rows by heart afterwards."""
    losses = [
        (record["epoch"], record["validation_loss"]) for record in training.history if isfinite(record.get("validation_loss", float("nan")))
    ]
    epochs = len(training.history)
    if not epochs:
        return ""
    monitor = f" by validation {inline(training.monitor)}" if training.monitor else ""
    kept = f"The weights of epoch {training.best_epoch} of {epochs} were kept{monitor}. " if training.best_epoch is not None else ""
    if epochs == 1:
        return f"{kept}One epoch draws no curve: train longer to see one."
    if not losses:
        return kept.strip()
    best = min(losses, key=lambda pair: pair[1])
    if losses[-1][1] > 1.1 * best[1]:
        return (
            f"{kept}The validation loss was lowest after epoch {best[0]} and has risen by {per_cent(losses[-1][1] / best[1] - 1)} since: "
            "from there on the network learns its training rows by heart."
        )
    if best[0] == losses[-1][0]:
        return f"{kept}The validation loss was still falling at the end: more epochs may help."
    return f"{kept}The validation loss levelled off after epoch {best[0]}."


def calibration_sentence(records: Sequence[Mapping[str, float]]) -> str:
    """Whether the model is surer than it should be, or less sure."""
    rows = sum(record["count"] for record in records)
    if not rows:
        return ""
    confidence, accuracy = (sum(record["count"] * record[key] for record in records) / rows for key in ("confidence", "accuracy"))
    gap = confidence - accuracy
    both = f"Mean confidence {per_cent(confidence)}, right {per_cent(accuracy)}"
    if abs(gap) < 0.01:
        return f"{both}: on the whole the probabilities can be taken at their word."
    if gap > 0:
        return f"{both}: the model is surer than it should be, by {points(gap)}."
    return f"{both}: the model is more often right than it claims, by {points(gap)}."


def known_sentence(results: RankingResults) -> str:
    """Whether the network gains from knowing more of a session."""
    network = results.curve[0]["model"] if results.curve else None
    records = [record for record in results.by_known if record["model"] == network]
    if len(records) < 2:
        return ""
    first, last = records[0], records[-1]
    known = "one click is known" if first["group"] == "1" else f"{first['group']} clicks are known"
    return (
        f"The item that came next is among the first {results.k} in {per_cent(float(first['value']))} of the cases where {known}, "
        f"and in {per_cent(float(last['value']))} of those where {last['group']} are."
    )


def popularity_sentence(report: Report) -> str:
    """Whether popular items are pushed, and how much of the catalogue is recommended to anybody."""
    found = {name.partition("_at_")[0]: value for name, value in report.model.metrics.items()}
    if not {"coverage", "recommended_popularity", "answer_popularity"} <= set(found):
        return ""
    gap = found["recommended_popularity"] - found["answer_popularity"]
    if abs(gap) < 0.02:
        bias = "What is recommended is about as popular as what came next"
    else:
        bias = f"What is recommended is {'more' if gap > 0 else 'less'} popular than what came next"
    both = f"mean popularity percentile {per_cent(found['recommended_popularity'])} against {per_cent(found['answer_popularity'])}"
    return f"{per_cent(found['coverage'])} of the items were recommended to somebody. {bias}: {both}."


def length_sentence(lengths: Any, unit: str) -> str:
    """Median, 95th percentile and longest."""
    values = np.asarray(lengths)
    if not len(values):
        return ""
    middle, long = (f"{np.quantile(values, share):,.0f}" for share in (0.5, 0.95))
    empty = int((values == 0).sum())
    blank = "" if not empty else " 1 row is empty." if empty == 1 else f" {count(empty)} rows are empty."
    return f"Median {middle} {unit}s; 95% of the rows have at most {long}, the longest {count(values.max())}.{blank}"


def overlap_sentence(overlap: Mapping[str, int], rows: Mapping[str, int]) -> str:
    """How many rows of a part also stand in the training part: figures on those measure memory, not skill."""
    found = [
        f"{count(n)} of {count(rows[part])} {part} rows" if part in rows else f"{count(n)} {part} rows" for part, n in overlap.items() if n
    ]
    if not found:
        return "No input of the other parts also stands in the training part." if overlap else ""
    return f"{' and '.join(found)} have an input that also stands in the training part: on those the network is tested on what it has seen."


def copies_sentence(overlap: Mapping[str, int]) -> str:
    """How many held-out sessions are copies of training sessions: on those, memory is measured."""
    found = [f"{count(n)} {part} sessions" for part, n in overlap.items() if n]
    if not found:
        return "No session of three clicks or more of the other parts is also a training session." if overlap else ""
    return (
        f"{' and '.join(found)} of three clicks or more are, click for click, training sessions too. "
        "A few short ones are chance; many, or long ones, are copies, on which the figures measure memory."
    )
