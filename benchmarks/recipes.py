"""Every recipe, from the command to the report, over several seeds: figures, seconds, tokens per second, peak memory."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

RECIPES = Path(__file__).parent.parent / "recipes"
PARTS = {"--validation": "valid.csv", "--test": "test.csv"}


def recipes(
    *,
    data: Path | None = None,
    only: list[str] | None = None,
    seeds: list[int] | None = None,
    output: Path | None = None,
    set_: list[str] | None = None,
    packed: bool = False,
) -> None:
    """Run recipes and print a Markdown table.

    Parameters
    ----------
    data
        Folder with a folder for each data set: NAME/train.csv, NAME/test.csv and where there is one NAME/valid.csv.
        Without it only `languages` is run.
    only
        Names of the recipes to run; all of one class a row whose data are there when not given.
    seeds
        Seeds; 0, 1 and 2 when not given.
    output
        JSON file for the figures of every run.
    set_
        Settings over those of the recipes, as encoder.cell=gru.
    packed
        The same models on torch's own LSTM or GRU over packed sequences, in place of Recurra's kernels.
    """
    program = "benchmarks.packed" if packed else "recurra"
    names = only or ["languages", *sorted(path.stem for path in RECIPES.glob("*.yaml") if _of_classes(path))]
    results = {}
    rows = []
    for name in names:
        if name != "languages" and (data is None or not (data / name / "train.csv").is_file()):
            print(f"{name}: left out, there is no {name}/train.csv in the data folder", file=sys.stderr)
            continue
        runs = [_run(program, name, data, seed, set_ or []) for seed in seeds or [0, 1, 2]]
        results[name] = runs
        rows.append(_row(name, runs))
        print(rows[-1], file=sys.stderr, flush=True)
        if output is not None:
            output.write_text(json.dumps(results, indent=1) + "\n")
    head = "| data | test accuracy, mean (least to most) | validation | TF-IDF linear | seconds | tokens/s | peak memory | parameters |"
    print("\n".join([head, "| --- |" * 1 + " --- |" * 7, *rows]))


def _of_classes(recipe: Path) -> bool:
    """Whether the table's columns have a meaning for a recipe: one class a row."""
    from recurra.config import load_settings

    return load_settings(recipe).head.task in {"auto", "classify"}


def _run(program: str, name: str, data: Path | None, seed: int, assignments: list[str]) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / name
        command = [sys.executable, "-m", program, "train", "--output", str(model), "--seed", str(seed), "--quiet"]
        if name == "languages":
            command.append("languages")
        else:
            assert data is not None
            command += [str(data / name / "train.csv"), "--settings", str(RECIPES / f"{name}.yaml")]
            for option, file in PARTS.items():
                if (data / name / file).is_file():
                    command += [option, str(data / name / file)]
        for assignment in assignments:
            command += ["--set", assignment]
        # A cache of its own, so that every run reads and encodes its data as the first run of a user does.
        environment = {**os.environ, "RECURRA_CACHE": str(Path(folder) / "cache")}
        started = time.perf_counter()
        process = subprocess.Popen(command, env=environment)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - started
        if status:
            raise SystemExit(f"{name}, seed {seed}: the training failed")
        run = json.loads((model / "run.json").read_text())
    return {
        "seed": seed,
        "seconds": seconds,
        "cpu_seconds": usage.ru_utime + usage.ru_stime,
        "peak_bytes": usage.ru_maxrss * 1024,
        "run": run,
    }


def _row(name: str, runs: list[dict[str, Any]]) -> str:
    accuracies = [run["run"]["metrics"]["test"]["accuracy"] for run in runs]
    validation = [run["run"]["metrics"]["validation"]["accuracy"] for run in runs]
    linear = statistics.mean(run["run"]["baselines"]["tfidf_linear"]["test"]["accuracy"] for run in runs)
    speed = statistics.median(run["run"]["training"]["tokens_per_second"] for run in runs)
    cells = [
        name,
        f"{statistics.mean(accuracies):.4f} ({min(accuracies):.4f} to {max(accuracies):.4f})",
        f"{statistics.mean(validation):.4f}",
        f"{linear:.4f}",
        f"{statistics.median(run['seconds'] for run in runs):.0f}",
        f"{speed:,.0f}",
        f"{max(run['peak_bytes'] for run in runs) / 2**20:,.0f} MB",
        f"{runs[0]['run']['parameters']:,}",
    ]
    return "| " + " | ".join(cells) + " |"
