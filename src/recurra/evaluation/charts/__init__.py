"""Charts of a report as static SVG text: drawn by altair, turned into SVG offline, no JavaScript.

Inside: one function a chart. `theme` (colours, type, the conversion), `course` (learning curves, lengths), `gradients` (gradient flow), `classes`
(confusion, calibration, ROC), `numbers` (regression), `forecasts` (fans, errors by steps ahead, coverage), `ranking` (recommendation), `attention` (text to text),
`results` (the network beside its baselines).
Every function takes plain data and returns an SVG element, or "" where there is nothing to draw.
"""

from __future__ import annotations

from recurra.evaluation.charts.attention import attention_map
from recurra.evaluation.charts.classes import calibration, confused_pairs, confusion_matrix, roc
from recurra.evaluation.charts.course import learning_curve, length_distribution
from recurra.evaluation.charts.gradients import gradient_by_distance, gradient_by_layer
from recurra.evaluation.charts.numbers import predicted_against_true, residuals
from recurra.evaluation.charts.ranking import by_group, recall_curve
from recurra.evaluation.charts.results import results

__all__ = [
    "attention_map",
    "by_group",
    "calibration",
    "confused_pairs",
    "confusion_matrix",
    "gradient_by_distance",
    "gradient_by_layer",
    "learning_curve",
    "length_distribution",
    "predicted_against_true",
    "recall_curve",
    "residuals",
    "results",
    "roc",
]
