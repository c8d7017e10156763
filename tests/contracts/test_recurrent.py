"""The contract of recurrent layers over every cell and stack of the catalogue."""

import pytest
import torch

import catalogue
from recurra.cells import Cell, ElmanState, clone, detach, reset, select
from recurra.testing import assert_conforms


@pytest.mark.parametrize("name", catalogue.CELLS)
def test_cell_conforms(name):
    assert_conforms(catalogue.CELLS[name]())


@pytest.mark.parametrize("name", catalogue.STACKS)
def test_stack_conforms(name):
    assert_conforms(catalogue.STACKS[name].build())


@pytest.mark.parametrize("name", catalogue.STACKS)
def test_every_parameter_learns_in_training_mode(name):
    torch.manual_seed(0)
    stack = catalogue.STACKS[name].build()
    total = 0.0
    # Noise may hide a unit in one call; over some calls every parameter is reached.
    for _ in range(8):
        output, _ = stack(torch.randn(4, 6, catalogue.F), lengths=torch.tensor([6, 0, 3, 5]))
        total = total + (output * torch.randn_like(output)).sum()
    total.backward()
    assert [name for name, parameter in stack.named_parameters() if parameter.grad is None or not parameter.grad.any()] == []


@pytest.mark.parametrize("name", catalogue.STACKS)
def test_truncated_back_propagation_streams(name):
    stack = catalogue.STACKS[name].build()
    if stack.bidirectional:
        with pytest.raises(ValueError, match="parts"):
            stack(torch.randn(2, 3, catalogue.F), stack.initial_state(2)[:1])
        return
    state = stack.initial_state(2)
    for _ in range(3):
        output, state = stack(torch.randn(2, 4, catalogue.F), state)
        output.sum().backward()
        state = detach(reset(state, torch.tensor([True, False])))
    assert not any(field.requires_grad for part in state for field in part)
    assert not any(field[0].any() for part in state for field in part)


def test_states_select_reset_detach_and_clone():
    nested = (ElmanState(torch.arange(6.0).view(3, 2).requires_grad_()), ElmanState(torch.ones(3, 2)))
    assert select(nested, torch.tensor([2, 2]))[0].h.tolist() == [[4.0, 5.0], [4.0, 5.0]]
    assert select(nested, torch.tensor([False, True, False]))[0].h.tolist() == [[2.0, 3.0]]
    assert not detach(nested)[0].h.requires_grad
    assert isinstance(detach(nested)[1], ElmanState)
    snapshot = clone(nested)
    nested[1].h.zero_()
    assert snapshot[1].h.all()
    begun = reset(nested, torch.tensor([True, False, False]), (ElmanState(torch.full((3, 2), 7.0)), ElmanState(torch.zeros(3, 2))))
    assert begun[0].h.tolist() == [[7.0, 7.0], [2.0, 3.0], [4.0, 5.0]]
    assert torch.autograd.grad(begun[0].h.sum(), nested[0].h)[0].tolist() == [[0.0, 0.0], [1.0, 1.0], [1.0, 1.0]]


class Forgetful(Cell):
    """Broken: the state is replaced by that of the first row."""

    def __init__(self):
        super().__init__(2, 2)
        self.weight = torch.nn.Parameter(torch.eye(2))

    def step(self, x, state):
        h = (x @ self.weight + state.h[:1]).tanh()
        return h, ElmanState(h)


class Leaking(Forgetful):
    """Broken: the whole sequence is read without its padding being left out."""

    def step(self, x, state):
        h = (x @ self.weight + state.h).tanh()
        return h, ElmanState(h)

    def forward(self, x, state=None, *, lengths=None, reset=None, reverse=False):
        return super().forward(x, state, reset=reset, reverse=reverse)


class Idle(Leaking):
    """Broken: a parameter that does nothing."""

    forward = Cell.forward

    def __init__(self):
        super().__init__()
        self.idle = torch.nn.Parameter(torch.ones(2))


class Jumping(Leaking):
    """Broken: a single step is not what the whole sequence does."""

    forward = Cell.forward

    def step(self, x, state):
        h, _ = super().step(x, state)
        return (h, ElmanState(h)) if torch.is_grad_enabled() and x.shape[0] > 1 else (2 * h, ElmanState(h))


class Wrong(Leaking):
    """Broken: the gradient is not the derivative."""

    forward = Cell.forward

    def step(self, x, state):
        h, _ = super().step(x, state)
        h = h + (h - h.detach())
        return h, ElmanState(h)


@pytest.mark.parametrize(
    ("cell", "complaint"), [(Forgetful, "alone"), (Leaking, "alone"), (Idle, "idle"), (Jumping, "alone"), (Wrong, "numerical")]
)
def test_broken_cells_are_found(cell, complaint):
    with pytest.raises((AssertionError, RuntimeError), match=complaint):
        assert_conforms(cell())


def test_a_cell_without_step_says_so():
    class Empty(Cell):
        pass

    with pytest.raises(NotImplementedError, match="Empty has no step"):
        Empty(1, 1)(torch.zeros(1, 1, 1))
