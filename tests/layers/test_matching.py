"""Attention between two sequences: its equations by loops, its padding, its empty rows."""

from __future__ import annotations

import pytest
import torch

from recurra.layers.matching import AlignedAttention, BidirectionalAttention

TOLERANCE = {"rtol": 0.0, "atol": 1e-12}
"""Sums of some ten products of numbers near one in float64, whose rounding is 1e-16 each."""


def test_the_aligned_mean_is_that_of_the_equations() -> None:
    torch.manual_seed(0)
    layer = AlignedAttention(3).double()
    steps, other = torch.randn(2, 4, 3).double(), torch.randn(2, 5, 3).double()
    lengths = [5, 2]
    found = layer(steps, other, torch.tensor(lengths))
    for row, length in enumerate(lengths):
        for step in range(4):
            scores = torch.stack(
                [layer.projection(steps[row, step]).relu() @ layer.projection(other[row, j]).relu() for j in range(length)]
            )
            expected = scores.softmax(0) @ other[row, :length]
            torch.testing.assert_close(found[row, step], expected, **TOLERANCE)


def test_attention_both_ways_is_that_of_the_equations() -> None:
    torch.manual_seed(0)
    layer = BidirectionalAttention(3).double()
    context, question = torch.randn(2, 4, 3).double(), torch.randn(2, 5, 3).double()
    sizes = [(4, 5), (3, 2)]
    found = layer(context, question, context_lengths=torch.tensor([4, 3]), question_lengths=torch.tensor([5, 2]))
    for row, (steps, words) in enumerate(sizes):
        scores = torch.stack(
            [
                torch.stack([(layer.context(h) + layer.question(u) + (layer.both * h * u).sum()).squeeze() for u in question[row, :words]])
                for h in context[row, :steps]
            ]
        )
        named = scores.amax(1).softmax(0) @ context[row, :steps]
        for step in range(steps):
            h, asked = context[row, step], scores[step].softmax(0) @ question[row, :words]
            torch.testing.assert_close(found[row, step], torch.cat([h, asked, h * asked, h * named]), **TOLERANCE)


@pytest.mark.parametrize("lengths", [([3, 2], [2, 4]), ([0, 3], [2, 0]), ([0, 0], [0, 0])])
def test_padding_changes_nothing_and_nothing_is_not_a_number(lengths: tuple[list[int], list[int]]) -> None:
    torch.manual_seed(0)
    read, asked = map(torch.tensor, lengths)
    context, question = torch.randn(2, 3, 3), torch.randn(2, 4, 3)
    spoilt = [each.clone() for each in (context, question)]
    for each, counts in zip(spoilt, lengths, strict=True):
        for row, count in enumerate(counts):
            each[row, count:] = torch.nan
    both, aligned = BidirectionalAttention(3), AlignedAttention(3)
    for row, count in enumerate(lengths[0]):
        plain = both(context, question, context_lengths=read, question_lengths=asked)[row, :count]
        again = both(spoilt[0], spoilt[1], context_lengths=read, question_lengths=asked)[row, :count]
        assert torch.equal(plain, again)
        assert plain.isfinite().all()
        assert torch.equal(aligned(context, question, asked)[row, :count], aligned(context, spoilt[1], asked)[row, :count])
    if not any(lengths[1]):
        assert not aligned(context, question, asked).any()
