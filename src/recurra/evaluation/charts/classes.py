"""Charts of a classifier: confusion matrix, most confused pairs, calibration, ROC."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt
import numpy as np

from recurra.evaluation.charts.theme import BLUE, FULL, GREY, GRID, HALF, INK, MUTED, SERIES, axis, data, draw, lookup, shorten

__all__ = ["calibration", "confused_pairs", "confusion_matrix", "roc"]

_WITH_NUMBERS, _WITH_NAMES, _DRAWABLE = 12, 40, 200
"""Most classes whose cells carry their counts, whose axes carry their names, and that a picture shows at all."""
_CELL = "#0072b1"
"""Blue with a value of its own: cells keep it on dark screens, where lines turn lighter."""
_ON_CELL = "#fffffe"


def confusion_matrix(counts: np.ndarray, classes: Sequence[str]) -> str:
    """Confusion matrix, each true class's row shaded by its shares; empty above 200 classes.

    Args:
        counts: (C, C) rows by true and predicted class.
        classes: names of the C classes.
    """
    size = len(classes)
    if size > _DRAWABLE or not counts.any():
        return ""
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    # Names alone would merge classes that are shown alike; numbers are unique.
    records = [
        {"true": i, "predicted": j, "count": int(counts[i, j]), "share": round(float(shares[i, j]), 4)}
        for i, j in zip(*np.nonzero(counts), strict=True)
    ]
    records = [{**r, "true": int(r["true"]), "predicted": int(r["predicted"])} for r in records]
    named = size <= _WITH_NAMES
    base = alt.Chart(data(records)).encode(
        x=alt.X("predicted:O", axis=_names_axis("predicted class", classes, named, slanted=size > 5), scale=_places(size)),
        y=alt.Y("true:O", axis=_names_axis("true class", classes, named), scale=_places(size)),
    )
    cells = base.mark_rect(fill=_CELL, stroke=None).encode(
        fillOpacity=alt.FillOpacity(
            "share:Q", scale=alt.Scale(domain=[0, 1], range=[0.06 if size <= _WITH_NUMBERS else 0.25, 1]), legend=None
        )
    )
    layers: list[Any] = [cells]
    if size <= _WITH_NUMBERS:
        color = alt.condition("datum.share > 0.45", alt.value(_ON_CELL), alt.value(INK))
        layers.append(base.mark_text(fontSize=12).encode(text=alt.Text("count:Q", format=","), color=color))
    width = 560 if size <= _WITH_NUMBERS else 760
    height = 120 + size * 38 if size <= _WITH_NUMBERS else 640
    frame = alt.ViewBackground(stroke=GRID if size > _WITH_NUMBERS else None)
    return draw(
        alt.layer(*layers).properties(view=frame), width=width, height=height, description="Confusion matrix: true class by predicted class"
    )


def confused_pairs(counts: np.ndarray, classes: Sequence[str], *, limit: int = 15) -> str:
    """The pairs of true and predicted class with the most errors, as bars."""
    errors = np.array(counts)
    np.fill_diagonal(errors, 0)
    order = np.argsort(-errors, axis=None, kind="stable")[:limit]
    true, predicted = np.unravel_index(order, errors.shape)
    support = counts.sum(axis=1)
    # The marks around the arrow keep true left and predicted right where the names run from right to left.
    records = [
        {
            "place": place,
            "pair": f"{shorten(classes[i], 32)}‎ → ‎{shorten(classes[j], 32)}",
            "count": int(errors[i, j]),
            "label": f"{errors[i, j]:,} of {support[i]:,}",
        }
        for place, (i, j) in enumerate(zip(true.tolist(), predicted.tolist(), strict=True))
        if errors[i, j]
    ]
    if not records:
        return ""
    names = [str(record["pair"]) for record in records]
    labels = axis(None, labelExpr=lookup(names), labelColor=INK)
    bars = alt.Chart(data(records)).encode(
        y=alt.Y("place:O", axis=labels, sort=None),
        x=alt.X("count:Q", axis=axis("rows of the true class predicted as the other", tickCount=min(6, int(errors.max())), format=",d")),
    )
    text = bars.mark_text(align="left", dx=5, color=MUTED, fontSize=11).encode(text="label:N")
    # The longest bar leaves room for its label.
    room = alt.Scale(domain=[0, int(errors.max()) * 1.18], nice=False)
    bars.encoding.x.scale = room
    chart = alt.layer(bars.mark_bar(color=BLUE, height=alt.RelativeBandSize(0.62)), text)
    return draw(
        chart, width=FULL, height=60 + 24 * len(records), description="The most frequent confusions: true class, predicted class, rows"
    )


def calibration(records: Sequence[Mapping[str, float]]) -> str:
    """Reliability diagram: accuracy against confidence, the area of a point by its rows, perfection on the dashed line.

    Args:
        records: of `recurra.metrics.reliability`.
    """
    if not records:
        return ""
    share = alt.Scale(domain=[0, 1], nice=False)
    diagonal = alt.Chart(data([{"confidence": 0, "accuracy": 0}, {"confidence": 1, "accuracy": 1}]))
    horizontal = alt.X("confidence:Q", scale=share, axis=axis("confidence of the prediction (probability)", format=".0%", tickCount=5))
    vertical = alt.Y("accuracy:Q", scale=share, axis=axis("share that is right", format=".0%", tickCount=5))
    points = alt.Chart(data([dict(record) for record in records])).encode(x=horizontal, y=vertical)
    size = alt.Size("count:Q", scale=alt.Scale(range=[25, 420], type="sqrt"), legend=None)
    chart = alt.layer(
        diagonal.mark_line(color=GREY, strokeDash=[4, 3], strokeWidth=1.5).encode(x=horizontal, y=vertical),
        points.mark_line(color=BLUE, strokeWidth=1.5, opacity=0.6),
        points.mark_point(filled=True, color=BLUE, opacity=0.9).encode(size=size),
    )
    return draw(chart, width=HALF, height=340, description="Calibration: share of right predictions by confidence")


def roc(curves: Mapping[str, Sequence[tuple[float, float]]]) -> str:
    """ROC curves of at most eight classes, one against the rest; empty for more, where lines cannot be told apart."""
    if not 0 < len(curves) <= len(SERIES):
        return ""
    names = [shorten(name, 18) for name in curves]
    records = [
        {"class": str(place), "false": x, "true": y, "order": order}
        for place, curve in enumerate(curves.values())
        for order, (x, y) in enumerate(curve)
    ]
    legend = alt.Legend(title=None, labelExpr=lookup(names), columns=3)
    share = alt.Scale(domain=[0, 1], nice=False)
    lines = (
        alt.Chart(data(records))
        .mark_line(strokeWidth=2)
        .encode(
            x=alt.X("false:Q", scale=share, axis=axis("false positive rate", format=".0%", tickCount=5)),
            y=alt.Y("true:Q", scale=share, axis=axis("true positive rate", format=".0%", tickCount=5)),
            color=alt.Color("class:N", sort=None, scale=alt.Scale(range=SERIES[: len(names)]), legend=legend if len(names) > 1 else None),
            order="order:Q",
        )
    )
    chance = alt.Chart(data([{"false": 0, "true": 0}, {"false": 1, "true": 1}])).mark_line(color=GREY, strokeDash=[4, 3], strokeWidth=1.5)
    return draw(
        alt.layer(chance.encode(x="false:Q", y="true:Q"), lines),
        width=HALF,
        height=340,
        description="ROC curves, one class against the rest",
    )


def _places(size: int) -> alt.Scale:
    return alt.Scale(domain=list(range(size)), padding=0.03 if size <= _WITH_NAMES else 0)


def _names_axis(title: str, classes: Sequence[str], named: bool, *, slanted: bool = False) -> alt.Axis:
    if not named:
        return axis(f"{title} ({len(classes)} classes)", labels=False)
    expression = lookup([shorten(name, 20) for name in classes])
    return axis(title, labelExpr=expression, labelColor=INK, labelAngle=-45 if slanted else 0)
