"""Metrics as a table in the terminal."""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["print_metrics"]


def print_metrics(metrics: Mapping[str, float]) -> None:
    """Print metrics with their confidence intervals (`NAME_low`, `NAME_high`) beside them."""
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    table.add_column("metric")
    table.add_column("value", justify="right")
    table.add_column("interval", justify="right")
    for name, value in metrics.items():
        if name.endswith(("_low", "_high")) and name.rpartition("_")[0] in metrics:
            continue
        low, high = metrics.get(f"{name}_low"), metrics.get(f"{name}_high")
        between = "" if low is None or high is None else f"{low:.4f} to {high:.4f}"
        table.add_row(name, f"{value:,}" if isinstance(value, int) else f"{value:.4f}", between)
    Console().print(table)
