"""Adagrad with momentum: its equations, and rows at the cost of these rows alone."""

from __future__ import annotations

from copy import deepcopy

import pytest
import torch

from recurra.training.adagrad import AdagradMomentum


def sparse(rows: list[int], values: torch.Tensor, size: torch.Size) -> torch.Tensor:
    return torch.sparse_coo_tensor(torch.tensor([rows]), values, size, check_invariants=True)


def run(rows: list[list[int]] | None, *, momentum: float, steps: int = 4) -> torch.Tensor:
    """A table of 5 rows after some steps; row-sparse gradients of `rows`, or the same as dense ones."""
    torch.manual_seed(0)
    weight = torch.nn.Parameter(torch.randn(5, 3))
    optimizer = AdagradMomentum([weight], lr=0.1, momentum=momentum)
    for step in range(steps):
        gradient = torch.randn(5, 3)
        weight.grad = gradient if rows is None else sparse(rows[step % len(rows)], gradient[rows[step % len(rows)]], weight.shape)
        optimizer.step()
    return weight.detach()


@pytest.mark.parametrize("momentum", [0.0, 0.7])
def test_with_every_row_touched_it_is_the_dense_optimizer(momentum: float) -> None:
    torch.testing.assert_close(run([list(range(5))], momentum=momentum), run(None, momentum=momentum), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("momentum", [0.0, 0.7])
def test_a_row_that_is_not_touched_stays_as_it_is(momentum: float) -> None:
    torch.manual_seed(0)
    start = torch.randn(5, 3)
    found = run([[0, 2], [2]], momentum=momentum)
    assert torch.equal(found[[1, 3, 4]], start[[1, 3, 4]])
    assert (found[[0, 2]] != start[[0, 2]]).all()


def test_a_row_that_is_named_twice_is_added_up_first() -> None:
    weights = [torch.nn.Parameter(torch.zeros(3, 2)) for _ in range(2)]
    gradient = torch.tensor([[1.0, 2.0], [3.0, -5.0]])
    weights[0].grad = sparse([1, 1], gradient, weights[0].shape)
    weights[1].grad = sparse([1], gradient.sum(0, keepdim=True), weights[1].shape)
    AdagradMomentum(weights, lr=0.1).step()
    assert torch.equal(weights[0], weights[1])


def test_the_first_step_is_the_rate_against_the_sign() -> None:
    weight = torch.nn.Parameter(torch.zeros(2))
    weight.grad = torch.tensor([4.0, -0.5])
    AdagradMomentum([weight], lr=0.1).step()
    torch.testing.assert_close(weight.detach(), torch.tensor([-0.1, 0.1]), rtol=1e-5, atol=0)  # epsilon is 1e-6 beside 0.25


def test_it_goes_on_where_its_state_was_taken() -> None:
    torch.manual_seed(1)
    weight = torch.nn.Parameter(torch.randn(4, 2))
    optimizer = AdagradMomentum([weight], lr=0.1, momentum=0.5)
    weight.grad = torch.randn(4, 2)
    optimizer.step()
    other = torch.nn.Parameter(weight.detach().clone())
    resumed = AdagradMomentum([other], lr=0.1, momentum=0.5)
    resumed.load_state_dict(deepcopy(optimizer.state_dict()))
    weight.grad = torch.randn(4, 2)
    other.grad = weight.grad.clone()
    optimizer.step()
    resumed.step()
    assert torch.equal(weight, other)
