"""Chart of attention: what each token that was written looked at in the source."""

from __future__ import annotations

from collections.abc import Sequence

import altair as alt
import numpy as np

from recurra.evaluation.charts.theme import axis, data, draw, lookup, shorten

__all__ = ["attention_map"]

_DRAWABLE = 40
"""Most tokens of a side that a picture shows."""
_CELL = "#0072b1"
"""Blue with a value of its own: cells keep it on dark screens, where lines turn lighter."""
_STEP = 19
"""Width and height of a cell, in pixels."""
_SEEN = 0.005
"""Weights below this are not drawn."""


def attention_map(weights: np.ndarray, source: Sequence[str], output: Sequence[str]) -> str:
    """Weights of the attention as a grid, the stronger the darker; empty where a side is longer than 40 tokens, or empty.

    Args:
        weights: (T, S) of each token that was written, of sum one over the source.
        source: the S tokens that were read.
        output: the T tokens that were written.
    """
    if not (0 < len(source) <= _DRAWABLE and 0 < len(output) <= _DRAWABLE):
        return ""
    records = [
        {"read": int(place), "written": int(row), "weight": round(float(weights[row, place]), 4)}
        for row, place in zip(*np.nonzero(weights >= _SEEN), strict=True)
    ]
    chart = (
        alt.Chart(data(records))
        .mark_rect(fill=_CELL, stroke=None)
        .encode(
            x=alt.X("read:O", axis=_tokens(source, "source", slanted=True), scale=_places(len(source))),
            y=alt.Y("written:O", axis=_tokens(output, "written", slanted=False), scale=_places(len(output))),
            fillOpacity=alt.FillOpacity("weight:Q", scale=alt.Scale(domain=[0, 1], range=[0.03, 1]), legend=None),
        )
    )
    size = {"width": 160 + _STEP * len(source), "height": 150 + _STEP * len(output)}
    return draw(chart, **size, description=f"Attention from {len(output)} tokens written to {len(source)} tokens read")


def _tokens(names: Sequence[str], title: str, *, slanted: bool) -> alt.Axis:
    shown = [shorten(name.strip(" ") or "␣", 14) for name in names]
    return axis(title, labelExpr=lookup(shown), grid=False, labelAngle=-50 if slanted else 0)


def _places(count: int) -> alt.Scale:
    """All tokens in their order, also those without a cell."""
    return alt.Scale(domain=list(range(count)), paddingInner=0.04, paddingOuter=0.02)
