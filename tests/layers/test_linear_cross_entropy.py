"""Cross-entropy in blocks = torch's; with weights it estimates the sum over all items without bias."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from recurra.layers import linear_cross_entropy as module
from recurra.layers.linear_cross_entropy import Added, linear_cross_entropy


def example(count: int = 9, columns: int = 7, size: int = 4) -> tuple[torch.Tensor, ...]:
    torch.manual_seed(0)
    vectors, items, bias = (torch.randn(shape, requires_grad=True) for shape in ((count, size), (columns, size), (columns,)))
    return vectors, items, bias, torch.randint(columns, (count,))


@pytest.mark.parametrize("block", [1, 4, 128])
@pytest.mark.parametrize("smoothing", [0.0, 0.3])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("with_bias", [False, True])
def test_it_is_the_cross_entropy_of_the_scores(
    block: int, smoothing: float, weighted: bool, with_bias: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BLOCK", block)
    vectors, items, bias, answers = example()
    weights = torch.rand(len(items)) if weighted else None
    numbers = torch.randn(2, requires_grad=True)
    added = Added(torch.tensor([0, 0, 3, 8, 8]), torch.tensor([1, 1, 2, 0, int(answers[8])]), torch.tensor([0, 1, 1, 0, 1]), numbers)
    leaves = [vectors, items, numbers, *([bias] if with_bias else [])]

    scores = vectors @ items.T + (bias if with_bias else 0.0)
    scores = scores.index_put((added.rows, added.columns), numbers[added.kinds], accumulate=True)
    if weights is not None:
        other = torch.arange(len(items)) != answers[:, None]
        scores = scores + weights * other
    expected = cross_entropy(scores, answers, label_smoothing=smoothing)
    right = torch.autograd.grad(expected * 3.0, leaves)
    found = linear_cross_entropy(vectors, items, bias if with_bias else None, answers, weights, added=added, smoothing=smoothing)
    # float32 sums of 9 x 7 numbers of about 1 in another order: some 20 roundings of 6e-8 each, times the factor 3
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    for gradient, correct in zip(torch.autograd.grad(found * 3.0, leaves), right, strict=True):
        torch.testing.assert_close(gradient, correct, rtol=0, atol=1e-5)


def test_weights_of_one_over_the_probability_make_the_sum_unbiased() -> None:
    """By hand: 4 items, the answer always there, each other one with a probability of its own. All 8 sets of negatives, weighed by
    their probability, give on average the sum of the full softmax."""
    torch.manual_seed(0)
    scores, present = torch.randn(4, dtype=torch.float64), np.array([1.0, 0.9, 0.3, 0.05])
    total = 0.0
    for chosen in itertools.product((False, True), repeat=3):
        rows = torch.tensor([0, *(place + 1 for place, kept in enumerate(chosen) if kept)])
        chance = np.prod([p if kept else 1 - p for p, kept in zip(present[1:], chosen, strict=True)])
        log_weights = -torch.log(torch.from_numpy(present))[rows].float()
        loss = linear_cross_entropy(torch.ones(1, 1), scores[rows][:, None].float(), None, torch.tensor([0]), log_weights)
        total += chance * float(torch.exp(loss + scores[0].float()))  # exp(loss) = sum / exp(s_y)
    assert total == pytest.approx(float(scores.exp().sum()), rel=1e-5)  # 8 terms in float32


def test_in_half_precision_it_computes_in_float32() -> None:
    vectors, items, bias, answers = example()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = linear_cross_entropy(vectors, items, bias, answers)
    assert found.dtype == torch.float32
    assert torch.equal(found, linear_cross_entropy(vectors, items, bias, answers))
