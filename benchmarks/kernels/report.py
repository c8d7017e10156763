"""Where results go: tables on the terminal, one JSON file a part. Targets, and whether they are reached."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console
from rich.table import Table

from benchmarks.kernels.machine import busy_cores, describe_machine, matrix_rates
from benchmarks.kernels.timing import geometric_mean

__all__ = ["Report", "Target", "milliseconds", "table", "times"]


QUIET = 0.2
"""Cores that others may keep busy before figures are marked as disturbed."""


class Target(NamedTuple):
    """A figure to reach, and what was reached.

    Attributes:
        name: what is compared.
        reached: the figures, one a case; the more the better unless `at_most`.
        mean: their geometric mean is to be at least this; None for no target.
        least: none of them is to be under this, or over it when `at_most`; None for no target.
        at_most: less is better.
    """

    name: str
    reached: Sequence[float]
    mean: float | None = None
    least: float | None = None
    at_most: bool = False

    @property
    def met(self) -> bool | None:
        """Whether it is reached; None when nothing was measured, or there is nothing to reach."""
        if not self.reached or (self.mean is None and self.least is None):
            return None
        worst = max(self.reached) if self.at_most else min(self.reached)
        enough = self.mean is None or geometric_mean(self.reached) >= self.mean
        return enough and (self.least is None or (worst <= self.least if self.at_most else worst >= self.least))

    def describe(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        reached = list(self.reached)
        return {
            "name": self.name,
            "target": {"geometric_mean": self.mean, "at_most" if self.at_most else "at_least": self.least},
            "reached": {
                "cases": len(reached),
                "geometric_mean": geometric_mean(reached) if reached else None,
                "least": min(reached, default=None),
                "most": max(reached, default=None),
            },
            "met": self.met,
        }


class Report:
    """The terminal and the folder of one run; knows the machine and its matrix-multiply rate.

    Args:
        folder: where files go; made when there is something to write.
        matrix_size: of the product whose rate is taken.
    """

    def __init__(self, folder: Path, *, matrix_size: int = 2048) -> None:
        # A table that is piped into a file keeps its columns.
        self.console = Console(width=None if sys.stdout.isatty() else 180)
        self.folder = folder
        self.matrix_size = matrix_size
        self.machine = describe_machine()
        self.rates: list[float] = []
        self.busy: list[float] = []

    def open(self) -> None:
        """Measure the matrix-multiply rate, and print what is measured."""
        self.take_rate()
        machine = self.machine
        self.print(f"{machine['processor']}: {' '.join(machine['instructions'])}; torch {machine['packages']['torch']}")
        self.print(f"{machine['threads']} threads, matrix multiply at {self.rate / 1e9:.0f} GFLOP/s")
        self.warn()

    def print(self, *objects: Any) -> None:
        """To the terminal."""
        self.console.print(*objects)

    def progress(self, text: str) -> None:
        """One line to the standard error, for those who wait."""
        print(text, file=sys.stderr, flush=True)

    @property
    def rate(self) -> float:
        """The best of all rates so far: what the machine can do when nothing disturbs it."""
        return max(self.rates)

    def take_rate(self) -> None:
        """Measure the matrix-multiply rate once more, and how busy others are: a machine drifts."""
        cores = busy_cores()
        if cores is not None:
            self.busy.append(cores)
        self.rates += matrix_rates(size=self.matrix_size)

    def warn(self) -> None:
        """Say so when others were at work."""
        if self.disturbed:
            self.print(f"[bold red]Not for publication:[/] others kept up to {max(self.busy):.1f} cores busy.")

    @property
    def disturbed(self) -> bool:
        """Whether others were at work whenever it was looked at."""
        return max(self.busy, default=0.0) > QUIET

    def print_targets(self, targets: Iterable[Target]) -> None:
        """Print what was to be reached and what was."""
        rows = []
        for target in targets:
            mean = f"{geometric_mean(target.reached):.2f}" if target.reached else "-"
            worst = f"{max(target.reached) if target.at_most else min(target.reached):.2f}" if target.reached else "-"
            verdict = {True: "[green]yes[/]", False: "[red]no[/]", None: "-"}[target.met]
            rows.append([target.name, len(target.reached), _figure(target.mean), mean, _figure(target.least), worst, verdict])
        heads = ["target", "cases", "mean at least", "mean", "bound", "worst", "reached"]
        self.print(table("Targets (geometric means)", heads, rows))

    def write(self, part: str, results: dict[str, Any], targets: Iterable[Target] = ()) -> Path:
        """Write a part's JSON file; its path."""
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / f"{part}.json"
        content = {
            "machine": self.machine,
            "disturbed": self.disturbed,
            "busy_cores_of_others": self.busy,
            "matrix_rate": {"size": self.matrix_size, "best": self.rate, "samples": self.rates},
            **results,
            "targets": [target.describe() for target in targets],
        }
        path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
        self.print(f"Written: {path}")
        self.warn()
        return path


def table(title: str, heads: Sequence[str], rows: Iterable[Sequence[Any]]) -> Table:
    """A table; all columns but the first are figures."""
    made = Table(title=title, title_justify="left")
    for number, head in enumerate(heads):
        made.add_column(head, justify="right" if number else "left")
    for row in rows:
        made.add_row(*(str(value) for value in row))
    return made


def milliseconds(seconds: float | None) -> str:
    """As milliseconds with three digits."""
    return "-" if seconds is None else f"{seconds * 1e3:#.3g}".rstrip(".")


def times(ratio: float | None) -> str:
    """As how many times."""
    return "-" if ratio is None else f"{ratio:.2f}x"


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"
