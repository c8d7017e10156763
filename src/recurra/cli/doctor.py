"""`recurra doctor`."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

if TYPE_CHECKING:
    from recurra.testing.selftest import Finding

__all__ = ["doctor", "examine"]

EXTRAS = {
    "chatterbot_corpus": "the `languages` and `chatterbot` tables",
    "jieba": "Chinese words (text.tokenizer=jieba)",
    "usearch": "approximate search among very many items",
    "statsmodels": "the ETS baseline beside forecasts",
    "triton": "kernels for a GPU",
    "wandb": "Weights & Biases logs",
    "mlflow": "MLflow logs",
}
"""Optional packages and what they bring."""


def doctor(
    *,
    selftest: Annotated[bool, Parameter(negative=())] = False,
    json_: Annotated[bool, Parameter(name="--json", negative=())] = False,
) -> None:
    """Tell versions, devices, threads and what is installed.

    Parameters
    ----------
    selftest
        Compare every cell, option and backend of this machine with the reference in float64, which takes some ten seconds.
        The exit status is 1 when one of them is further from it than rounding explains.
    json_
        Print one JSON object; it is flat but for the findings of the self-test.
    """
    from recurra.cli.output import while_read

    facts = examine()
    findings = _test() if selftest else []
    if json_:
        found = {"selftest": [{**each._asdict(), "within": each.within} for each in findings]} if selftest else {}
        with while_read():
            sys.stdout.write(json.dumps({**facts, **found}) + "\n")
    else:
        _print(facts, findings)
    if not all(each.within for each in findings):
        sys.exit(1)


def _test() -> list[Finding]:
    """The findings of the self-test; progress on standard error where that is a terminal."""
    from rich.console import Console
    from rich.progress import Progress

    from recurra.testing.selftest import SUBJECTS, run_selftest

    findings: list[Finding] = []
    with Progress(console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as progress:
        bar = progress.add_task("", total=len(SUBJECTS))
        for name in SUBJECTS:
            progress.update(bar, description=name)
            findings.extend(run_selftest([name]))
            progress.advance(bar)
    return findings


def _print(facts: Mapping[str, str | int | bool], findings: Sequence[Finding]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column()
    table.add_column(overflow="fold")  # a path has no blank to break at, and is of no use with its end cut off
    for name, value in facts.items():
        table.add_row(name, str(value))
    console = Console()
    console.print(table)
    if not findings:
        return
    console.print("\nSelf-test: the largest error of values and gradients, where 1 is what rounding explains")
    table = Table(box=None, pad_edge=False)
    for column in ("cell", "backend", "options", "float32", "float64", "verdict"):
        table.add_column(column, justify="right" if column.startswith("float") else "left", overflow="fold")
    for each in findings:
        compared = each.float32 is not None
        errors = ["-" if error is None else f"{error:.2f}" for error in (each.float32, each.float64)]
        verdict = ("within" if each.within else f"OUT OF BOUNDS {each.problem}".strip()) if compared else "no other backend to compare"
        backend = each.backend if each.device == "cpu" else f"{each.backend} on {each.device}"
        table.add_row(each.cell, backend, ", ".join(each.options) or "-", *errors, verdict)
    console.print(table)


def examine() -> dict[str, str | int | bool]:
    """Facts about this installation, by name."""
    import importlib.metadata
    import importlib.util
    import platform

    import torch

    import recurra
    from recurra.data.cache import cache_folder
    from recurra.kernels.backend import available_backends
    from recurra.kernels.compiled import INSTRUCTION_SET, UNAVAILABLE

    facts: dict[str, str | int | bool] = {
        "recurra": recurra.__version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "torch": torch.__version__,
        "instruction set": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "compiled kernels": UNAVAILABLE or f"{INSTRUCTION_SET} instructions",
        "cuda": torch.cuda.get_device_name() if torch.cuda.is_available() else "none",
        "mps": torch.backends.mps.is_available(),
        "backends": ", ".join(available_backends()),
        "cache": str(cache_folder()),
    }
    for package in ("lightning", "polars", "tokenizers", "scikit-learn", "safetensors", "pydantic"):
        facts[package] = importlib.metadata.version(package)
    for module, use in EXTRAS.items():
        facts[module] = "installed" if importlib.util.find_spec(module) else f"not installed: {use}"
    return facts
