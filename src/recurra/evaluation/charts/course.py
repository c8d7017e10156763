"""Charts of the course of a training: learning curves, gradient flow, and the lengths of what is read."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from math import isfinite
from typing import Any

import altair as alt
import numpy as np

from recurra.evaluation.charts.theme import BLUE, GREY, HALF, INK, MUTED, ORANGE, SERIES, axis, data, draw, shorten

__all__ = ["gradient_by_distance", "gradient_by_layer", "learning_curve", "length_distribution"]

_MOST_LAYERS = len(SERIES)
_BINS = 40
_SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


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
    horizontal = _epochs(history)
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


def gradient_by_layer(records: Sequence[Mapping[str, float | int | str]]) -> str:
    """Norm of each layer's gradient over the epochs, logarithmic.

    Args:
        records: {"epoch", "layer", "norm"}; norms of zero or not finite cannot stand on a logarithmic axis and are not drawn.
    """
    kept = _positive(records)
    if not kept:
        return ""
    layers = _names(kept)
    lines = alt.Chart(data([record for record in kept if record["layer"] in layers])).encode(
        x=_epochs(kept),
        y=_log("norm:Q", "norm of the gradient (log scale)", kept),
        color=_series(layers),
    )
    return draw(
        alt.layer(lines.mark_line(strokeWidth=2), lines.mark_point(filled=True, size=30, opacity=1)),
        description="Norm of the gradient by layer and epoch",
    )


def gradient_by_distance(records: Sequence[Mapping[str, float | int | str]]) -> str:
    """Norm of the gradient by distance in time from the end of the sequence, logarithmic: the first epoch dashed, the last solid.

    Args:
        records: {"epoch", "layer", "distance", "norm"}, the distance in steps.
    """
    kept = _positive(records)
    if not kept:
        return ""
    epochs = sorted({record["epoch"] for record in kept})
    ends = dict.fromkeys((epochs[-1], epochs[0]))
    layers = _names(kept)
    shown = [{**record, "time": f"epoch {record['epoch']}"} for record in kept if record["epoch"] in ends and record["layer"] in layers]
    names = [f"epoch {epoch}" for epoch in ends]
    dash = alt.StrokeDash("time:N", sort=names, scale=alt.Scale(domain=names, range=[[1, 0], [4, 3]][: len(names)]), title=None)
    lines = alt.Chart(data(shown)).mark_line(strokeWidth=2)
    chart = lines.encode(
        x=alt.X("distance:Q", axis=axis("distance from the end of the sequence (steps)", grid=False), scale=alt.Scale(nice=False)),
        y=_log("norm:Q", "norm of the gradient (log scale)", shown),
        color=_series(layers),
        strokeDash=dash,
    )
    return draw(alt.layer(chart), description="Norm of the gradient by distance in time")


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


def _positive(records: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    return [{**record, "layer": shorten(str(record["layer"]))} for record in records if isfinite(record["norm"]) and record["norm"] > 0]


def _names(records: Sequence[Mapping[str, Any]]) -> list[str]:
    """The layers in their order; only as many as there are colours."""
    return list(dict.fromkeys(record["layer"] for record in records))[:_MOST_LAYERS]


def _series(names: Sequence[str]) -> alt.Color:
    return alt.Color("layer:N", sort=list(names), scale=alt.Scale(domain=list(names), range=SERIES[: len(names)]), title=None)


def _epochs(records: Sequence[Mapping[str, Any]]) -> alt.X:
    """The axis of epochs: all of them labelled while they fit, else about ten."""
    epochs = sorted({int(record["epoch"]) for record in records})
    margin = 0.5 if len(epochs) == 1 else (epochs[-1] - epochs[0]) * 0.03
    shown = epochs if len(epochs) <= 12 else epochs[:: -(-len(epochs) // 10)]
    scale = alt.Scale(domain=[epochs[0] - margin, epochs[-1] + margin], nice=False)
    return alt.X("epoch:Q", axis=axis("epoch", grid=False, values=shown, format="d"), scale=scale)


def _log(field: str, title: str, records: Sequence[Mapping[str, Any]]) -> alt.Y:
    """A logarithmic axis over whole powers of ten, labelled at some of them."""
    norms = [record["norm"] for record in records]
    low, high = int(np.floor(np.log10(min(norms)))), int(np.ceil(np.log10(max(norms))))
    high = max(high, low + 1)
    every = max(1, -(-(high - low) // 7))
    ticks = {10.0**power: f"10{str(power).translate(_SUPERSCRIPT)}" for power in range(low, high + 1, every)}
    labels = f"{json.dumps({str(round(math.log10(tick))): text for tick, text in ticks.items()})}[round(log(datum.value) / LN10)]"
    return alt.Y(
        field,
        axis=axis(title, values=list(ticks), labelExpr=labels),
        scale=alt.Scale(type="log", domain=[10.0**low, 10.0**high], nice=False),
    )
