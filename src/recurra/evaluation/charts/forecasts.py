"""Charts of forecasts: history with its fan, error by steps ahead, coverage against nominal.

Times are drawn as they stand on the clock of the data: no zone of the machine that draws has a part in it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt
import numpy as np

from recurra.evaluation.charts.theme import BLUE, FULL, GREY, HALF, INK, MUTED, ORANGE, axis, data, draw, shorten
from recurra.evaluation.forecast.windows import ForecastWindow
from recurra.metrics.forecast import interval_pairs

__all__ = ["coverage", "error_by_step", "forecast_fan"]

_BANDS = (0.16, 0.3, 0.42, 0.5)
"""Opacity of the widest interval, the next, ..."""
_DASHES = ((6, 3), (2, 2), (8, 3, 2, 3), (3, 5))
_MOST_HISTORY = 3
"""Horizons of history that are drawn, at most."""
_LEAST_HISTORY = 48


def forecast_fan(window: ForecastWindow, *, full: bool = False, height: int = 230) -> str:
    """The end of the history, what came, the forecast with its intervals, and a baseline's forecast.

    Args:
        window: with all numbers in the user's unit.
        full: across the page, or in a column of it.
        height: of the picture in pixels.
    """
    horizon = len(window.point)
    shown = max(_MOST_HISTORY * horizon, _LEAST_HISTORY)
    history, times = window.history[-shown:], window.times[-horizon - min(shown, len(window.history)) :]
    before, ahead = times[:-horizon], times[-horizon:]
    horizontal = alt.X(
        "time:T", scale=alt.Scale(type="utc", nice=False), axis=axis(None, tickCount=8 if full else 4, grid=False, labelFlush=True)
    )
    if not window.calendar:
        horizontal = alt.X(
            "time:Q", scale=alt.Scale(nice=False, zero=False), axis=axis("step", tickCount=8 if full else 4, grid=False, format="d")
        )
    vertical = alt.Y("value:Q", scale=alt.Scale(zero=False, nice=True, padding=4), axis=axis(shorten(window.unit, 30) or None, tickCount=5))
    seam = (before[-1:], history[-1:]) if len(before) and np.isfinite(history[-1]) else (before[:0], history[:0])
    known = np.concatenate([history, window.answers])
    lines = {
        "what came": (times, known),
        "forecast": (np.concatenate([seam[0], ahead]), np.concatenate([seam[1], window.point])),
    }
    if window.baseline is not None:
        lines[window.baseline_name] = (np.concatenate([seam[0], ahead]), np.concatenate([seam[1], window.baseline]))
    records = [
        {"time": time, "value": value, "line": name}
        for name, (moments, values) in lines.items()
        for time, value in zip(_drawable(moments, window.calendar), _numbers(values), strict=True)
    ]
    names = list(lines)
    colors = alt.Scale(domain=names, range=[INK, BLUE, ORANGE][: len(names)])
    dashes = alt.Scale(domain=names, range=[[1, 0], [1, 0], [4, 3]][: len(names)])
    drawn = (
        alt.Chart(data(records))
        .mark_line(strokeWidth=1.6, strokeJoin="round")
        .encode(
            x=horizontal,
            y=vertical,
            color=alt.Color("line:N", scale=colors, title=None, sort=names),
            strokeDash=alt.StrokeDash("line:N", scale=dashes, title=None, sort=names),
        )
    )
    start = (
        alt.Chart(data([{"time": _drawable(ahead[:1], window.calendar)[0]}])).mark_rule(color=GREY, strokeDash=[2, 3]).encode(x=horizontal)
    )
    layers: list[Any] = [*_bands(window, ahead, horizontal), start, drawn]
    text = f"Forecast of {shorten(window.name, 60)}: {horizon} steps, with what came"
    return draw(alt.layer(*layers), width=FULL if full else HALF, height=height, description=text)


def error_by_step(errors: Mapping[str, Sequence[float] | np.ndarray], *, title: str, step: str = "step") -> str:
    """The error of each model by steps ahead, the network's first.

    Args:
        errors: (H,) by name of the model.
        title: of the vertical axis, with the unit.
        step: what a step is, in the singular.
    """
    records = [
        {"step": place + 1, "model": name, "value": float(value)}
        for name, values in errors.items()
        for place, value in enumerate(values)
        if np.isfinite(value)
    ]
    if not records:
        return ""
    names = list(errors)
    palette = [BLUE, ORANGE, "#009e73", "#cc79a7", GREY, "#8c6d31"]
    colors = alt.Scale(domain=names, range=[palette[i % len(palette)] for i in range(len(names))])
    dashes = alt.Scale(domain=names, range=[[1, 0], [1, 0], *(list(_DASHES[i % len(_DASHES)]) for i in range(len(names)))][: len(names)])
    chart = alt.Chart(data(records)).encode(
        x=alt.X("step:Q", scale=alt.Scale(nice=False, zero=False), axis=axis(f"{step}s ahead", tickCount=6, format="d", grid=False)),
        y=alt.Y("value:Q", scale=alt.Scale(zero=True, nice=True), axis=axis(title, tickCount=6)),
        color=alt.Color("model:N", scale=colors, title=None, sort=names, legend=alt.Legend(columns=3)),
        strokeDash=alt.StrokeDash("model:N", scale=dashes, title=None, sort=names),
    )
    lonely = len({record["step"] for record in records}) == 1
    marks = chart.mark_point(filled=True, size=60) if lonely else chart.mark_line(strokeWidth=2)
    return draw(marks, height=300, description=f"{title} by steps ahead")


def coverage(shares: Mapping[str, Sequence[tuple[float, float]]]) -> str:
    """Share of the answers that lay inside each interval, against the share that should.

    Args:
        shares: (nominal, actual) of each interval by name of the model, the network's first.
    """
    records = [{"model": name, "nominal": nominal, "actual": actual} for name, pairs in shares.items() for nominal, actual in sorted(pairs)]
    if not records:
        return ""
    names = list(shares)
    scale = alt.Scale(domain=[0, 1], nice=False)
    colors = alt.Scale(domain=names, range=[BLUE, ORANGE, GREY][: len(names)])
    chart = alt.Chart(data(records)).encode(
        x=alt.X("nominal:Q", scale=scale, axis=axis("nominal coverage", format=".0%", tickCount=5)),
        y=alt.Y("actual:Q", scale=scale, axis=axis("answers inside the interval", format=".0%", tickCount=5)),
        color=alt.Color("model:N", scale=colors, title=None, sort=names),
    )
    ends = alt.Chart(data([{"nominal": end, "actual": end} for end in (0, 1)])).encode(x="nominal:Q", y="actual:Q")
    perfect = ends.mark_line(color=MUTED, strokeDash=[4, 3], strokeWidth=1.2)
    layers = alt.layer(perfect, chart.mark_line(strokeWidth=1.5, opacity=0.6), chart.mark_point(filled=True, size=70, opacity=1))
    return draw(layers, height=300, description="Coverage of the intervals against nominal")


def _bands(window: ForecastWindow, ahead: np.ndarray, horizontal: alt.X) -> list[alt.Chart]:
    """The intervals, widest first."""
    layers = []
    quantiles = window.quantiles
    if quantiles is None:
        return []
    times = _drawable(ahead, window.calendar)
    for place, (_, low, high) in enumerate(interval_pairs(window.levels)):
        records = [
            {"time": time, "low": float(lower), "high": float(upper)}
            for time, lower, upper in zip(times, quantiles[:, low], quantiles[:, high], strict=True)
        ]
        mark = alt.Chart(data(records))
        faint = _BANDS[min(place, len(_BANDS) - 1)]
        alone = len(records) == 1
        marked = mark.mark_rule(color=BLUE, opacity=faint, strokeWidth=8) if alone else mark.mark_area(color=BLUE, opacity=faint)
        layers.append(marked.encode(x=horizontal, y=alt.Y("low:Q"), y2="high:Q"))
    return layers


def _drawable(times: np.ndarray, calendar: bool) -> list[float]:
    """Milliseconds, which Vega counts in; or steps as they are."""
    moments: list[float] = (np.asarray(times, dtype=np.float64) / 1_000.0 if calendar else np.asarray(times, dtype=np.float64)).tolist()
    return moments


def _numbers(values: np.ndarray) -> list[float | None]:
    """A missing value is a gap in the line."""
    return [float(value) if np.isfinite(value) else None for value in values]
