"""The real-gated linear recurrent unit."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import nn
from torch.nn.functional import logsigmoid

from recurra.cells.scan import ScanCell
from recurra.shapes import Tensor

__all__ = ["RGLRUCell"]

SHARPNESS = 8.0
"""c, the power to which an open recurrence gate raises a."""

SLOWEST, FASTEST = 0.999, 0.9
"""Range of a^c at the start."""


class RGLRUCell(ScanCell):
    """The real-gated linear recurrent unit of Griffin.

        r = sigmoid(W_a x + b_a)
        i = sigmoid(W_x x + b_x)
        a = sigmoid(Lambda)^(8 r)
        h' = a h + sqrt(1 - a^2) (i x)      W_u x in place of x where F is not H

    Gates stand in the weights in this order: recurrence r, input i, and W_u if there is one, which has no bias. Parameters:
    2H(F + 1) + H, and HF more with W_u. A step of a row: 4HF floating-point operations in the products (6HF with W_u), about 14H
    beside them.

    What differs from the paper: gates' matrices are full (its code cuts them into blocks), and where F is not H the input is
    projected here instead of in the block around the unit. What differs from the LRU: real, and gated.

    The arguments are those of `ScanCell`.

    Attributes:
        decay: (H,) Lambda; it starts so that sigmoid(Lambda)^8 is uniform from 0.9 to 0.999.

    Source: De et al. 2024, section 2.4, equations 1 to 4; start of Lambda: the same section.
    """

    unit: str = "rg_lru"
    unbiased: ClassVar[tuple[int, ...]] = (2,)

    def _add_parameters(self) -> None:
        self.decay = nn.Parameter(torch.empty(self.hidden_size))

    def _parameters_of_units(self) -> Tensor:
        return SHARPNESS * logsigmoid(self.decay)[None]

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Draw the weights anew, as `initialization` says, and Lambda as the paper says."""
        super().reset_parameters()
        a = self.decay.uniform_(FASTEST, SLOWEST).pow_(1.0 / SHARPNESS)
        a.copy_(torch.logit(a.double()))
