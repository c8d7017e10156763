"""Every setting of answers does something: each is changed, and the training must show it."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest

import recurra
from questions import SMALL, questions
from recurra.config import AnswerSettings

BASE: dict[str, Any] = {**SMALL, "training.epochs": 1}
CHANGES: dict[str, tuple[Any, str, dict[str, Any]]] = {
    "question": ("other question", "weights", {}),
    "context": ("other context", "weights", {}),
    "span": ("elsewhere", "references", {}),
    "no_answer": ("cellar", "references", {}),
    "hold_out": ("questions", "weights", {}),
    "cut": ("whitespace", "encoder", {}),
    "longest_answer": (2, "weights", {}),
    "window": (16, "windows", {"answer.longest_answer": 5}),
    "stride": (5, "windows", {"answer.window": 16, "answer.longest_answer": 5}),
    "matches": (False, "names", {}),
    "aligned": (False, "names", {}),
    "attention": (False, "names", {}),
    "lengths": (False, "names", {}),
    "choose": ("probable", "answers", {"answer.threshold": 1.0}),
    "threshold": (0.123, "threshold", {}),
}
ELSEWHERE: dict[str, tuple[Any, str, dict[str, Any]]] = {
    "data.validation_share": (0.3, "windows", {}),
    "data.test_share": (0.3, "windows", {}),
    "text.lowercase": (False, "encoder", {}),
    "text.min_frequency": (90, "encoder", {}),
    "text.vocabulary_size": (5, "encoder", {}),
    "embedding.start": ("cooccurrence", "weights", {}),
    "embedding.dropout": (0.6, "weights", {}),
    "encoder.cell": ("gru", "names", {}),
    "encoder.layers": (2, "names", {}),
    "head.dropout": (0.6, "weights", {}),
    "augmentation.word_dropout": (0.5, "weights", {}),
    "training.batch_size": (8, "weights", {}),
    "training.batch_tokens": (200, "weights", {}),
    "evaluation.baselines": (True, "baselines", {}),
    "evaluation.bootstrap_samples": (50, "metrics", {}),
}


def table() -> list[dict[str, Any]]:
    """Questions with more columns than are read by default; where an answer stands twice, `elsewhere` says that the second place is meant."""
    rows = []
    for row in questions(48):
        context = f"{row['context']} So: {row['answer']}." if row["answer"] else row["context"]
        place = context.rindex(row["answer"]) if row["answer"] else None
        more = {"other question": f"Say, {row['question']}", "other context": f"Well. {context}", "elsewhere": place}
        rows.append({**row, "context": context, **more})
    return rows


@cache
def trace(chosen: tuple[tuple[str, Any], ...]) -> dict[str, Any]:
    """What a training shows, as values that can be compared."""
    settings = {**BASE, **dict(chosen)}
    rows = table()
    model: Any = recurra.train(rows, settings=settings)
    answers = [model.answer(row["question"], row["context"], top=3) for row in rows[:24]]
    return {
        "weights": {name: tensor.tolist() for name, tensor in model.network.state_dict().items()},
        "names": [(name, tuple(tensor.shape)) for name, tensor in model.network.state_dict().items()],
        "references": [each.answers for each in model.read(rows).items],
        "encoder": (model.encoder.cut, model.encoder.tokenizer.tokens),
        "windows": (model.run["data"]["rows"], model.run["data"]["windows"]),
        "answers": answers,
        "threshold": model.threshold,
        "metrics": model.run["metrics"],
        "baselines": model.run["baselines"],
    }


def test_every_setting_of_the_group_has_an_entry() -> None:
    assert sorted(CHANGES) == sorted(AnswerSettings.model_fields)


@pytest.mark.parametrize("name", [*(f"answer.{name}" for name in CHANGES), *ELSEWHERE])
def test_every_setting_matters(name: str) -> None:
    value, shows, base = CHANGES.get(name.removeprefix("answer.")) or ELSEWHERE[name]
    assert trace(tuple(base.items()))[shows] != trace((*base.items(), (name, value)))[shows]


def test_nothing_else_changes_a_training() -> None:
    first = trace(())
    trace.cache_clear()
    assert trace(()) == first
