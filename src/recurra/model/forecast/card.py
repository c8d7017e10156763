"""The model card of a forecasting model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from recurra.config import Settings
from recurra.data.roles import Roles

__all__ = ["forecast_card"]

SHOWN = ("mase", "mse", "mae", "rmse", "standard_mse", "standard_mae", "crps", "coverage_90")
"""Metrics that the card has, where they were measured."""


def forecast_card(settings: Settings, roles: Roles, run: Mapping[str, Any]) -> str:
    """What the model forecasts, from what, how well beside the baselines, and how it is used.

    Args:
        settings: of the run.
        roles: of the columns.
        run: what `run.json` holds; may be empty.
    """
    forecast = settings.forecast
    lines = [
        "---",
        "library_name: recurra",
        "pipeline_tag: time-series-forecasting",
        "---",
        "",
        f"# Forecast of {', '.join(roles.targets)}",
        "",
        f"{forecast.horizon} steps of {roles.frequency} ahead, from the {forecast.input_length} before. A {forecast.model} model:",
        f"{settings.encoder.cell.upper()} with {settings.encoder.hidden_size} units, output {forecast.output}.",
        "",
        "```python",
        "import recurra",
        "",
        'recurra.load("model").forecast("history.csv")',
        "```",
        "",
    ]
    for part, metrics in run.get("metrics", {}).items():
        lines += [
            f"| {part} | model | {' | '.join(run.get('baselines', {}))} |",
            "| --- |" + " --- |" * (1 + len(run.get("baselines", {}))),
        ]
        for name in SHOWN:
            if name in metrics:
                others = [baseline.get(part, {}).get(name) for baseline in run.get("baselines", {}).values()]
                values = [f"{value:.4f}" if isinstance(value, (int, float)) else "" for value in (metrics[name], *others)]
                lines.append(f"| {name} | {' | '.join(values)} |")
        lines.append("")
    lines.append("`standard_` metrics are on the scale of each column's deviation in training; the others are in the user's unit.")
    return "\n".join(lines) + "\n"
