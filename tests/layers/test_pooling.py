"""Pooling: by hand, and the contracts of padding, rows and gradients over all of them."""

import pytest
import torch

import catalogue
from recurra.errors import SettingsError
from recurra.layers import POOLINGS, LastPooling, MaxPooling, MeanPooling, Stack, build_pooling

X = torch.tensor([[[1.0, -1.0], [5.0, -3.0], [2.0, 9.0]], [[4.0, 4.0], [8.0, 8.0], [8.0, 8.0]], [[7.0, 7.0]] * 3])
LENGTHS = torch.tensor([3, 1, 0])
poolings = pytest.mark.parametrize("build", catalogue.POOLINGS.values(), ids=catalogue.POOLINGS)


def test_by_hand():
    assert LastPooling(2)(X, LENGTHS).tolist() == [[2.0, 9.0], [4.0, 4.0], [0.0, 0.0]]
    assert LastPooling(2, bidirectional=True)(X, LENGTHS).tolist() == [[2.0, -1.0], [4.0, 4.0], [0.0, 0.0]]
    torch.testing.assert_close(MeanPooling(2)(X, LENGTHS), torch.tensor([[8 / 3, 5 / 3], [4.0, 4.0], [0.0, 0.0]]), rtol=2.0**-23, atol=0)
    assert MaxPooling(2)(X, LENGTHS).tolist() == [[5.0, 9.0], [4.0, 4.0], [0.0, 0.0]]


def test_attention_of_equal_steps_is_their_value_and_a_high_score_decides():
    torch.manual_seed(0)
    pooling = build_pooling("attention", 2)
    equal = torch.tensor([1.0, 2.0]).expand(1, 4, 2)
    torch.testing.assert_close(pooling(equal, torch.tensor([3]))[0], equal[0, 0], rtol=2.0**-22, atol=0)
    with torch.no_grad():
        pooling.key.weight.copy_(torch.eye(2))
        pooling.key.bias.zero_()
        pooling.query.weight.copy_(torch.tensor([[100.0, 0.0]]))
    x = torch.tensor([[[-1.0, 3.0], [2.0, 4.0], [-2.0, 5.0]]])
    # tanh(2) - tanh(-1) = 1.7: the others weigh exp(-170).
    assert pooling(x, torch.tensor([3])).tolist() == [[2.0, 4.0]]


def test_last_pooling_is_the_last_state_of_each_direction():
    for bidirectional in (False, True):
        stack = Stack("gru", 3, 4, bidirectional=bidirectional)
        lengths = torch.tensor([5, 2, 1])
        output, state = stack(torch.randn(3, 5, 3), lengths=lengths)
        pooled = build_pooling("last", stack.output_size, bidirectional=bidirectional)(output, lengths)
        assert torch.equal(pooled, torch.cat([part.h for part in state], 1))


@poolings
def test_padding_neighbours_and_order_change_nothing(build):
    torch.manual_seed(0)
    pooling = build().double()
    lengths = torch.tensor([4, 0, 1, 6])
    x = torch.randn(4, 6, catalogue.H, dtype=torch.float64)
    poisoned = x.masked_fill((torch.arange(6) >= lengths[:, None])[..., None], torch.nan).requires_grad_()
    together = pooling(poisoned, lengths)
    alone = torch.cat([pooling(x[row : row + 1, : int(lengths[row])], lengths[row : row + 1]) for row in range(4)])
    # A softmax and sums of up to six terms.
    torch.testing.assert_close(together, alone, rtol=0, atol=2.0**-52 * 64)
    assert not together[1].any()
    order = torch.tensor([2, 0, 3, 1])
    torch.testing.assert_close(pooling(poisoned[order], lengths[order]), together[order], rtol=0, atol=2.0**-52 * 64)
    (gradient,) = torch.autograd.grad(together.square().sum(), poisoned)
    assert torch.isfinite(gradient).all()
    assert not gradient[torch.arange(6) >= lengths[:, None]].any()


@poolings
def test_gradcheck_and_every_parameter_learns(build):
    torch.manual_seed(0)
    pooling = build().double()
    x = torch.randn(3, 4, catalogue.H, dtype=torch.float64, requires_grad=True)
    lengths = torch.tensor([4, 2, 0])
    assert torch.autograd.gradcheck(lambda x, *_: pooling(x, lengths), (x, *pooling.parameters()), fast_mode=True)
    pooling(x, lengths).square().sum().backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in pooling.parameters())


@poolings
def test_compiled_and_transformed_it_is_the_same(build):
    """There torch's own operators run, one after the other."""
    torch.manual_seed(0)
    pooling = build().double()
    x, lengths = torch.randn(3, 4, catalogue.H, dtype=torch.float64, requires_grad=True), torch.tensor([4, 2, 0])
    (expected,) = torch.autograd.grad(pooling(x, lengths).square().sum(), x)
    found = torch.func.grad(lambda x: pooling(x, lengths).square().sum())(x.detach())
    # Sums of four terms, and a softmax.
    torch.testing.assert_close(found, expected, rtol=0, atol=2.0**-52 * 64)


def test_equal_steps_share_the_gradient_of_the_largest():
    x = torch.tensor([[[3.0], [1.0], [3.0], [9.0]]], requires_grad=True)
    MaxPooling(1)(x, torch.tensor([3])).sum().backward()
    assert x.grad[0, :, 0].tolist() == [0.5, 0.0, 0.5, 0.0]


@poolings
def test_no_steps_at_all(build):
    pooling = build()
    assert pooling(torch.zeros(2, 0, catalogue.H), torch.zeros(2, dtype=torch.long)).tolist() == [[0.0] * pooling.output_size] * 2


def test_names():
    assert type(build_pooling("max", 2)) is POOLINGS["max"]
    with pytest.raises(SettingsError, match="Did you mean 'mean'"):
        build_pooling("meen", 2)
    with pytest.raises(ValueError, match="even size"):
        build_pooling("last", 3, bidirectional=True)
