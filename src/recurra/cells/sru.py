"""The simple recurrent unit."""

from __future__ import annotations

import math
from typing import Any, ClassVar

from recurra.cells.scan import ScanCell
from recurra.kernels.state import MemoryState

__all__ = ["SRUCell"]


class SRUCell(ScanCell):
    """The simple recurrent unit in its first version, with a highway connection around the recurrence.

        k = W x
        f = sigmoid(W_f x + b_f)
        r = sigmoid(W_r x + b_r)
        c' = f c + (1 - f) k
        h' = r tanh(c') + (1 - r) x         W_x x in place of x where F is not H

    Gates stand in the weights in this order: candidate k, forget f, reset r, and the highway's W_x if there is one; only f and r
    have biases. Parameters: 3HF + 2H, and HF more with W_x. A step of a row: 6HF floating-point operations in the products (8HF
    with W_x), about 15H beside them.

    What differs from the version of 2018 (Lei et al., EMNLP): there f and r also read v * c, and h' takes c' as it is. A
    forget gate that reads the state makes the recurrence nonlinear and cannot be scanned in parallel; the first version
    has the linear recurrence, which this is. Weights of the later version do not load.

    The arguments are those of `ScanCell`; in the scheme "torch" weights are uniform in plus and minus sqrt(3/F) and biases zero,
    as the paper says.

    Source: Lei, Zhang & Artzi 2017 (arXiv 1709.02755, version 1), section 2; start: Lei et al. 2018, section 3.3.
    """

    state_type: ClassVar[type[Any]] = MemoryState
    unit: str = "sru"
    forget_gate: ClassVar[int | None] = 1
    unbiased: ClassVar[tuple[int, ...]] = (0, 3)

    def _start(self) -> None:
        bound = math.sqrt(3.0 / self.input_size)
        self.weight_ih.uniform_(-bound, bound)
        self.bias_ih.zero_()
