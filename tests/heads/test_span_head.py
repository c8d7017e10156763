"""Scores of spans: one softmax over all spans and no answer, against plain loops over them."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import torch
from torch import Tensor

from recurra.config import load_settings
from recurra.heads.span import NO_SPAN, SpanHead, SpanScores

TOLERANCE = 1e-12
"""Sums of some ten numbers near one in float64, whose rounding is 1e-16 each."""


def head(longest: int = 3, **settings: Any) -> SpanHead:
    torch.manual_seed(0)
    chosen = load_settings({"head.task": "answer", "answer.longest_answer": longest, "head.dropout": 0.0, **settings})
    made = SpanHead(4, 3, settings=chosen).double()
    if made.width is not None:
        torch.nn.init.normal_(made.width)
    return made


def scored(made: SpanHead, lengths: list[int], steps: int = 5) -> SpanScores:
    torch.manual_seed(1)
    rows = len(lengths)
    with torch.no_grad():
        found: SpanScores = made(torch.randn(rows, steps, 4).double(), torch.randn(rows, 3).double(), torch.tensor(lengths))
    return found


def probabilities(scores: SpanScores, row: int) -> dict[tuple[int, int], float]:
    """Of each span, and of no answer as (-1, -1), by loops."""
    odds = {
        (start, start + more): math.exp(float(scores.spans[row, start, more]))
        for start, more in itertools.product(range(scores.spans.shape[1]), range(scores.spans.shape[2]))
    }
    odds[NO_SPAN, NO_SPAN] = math.exp(float(scores.nothing[row]))
    total = sum(odds.values())
    return {span: value / total for span, value in odds.items() if value}


def test_spans_are_all_that_fit_and_no_others() -> None:
    scores = scored(head(3), [5, 2, 1])
    for row, length in enumerate([5, 2, 1]):
        expected = {(first, last) for first in range(length) for last in range(first, min(first + 3, length))}
        assert set(probabilities(scores, row)) == {*expected, (NO_SPAN, NO_SPAN)}


@pytest.mark.parametrize("lengths", [True, False])
def test_the_loss_is_minus_the_logarithm_of_all_references_together(lengths: bool) -> None:
    made = head(3, **{"answer.lengths": lengths})
    scores = scored(made, [5, 4, 5, 2])
    references = [[(0, 1), (2, 2)], [(1, 3)], [], [(0, 0), (1, 1)]]
    padded = torch.tensor([[*map(list, row), *[[NO_SPAN, NO_SPAN]] * (2 - len(row))] for row in references])
    expected = [
        -math.log(sum(probabilities(scores, row)[span] for span in spans or [(NO_SPAN, NO_SPAN)])) for row, spans in enumerate(references)
    ]
    assert float(made.loss(scores, padded)) == pytest.approx(sum(expected) / 4, abs=TOLERANCE)


def test_a_longer_reference_is_taught_by_its_beginning_and_equal_ones_count_once() -> None:
    made = head(2)
    scores = scored(made, [5])
    alone = made.loss(scores, torch.tensor([[[1, 2]]]))
    assert made.loss(scores, torch.tensor([[[1, 4]]])) == alone
    assert made.loss(scores, torch.tensor([[[1, 4], [1, 3]]])) == alone


def test_without_references_in_a_whole_batch() -> None:
    made = head(2)
    scores = scored(made, [5, 3])
    expected = [-math.log(probabilities(scores, row)[NO_SPAN, NO_SPAN]) for row in range(2)]
    assert float(made.loss(scores, torch.zeros(2, 0, 2, dtype=torch.int64))) == pytest.approx(sum(expected) / 2, abs=TOLERANCE)


def test_gradients_are_numbers_and_those_of_the_loss() -> None:
    made = head(3)
    steps, question = torch.randn(2, 4, 4).double().requires_grad_(), torch.randn(2, 3).double().requires_grad_()
    references = torch.tensor([[[1, 2]], [[NO_SPAN, NO_SPAN]]])

    def loss(steps: Tensor, question: Tensor) -> Tensor:
        return made.loss(made(steps, question, torch.tensor([4, 2])), references)

    assert torch.autograd.gradcheck(loss, (steps, question))


def test_what_stands_in_the_padding_changes_nothing() -> None:
    made = head(3)
    steps, question = torch.randn(1, 5, 4).double(), torch.randn(1, 3).double()
    changed = steps.clone()
    changed[:, 3:] = 1e3
    first, second = (made(each, question, torch.tensor([3])) for each in (steps, changed))
    assert torch.equal(first.spans, second.spans)
    assert torch.equal(first.nothing, second.nothing)


def test_candidates_are_the_best_spans_with_their_odds() -> None:
    scores = scored(head(3), [5, 1])
    rows = head(3).candidates(scores, 4)
    for row in range(2):
        found = probabilities(scores, row)
        nothing = found.pop((NO_SPAN, NO_SPAN))
        assert rows[row, 0] == pytest.approx(math.log(sum(found.values()) / nothing), abs=TOLERANCE)
        best = sorted(found, key=found.__getitem__, reverse=True)[:4]
        told = [(int(first), int(last)) for first, last, _ in rows[row, 1:].reshape(-1, 3)]
        assert told == [*best, *[(NO_SPAN, NO_SPAN)] * (4 - len(best))]
        for (_, _, odds), span in zip(rows[row, 1:].reshape(-1, 3), best, strict=False):
            assert odds == pytest.approx(math.log(found[span] / nothing), abs=TOLERANCE)
