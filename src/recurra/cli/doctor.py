"""`recurra doctor`."""

from __future__ import annotations

import json
import sys
from typing import Annotated

from cyclopts import Parameter

__all__ = ["doctor", "examine"]

EXTRAS = {
    "chatterbot_corpus": "the `languages` table",
    "jieba": "Chinese words (text.tokenizer=jieba)",
    "wandb": "Weights & Biases logs",
    "mlflow": "MLflow logs",
}
"""Optional packages and what they bring."""


def doctor(*, json_: Annotated[bool, Parameter(name="--json", negative=())] = False) -> None:
    """Tell versions, devices, threads and what is installed.

    Parameters
    ----------
    json_
        Print one flat JSON object.
    """
    facts = examine()
    if json_:
        sys.stdout.write(json.dumps(facts) + "\n")
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False, show_header=False)
    for name, value in facts.items():
        table.add_row(name, str(value))
    Console().print(table)


def examine() -> dict[str, str | int | bool]:
    """Facts about this installation, by name."""
    import importlib.metadata
    import importlib.util
    import platform

    import torch

    import recurra
    from recurra.data.cache import cache_folder
    from recurra.kernels.backend import available_backends
    from recurra.kernels.compiled import UNAVAILABLE, instruction_set

    facts: dict[str, str | int | bool] = {
        "recurra": recurra.__version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "torch": torch.__version__,
        "instruction set": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "compiled kernels": UNAVAILABLE or f"{instruction_set()} instructions",
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
