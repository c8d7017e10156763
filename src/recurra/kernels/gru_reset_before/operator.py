"""The GRU whose reset gate acts before the recurrent product over whole sequences: checks, and dispatches to a backend."""

from __future__ import annotations

from recurra.kernels.directions import Direction, run_compiled
from recurra.kernels.dispatch import check_input, choose_backend, run_nothing
from recurra.kernels.gru_reset_before.reference import gru_reset_before_reference
from recurra.kernels.loop import RecurrentNoise, RecurrentWeights, Resets
from recurra.kernels.state import GRUState
from recurra.shapes import Float, Int, Tensor

__all__ = ["gru_reset_before_recurrence"]


def gru_reset_before_recurrence(
    x: Float[Tensor, "B T F"],
    state: GRUState,
    weights: RecurrentWeights,
    *,
    lengths: Int[Tensor, " B"] | None = None,
    resets: Resets | None = None,
    reverse: bool = False,
    noise: RecurrentNoise | None = None,
    backend: str = "auto",
) -> tuple[Float[Tensor, "B T H"], GRUState]:
    """Gated recurrent unit as first published, over all steps of all rows.

        r = sigmoid(W_ir x + b_ir + W_hr h + b_hr)
        z = sigmoid(W_iz x + b_iz + W_hz h + b_hz)
        n = tanh(W_in x + b_in + W_hn (r h) + b_hn)
        h' = (1 - z) n + z h

    torch.nn.GRU (and `gru_recurrence`) has n = tanh(W_in x + b_in + r (W_hn h + b_hn)): weights trained for one are
    wrong for the other.

    Args:
        x: inputs; what stands beyond a row's length means nothing (NaN included).
        state: the state before the first step read.
        weights: in torch's gate order r, z, n.
        lengths: real steps of each row, on any device, unsorted, 0 allowed; None when all are real.
        resets: where inside the sequences the state starts anew.
        reverse: read each row from its own last real step to its first.
        noise: recurrent dropout of the h in all three products, and zoneout of h.
        backend: "auto", or a name of `BACKENDS`.

    Returns:
        Hidden states in the order of the input, zero in the padding, and the state after the last step read (of a
        row of length zero: the state it came with).

    Raises:
        BackendUnavailable: the backend named cannot run this.
        ValueError: shapes that do not fit.

    Source: Cho et al. 2014, equations 5 to 8; torch.nn.GRU's two biases.
    """
    check_input(x, state, weights.w_ih.shape[1], lengths, resets)
    chosen = choose_backend("gru_reset_before", backend, x, resets, noise)
    if x.shape[0] * x.shape[1] == 0:
        return run_nothing(x, weights.w_hh.shape[1], state, weights)
    if chosen == "cpu":
        output, (last,) = run_compiled("gru_reset_before", x, [Direction(state, weights, resets, noise, reverse)], lengths)
        return output, last
    return gru_reset_before_reference(x, state, weights, lengths=lengths, resets=resets, reverse=reverse, noise=noise)
