"""The minimal gated recurrent unit."""

from __future__ import annotations

from recurra.cells.scan import ScanCell

__all__ = ["MinGRUCell"]


class MinGRUCell(ScanCell):
    """The GRU without what its gates read of the hidden state, and without reset gate.

        z = sigmoid(W_z x + b_z)
        k = g(W_h x + b_h)                  g(x) = x + 1/2 from zero on, sigmoid(x) below
        h' = (1 - z) h + z k

    Gates stand in the weights in this order: update z, candidate. Parameters: 2H(F + 1). A step of a row: 4HF floating-point
    operations in the products, about 10H beside them.

    What differs from torch.nn.GRU: no recurrent weights, no reset gate, and in the published sense of z, 1 - z keeps (in
    torch's GRU z keeps). What differs from the paper: it computes in logarithms, for which candidates and states have to be
    positive; here g is kept, which makes candidates positive, and nothing else is asked of a state. Implementations in logarithms
    that put g on the first state as well change a state that is handed on; here it goes in as it came out, so a sequence may be
    cut anywhere.

    The arguments are those of `ScanCell`.

    Source: Feng et al. 2024, section 3.1, and appendix B for g.
    """

    unit: str = "min_gru"
