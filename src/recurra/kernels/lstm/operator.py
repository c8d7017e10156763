"""The LSTM over whole sequences: checks, and dispatches to a backend."""

from __future__ import annotations

from recurra.kernels.directions import Direction, run_compiled
from recurra.kernels.dispatch import check_input, choose_backend, run_nothing
from recurra.kernels.loop import RecurrentNoise, RecurrentWeights, Resets
from recurra.kernels.lstm.aten import lstm_aten
from recurra.kernels.lstm.reference import lstm_reference
from recurra.kernels.state import LSTMState
from recurra.shapes import Float, Int, Tensor

__all__ = ["lstm_recurrence"]


def lstm_recurrence(
    x: Float[Tensor, "B T F"],
    state: LSTMState,
    weights: RecurrentWeights,
    *,
    lengths: Int[Tensor, " B"] | None = None,
    resets: Resets | None = None,
    reverse: bool = False,
    noise: RecurrentNoise | None = None,
    backend: str = "auto",
) -> tuple[Float[Tensor, "B T H"], LSTMState]:
    """Long short-term memory with forget gates, over all steps of all rows.

        i, f, g, o = split(W_ih x + b_ih + W_hh h + b_hh)
        c' = sigmoid(f) c + sigmoid(i) tanh(g)
        h' = sigmoid(o) tanh(c')

    Args:
        x: inputs; what stands beyond a row's length means nothing (NaN included).
        state: the state before the first step read.
        weights: in torch's gate order i, f, g, o.
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

    Source: Gers, Schmidhuber & Cummins 2000, equations 2 to 6, without peepholes; torch.nn.LSTM's two biases.
    """
    check_input(x, state, weights.w_ih.shape[1], lengths, resets)
    chosen = choose_backend("lstm", backend, x, resets, noise)
    if x.shape[0] * x.shape[1] == 0:
        return run_nothing(x, weights.w_hh.shape[1], state, weights)
    if chosen == "cpu":
        output, (last,) = run_compiled("lstm", x, [Direction(state, weights, resets, noise, reverse)], lengths)
        return output, last
    if chosen == "aten":
        return lstm_aten(x, state, weights, lengths=lengths, reverse=reverse)
    if chosen == "triton":
        from recurra.kernels.lstm.triton import lstm_triton

        return lstm_triton(x, state, weights, lengths=lengths, resets=resets, reverse=reverse, noise=noise)
    return lstm_reference(x, state, weights, lengths=lengths, resets=resets, reverse=reverse, noise=noise)
