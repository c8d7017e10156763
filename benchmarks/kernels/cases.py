"""What is computed: shapes, lengths, weights, and the arithmetic that it takes at least.

Counted are the products of real steps, nothing else: with N real steps in all rows, D directions and G gates,

    forward             2 N D G H (I + H)
    forward, backward   6 N D G H (I + H)

as the backward pass has two products for each of the forward pass (of the gradient with the weights and with what was read).
Padding, gate functions and sums count nothing, so that a share of the matrix-multiply rate says how much of the machine
does what had to be done.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from recurra.layers import Regularization, Stack

__all__ = ["GATES", "GRID", "Case", "Data", "Shape", "Unable", "count_flops", "make_data", "weight_bytes"]

GATES = {"lstm": 4, "gru": 3, "elman": 1}
"""Gates of the cells that torch has too."""


class Unable(Exception):
    """A contender cannot do a case, and why."""


class Shape(NamedTuple):
    """Rows B, steps T, features of the input I, hidden units H."""

    batch_size: int
    steps: int
    input_size: int
    hidden_size: int

    @classmethod
    def parse(cls, text: str) -> Shape:
        """From `B,T,I,H`.

        Raises:
            SystemExit: not four whole numbers of 1 or more.
        """
        try:
            shape = cls(*(int(part) for part in text.split(",")))
        except (TypeError, ValueError):
            raise SystemExit(f"A shape is four whole numbers B,T,I,H, as 64,50,300,128; given is {text!r}.") from None
        if min(shape) < 1:
            raise SystemExit(f"Every number of a shape is 1 or more; given is {text!r}.")
        return shape

    def __str__(self) -> str:
        return ",".join(str(size) for size in self)


GRID = tuple(
    Shape(*sizes)
    for sizes in (
        (64, 50, 300, 128),
        (64, 50, 300, 512),
        (16, 200, 128, 256),
        (128, 20, 64, 96),
        (256, 100, 128, 64),
        (32, 400, 64, 128),
        (1, 100, 128, 128),
        (8, 1000, 40, 256),
    )
)
"""From short and wide to long and narrow."""


class Case(NamedTuple):
    """One recurrent layer over one batch.

    Attributes:
        cell: name in `recurra.cells.CELLS`.
        shape: sizes of the batch and the layer.
        bidirectional: read from both ends.
        varied: lengths uniform from T/3 to T; else all rows are full.
        regularization: noise of the layer.
    """

    cell: str
    shape: Shape
    bidirectional: bool = False
    varied: bool = False
    regularization: Regularization = Regularization()

    @property
    def noisy(self) -> bool:
        """Whether two calls give different values."""
        return self.regularization != Regularization()

    def describe(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {
            "cell": self.cell,
            **self.shape._asdict(),
            "bidirectional": self.bidirectional,
            "lengths": "varied" if self.varied else "full",
            "regularization": {name: rate for name, rate in vars(self.regularization).items() if rate},
        }

    def __str__(self) -> str:
        direction = "both directions" if self.bidirectional else "one direction"
        return f"{self.cell} {self.shape}, {direction}, {'varied' if self.varied else 'full'} lengths"


class Data(NamedTuple):
    """The batch, the layer's weights and the gradient that comes from above.

    Attributes:
        x: (B, T, I) input, zero in the padding.
        lengths: (B,) real steps, or None when all rows are full.
        gradient: (B, T, D*H) of the output, zero in the padding.
        stack: holds the weights that every contender copies.
    """

    x: Tensor
    lengths: Tensor | None
    gradient: Tensor
    stack: Stack

    @property
    def real_steps(self) -> int:
        """Real steps in all rows together."""
        return self.x.shape[0] * self.x.shape[1] if self.lengths is None else int(self.lengths.sum())

    def only(self, rows: Tensor) -> Data:
        """The same batch, where a gradient comes from above to these rows alone."""
        kept = torch.zeros_like(self.gradient).index_copy(0, rows, self.gradient[rows])
        return self._replace(gradient=kept)


def make_data(case: Case, *, seed: int = 0) -> Data:
    """The batch of a case; the same for the same seed."""
    batch_size, steps, input_size, hidden_size = case.shape
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        stack = Stack(
            case.cell, input_size, hidden_size, bidirectional=case.bidirectional, regularization=case.regularization, backend="reference"
        )
    x = torch.randn(batch_size, steps, input_size, generator=generator)
    gradient = torch.randn(batch_size, steps, stack.output_size, generator=generator)
    lengths = None
    if case.varied:
        lengths = torch.randint((steps + 2) // 3, steps + 1, (batch_size,), generator=generator)
        padding = (torch.arange(steps) >= lengths[:, None])[..., None]
        x, gradient = x.masked_fill(padding, 0.0), gradient.masked_fill(padding, 0.0)
    return Data(x, lengths, gradient, stack)


def count_flops(case: Case, real_steps: int, *, training: bool) -> int:
    """Additions and multiplications of the matrix products of real steps; see the module's formulae."""
    _, _, input_size, hidden_size = case.shape
    directions = 2 if case.bidirectional else 1
    forward = 2 * real_steps * directions * GATES[case.cell] * hidden_size * (input_size + hidden_size)
    return 3 * forward if training else forward


def weight_bytes(case: Case) -> int:
    """Bytes of a layer's float32 weights and its two biases."""
    _, _, input_size, hidden_size = case.shape
    return 4 * (2 if case.bidirectional else 1) * GATES[case.cell] * hidden_size * (input_size + hidden_size + 2)
