"""Tiny tables, tiny settings and trained models that tests of the whole job share."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import recurra

__all__ = ["ENVIRONMENT", "SMALL", "csv", "models", "quiet_report", "rows", "train"]

ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(recurra.__path__[0]).parent)}
"""Of processes that tests start: they import the package that is tested, from any working folder."""

SMALL: dict[str, Any] = {
    "embedding.size": 4,
    "embedding.character_ngrams": "none",
    "embedding.token_ngrams": 1,
    "encoder.hidden_size": 4,
    "text.min_frequency": 1,
    "training.epochs": 2,
    "training.batch_size": 16,
    "training.gradient_flow_batches": 0,
    "evaluation.baselines": False,
    "evaluation.bootstrap_samples": 20,
    "logging.tensorboard": False,
}
"""A network of some hundred parameters that trains in a fraction of a second."""

GOOD, BAD = ["superb", "lovely", "fine", "great"], ["awful", "poor", "dull", "weak"]


def rows(count: int = 60, seed: int = 0) -> list[dict[str, Any]]:
    """Reviews: `label` by the words of title and text, `topics` by the category, `stars` by label and price."""
    draw = random.Random(seed)
    table = []
    for number in range(count):
        good = number % 2 == 0
        words = GOOD if good else BAD
        category, price = draw.choice(["film", "book", "game"]), draw.randint(1, 99) / 2
        table.append(
            {
                "title": " ".join(draw.choices([*words, "thing"], k=draw.randint(1, 3))),
                "text": " ".join(draw.choices([*words, "and", "the", "so", f"n{number % 7}"], k=draw.randint(2, 9))),
                "category": category,
                "price": price,
                "who": f"user{number // 5}",
                "day": f"2024-{number // 28 + 1:02d}-{number % 28 + 1:02d}",
                "label": "pos" if good else "neg",
                "topics": ",".join(sorted({category, "cheap" if price < 25 else "dear"})),
                "stars": round((4.0 if good else 1.5) + price / 100, 2),
            }
        )
    return table


def csv(path: Path, table: list[dict[str, Any]], columns: list[str] | None = None) -> Path:
    """Write rows as CSV; values hold no separator but in `topics`, which is quoted."""
    names = columns or list(table[0])
    lines = [",".join(names)]
    lines += [",".join(f'"{row[name]}"' if "," in str(row[name]) else str(row[name]) for name in names) for row in table]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def train(data: Any, target: str = "label", *, output: Path | None = None, settings: dict[str, Any] | None = None, **options: Any) -> Any:
    """`recurra.train` with small settings; of the columns of `rows` only title and text are inputs where nothing else is said."""
    chosen = {**SMALL, **(settings or {})}
    if isinstance(data, list) and "data.columns" not in chosen and {"title", "text"} <= data[0].keys():
        chosen["data.columns"] = ["title", "text"]
    return recurra.train(data, target=target, output=output, settings=chosen, **options)


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Encoded data go to a folder of this test run, never to the user's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RECURRA_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture
def quiet_report(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the charts of the report, which take most of the time of a tiny training and have tests of their own."""
    monkeypatch.setattr("recurra.training.results.write_report", lambda path, report: path.write_text(report.title))


@pytest.fixture(scope="session")
def models() -> dict[str, Any]:
    """A trained model of each task; `classify` learns its rows well."""
    table = rows()
    learnt = {"training.epochs": 8, "optimizer.learning_rate": 0.05, "embedding.dropout": 0.0, "head.dropout": 0.0}
    mixed = {"data.columns": ["title", "text", "price", "category"]}
    return {
        "classify": train(table, settings={**learnt, "data.columns": ["text"]}),
        "labels": train(table, "topics", settings=mixed),
        "regress": train(table, "stars", settings={**mixed, "encoder.cell": "gru"}),
    }


@pytest.fixture(scope="session")
def folder(models: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved classifier; tests that change it copy it first."""
    path: Path = models["classify"].save(tmp_path_factory.mktemp("models") / "classify")
    return path
