"""The model card of a forecasting model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from recurra.config import Settings
from recurra.data.roles import Roles
from recurra.model.card import card_page

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
    said = [
        (
            f"{forecast.horizon} steps of {roles.frequency} ahead, from the {forecast.input_length} before. A {forecast.model} model: "
            f"{settings.encoder.cell.upper()} with {settings.encoder.hidden_size} units, output {forecast.output}."
        )
    ]
    title, code = f"Forecast of {', '.join(roles.targets)}", 'model.forecast("history.csv")'
    return card_page(title, said, code=code, run=run, settings=settings, measured=_compared(run), pipeline="time-series-forecasting")


def _compared(run: Mapping[str, Any]) -> list[str]:
    """A table of figures a part, the baselines beside the model."""
    lines = []
    for part, metrics in run.get("metrics", {}).items():
        baselines = {name: measured[part] for name, measured in run.get("baselines", {}).items() if part in measured}
        lines += [f"| {' | '.join([part, 'model', *baselines])} |", "| --- |" + " --- |" * (1 + len(baselines))]
        for name in SHOWN:
            if name in metrics:
                others = [measured.get(name) for measured in baselines.values()]
                values = [f"{value:.4f}" if isinstance(value, (int, float)) else "" for value in (metrics[name], *others)]
                lines.append(f"| {name} | {' | '.join(values)} |")
        lines.append("")
    if lines:
        lines += [
            "`standard_` metrics are on the scale of each column's deviation in training; `mase` has no unit, `coverage_` is a share;",
            "the others are in the target's unit, `mse` in its square.",
            "",
        ]
    return lines
