"""Charts of a regression: predicted against true, and residuals."""

from __future__ import annotations

import altair as alt
import numpy as np

from recurra.evaluation.charts.theme import BLUE, GREY, axis, data, draw, shorten

__all__ = ["predicted_against_true", "residuals"]

_MOST_POINTS = 1_000
"""More points make the page heavy and show no more; a random choice is drawn."""


def predicted_against_true(predictions: np.ndarray, targets: np.ndarray, *, target: str, unit: str = "") -> str:
    """Each row as a point, perfection on the dashed line.

    Args:
        predictions: (N,) predicted numbers.
        targets: (N,) true numbers, NaN where missing.
        target: name of the target.
        unit: of the target, where known.
    """
    predictions, targets = _points(predictions, targets)
    if not len(targets):
        return ""
    low, high = float(min(predictions.min(), targets.min())), float(max(predictions.max(), targets.max()))
    margin = (high - low or 1.0) * 0.03
    scale = alt.Scale(domain=[low - margin, high + margin], nice=False, zero=False)
    records = [{"true": x, "predicted": y} for x, y in zip(targets.tolist(), predictions.tolist(), strict=True)]
    horizontal = alt.X("true:Q", scale=scale, axis=axis(f"true {_quantity(target, unit)}", tickCount=6))
    vertical = alt.Y("predicted:Q", scale=scale, axis=axis(f"predicted {_quantity(target, unit)}", tickCount=6))
    points = alt.Chart(data(records)).mark_point(filled=True, size=18, color=BLUE, opacity=0.4).encode(x=horizontal, y=vertical)
    line = alt.Chart(data([{"true": end, "predicted": end} for end in (low, high)])).mark_line(
        color=GREY, strokeDash=[4, 3], strokeWidth=1.5
    )
    return draw(alt.layer(points, line.encode(x=horizontal, y=vertical)), height=400, description="Predicted against true numbers")


def residuals(predictions: np.ndarray, targets: np.ndarray, *, target: str, unit: str = "") -> str:
    """Predicted minus true against predicted: a slope or a funnel shows what the model has not learnt."""
    predictions, targets = _points(predictions, targets)
    if not len(targets):
        return ""
    records = [{"predicted": x, "error": y} for x, y in zip(predictions.tolist(), (predictions - targets).tolist(), strict=True)]
    tight = alt.Scale(nice=True, zero=False)
    points = (
        alt.Chart(data(records))
        .mark_point(filled=True, size=18, color=BLUE, opacity=0.4)
        .encode(
            x=alt.X("predicted:Q", scale=tight, axis=axis(f"predicted {_quantity(target, unit)}", tickCount=6)),
            y=alt.Y("error:Q", scale=tight, axis=axis(f"error, predicted minus true{f' ({shorten(unit)})' if unit else ''}", tickCount=6)),
        )
    )
    zero = alt.Chart(data([{"error": 0}])).mark_rule(color=GREY, strokeDash=[4, 3], strokeWidth=1.5).encode(y="error:Q")
    return draw(alt.layer(points, zero), height=400, description="Errors against predicted numbers")


def _points(predictions: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    known = np.isfinite(predictions) & np.isfinite(targets)
    predictions, targets = predictions[known], targets[known]
    if len(targets) > _MOST_POINTS:
        chosen = np.random.default_rng(0).choice(len(targets), _MOST_POINTS, replace=False)
        predictions, targets = predictions[chosen], targets[chosen]
    return predictions, targets


def _quantity(target: str, unit: str) -> str:
    return f"{shorten(target, 40)} ({shorten(unit)})" if unit else shorten(target, 40)
