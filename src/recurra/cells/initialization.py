"""How the weights of the built-in cells start."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import nn

from recurra.errors import SettingsError, nearest
from recurra.shapes import Float, Tensor

__all__ = ["Initialization", "initialize"]

SCHEMES = ("torch", "orthogonal")


@dataclass(frozen=True)
class Initialization:
    """How a cell starts.

    Attributes:
        scheme: "torch": every weight and bias uniform in plus and minus 1/sqrt(H), as torch's own layers. "orthogonal":
            recurrent weights orthogonal gate by gate (Saxe et al. 2014) and head by head, input weights uniform after
            Glorot & Bengio 2010 (equation 16) gate by gate, biases zero.
        forget_bias: start of the LSTM's forget-gate bias (the sum of its two biases), so that a new network remembers
            (Jozefowicz et al. 2015, section 3.3: 1). None leaves what the scheme gives.
        learn_state: the state before the first step is trained, from zeros.
    """

    scheme: str = "torch"
    forget_bias: float | None = None
    learn_state: bool = False

    def __post_init__(self) -> None:
        if self.scheme not in SCHEMES:
            raise SettingsError(f"There is no initialization {self.scheme!r}: use {' or '.join(SCHEMES)}.{nearest(self.scheme, SCHEMES)}")


@torch.no_grad()
def initialize(
    w_ih: Float[Tensor, "GH F"],
    w_hh: Float[Tensor, "GH D"],
    b_ih: Float[Tensor, " GH"],
    b_hh: Float[Tensor, " GH"],
    *,
    scheme: str,
    hidden_size: int,
    heads: int = 1,
) -> None:
    """Fill the weights of one cell in place by one of the schemes.

    Args:
        w_ih: of the input.
        w_hh: of the hidden state that the recurrence reads, of D units.
        b_ih: beside the input's product.
        b_hh: beside the hidden state's product.
        scheme: see `Initialization`.
        hidden_size: H, rows of a gate.
        heads: parts of a gate's rows in `w_hh` that are orthogonal each for itself.
    """
    if scheme == "torch":
        bound = 1.0 / math.sqrt(hidden_size)
        for weight in (w_ih, w_hh, b_ih, b_hh):
            weight.uniform_(-bound, bound)
        return
    for gate in torch.split(w_ih, hidden_size):
        nn.init.xavier_uniform_(gate)
    for part in torch.split(w_hh, hidden_size // heads):
        nn.init.orthogonal_(part)
    b_ih.zero_()
    b_hh.zero_()
