"""The sentences of a report: what its figures say, in plain words.

Each function takes plain data and returns one or two sentences, or "" where there is nothing to say. The command line prints the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any, Literal

import numpy as np

from recurra.evaluation.comparison import MAIN_METRIC
from recurra.evaluation.report.content import Report, Training
from recurra.evaluation.report.quantities import count, duration, interval, metric, number, per_cent, points

__all__ = ["GradientFlow", "calibration_sentence", "course_sentence", "gradient_flow", "length_sentence", "overlap_sentence", "verdict"]

_VANISHED, _EXPLODED = 1e-4, 1e2
"""Share of the gradient that reaches the far end below which, and above which, it is called vanishing or exploding: with less than a
ten-thousandth the far steps no longer move the weights beside the near ones; a hundredfold growth is what clipping is for."""


def verdict(report: Report) -> str:
    """Whether the recurrent network pays against the linear model, by the interval of the difference.

    Without a paired comparison, by whether the linear model's figure lies inside the network's own interval.
    """
    linear = next((result for result in report.baselines if result.name == "tfidf_linear"), None)
    name = MAIN_METRIC[report.task]
    if linear is None or name not in linear.metrics or name not in report.model.metrics:
        return "No linear model was trained on this split, so nothing here says whether the recurrent network pays."
    cost = f", and trains in {duration(linear.seconds)}" if linear.seconds is not None else ""
    if report.comparison is None:
        return _unpaired(report, name, linear.metrics[name], cost)
    gain, low, high = (abs(value) for value in (report.comparison.gain, report.comparison.low, report.comparison.high))
    level = f"{100 * report.comparison.confidence:g}% interval"
    shown = metric(name).label if metric(name).label.isupper() else metric(name).label.lower()
    written = points if metric(name).share else number
    better, less = ("more", "less") if metric(name).higher else ("less", "more")
    unit = f" {shown}" if not metric(name).share else ""
    of = f"{written(gain)}{unit}" if not metric(name).share else f"{written(gain)} of {shown}"
    span = f"({level} {_span(report.comparison.low, report.comparison.high, name)}, same rows)"
    if report.comparison.verdict == "better":
        return f"The recurrent network pays: {of} {better} than the linear model {span}."
    if report.comparison.verdict == "worse":
        return f"The recurrent network does not pay here: {of} {less} than the linear model {span}, which is simpler{cost}."
    del low, high
    return (
        f"The two cannot be told apart: {of} {better if report.comparison.gain >= 0 else less} than the linear model "
        f"{span}, and the interval includes zero. The linear model is simpler{cost}."
    )
