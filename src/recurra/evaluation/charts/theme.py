"""How every chart looks, and how it becomes SVG.

The colours are Okabe and Ito's, which people of every colour vision tell apart; lines differ in dash as well. Each colour is a fixed
hexadecimal value, so that the page's style sheet can give each its counterpart for dark screens (`svg [fill="#0072b2"]`).

Source: Okabe and Ito, "Color Universal Design", 2008.
"""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from collections.abc import Sequence
from typing import Any

import altair as alt

__all__ = [
    "BLUE",
    "FULL",
    "GREY",
    "GRID",
    "HALF",
    "INK",
    "MUTED",
    "ORANGE",
    "SERIES",
    "Records",
    "axis",
    "data",
    "draw",
    "lookup",
    "shorten",
]

INK, MUTED, GRID, GREY = "#1d1c1a", "#6a675f", "#e4e0d8", "#98948a"
BLUE, ORANGE = "#0072b2", "#d55e00"
SERIES = [BLUE, ORANGE, "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8c6d31", GREY]
"""In the order in which lines take them."""

HALF, FULL = 460, 940
"""Width of a chart in a column of the page, and across it (pixels at full size; the page scales them down)."""

Records = Sequence[dict[str, Any]]

_FORBIDDEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")
"""Control characters and lone surrogates, which neither XML nor HTML may hold."""
_FONT = "Inter, system-ui, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, 'Noto Sans', 'DejaVu Sans', sans-serif"
_TEXT = {"labelColor": MUTED, "labelFont": _FONT, "labelFontSize": 11, "titleColor": INK, "titleFont": _FONT, "titleFontSize": 11.5}
_PLAIN = {
    "titleFontWeight": "normal",
    "labelLimit": 0,  # names are cut by `shorten`: Vega cuts emoji in two
}
_LOOK = {
    "font": _FONT,
    "padding": 2,
    "view": {"stroke": None},
    "mark": {"aria": False},  # the whole picture has one description; one for each of 1,000 points helps nobody
    "axis": {
        **_TEXT,
        **_PLAIN,
        "titlePadding": 8,
        "labelPadding": 5,
        "labelFlush": False,
        "gridColor": GRID,
        "gridWidth": 1,
        "domain": False,
        "ticks": False,
    },
    "legend": {**_TEXT, **_PLAIN, "orient": "top", "symbolStrokeWidth": 2.5, "symbolSize": 60, "offset": 6},
}


def data(records: Records) -> alt.Data:
    """Records as altair's inline data."""
    return alt.Data(values=list(records))  # type: ignore[no-untyped-call]


def axis(title: str | None, **options: Any) -> alt.Axis:
    """An axis with its title (quantity and unit)."""
    return alt.Axis(title=title, **options)


def draw(chart: alt.Chart | alt.LayerChart | alt.FacetChart, *, width: int = HALF, height: int = 280, description: str) -> str:
    """The chart as an SVG element, axes and titles inside the given size (pixels).

    Args:
        chart: one view, or layers of one.
        width: of the whole picture.
        height: of the whole picture.
        description: read aloud in place of the picture.
    """
    import vl_convert

    specification = chart.to_dict(validate=False)
    # Set here and not by altair's `properties` and `configure`, each of which copies the chart with all its data.
    specification |= {"width": width, "height": height, "description": description, "config": _LOOK}
    specification |= {"background": "transparent", "autosize": {"type": "fit", "contains": "padding"}}
    return _unique_ids(vl_convert.vegalite_to_svg(specification))


def shorten(name: str, limit: int = 24) -> str:
    """A name fit to be drawn: without characters that cannot be, and cut to a width of so many Latin letters.

    Chinese, Japanese and Korean characters and emoji count two, combining marks nothing.
    """
    printable = _FORBIDDEN.sub("\N{REPLACEMENT CHARACTER}", name)
    width = 0
    for place, character in enumerate(printable):
        width += 0 if unicodedata.combining(character) else 2 if unicodedata.east_asian_width(character) in "WF" else 1
        if width > limit:
            return printable[: max(place - 1, 1)] + "…"
    return printable


def lookup(names: Sequence[str]) -> str:
    """A Vega expression that turns the number of a category into its name."""
    return f"{json.dumps(list(names), ensure_ascii=False)}[datum.value]"


def _unique_ids(svg: str) -> str:
    """Clip paths get the same ids in every SVG; on one page they would clip each other's charts."""
    mark = hashlib.blake2s(svg.encode(), digest_size=4).hexdigest()
    return re.sub(r'(id="|url\(#)(clip|gradient)', rf"\1c{mark}-\2", svg)
