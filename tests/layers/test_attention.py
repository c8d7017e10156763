"""Attention: by its equations, and the contracts of padding, rows and gradients over all kinds."""

import pytest
import torch

import catalogue
from recurra.cells.state import select
from recurra.errors import SettingsError
from recurra.layers import Attention, AttentionMemory

EPSILON = torch.finfo(torch.float64).eps
ROUNDING = 64 * EPSILON
"""Products of five, a softmax and sums of up to six terms of about one, in float64."""

attentions = pytest.mark.parametrize("build", catalogue.ATTENTIONS.values(), ids=catalogue.ATTENTIONS)


def draw(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def attend(layer, query, memory, coverage):
    return layer(query, memory, coverage if layer.covered is not None else None)


@attentions
def test_weights_follow_the_equation_of_the_score(build):
    torch.manual_seed(0)
    layer = build().double()
    query, values, coverage = draw(2, catalogue.F), draw(2, 4, catalogue.H, seed=1), draw(2, 4, seed=2).abs()
    found = attend(layer, query, layer.prepare(values, torch.tensor([4, 4])), coverage)
    for row in range(2):
        scores = []
        for step in range(4):
            q, k = layer.query.weight @ query[row], layer.key.weight @ values[row, step]
            if layer.score == "multiplicative":
                scores.append(q @ k / 5**0.5)
                continue
            inside = q + layer.query.bias + k
            if layer.covered is not None:
                inside = inside + layer.covered.weight[:, 0] * coverage[row, step]
            scores.append(layer.energy.weight[0] @ inside.tanh())
        weights = torch.stack(scores).softmax(0)
        torch.testing.assert_close(found.weights[row], weights, rtol=0, atol=ROUNDING)
        torch.testing.assert_close(found.context[row], weights @ values[row], rtol=0, atol=ROUNDING)


@attentions
def test_padding_neighbours_and_order_change_nothing(build):
    torch.manual_seed(0)
    layer = build().double()
    lengths = torch.tensor([4, 0, 1, 6])
    query, values, coverage = draw(4, catalogue.F), draw(4, 6, catalogue.H, seed=1), draw(4, 6, seed=2)
    poisoned = values.masked_fill((torch.arange(6) >= lengths[:, None])[..., None], torch.nan).requires_grad_()
    memory = layer.prepare(poisoned, lengths)
    together = attend(layer, query, memory, coverage)
    for row, length in enumerate(lengths.tolist()):
        part = slice(row, row + 1)
        alone = attend(layer, query[part], layer.prepare(values[part, :length], lengths[part]), coverage[part, :length])
        torch.testing.assert_close(together.context[part], alone.context, rtol=0, atol=ROUNDING)
        torch.testing.assert_close(together.weights[part, :length], alone.weights, rtol=0, atol=ROUNDING)
        assert not together.weights[row, length:].any()
    # A sum of up to six roundings.
    torch.testing.assert_close(together.weights.sum(1), (lengths > 0).double(), rtol=0, atol=6 * EPSILON)
    order = torch.tensor([2, 0, 3, 1])
    turned = attend(layer, query[order], select(memory, order), coverage[order])
    torch.testing.assert_close(turned.context, together.context[order], rtol=0, atol=ROUNDING)
    (gradient,) = torch.autograd.grad(together.context.square().sum(), poisoned)
    assert torch.isfinite(gradient).all()
    assert not gradient[1].any()


@attentions
def test_gradients_are_those_of_differences(build):
    torch.manual_seed(0)
    layer = build().double()
    lengths = torch.tensor([3, 2])

    def function(query, values, coverage):
        return attend(layer, query, layer.prepare(values, lengths), coverage)

    inputs = draw(2, catalogue.F), draw(2, 3, catalogue.H, seed=1), draw(2, 3, seed=2)
    assert torch.autograd.gradcheck(function, tuple(tensor.requires_grad_() for tensor in inputs))


def test_coverage_turns_attention_away_from_what_had_it():
    """The energy falls with what a step has had: the one that had nothing gets all."""
    layer = Attention(1, 1, 1, coverage=True)
    with torch.no_grad():
        for weight, value in ((layer.query.weight, 0.0), (layer.query.bias, 0.0), (layer.key.weight, 0.0), (layer.energy.weight, 400.0)):
            weight.fill_(value)
        layer.covered.weight.fill_(-10.0)
    memory = layer.prepare(torch.tensor([[[3.0], [5.0]]]), torch.tensor([2]))
    assert layer(torch.zeros(1, 1), memory).weights.tolist() == [[0.5, 0.5]]
    # tanh(-10) = -1: the first weighs exp(-400), which is zero in float32.
    assert layer(torch.zeros(1, 1), memory, torch.tensor([[1.0, 0.0]])).context.tolist() == [[5.0]]


def test_what_cannot_be_made_is_refused():
    with pytest.raises(SettingsError, match=r"'aditive'\. Did you mean 'additive'"):
        Attention(3, 3, 3, score="aditive")
    with pytest.raises(SettingsError, match="additive score"):
        Attention(3, 3, 3, score="multiplicative", coverage=True)
    layer = Attention(3, 3, 3)
    with pytest.raises(SettingsError, match="made without coverage"):
        layer(torch.zeros(1, 3), AttentionMemory(torch.zeros(1, 2, 3), torch.zeros(1, 2, 3), torch.ones(1, 2) > 0), torch.zeros(1, 2))
