"""Charts of the gradient: its norm in each layer over the epochs, and at each distance in time."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt

from recurra.evaluation.charts.course import epoch_axis
from recurra.evaluation.charts.theme import SERIES, axis, data, draw, lookup, shorten

__all__ = ["gradient_by_distance", "gradient_by_layer"]

_MOST_LAYERS = 2 * len(SERIES)
"""Layers that colour and dash tell apart; more are not drawn."""
_NAME = 26
_FEW_DISTANCES = 16
_SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
_SOLID, _DASHED = [1, 0], [4, 3]


def gradient_by_layer(records: Sequence[Mapping[str, float | int | str]]) -> str:
    """Norm of each layer's gradient over the epochs, logarithmic; at most 16 layers.

    Args:
        records: {"epoch", "layer", "norm"}; norms of zero or not finite cannot stand on a logarithmic axis and are not drawn.
    """
    shown, layers = _drawable(records, _MOST_LAYERS)
    if not shown:
        return ""
    dashes = [_SOLID] * len(SERIES) + [_DASHED] * len(SERIES)
    scale = alt.Scale(domain=list(range(len(layers))), range=dashes[: len(layers)])
    lines = alt.Chart(data(shown)).encode(x=epoch_axis(shown), y=_log_axis(shown), color=_colors(layers))
    dashed = lines.mark_line(strokeWidth=2).encode(strokeDash=alt.StrokeDash("place:N", scale=scale, legend=None))
    points = lines.mark_point(filled=True, size=30, opacity=1)
    height = 250 + 16 * -(-len(layers) // 2)
    return draw(alt.layer(dashed, points), height=height, description="Norm of the gradient by layer and epoch")


def gradient_by_distance(records: Sequence[Mapping[str, float | int | str]]) -> str:
    """Norm of the gradient by distance in time, logarithmic: the first epoch dashed, the last solid; at most 8 layers.

    Args:
        records: {"epoch", "layer", "distance", "norm"}, the distance in steps. A few distances (0, 1, 2, 4, 8, ...) stand evenly spaced.
    """
    shown, layers = _drawable(records, len(SERIES))
    if not shown:
        return ""
    epochs = sorted({record["epoch"] for record in shown})
    ends = list(dict.fromkeys((epochs[-1], epochs[0])))
    shown = [{**record, "time": f"epoch {record['epoch']}"} for record in shown if record["epoch"] in ends]
    distances = sorted({record["distance"] for record in shown})
    few = len(distances) <= _FEW_DISTANCES
    names = [f"epoch {epoch}" for epoch in ends]
    lines = alt.Chart(data(shown)).encode(
        x=alt.X(
            "distance:Q",
            axis=axis("distance in time (steps)", grid=False, **({"values": distances, "format": "d"} if few else {})),
            scale=alt.Scale(type="symlog" if few else "linear", nice=False),
        ),
        y=_log_axis(shown),
        color=_colors(layers),
    )
    dash = alt.StrokeDash("time:N", sort=names, scale=alt.Scale(domain=names, range=[_SOLID, _DASHED][: len(names)]), legend=None)
    drawn = [lines.mark_line(strokeWidth=2).encode(strokeDash=dash)]
    if few:
        drawn.append(lines.mark_point(filled=True, size=24, opacity=1).encode(detail="time:N"))
    return draw(alt.layer(*drawn), height=250 + 16 * -(-len(layers) // 2), description="Norm of the gradient by distance in time")


def _drawable(records: Sequence[Mapping[str, Any]], most: int) -> tuple[list[dict[str, Any]], list[str]]:
    """The records with a norm above zero, each with the place of its layer, and the layers in their order."""
    layers = list(dict.fromkeys(str(record["layer"]) for record in records))[:most]
    places = {layer: place for place, layer in enumerate(layers)}
    shown = [
        {**record, "layer": "", "place": places[str(record["layer"])]}
        for record in records
        if str(record["layer"]) in places and math.isfinite(record["norm"]) and record["norm"] > 0
    ]
    return shown, layers


def _colors(layers: Sequence[str]) -> alt.Color:
    """Colours by the layers' places. The end of a long name is what tells it from its neighbours."""
    names = [shorten(layer[::-1], _NAME)[::-1] for layer in layers]
    colors = [SERIES[place % len(SERIES)] for place in range(len(layers))]
    legend = alt.Legend(title=None, labelExpr=lookup(names), columns=2)
    return alt.Color("place:N", sort=None, scale=alt.Scale(domain=list(range(len(layers))), range=colors), legend=legend)


def _log_axis(records: Sequence[Mapping[str, Any]]) -> alt.Y:
    """A logarithmic axis over whole powers of ten, labelled at some of them."""
    norms = [record["norm"] for record in records]
    low, high = math.floor(math.log10(min(norms))), math.ceil(math.log10(max(norms)))
    high = max(high, low + 1)
    every = max(1, -(-(high - low) // 7))
    ticks = {10.0**power: f"10{str(power).translate(_SUPERSCRIPT)}" for power in range(low, high + 1, every)}
    labels = f"{json.dumps({str(round(math.log10(tick))): text for tick, text in ticks.items()})}[round(log(datum.value) / LN10)]"
    return alt.Y(
        "norm:Q",
        axis=axis("norm of the gradient (log scale)", values=list(ticks), labelExpr=labels),
        scale=alt.Scale(type="log", domain=[10.0**low, 10.0**high], nice=False),
    )
