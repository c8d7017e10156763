"""Made-up questions about texts, which a small network learns in a moment: the answer to "Where is the cat?" stands behind "cat"."""

from __future__ import annotations

import random
from typing import Any

__all__ = ["SMALL", "questions", "squad"]

SMALL: dict[str, Any] = {
    "head.task": "answer",
    "embedding.size": 8,
    "embedding.character_ngrams": "none",
    "encoder.hidden_size": 8,
    "text.min_frequency": 1,
    "training.epochs": 2,
    "training.batch_size": 16,
    "training.gradient_flow_batches": 0,
    "evaluation.baselines": False,
    "evaluation.bootstrap_samples": 20,
    "logging.tensorboard": False,
    "training.device": "cpu",
}
"""A network of some thousand parameters that trains in a fraction of a second."""
ANIMALS = ["cat", "dog", "owl", "fox", "hen", "cow"]
PLACES = ["garden", "old barn", "kitchen", "tall green tree", "cellar", "attic"]


def questions(count: int = 120, seed: int = 0) -> list[dict[str, Any]]:
    """Rows of question, context and answer; one in four has none."""
    draw = random.Random(seed)
    rows = []
    for number in range(count):
        animals, places = draw.sample(ANIMALS, 3), draw.sample(PLACES, 3)
        context = " ".join(f"The {animal} is in the {place}." for animal, place in zip(animals, places, strict=True)) + f" Day {number}."
        if number % 4 == 3:
            missing = next(animal for animal in ANIMALS if animal not in animals)
            rows.append({"question": f"Where is the {missing}?", "context": context, "answer": None})
        else:
            rows.append({"question": f"Where is the {animals[1]}?", "context": context, "answer": places[1]})
    return rows


def squad(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The same as SQuAD v2's JSON."""
    paragraphs = [
        {
            "context": row["context"],
            "qas": [
                {
                    "id": f"q{number}",
                    "question": row["question"],
                    "is_impossible": row["answer"] is None,
                    "answers": []
                    if row["answer"] is None
                    else [{"text": row["answer"], "answer_start": row["context"].index(row["answer"])}],
                }
            ],
        }
        for number, row in enumerate(rows)
    ]
    return {"version": "v2.0", "data": [{"title": "Animals", "paragraphs": paragraphs}]}
