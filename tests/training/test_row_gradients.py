"""Tables whose gradients are rows up to the optimizer."""

from __future__ import annotations

import pytest
import torch

from recurra.config import OptimizerSettings
from recurra.layers import CharacterNgrams, Embedding
from recurra.training.optimizers import build_optimizer, clip_gradients
from recurra.training.row_gradients import SMALLEST, RowGradients

WIDTH = 64
ROWS = SMALLEST // WIDTH


class Tables(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.large = Embedding(ROWS, WIDTH)
        self.ngrams = CharacterNgrams(["<pad>", "<unk>", *(f"word{number}" for number in range(ROWS - 2))], ROWS, WIDTH)
        self.small = Embedding(ROWS - 1, WIDTH)

    def loss(self, tokens: torch.Tensor) -> torch.Tensor:
        return (self.large(tokens) + self.ngrams(tokens) + self.small(tokens)).sin().square().sum()


def trained(rows: bool, name: str, batches: list[list[torch.Tensor]], norm: float) -> tuple[Tables, list[float]]:
    torch.manual_seed(0)
    network, norms = Tables(), []
    optimizer = build_optimizer(network, OptimizerSettings(name=name), learning_rate=0.01, steps=len(batches))
    kept = RowGradients(network) if rows else None
    for group in batches:
        for tokens in group:
            network.loss(tokens).backward()
        assert network.large.weight.grad.is_sparse is network.ngrams.weight.grad.is_sparse is rows
        assert not network.small.weight.grad.is_sparse
        norms.append(clip_gradients(network.parameters()))
        clip_gradients(network.parameters(), norm=norm, total=norms[-1])
        if kept is not None:
            kept.fill()
            assert not network.large.weight.grad.is_sparse
        optimizer.step()
        if kept is not None:
            kept.clear()
        optimizer.zero_grad()
    if kept is not None:
        kept.stop()
    return network, norms


@pytest.mark.parametrize("name", ["adamw", "sgd", "rmsprop"])
def test_the_training_is_that_of_dense_gradients(name: str) -> None:
    """But for the order of a norm's sum: of n numbers of one sign, its error is under n units in the last place, and in the mean its root."""
    generator = torch.Generator().manual_seed(1)
    # tokens come and go, some twice in a batch, and gradients of two batches are added up
    batches = [[torch.randint(0, 40 * (step + 1), (3, 7), generator=generator) for _ in range(2)] for step in range(4)]
    (dense, dense_norms), (rows, norms) = (trained(kept, name, batches, 0.5) for kept in (False, True))
    assert norms == pytest.approx(dense_norms, rel=SMALLEST**0.5 * torch.finfo(torch.float32).eps)
    for ours, theirs in zip(rows.parameters(), dense.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)


def test_afterwards_the_gradients_are_dense_again() -> None:
    network = Tables()
    rows = RowGradients(network)
    rows.stop()
    network.loss(torch.tensor([[3, 4]])).backward()
    assert not network.large.weight.grad.is_sparse


def test_a_table_that_has_a_dense_gradient_elsewhere_keeps_it() -> None:
    network = Tables()
    rows = RowGradients(network)
    tokens = torch.tensor([[3, 4]])
    (network.loss(tokens) + network.large.weight.square().sum()).backward()
    expected = network.large.weight.grad.clone()
    assert not expected.is_sparse
    rows.fill()
    assert torch.equal(network.large.weight.grad, expected)


def test_a_table_of_sparse_gradients_by_choice_is_left_alone() -> None:
    network = torch.nn.ModuleList([Embedding(ROWS, WIDTH, sparse=True)])
    rows = RowGradients(network)
    network[0](torch.tensor([1])).sum().backward()
    rows.fill()
    assert network[0].weight.grad.is_sparse
    rows.stop()
    assert network[0].sparse
