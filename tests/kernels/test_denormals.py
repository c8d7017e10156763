"""Numbers below the normal range are zero in the compiled kernels, in every thread, and the caller's arithmetic stays as it is."""

import pytest
import torch

from recurra.cells import CELLS
from recurra.kernels import compiled
from recurra.layers import Stack
from recurra.layers.stepper import Stepper

needs_kernels = pytest.mark.skipif(compiled._cpu is None, reason="the compiled kernels are not installed (a C++ compiler makes them)")
SMALLEST = torch.finfo(torch.float32).tiny


def dying(cell, backend):
    """Gradients of 300 steps by the last output alone, and the smallest that is not zero."""
    torch.manual_seed(0)
    stack = Stack(cell, 2, 8, backend=backend)
    x = torch.randn(5, 300, 2, requires_grad=True)
    output, _ = stack(x)
    # so weak that the gates' own derivatives bring it below the normal range, whatever the cell forgets
    (output[:, -1].sum() * SMALLEST * 2).backward()
    found = x.grad.abs()
    return found[found > 0].min() if found.any() else torch.tensor(1.0)


@needs_kernels
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("cell", CELLS)
def test_gradients_that_die_are_zero_before_they_are_slow(cell, threads):
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        assert dying(cell, "cpu") >= SMALLEST
        assert dying(cell, "reference") < SMALLEST
    finally:
        torch.set_num_threads(before)


@needs_kernels
@pytest.mark.parametrize("cell", ["elman_relu", "gru", "lstm"])
def test_steps_read_them_as_zero_too(cell):
    torch.manual_seed(0)
    stack = Stack(cell, 2, 8)
    steps = Stepper(stack)
    small = steps.run(torch.full((1, 3, 2), SMALLEST / 4))
    steps.reset()
    assert torch.equal(torch.as_tensor(small), torch.as_tensor(steps.run(torch.zeros(1, 3, 2))))
    with torch.no_grad():
        expected, _ = stack(torch.full((1, 3, 2), SMALLEST / 4))
    assert torch.equal(torch.as_tensor(small), expected)


@needs_kernels
def test_the_callers_arithmetic_stays_as_it_is():
    dying("lstm", "cpu")
    steps = Stepper(Stack("gru", 2, 8))
    steps.step(torch.zeros(1, 2))
    assert torch.tensor([SMALLEST]) / 2 > 0
