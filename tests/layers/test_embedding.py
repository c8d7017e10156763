"""The embedding: padding, its start, its gradients, its noise."""

import pytest
import torch

from recurra.errors import SettingsError
from recurra.layers import Embedding, StepDropout, VariationalDropout

TOKENS = torch.tensor([[3, 1, 0, 0], [2, 2, 4, 0]])


def test_padding_is_zero_and_never_learns():
    for sparse in (False, True):
        embedding = Embedding(6, 3, sparse=sparse, vectors=torch.ones(6, 3))
        output = embedding(TOKENS)
        assert not output[TOKENS == 0].any()
        (output + 1).square().sum().backward()
        gradient = embedding.weight.grad
        assert gradient.is_sparse is sparse
        gradient = gradient.to_dense()
        assert not gradient[[0, 5]].any()
        assert gradient[1:5].all()


def test_sparse_and_dense_gradients_agree():
    gradients = []
    for sparse in (False, True):
        torch.manual_seed(0)
        embedding = Embedding(6, 3, sparse=sparse, dropout=0.5, token_dropout=0.2)
        embedding(TOKENS).square().sum().backward()
        gradients.append(embedding.weight.grad.to_dense())
    assert torch.equal(*gradients)


def test_it_starts_uniform_or_from_vectors():
    torch.manual_seed(0)
    weight = Embedding(1000, 8, init_range=0.05).weight[1:]
    assert weight.abs().max() <= 0.05
    assert weight.abs().max() > 0.049
    # The mean of 8,000 uniform numbers: five standard deviations.
    assert weight.mean().abs() < 5 * 0.05 / (3 * 8000) ** 0.5
    vectors = torch.full((4, 2), torch.nan)
    vectors[2] = 3.0
    started = Embedding(4, 2, vectors=vectors).weight
    assert started[2].tolist() == [3.0, 3.0]
    assert (started[[1, 3]].abs() <= 0.05).all()
    with pytest.raises(ValueError, match=r"shape \(4, 2\), not \(3, 2\)"):
        Embedding(4, 2, vectors=torch.zeros(3, 2))


def test_token_dropout_drops_a_token_wherever_it_stands():
    torch.manual_seed(0)
    embedding = Embedding(50, 4, token_dropout=0.5, vectors=torch.ones(50, 4))
    tokens = torch.randint(1, 50, (20, 30))
    output = embedding(tokens)
    assert set(output.unique().tolist()) == {0.0, 2.0}
    for token in tokens.unique():
        assert len(output[tokens == token].unique()) == 1
    assert torch.equal(embedding.eval()(tokens), torch.ones(20, 30, 4))


def test_feature_dropout_is_drawn_at_each_step():
    torch.manual_seed(0)
    embedding = Embedding(50, 4, dropout=0.5, vectors=torch.ones(50, 4))
    output = embedding(torch.full((20, 30), 7))
    assert set(output.unique().tolist()) == {0.0, 2.0}
    assert len(output.flatten(0, 1).unique(dim=0)) == 2**4
    assert torch.equal(embedding.eval()(torch.full((2, 2), 7)), torch.ones(2, 2, 4))


def test_a_batch_equals_its_rows_in_evaluation():
    embedding = Embedding(6, 3, dropout=0.5, token_dropout=0.5).eval()
    assert torch.equal(embedding(TOKENS), torch.cat([embedding(TOKENS[:1]), embedding(TOKENS[1:])]))
    assert embedding.output_size == embedding.size == 3


@pytest.mark.parametrize("option", ["dropout", "token_dropout"])
def test_shares_out_of_range_are_refused(option):
    with pytest.raises(SettingsError, match=f"{option} must be from 0 to under 1"):
        Embedding(6, 3, **{option: 1.0})


def test_dropout_modules_obey_the_mode():
    x = torch.ones(4, 50, 8)
    torch.manual_seed(0)
    for module in (StepDropout(0.5), VariationalDropout(0.5)):
        assert set(module(x).unique().tolist()) == {0.0, 2.0}
        assert module.eval()(x) is x
    assert not torch.equal(StepDropout(0.5)(x)[:, 0], StepDropout(0.5)(x)[:, 1])
    locked = VariationalDropout(0.5)(x)
    assert torch.equal(locked[:, 0], locked[:, 49])
    assert not torch.equal(locked[0], locked[1])
