"""The contract of recurrent layers over every cell and stack of the catalogue."""

from typing import NamedTuple

import pytest
import torch

import catalogue
from recurra.cells import Cell, ElmanState, LSTMState, clone, detach, reset, select
from recurra.layers import Stack, Stepper
from recurra.testing import assert_conforms


@pytest.mark.parametrize("name", catalogue.CELLS)
def test_cell_conforms(name):
    torch.manual_seed(0)
    assert_conforms(catalogue.CELLS[name]())


@pytest.mark.parametrize("name", catalogue.STACKS)
def test_stack_conforms(name):
    torch.manual_seed(0)  # the few units of a relu may all be dead
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


class CountedState(NamedTuple):
    """A state of states, with whole numbers in it."""

    steps: torch.Tensor
    memory: LSTMState


class Counting(Cell):
    """A cell that is as good as any other: it counts its steps, and its memory is that of another cell."""

    state_type = CountedState

    def __init__(self, input_size, hidden_size):
        super().__init__(input_size, hidden_size)
        self.inner = torch.nn.LSTMCell(input_size, hidden_size)

    def initial_state(self, batch_size):
        memory = self.inner.weight_hh.new_zeros(batch_size, self.hidden_size)
        return CountedState(torch.zeros(batch_size, dtype=torch.int64), LSTMState(memory, memory))

    def step(self, x, state):
        memory = LSTMState(*self.inner(x, state.memory))
        return memory.h * (1 + state.steps % 2)[:, None], CountedState(state.steps + 1, memory)


def test_states_of_states_and_of_whole_numbers_conform_and_stream():
    torch.manual_seed(0)
    assert_conforms(Counting(3, 4))
    stack = Stack(Counting, 3, 4, layers=2)
    assert_conforms(stack)
    x = torch.randn(2, 6, 3)
    stepper = Stepper(stack, streams=2)
    before = stepper.snapshot()
    expected = stack(x)[0]
    for _ in range(2):
        torch.testing.assert_close(stepper.run(x), expected, rtol=0, atol=2.0**-23 * 2**4)  # sums of 2**3 terms in another order
        stepper.restore(before)
    assert stepper.fork([1]).snapshot()[0].steps.tolist() == [0]


@pytest.mark.usefixtures("unchecked")
def test_what_has_no_contract_is_named():
    for wrong in (Counting, torch.nn.LSTM(3, 4)):
        with pytest.raises(TypeError, match="The contract is that of"):
            assert_conforms(wrong)
    for few in ({"batch_size": 1}, {"steps": 1}):
        with pytest.raises(ValueError, match="2 or more rows and steps"):
            assert_conforms(Counting(3, 4), **few)
