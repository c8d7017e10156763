"""Metrics of spans against cases counted by hand, and against seqeval where it is installed."""

from __future__ import annotations

import random

import numpy as np
import pytest

from recurra.data.store import offsets_of
from recurra.data.tags import Spans, TagScheme
from recurra.errors import EmptyData
from recurra.metrics.spans import per_kind, span_confusion, span_counts, span_intervals, span_metrics, token_counts

KINDS = ("LOC", "PER")


def read(rows: list[str]) -> tuple[Spans, np.ndarray, np.ndarray]:
    cut = [row.split() for row in rows]
    offsets = offsets_of([len(row) for row in cut])
    scheme = TagScheme("bioes", KINDS)
    numbers = scheme.parse([tag for row in cut for tag in row], offsets)
    return scheme.read(numbers, offsets), numbers, offsets


def measured(true: list[str], predicted: list[str]) -> dict[str, float]:
    (spans, numbers, offsets), (guesses, guessed, _) = read(true), read(predicted)
    return span_metrics(span_counts(spans, guesses, offsets), token_counts(numbers, guessed, offsets))


@pytest.mark.parametrize(
    ("true", "predicted", "right", "guessed", "real"),
    [
        ("B-PER I-PER O", "B-PER I-PER O", 1, 1, 1),
        ("B-PER I-PER O", "B-PER O O", 0, 1, 1),  # a wrong end is wrong, and no part of it counts
        ("B-PER I-PER O", "O I-PER O", 0, 1, 1),
        ("B-PER I-PER", "I-PER I-PER", 1, 1, 1),  # how a span begins does not matter, only where
        ("B-PER B-PER", "B-PER I-PER", 0, 1, 2),  # B after B: two spans against one
        ("B-PER I-PER", "B-PER I-LOC", 0, 2, 1),  # a change of kind inside
        ("B-PER O B-LOC", "B-PER B-PER B-LOC", 2, 3, 2),
        ("O O", "O O", 0, 0, 0),
        ("O O", "B-PER O", 0, 1, 0),
        ("B-PER O", "O O", 0, 0, 1),
    ],
)
def test_awkward_cases_are_counted_as_conlleval_counts_them(true: str, predicted: str, right: int, guessed: int, real: int) -> None:
    (spans, _, offsets), (guesses, _, _) = read([true]), read([predicted])
    assert span_counts(spans, guesses, offsets).tolist() == [[right, guessed, real]]
    found = measured([true], [predicted])
    assert found["precision"] == pytest.approx(right / guessed if guessed else 0.0)
    assert found["recall"] == pytest.approx(right / real if real else 0.0)
    assert found["f1"] == pytest.approx(2 * right / (guessed + real) if guessed + real else 0.0)


def some_tags(generator: random.Random, rows: int) -> list[list[str]]:
    tags = ["O", *(f"{letter}-{kind}" for letter in "BI" for kind in KINDS)]
    return [[generator.choice(tags) for _ in range(generator.randint(1, 9))] for _ in range(rows)]


def test_figures_are_those_of_seqeval() -> None:
    seqeval = pytest.importorskip("seqeval.metrics", reason="the package seqeval is not installed")
    generator = random.Random(3)
    true = some_tags(generator, 200)
    predicted = [[tag if generator.random() < 0.7 else generator.choice(["O", "B-PER", "I-LOC"]) for tag in row] for row in true]
    found = measured([" ".join(row) for row in true], [" ".join(row) for row in predicted])
    assert found["f1"] == pytest.approx(seqeval.f1_score(true, predicted), abs=1e-12)  # both divide the same whole numbers
    assert found["precision"] == pytest.approx(seqeval.precision_score(true, predicted), abs=1e-12)
    assert found["recall"] == pytest.approx(seqeval.recall_score(true, predicted), abs=1e-12)


def test_rows_without_tokens_and_rows_count_by_row() -> None:
    (spans, numbers, offsets), (guesses, guessed, _) = read(["", "B-PER", "", "O B-LOC", ""]), read(["", "B-PER", "", "B-LOC B-LOC", ""])
    assert span_counts(spans, guesses, offsets).tolist() == [[0, 0, 0], [1, 1, 1], [0, 0, 0], [1, 2, 1], [0, 0, 0]]
    tokens = token_counts(numbers, guessed, offsets)
    assert tokens.tolist() == [[0, 0], [1, 1], [0, 0], [1, 2], [0, 0]]
    found = span_metrics(span_counts(spans, guesses, offsets), tokens)
    assert found["token_accuracy"] == pytest.approx(2 / 3)
    assert found["row_accuracy"] == pytest.approx(4 / 5)
    with pytest.raises(EmptyData):
        span_metrics(None, np.zeros((0, 2), np.int64))


def test_the_interval_holds_the_figure_and_shrinks_with_rows() -> None:
    generator = random.Random(1)
    true = some_tags(generator, 400)
    predicted = [[tag if generator.random() < 0.8 else "O" for tag in row] for row in true]
    widths = []
    for rows in (50, 400):
        (spans, numbers, offsets), (guesses, guessed, _) = (read([" ".join(row) for row in part[:rows]]) for part in (true, predicted))
        counts, tokens = span_counts(spans, guesses, offsets), token_counts(numbers, guessed, offsets)
        low, high = span_intervals(counts, tokens, samples=300)["f1"]
        assert low < span_metrics(counts, tokens)["f1"] < high
        widths.append(high - low)
    assert widths[1] < widths[0]


def test_kinds_have_their_own_figures_and_confusion() -> None:
    true, predicted = read(["B-PER I-PER O B-LOC", "B-LOC O O O"]), read(["B-LOC I-LOC O B-LOC", "O O B-PER O"])
    figures = per_kind(true[0], predicted[0], KINDS)
    assert figures["LOC"]["precision"] == pytest.approx(0.5)
    assert figures["LOC"]["support"] == 2
    assert figures["PER"]["f1"] == 0.0
    assert span_confusion(true[0], predicted[0], 2).tolist() == [[1, 0, 1], [1, 0, 0], [0, 1, 0]]
