"""`python -m benchmarks rankings --data DIR`: the recommenders without a network, and trained ones, on three public sets of clicks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

import recurra
from recurra.config import load_settings
from recurra.data.cases import Cases
from recurra.evaluation.recommend.baselines import measure_baselines
from recurra.evaluation.recommend.scorers import SCORERS
from recurra.metrics.ranking import Ranking, ranking_intervals, ranking_metrics, ranks, sampled_ranks
from recurra.training.recommend.prepare import Prepared, prepare

__all__ = ["rankings", "without_copies"]

FILES = {
    "beauty": ("beauty.csv", None, None),
    "lastfm": ("lastfm.csv", None, None),
    "yoochoose": ("yoochoose_train.csv", "yoochoose_valid.csv", "yoochoose_test.csv"),
}
SHOWN = ("recall_at_10", "ndcg_at_10", "masked_recall_at_10", "masked_ndcg_at_10", "recall_at_20", "mrr_at_20")


def rankings(*, data: Path, models: Path | None = None, sampled: bool = False, output: Path = Path("runs/benchmarks")) -> None:
    """Recall, NDCG and MRR on the test parts of Beauty, LastFM and Yoochoose, among all items.

    Parameters
    ----------
    data
        Folder with beauty.csv, lastfm.csv and yoochoose_train.csv, yoochoose_valid.csv, yoochoose_test.csv; what is not there is left out.
    models
        Folder of model folders beauty, lastfm, yoochoose, trained by the recipes; those that are there are measured too.
    sampled
        Show instead what ranking among 99 sampled items makes of the same recommenders, on some 2,000 questions of each set.
    output
        Folder for the JSON file.
    """
    found: list[dict[str, Any]] = []
    for name, files in FILES.items():
        if not (data / files[0]).is_file():
            continue
        train, validation, test = (None if file is None else str(data / file) for file in files)
        prepared = prepare(train, load_settings(Path("recipes") / f"{name}.yaml"), validation=validation, test=test)
        assert prepared.test is not None
        if sampled:
            found += _sampled(name, prepared)
            continue
        parts = {name: prepared.test.cases}
        fewer = without_copies(prepared)
        if len(fewer) < 0.9 * len(prepared.test.cases):
            parts[f"{name}, without copies of training sessions"] = fewer
        for part, cases in parts.items():
            found += _measure(part, prepared, cases, None if models is None else models / name)
    if sampled:
        for entry in found:
            Console(width=200).print("  ".join(f"{value:.4f}" if isinstance(value, float) else f"{value}" for value in entry.values()))
        return
    Console(width=200).print(_table(found))
    output.mkdir(parents=True, exist_ok=True)
    (output / "rankings.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def without_copies(prepared: Prepared) -> Cases:
    """The questions of the test part about sessions that are not, click for click, training sessions."""
    assert prepared.test is not None
    cases, train = prepared.test.cases, prepared.train.items
    known = {tuple(train[row].tolist()) for row in range(len(train))}
    new = np.array([tuple(cases.sessions[row].tolist()) not in known for row in range(len(cases.sessions))])
    return cases.take(np.flatnonzero(new[cases.session]))


def _measure(part: str, prepared: Prepared, cases: Cases, folder: Path | None) -> list[dict[str, Any]]:
    validation = None if prepared.validation is None else prepared.validation.cases
    baselines = measure_baselines(prepared.train.items, cases, items=len(prepared.items), validation=validation)
    measured: dict[str, Ranking] = {name: baseline.ranking for name, baseline in baselines.items()}
    if folder is not None and (folder / "model.json").is_file():
        measured["network"] = recurra.load(folder).rank(cases)
    return [
        {
            "data": part,
            "model": name,
            "questions": len(ranking),
            "metrics": ranking_metrics(ranking, popularity=prepared.items.counts),
            "intervals": ranking_intervals(ranking),
            "seconds": baselines[name].seconds if name in baselines else None,
        }
        for name, ranking in measured.items()
    ]


def _sampled(name: str, prepared: Prepared) -> list[dict[str, Any]]:
    """Recall at 10 among all items and among 99 drawn ones, on the same questions."""
    assert prepared.test is not None
    cases = prepared.test.cases.take(np.arange(0, len(prepared.test.cases), max(1, len(prepared.test.cases) // 2_000)))
    found = []
    for kind, make in SCORERS.items():
        scorer = make().fit(prepared.train.items, len(prepared.items))
        if prepared.validation is not None:
            scorer.choose_repeat(prepared.validation.cases)
        full, few = [], []
        for start in range(0, len(cases), 500):
            block = slice(start, start + 500)
            prefixes = cases.prefixes(block)
            scores = scorer.scores(prefixes)
            full.append(ranks(scores, cases.answers[block]))
            few.append(sampled_ranks(scores, cases.answers[block], seen=prefixes, seed=start))
        recalls = [float((np.concatenate(values) <= 10).mean()) for values in (full, few)]
        found.append({"data": name, "model": kind, "recall_at_10": recalls[0], "sampled_99_recall_at_10": recalls[1]})
    return found


def _table(found: list[dict[str, Any]]) -> Table:
    table = Table("data", "model", "questions", *SHOWN, "seconds", title="Test parts, all items ranked")
    for entry in found:
        figures = [f"{entry['metrics'][name]:.4f}" for name in SHOWN]
        seconds = "" if entry["seconds"] is None else f"{entry['seconds']:.0f}"
        table.add_row(entry["data"], entry["model"], f"{entry['questions']:,}", *figures, seconds)
    return table
