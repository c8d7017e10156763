"""Minimal long short-term memory."""

from __future__ import annotations

from typing import ClassVar

from recurra.cells.scan import ScanCell

__all__ = ["MinLSTMCell"]


class MinLSTMCell(ScanCell):
    """The LSTM without what its gates read of the hidden state, without output gate, its two other gates summing to one.

        f = sigmoid(W_f x + b_f)
        i = sigmoid(W_i x + b_i)
        k = g(W_h x + b_h)                  g(x) = x + 1/2 from zero on, sigmoid(x) below
        h' = f / (f + i) h + i / (f + i) k

    Gates stand in the weights in this order: forget, input, candidate. Parameters: 3H(F + 1). A step of a row: 6HF
    floating-point operations in the products, about 14H beside them.

    What differs from torch.nn.LSTM: no recurrent weights, no output gate, no memory cell beside the hidden state. What differs
    from the paper: see `MinGRUCell`.

    The arguments are those of `ScanCell`.

    Source: Feng et al. 2024, section 3.2, and appendix B for g.
    """

    unit: str = "min_lstm"
    forget_gate: ClassVar[int | None] = 0
