"""Charts of a recommender: recall by cutoff, by groups of clicks, and how its recommendations spread over the catalogue."""

from __future__ import annotations

from typing import Any

import altair as alt

from recurra.evaluation.charts.theme import GREY, HALF, SERIES, Records, axis, data, draw, lookup, shorten

__all__ = ["by_group", "recall_curve"]

_DASHES = ((1, 0), (6, 3), (2, 2), (8, 3, 2, 3), (4, 4), (1, 3), (10, 3), (3, 1))
_HEIGHT = 320


def recall_curve(records: Records) -> str:
    """Recall by the number of items recommended, one line a model.

    Args:
        records: {"model", "k", "recall"}, the network first.
    """
    if not records:
        return ""
    horizontal = alt.X(
        "k:Q", scale=alt.Scale(type="log", nice=False), axis=axis("items recommended (k)", values=[1, 2, 5, 10, 20, 50, 100], format="d")
    )
    vertical = alt.Y("recall:Q", scale=alt.Scale(zero=True), axis=axis("recall at k", format=".0%", tickCount=6))
    numbered, color, dash = _models(records)
    lines = alt.Chart(data(numbered)).mark_line(strokeWidth=2).encode(x=horizontal, y=vertical, color=color, strokeDash=dash)
    return draw(lines, width=HALF, height=_HEIGHT, description="Recall by the number of items recommended")


def by_group(records: Records, *, title: str, groups: str, grey: str = "", number_format: str = ".0%") -> str:
    """A share, or another mean, by group, one line a model.

    Args:
        records: {"model", "group", "order", "value"}.
        title: of the vertical axis.
        groups: title of the horizontal axis.
        grey: the model that is drawn in grey, as what the others are held against.
        number_format: of the vertical axis.
    """
    if not records:
        return ""
    labels = {int(record["order"]): str(record["group"]) for record in records}
    places = sorted(labels)
    renamed = [{**record, "place": places.index(record["order"])} for record in records]
    names = [labels[place] for place in places]
    horizontal = alt.X("place:O", axis=axis(groups, labelExpr=lookup(names), labelAngle=0, grid=False), scale=alt.Scale(padding=0.3))
    vertical = alt.Y("value:Q", scale=alt.Scale(zero=True), axis=axis(title, format=number_format, tickCount=6))
    numbered, color, dash = _models(renamed, grey)
    base = alt.Chart(data(numbered)).encode(x=horizontal, y=vertical, color=color)
    chart = alt.layer(base.mark_line(strokeWidth=2).encode(strokeDash=dash), base.mark_point(filled=True, size=36, opacity=1))
    return draw(chart, width=HALF, height=_HEIGHT, description=f"{title} by {groups}")


def _models(records: Records, grey: str = "") -> tuple[list[dict[str, Any]], alt.Color, alt.StrokeDash]:
    """The records with numbers for the models, and how these are drawn: names from the data are never fields or colours of their own."""
    models = list(dict.fromkeys(str(record["model"]) for record in records))
    free = iter(zip(SERIES, _DASHES, strict=False))
    looks = [(GREY, (1, 0)) if model == grey else next(free) for model in models]
    numbered = [{**record, "model": str(models.index(str(record["model"])))} for record in records]
    domain = [str(place) for place in range(len(models))]
    names = lookup([shorten(model, 20) for model in models])
    legend = alt.Legend(title=None, labelExpr=names, columns=3, symbolType="stroke", symbolSize=160)
    color = alt.Color("model:N", sort=None, scale=alt.Scale(domain=domain, range=[look[0] for look in looks]), legend=legend)
    scale = alt.Scale(domain=domain, range=[list(look[1]) for look in looks])
    return numbered, color, alt.StrokeDash("model:N", sort=None, scale=scale, legend=legend)
