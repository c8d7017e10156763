"""The headline chart: the network beside its baselines, each with its interval."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import altair as alt

from recurra.evaluation.charts.theme import BLUE, FULL, GREY, INK, Records, axis, data, draw, lookup, shorten

__all__ = ["results"]


def results(records: Records, *, title: str, share: bool) -> str:
    """One line a model: a point, and a bar over its interval.

    Args:
        records: {"name", "value", "low", "high", "text"}, the network first; low and high equal to the value where there is no interval.
        title: of the axis, with the unit.
        share: the metric lies between 0 and 1 and is written in per cent.
    """
    if not records:
        return ""
    rows: list[dict[str, Any]] = [{**record, "place": place, "network": place == 0} for place, record in enumerate(records)]
    names: Sequence[str] = [shorten(record["name"]) for record in records]
    color = alt.condition("datum.network", alt.value(BLUE), alt.value(GREY))
    scale = _scale(records, share=share)
    base = alt.Chart(data(rows)).encode(
        y=alt.Y("place:O", axis=axis(None, labelExpr=lookup(names), labelColor=INK, labelFontSize=12.5)),
        color=color,
    )
    horizontal = alt.X("value:Q", scale=scale, axis=axis(title, format=_format(records, share=share), tickCount=7))
    chart = alt.layer(
        base.mark_rule(strokeWidth=6, strokeCap="round", opacity=0.35).encode(x=alt.X("low:Q", scale=scale), x2="high:Q"),
        base.mark_point(filled=True, size=110, opacity=1).encode(x=horizontal),
        base.mark_text(dy=-14, fontSize=12).encode(x=horizontal, text="text:N", color=alt.value(INK)),
    )
    return draw(
        chart, width=FULL, height=64 + 42 * len(rows), description=f"{title}: " + "; ".join(f"{r['name']} {r['text']}" for r in records)
    )


def _scale(records: Records, *, share: bool) -> alt.Scale:
    """All intervals with some room beside them, but no further than a share can go."""
    low, high = min(record["low"] for record in records), max(record["high"] for record in records)
    room = 0.06 * ((high - low) or abs(high) or 1.0)
    bounds = (max(low - room, 0.0), min(high + room, 1.0)) if share else (low - room, high + room)
    return alt.Scale(domain=list(bounds), nice=False, zero=False)


def _format(records: Records, *, share: bool) -> str:
    """Whole per cents while the axis is long enough to tell them apart."""
    span = max(record["high"] for record in records) - min(record["low"] for record in records)
    return ",~r" if not share else ".0%" if span > 0.08 else ".1%"
