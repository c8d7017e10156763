"""Charts of the course of a training: learning curves, and the lengths of what is read. Not inside: the gradient (`gradients`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isfinite
from typing import Any

import altair as alt
import numpy as np

from recurra.evaluation.charts.theme import BLUE, GREY, HALF, INK, MUTED, ORANGE, axis, data, draw

__all__ = ["epoch_axis", "learning_curve", "length_distribution"]

_BINS = 40


def learning_curve(history: Sequence[Mapping[str, float]], quantity: str, *, title: str, best_epoch: int | None = None) -> str:
    """A quantity by epoch, on the training and on the validation part.

    Args:
        history: records with `epoch` and any of `train_<quantity>`, `validation_<quantity>`.
        quantity: such as loss or accuracy.
        title: of the vertical axis, with the unit.
        best_epoch: marked by a vertical line.
    """
    records = [
        {"epoch": record["epoch"], "part": part, "value": record[f"{part}_{quantity}"]}
        for record in history
        for part in ("train", "validation")
        if isfinite(record.get(f"{part}_{quantity}", float("nan")))
    ]
    if not records:
        return ""
    epochs = len({record["epoch"] for record in records})
    parts = [part for part in ("train", "validation") if any(record["part"] == part for record in records)]
    colors = {"train": GREY, "validation": BLUE}
    horizontal = epoch_axis(history)
    vertical = alt.Y("value:Q", axis=axis(title, tickCount=6), scale=alt.Scale(zero=False, nice=True, padding=6))
    color = alt.Color("part:N", scale=alt.Scale(domain=parts, range=[colors[part] for part in parts]), title=None, sort=parts)
    lines = alt.Chart(data(records)).encode(x=horizontal, y=vertical, color=color)
    layers: list[Any] = [lines.mark_line(strokeWidth=2)]
    if epochs <= 40:
        layers.append(lines.mark_point(filled=True, size=34, opacity=1))
    if best_epoch is not None:
        rule = alt.Chart(data([{"epoch": best_epoch, "label": "kept"}])).encode(x=horizontal)
        layers.insert(0, rule.mark_rule(color=MUTED, strokeDash=[3, 3]))
        layers.append(rule.mark_text(align="left", baseline="top", dx=5, color=MUTED, fontSize=11).encode(text="label:N", y=alt.value(0)))
    return draw(alt.layer(*layers), description=f"{title} by epoch")


def length_distribution(
    lengths: Sequence[int] | np.ndarray, *, unit: str = "token", max_length: int | None = None, width: int = HALF
) -> str:
    """Histogram of sequence lengths.

    The longest half percent share the last bar, so that one very long text does not flatten all the others.

    Args:
        lengths: steps of each row.
        unit: of a step, in the singular.
        max_length: marked where texts were cut.
        width: of the picture in pixels.
    """
    values = np.asarray(lengths)
    if not len(values):
        return ""
    top = max(int(np.quantile(values, 0.995)), 1)
    step = max(1, -(-(top + 1) // _BINS))
    place = np.minimum(values, top) // step
    counts = np.bincount(place)
    records = [{"low": i * step, "high": (i + 1) * step, "count": int(count)} for i, count in enumerate(counts.tolist())]
    records[-1]["high"] = len(counts) * step
    bars = (
        alt.Chart(data(records))
        .mark_bar(color=BLUE, binSpacing=1)
        .encode(
            x=alt.X("low:Q", bin="binned", axis=axis(f"length ({unit}s)", grid=False), scale=alt.Scale(nice=False)),
            x2="high:Q",
            y=alt.Y("count:Q", axis=axis("rows", format="~s", tickCount=5)),
        )
    )
    middle = float(np.median(values))
    marks = [{"at": middle, "label": f"median {middle:g}"}]
    if max_length is not None and max_length <= len(counts) * step and values.max() >= max_length:
        marks.append({"at": float(max_length), "label": f"cut at {max_length}"})
    rule = alt.Chart(data(marks)).encode(x=alt.X("at:Q"))
    text = rule.mark_text(align="left", baseline="top", dx=5, color=INK, fontSize=11).encode(text="label:N", y=alt.value(0))
    layered = alt.layer(bars, rule.mark_rule(color=ORANGE, strokeWidth=1.5), text)
    return draw(layered, width=width, height=240, description=f"Distribution of lengths in {unit}s")


def epoch_axis(records: Sequence[Mapping[str, Any]]) -> alt.X:
    """The axis of epochs: all of them labelled while they fit, else about ten."""
    epochs = sorted({int(record["epoch"]) for record in records})
    margin = 0.5 if len(epochs) == 1 else (epochs[-1] - epochs[0]) * 0.03
    shown = epochs if len(epochs) <= 12 else epochs[:: -(-len(epochs) // 10)]
    scale = alt.Scale(domain=[epochs[0] - margin, epochs[-1] + margin], nice=False)
    return alt.X("epoch:Q", axis=axis("epoch", grid=False, values=shown, format="d"), scale=scale)
