"""The contract of a cell as a public function: `assert_conforms(my_cell)`.

It holds for every built-in cell and stack, and a cell that keeps it runs in every layer, trains and streams.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from recurra.cells import Cell
from recurra.cells.state import detach, map_state, select
from recurra.kernels.state import leaves
from recurra.layers.stack import Stack
from recurra.shapes import Tensor

__all__ = ["assert_conforms"]

TOLERANCE = 2.0**-52 * 2.0**16
"""Largest difference, absolute or relative, between two ways to the same float64 number: sums of up to 2**5 terms in
another order differ by 2**5 rounding errors, over 2**3 steps, grown by a factor of up to 2**8 on the way back."""


def assert_conforms(layer: Cell | Stack, *, batch_size: int = 4, steps: int = 5, seed: int = 0) -> None:
    """Check that a cell or a stack keeps the contract of recurrent layers.

    Checked on a copy in float64 and evaluation mode (the noise of training has no single right answer), on random input:

    * a state given or left out: the state has the type and shapes of `initial_state`;
    * the whole sequence equals any two chunks of it, and single calls of `step`, gradients included;
    * rows of different lengths with NaN in their padding equal each row alone, gradients included; rows of length zero
      put out zeros and keep their state; the order of the rows means nothing;
    * a reset is a new beginning: no value and no gradient crosses it;
    * read in reverse, a row equals the reversed row;
    * gradients are right (against finite differences), and every parameter has one.

    Args:
        layer: what to check; it is not changed.
        batch_size: rows of the random input, 2 or more.
        steps: its steps, 2 or more.
        seed: of the random input.

    Raises:
        AssertionError: a part of the contract is broken; the message says which and by how much.
        TypeError: it is neither a cell nor a stack.
        ValueError: one row or one step, on which nothing can be broken.
    """
    if not isinstance(layer, Cell | Stack):
        raise TypeError(f"The contract is that of a recurra.cells.Cell or a Stack, an object and not a class; this is {layer!r}.")
    if batch_size < 2 or steps < 2:
        raise ValueError(f"The contract is checked on 2 or more rows and steps, not on {batch_size} and {steps}.")
    layer = copy.deepcopy(layer).to("cpu", torch.float64).eval()
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(batch_size, steps, layer.input_size, generator=generator, dtype=torch.float64)
    # A state that the layer came to by itself, because not every tensor need be a valid state.
    state = detach(layer(torch.randn(x.shape, generator=generator, dtype=x.dtype))[1])
    _check_form(layer, x)
    if isinstance(layer, Cell) or not layer.bidirectional:
        _check_chunks(layer, x, state)
    if isinstance(layer, Cell):
        _check_steps(layer, x, state)
        _check_reverse(layer, x, state)
    _check_rows(layer, x, state)
    _check_reset(layer, x)
    _check_gradients(layer, x, state)


def _check_form(layer: Cell | Stack, x: Tensor) -> None:
    initial = layer.initial_state(len(x))
    output, state = layer(x)
    if output.shape != (*x.shape[:2], layer.output_size):
        raise AssertionError(f"The output must be of shape {(*x.shape[:2], layer.output_size)}, not {tuple(output.shape)}.")
    if type(state) is not type(initial):
        raise AssertionError(f"The state must stay a {type(initial).__name__}, not become a {type(state).__name__}.")
    for before, after in zip(leaves(initial), leaves(state), strict=True):
        if before.shape != after.shape:
            raise AssertionError(f"The state's shapes must stay as they are: {tuple(before.shape)} became {tuple(after.shape)}.")


def _check_chunks(layer: Cell | Stack, x: Tensor, state: Any) -> None:
    whole = _Run(layer, x, state)
    whole.add(*layer(whole.x, whole.state))
    for cut in {1, x.shape[1] // 2, x.shape[1] - 1}:
        run = _Run(layer, x, state)
        first, middle = layer(run.x[:, :cut], run.state)
        second, last = layer(run.x[:, cut:], middle)
        run.add(torch.cat([first, second], 1), last)
        run.assert_equal(whole, f"two chunks of {cut} and {x.shape[1] - cut} steps, against the whole sequence")


def _check_steps(layer: Cell, x: Tensor, state: Any) -> None:
    whole = _Run(layer, x, state)
    whole.add(*layer(whole.x, whole.state))
    run = _Run(layer, x, state)
    outputs, last = [], run.state
    for one in run.x.unbind(1):
        output, last = layer.step(one, last)
        outputs.append(output)
    run.add(torch.stack(outputs, 1), last)
    run.assert_equal(whole, "single steps, against the whole sequence")


def _check_reverse(layer: Cell, x: Tensor, state: Any) -> None:
    forward, backward = _Run(layer, x, state), _Run(layer, x, state)
    output, last = layer(forward.x.flip(1), forward.state)
    forward.add(output.flip(1), last)
    backward.add(*layer(backward.x, backward.state, reverse=True))
    backward.assert_equal(forward, "reverse=True, against the reversed sequence")


def _check_rows(layer: Cell | Stack, x: Tensor, state: Any) -> None:
    batch_size, steps = x.shape[:2]
    lengths = torch.tensor([(steps, 0, max(steps - 2, 1), 1)[row % 4] for row in range(batch_size)])
    padding = torch.arange(steps) >= lengths[:, None]
    alone = _Run(layer, x, state)
    rows, states = [], []
    for row in range(batch_size):
        real = int(lengths[row])
        one = torch.tensor([row])
        output, last = layer(alone.x[one, :real], select(alone.state, one))
        rows.append(torch.cat([output, output.new_zeros(1, steps - real, output.shape[2])], 1))
        states.append(leaves(last))
    alone.add(torch.cat(rows), tuple(torch.cat(fields) for fields in zip(*states, strict=True)))
    poisoned = x.masked_fill(padding[..., None], torch.nan)
    together = _Run(layer, poisoned, state)
    together.add(*layer(together.x, together.state, lengths=lengths))
    together.assert_equal(alone, f"rows of lengths {lengths.tolist()} in one batch with NaN in the padding, against each row alone")
    order = torch.arange(batch_size).flip(0)
    shuffled = _Run(layer, poisoned, state)
    output, last = layer(shuffled.x[order], select(shuffled.state, order), lengths=lengths[order])
    shuffled.add(output[order], select(last, order))
    shuffled.assert_equal(together, "rows in another order")


def _check_reset(layer: Cell | Stack, x: Tensor) -> None:
    cut = x.shape[1] // 2
    where = torch.zeros(x.shape[:2], dtype=torch.bool)
    where[0, cut] = True
    run = _Run(layer, x, None)
    output, _ = layer(run.x, reset=where)
    expected = torch.cat([layer(x[:1, :cut])[0], layer(x[:1, cut:])[0]], 1)
    _assert_close(output[:1], expected, f"a reset before step {cut}, against two sequences")
    _assert_close(output[1:], layer(x[1:])[0], "a reset of one row, against rows without")
    (gradient,) = torch.autograd.grad(output[0, cut:].square().sum(), run.x)
    if gradient[0, :cut].any() or gradient[1:].any():
        raise AssertionError("A gradient crosses a reset, or reaches another row.")


def _check_gradients(layer: Cell | Stack, x: Tensor, state: Any) -> None:
    names = [name for name, parameter in layer.named_parameters() if parameter.requires_grad]
    parameters = [parameter for parameter in layer.parameters() if parameter.requires_grad]
    lengths = torch.full((len(x),), x.shape[1])
    lengths[0] -= 1

    def function(x: Tensor, *values: Tensor) -> tuple[Tensor, ...]:
        given = dict(zip(names, values, strict=True))
        output, last = torch.func.functional_call(layer, given, (x, state), {"lengths": lengths})
        return output, *leaves(last)

    # fast_mode projects on random directions: one number for all derivatives together.
    torch.autograd.gradcheck(function, (x.clone().requires_grad_(), *parameters), fast_mode=True)
    learns = _Run(layer, x, None)
    learns.add(*layer(learns.x))
    for name, gradient in zip(names, learns.gradients()[1:], strict=True):
        if gradient is None or not gradient.any():
            raise AssertionError(f"The parameter {name!r} never learns: its gradient is zero everywhere.")


class _Run:
    """One way through a layer: its outputs, and the gradients of the same random sum of them."""

    def __init__(self, layer: nn.Module, x: Tensor, state: Any) -> None:
        self.x = x.clone().requires_grad_()
        self.state: Any = None if state is None else map_state(_fresh, state)
        started = [] if self.state is None else [leaf for leaf in leaves(self.state) if leaf.requires_grad]
        self.parameters = [parameter for parameter in layer.parameters() if parameter.requires_grad] + started
        self.outputs: list[Tensor] = []

    def add(self, output: Tensor, state: Any) -> None:
        self.outputs = [output, *leaves(state)]

    def gradients(self) -> Sequence[Tensor | None]:
        generator = torch.Generator().manual_seed(1)
        total = self.x.new_zeros(())
        for output in (each for each in self.outputs if each.is_floating_point()):
            total = total + (output * torch.randn(output.shape, generator=generator, dtype=output.dtype)).sum()
        return torch.autograd.grad(total, [self.x, *self.parameters], allow_unused=True, retain_graph=True)

    def assert_equal(self, other: _Run, what: str) -> None:
        for mine, others in zip(self.outputs, other.outputs, strict=True):
            _assert_close(mine, others, f"values of {what}")
        for mine_grad, others_grad in zip(self.gradients(), other.gradients(), strict=True):
            if mine_grad is not None and others_grad is not None:
                _assert_close(mine_grad, others_grad, f"gradients of {what}")
            elif mine_grad is not None or others_grad is not None:
                raise AssertionError(f"gradients of {what}: one way has none.")


def _assert_close(mine: Tensor, other: Tensor, what: str) -> None:
    torch.testing.assert_close(mine, other, rtol=TOLERANCE, atol=TOLERANCE, msg=lambda details: f"{what}:\n{details}")


def _fresh(tensor: Tensor) -> Tensor:
    return tensor.clone().requires_grad_(tensor.is_floating_point())
