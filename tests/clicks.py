"""Clicks and tiny recommenders that tests share."""

from __future__ import annotations

import random
from typing import Any

import recurra
from recurra.config import Settings, load_settings
from recurra.data.read import read
from recurra.data.sessions import Sessions, read_sessions
from recurra.features.items import ItemVocabulary
from recurra.model.recommend.network import RecommendNetwork

__all__ = ["TINY", "chosen", "clicks", "encoded", "network", "recommender"]

TINY: dict[str, Any] = {
    "head.task": "recommend",
    "recommend.session": "who",
    "recommend.item": "what",
    "data.time": "when",
    "recommend.window": 4,
    "recommend.negatives": 5,
    "embedding.size": 6,
    "embedding.dropout": 0.0,
    "encoder.hidden_size": 6,
    "head.dropout": 0.0,
    "optimizer.name": "adamw",
    "optimizer.learning_rate": 0.02,
    "training.batch_size": 4,
    "training.epochs": 2,
    "training.gradient_flow_batches": 0,
    "training.device": "cpu",
    "evaluation.baselines": False,
    "evaluation.bootstrap_samples": 20,
    "logging.tensorboard": False,
}
"""A network of some hundred parameters that trains in a moment."""


def clicks(sessions: int = 24, items: int = 9, seed: int = 0) -> list[dict[str, Any]]:
    """Sessions of 1 to 8 clicks: after item n mostly n + 1 is clicked. `kind` is a property of the item, `when` grows from row to row."""
    draw = random.Random(seed)
    table, when = [], 0
    for session in range(sessions):
        item = draw.randrange(items)
        for _ in range(draw.randint(1, 8) if session else 8):
            when += draw.randint(1, 40)
            table.append({"who": f"u{session}", "what": f"i{item}", "when": when, "kind": "even" if item % 2 == 0 else "odd"})
            item = (item + 1) % items if draw.random() < 0.8 else draw.randrange(items)
    return table


def chosen(**changes: Any) -> Settings:
    """The tiny settings with some changed: `encoder__cell="lstm"`."""
    return load_settings({**TINY, **{name.replace("__", "."): value for name, value in changes.items()}})


def encoded(table: list[dict[str, Any]] | None = None, **options: Any) -> tuple[Sessions, ItemVocabulary]:
    """Sessions with the numbers of their own vocabulary."""
    found = read_sessions(read(table or clicks()), session="who", item="what", time="when", **options)
    items = ItemVocabulary.fit(found)
    return items.encode(found), items


def network(items: ItemVocabulary, settings: Settings, seed: int = 0) -> RecommendNetwork:
    """Untrained, with weights large enough to matter."""
    import torch

    torch.manual_seed(seed)
    made = RecommendNetwork(items, settings)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.uniform_(-0.7, 0.7)
    return made


def recommender(table: Any = None, *, settings: dict[str, Any] | None = None, **options: Any) -> Any:
    """A trained recommender."""
    return recurra.train(clicks() if table is None else table, settings={**TINY, **(settings or {})}, **options)
