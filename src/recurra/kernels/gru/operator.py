"""The GRU over whole sequences: checks, and dispatches to a backend."""

from __future__ import annotations

from recurra.kernels.directions import Direction, run_compiled
from recurra.kernels.dispatch import check_input, choose_backend, run_nothing
from recurra.kernels.gru.aten import gru_aten
from recurra.kernels.gru.reference import gru_reference
from recurra.kernels.loop import RecurrentNoise, RecurrentWeights, Resets
from recurra.kernels.state import GRUState
from recurra.shapes import Float, Int, Tensor

__all__ = ["gru_recurrence"]


def gru_recurrence(
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
    """Gated recurrent unit in torch's form (the reset gate acts after the product), over all steps of all rows.

        r = sigmoid(W_ir x + b_ir + W_hr h + b_hr)
        z = sigmoid(W_iz x + b_iz + W_hz h + b_hz)
        n = tanh(W_in x + b_in + r (W_hn h + b_hn))
        h' = (1 - z) n + z h

    Args:
        x: inputs; what stands beyond a row's length means nothing (NaN included).
        state: the state before the first step read.
        weights: in torch's gate order r, z, n.
        lengths: real steps of each row, on any device, unsorted, 0 allowed; None when all are real.
        resets: where inside the sequences the state starts anew.
        reverse: read each row from its own last real step to its first.
        noise: recurrent dropout and zoneout.
        backend: "auto", or a name of `BACKENDS`.

    Returns:
        Hidden states in the order of the input, zero in the padding, and the state after the last step read (of a
        row of length zero: the state it came with).

    Raises:
        BackendUnavailable: the backend named cannot run this.
        ValueError: shapes that do not fit.

    Source: Cho et al. 2014, equations 5 to 8, with r after the product and z and 1 - z exchanged, as torch.nn.GRU.
    """
    check_input(x, state, weights.w_ih.shape[1], lengths, resets)
    chosen = choose_backend("gru", backend, x, resets, noise)
    if x.shape[0] * x.shape[1] == 0:
        return run_nothing(x, weights.w_hh.shape[1], state, weights)
    if chosen == "cpu":
        output, (last,) = run_compiled("gru", x, [Direction(state, weights, resets, noise, reverse)], lengths)
        return output, last
    if chosen == "aten":
        return gru_aten(x, state, weights, lengths=lengths, reverse=reverse)
    return gru_reference(x, state, weights, lengths=lengths, resets=resets, reverse=reverse, noise=noise)
