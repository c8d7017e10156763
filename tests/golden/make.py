"""Writes the golden model folders of the present format that are missing: `python tests/golden/make.py`, once for each new format or task.

What is written is committed and stays: later versions must read it, predict and measure the same.
"""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

Golden = tuple[Any, Any]
"""A model, and data that it is measured on."""
BRIEF = {"evaluation.baselines": False, "evaluation.bootstrap_samples": 20, "logging.tensorboard": False, "training.device": "cpu"}


def classify() -> Golden:
    """An input of every type."""
    from jobs import rows, train

    table = [{**row, "words": row["title"].split()} for row in rows(80)]
    settings = {
        "data.columns": ["text", "words", "category", "price"],
        "encoder.layers": 2,
        "encoder.layer_norm": True,
        "encoder.pooling": "attention",
        "encoder.learn_initial_state": True,
        "head.hidden_size": 3,
        "training.epochs": 10,
        "optimizer.learning_rate": 0.03,
    }
    odd = [{**table[0], "text": "", "price": None}, {**table[1], "category": "opera"}]
    return train(table, settings=settings), [*table[:6], *odd]


def linear() -> Golden:
    """One text, and a linear model beside the network."""
    from jobs import rows, train

    table = rows(200)
    return train(table, settings={"data.columns": ["text"], "training.epochs": 4}), table[:6]


def tag() -> Golden:
    """Words, their characters and shape, and a conditional random field."""
    from jobs import train

    table = _sentences(60)
    settings = {"tag.character_size": 2, "training.epochs": 4, "optimizer.learning_rate": 0.03, "head.dropout": 0.0}
    return train(table, target="tags", settings=settings), table[:6]


def several() -> Golden:
    """Tags and a class from one encoder."""
    from jobs import train

    table = _sentences(60)
    settings = {"training.epochs": 4, "optimizer.learning_rate": 0.03, "head.dropout": 0.0}
    return train(table, target=["intent", "tags"], settings=settings), table[:6]


def forecast() -> Golden:
    """Two series with a season, quantiles, a known and a fixed input."""
    import recurra

    table = [
        {"when": step, "shop": shop, "sold": round(10 + 3 * (step % 7) + (5 if shop == "north" else 0) + step % 3, 2), "open": step % 7 > 0}
        for shop in ("north", "south")
        for step in range(80)
    ]
    settings = {
        **BRIEF,
        "data.time": "when",
        "forecast.series": ["shop"],
        "forecast.horizon": 3,
        "forecast.input_length": 14,
        "forecast.segment": 3,
        "encoder.hidden_size": 4,
        "training.epochs": 2,
    }
    return recurra.train(table, target="sold", settings=settings), table


def recommend() -> Golden:
    """Sessions of clicks."""
    import recurra
    from clicks import TINY, clicks

    table = clicks(40)
    return recurra.train(table, settings={**TINY, "recommend.attributes": ["kind"]}), table[-60:]


def language() -> Golden:
    """Characters, and one that the vocabulary lacks."""
    import recurra

    text = "".join(f"The {a} saw a {b}.\n" for _ in range(12) for a in ("cat", "dog") for b in ("mouse", "bird", "fox"))
    settings = {
        **BRIEF,
        "head.task": "language",
        "embedding.size": 4,
        "encoder.hidden_size": 6,
        "training.epochs": 2,
        "training.batch_size": 4,
        "language.window": 16,
        "text.min_frequency": 1,
    }
    model = recurra.train([{"line": line} for line in text.splitlines()], settings=settings)
    return model, text[:200] + "The ox saw a cat.\n"


def translate() -> Golden:
    """Words with unknown ones among them, additive attention with coverage."""
    import recurra

    pairs = [("a cat", "eine Katze"), ("a dog", "ein Hund"), ("two cats", "zwei Katzen"), ("two dogs", "zwei Hunde")]
    table = [
        {"en": f"{english} {verb}", "de": f"{german} {verb.upper()}"} for english, german in pairs for verb in ("sleep", "sing", "run") * 3
    ]
    settings = {
        **BRIEF,
        "translate.source": "en",
        "translate.attention": "additive",
        "translate.coverage": True,
        "text.tokenizer": "word",
        "embedding.size": 6,
        "embedding.init_range": 0.5,
        "encoder.hidden_size": 4,
        "optimizer.learning_rate": 0.03,
        "training.epochs": 6,
        "training.batch_size": 8,
    }
    return recurra.train(table, target="de", settings=settings), [*table[:9], {"en": "a zebra sleep", "de": "ein Zebra SLEEP"}]


def answer() -> Golden:
    """Questions, a quarter of them without an answer, and a context of two windows."""
    import recurra
    from questions import SMALL, questions

    settings = {
        **SMALL,
        "embedding.size": 4,
        "embedding.character_ngrams": [3, 3],
        "embedding.buckets": 20,
        "encoder.hidden_size": 4,
        "answer.window": 20,
        "answer.stride": 12,
        "answer.longest_answer": 5,
        "training.epochs": 6,
        "optimizer.learning_rate": 0.02,
    }
    return recurra.train(questions(60), settings=settings), questions(12, seed=1)


def _sentences(count: int) -> list[dict[str, Any]]:
    """Questions with places in them, and what they are about."""
    draw = random.Random(0)
    table = []
    for number in range(count):
        place = draw.choice([["new", "york"], ["rome"], ["ulm"]])
        intent = ["fly", "stay"][number % 2]
        table.append(
            {
                "tokens": ["please", intent, "in", *place, "now"],
                "tags": ["O", "O", "O", "B-place", *["I-place"] * (len(place) - 1), "O"],
                "intent": intent,
            }
        )
    return table


TASKS: dict[str, Callable[[], Golden]] = {
    "classify": classify,
    "linear": linear,
    "tag": tag,
    "several": several,
    "forecast": forecast,
    "recommend": recommend,
    "language": language,
    "translate": translate,
    "answer": answer,
}


def main() -> None:
    """Train a tiny model of each task that has no folder yet, save it, and note down what it measures."""
    import torch

    from recurra.model.folder import FORMAT

    torch.set_num_threads(1)
    for task, make in TASKS.items():
        path = HERE / f"{task}-{FORMAT}"
        if path.exists():
            continue
        model, data = make()
        model.save(path)
        expected = {"data": data, "metrics": model.evaluate(data)}
        (path / "expected.json").write_text(json.dumps(expected, indent=None) + "\n", encoding="utf-8")
        sys.stdout.write(f"{path.name}: {sum(file.stat().st_size for file in path.iterdir()):,} bytes\n")


if __name__ == "__main__":
    main()
