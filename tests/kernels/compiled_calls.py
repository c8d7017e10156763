"""Random calls of the recurrences that have compiled kernels: every option, one direction or both, run by any backend."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

import catalogue
from recurra.kernels import RecurrentNoise, Resets
from recurra.kernels.compiled import UNAVAILABLE
from recurra.kernels.directions import Direction, run_directions
from recurra.kernels.signatures import SIGNATURES
from recurra.kernels.state import map_state
from recurra.testing.rounding import allowed_error, rounding_error

__all__ = [
    "EVERYTHING",
    "OPERATIONS",
    "OPTIONS",
    "Call",
    "assert_equal",
    "assert_exact",
    "compiled",
    "draw_call",
    "every_operation",
    "random_weights",
    "scattered",
]

OPERATIONS = tuple(SIGNATURES)
OPTIONS = ("lengths", "resets", "dropout", "zones", "rates")
"""What a call may have; `zones` and `rates` are zoneout in training and in evaluation."""
EVERYTHING = ("lengths", "resets", "dropout", "zones")


compiled = pytest.mark.skipif(UNAVAILABLE is not None, reason=str(UNAVAILABLE))
every_operation = pytest.mark.parametrize("operation", OPERATIONS)


@dataclass(frozen=True)
class Call:
    """One layer's call: what `run_directions` is given.

    Attributes:
        operation: a name of `catalogue.KERNELS`, of which `OPERATIONS` are those without heads.
        x: (B, T, F).
        directions: one, or forward and backward.
        lengths: (B,), or None.
    """

    operation: str
    x: Tensor
    directions: tuple[Direction, ...]
    lengths: Tensor | None = None

    def compute(self, backend: str = "cpu") -> list[Tensor]:
        """Outputs, and the last state of every direction."""
        kernel = catalogue.KERNELS[self.operation]
        function = partial(kernel.function, **kernel.options)
        output, states = run_directions(kernel.operation, function, self.x, self.directions, lengths=self.lengths, backend=backend)
        return [output, *(field for state in states for field in state)]

    def run(
        self,
        backend: str = "cpu",
        weigh: Callable[[int, Tensor], Tensor | float] | None = None,
        lay: Callable[[Tensor], Tensor] = torch.clone,
    ) -> list[Tensor]:
        """What `compute` gives, and the gradients of a weighted sum of it by everything.

        Args:
            backend: who computes.
            weigh: a result's number and the result -> its weights in the sum; `random_weights` when None.
            lay: how tensors lie in memory; also those of weights.
        """
        twin = self.map(lambda tensor: lay(tensor.detach()).requires_grad_(), lay)
        results = twin.compute(backend)
        weights = [(weigh or random_weights)(number, result) for number, result in enumerate(results)]
        upstream = [lay(torch.as_tensor(w, dtype=result.dtype).expand_as(result)) for w, result in zip(weights, results, strict=True)]
        return [result.detach() for result in results] + list(torch.autograd.grad(results, twin.numbers(), upstream))

    def numbers(self) -> list[Tensor]:
        """Everything that has a gradient: the input, and of each direction weights, state and reset state."""
        found = [self.x]
        for each in self.directions:
            found += [*each.weights, *each.state, *(each.resets.state if each.resets is not None else ())]
        return found

    def map(self, change: Callable[[Tensor], Tensor], noise: Callable[[Tensor], Tensor] | None = None) -> Call:
        """With `numbers` changed, in their order, and the noise."""

        def direction(each: Direction) -> Direction:
            weights, state = map_state(change, each.weights), map_state(change, each.state)
            resets = None if each.resets is None else each.resets._replace(state=map_state(change, each.resets.state))
            return Direction(state, weights, resets, noised(each.noise), each.reverse)

        def noised(each: RecurrentNoise | None) -> RecurrentNoise | None:
            if each is None or noise is None:
                return each
            zoneout = tuple(share if isinstance(share, float) else noise(share) for share in each.zoneout)
            return RecurrentNoise(None if each.dropout is None else noise(each.dropout), zoneout)

        return replace(self, x=change(self.x), directions=tuple(map(direction, self.directions)))

    def put(self, numbers: Iterable[Tensor]) -> Call:
        """With other `numbers`."""
        fresh = iter(numbers)
        return self.map(lambda _: next(fresh))

    def to(self, dtype: torch.dtype) -> Call:
        return self.map(lambda tensor: tensor.to(dtype), lambda tensor: tensor.to(dtype))

    def alone(self, number: int) -> Call:
        """One of the directions."""
        return replace(self, directions=self.directions[number : number + 1])


def draw_call(
    operation: str,
    sizes: Sequence[int] = (6, 7, 3, 4),
    *,
    options: Iterable[str] = (),
    reverse: Sequence[bool] = (False, True),
    dtype: torch.dtype = torch.float64,
    seed: int = 0,
) -> Call:
    """A call of B rows, T steps, F features and H units; numbers are those of float32 in any type."""
    rows, steps, features, hidden = sizes
    generator = torch.Generator().manual_seed(seed)
    kernel = catalogue.KERNELS[operation]

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator).to(dtype)

    def flips(share: float, *shape: int) -> Tensor:
        return torch.rand(shape, generator=generator) < share

    widths = kernel.state_sizes(hidden)
    zoned = list(widths.values())[: SIGNATURES[kernel.operation].zones]

    def state() -> Any:
        fields = {name: draw(rows, width) for name, width in widths.items()}
        if "n" in fields:  # a sum of exponentials
            fields["n"] = fields["n"].abs() + 0.5
        return kernel.state_type(**fields)

    def noise() -> RecurrentNoise | None:
        dropout = flips(0.6, rows, widths["h"]).to(dtype) / 0.6 if "dropout" in options else None
        zoneout: tuple[Any, ...] = (0.25, 0.125)[: len(zoned)] if "rates" in options else ()
        if "zones" in options:
            zoneout = tuple(flips(0.3, rows, steps, width).to(dtype) for width in zoned)
        return RecurrentNoise(dropout, zoneout)

    def direction(backward: bool) -> Direction:
        # Rows of a matrix shrink with their length, so that sums keep the size of their terms.
        shapes = kernel.weight_shapes(features, hidden).values()
        weights = kernel.weights_type(*(draw(*shape) / ((shape[1] + 1) ** 0.5 if len(shape) > 1 else 1) for shape in shapes))
        resets = Resets(flips(0.25, rows, steps), state()) if "resets" in options else None
        return Direction(state(), weights, resets, noise(), backward)

    lengths = None
    if "lengths" in options:
        lengths = torch.randint(0, steps + 1, (rows,), generator=generator)
        lengths[torch.randint(rows, (2,), generator=generator)] = torch.tensor([0, steps])
    return Call(operation, draw(rows, steps, features), tuple(map(direction, reverse)), lengths)


def random_weights(number: int, result: Tensor) -> Tensor:
    """The same for the same number and shape."""
    return torch.randn(result.shape, generator=torch.Generator().manual_seed(number)).to(result.dtype)


def scattered(tensor: Tensor) -> Tensor:
    """The same numbers, lying neither side by side nor in order."""
    apart = torch.stack([tensor, torch.full_like(tensor, 7.0)], -1)[..., 0]
    return apart.transpose(0, -1).clone(memory_format=torch.contiguous_format).transpose(0, -1) if tensor.ndim > 2 else apart


def assert_equal(mine: Sequence[Tensor], others: Sequence[Tensor]) -> None:
    """Bit by bit."""
    for number, (one, other) in enumerate(zip(mine, others, strict=True)):
        assert torch.equal(one, other), f"number {number} differs by {(one - other).abs().max()}"


NEARBY = 8
"""Calls nearby whose rounding counts beside a call's own."""


def assert_exact(mine: Sequence[Tensor], exact: Sequence[Tensor], call: Any, dtype: torch.dtype = torch.float64) -> None:
    """Two computations from the call's numbers, `mine` in `dtype`: no further apart than the reference in float32 allows.

    Where a call has few numbers its own error may be small by luck. So that of the same call with all numbers a little larger counts
    too: what makes errors large, such as the slope 1 - h^2 of a unit near saturation, is there as well.

    Args:
        call: has `map(change of numbers)`, `to(dtype)` and `run(backend)`; its numbers are those of float32.
    """
    error, allowed = rounding_error(mine, exact), 0.0
    for number in range(NEARBY + 1):
        near = call.map(lambda tensor, factor=1 + number * 2.0**-9: (tensor.to(torch.float32) * factor).to(tensor.dtype))
        allowed = max(allowed, allowed_error(near.to(torch.float32).run("reference"), near.to(torch.float64).run("reference"), dtype))
        if error <= allowed:
            return
    raise AssertionError(f"An error of {error:.3g} of the largest number, where {allowed:.3g} is allowed.")
