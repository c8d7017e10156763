"""The LSTM with a projected hidden state over whole sequences: checks, and dispatches to a backend."""

from __future__ import annotations

from recurra.kernels.directions import Direction, run_compiled
from recurra.kernels.dispatch import check_input, choose_backend, run_nothing
from recurra.kernels.loop import RecurrentNoise, Resets
from recurra.kernels.projected_lstm.reference import ProjectedLSTMWeights, projected_lstm_reference
from recurra.kernels.state import LSTMState
from recurra.shapes import Float, Int, Tensor

__all__ = ["projected_lstm_recurrence"]


def projected_lstm_recurrence(
    x: Float[Tensor, "B T F"],
    state: LSTMState,
    weights: ProjectedLSTMWeights,
    *,
    lengths: Int[Tensor, " B"] | None = None,
    resets: Resets | None = None,
    reverse: bool = False,
    noise: RecurrentNoise | None = None,
    backend: str = "auto",
) -> tuple[Float[Tensor, "B T P"], LSTMState]:
    """Long short-term memory with a projected hidden state, over all steps of all rows.

        i, f, g, o = split(W_ih x + b_ih + W_hh h + b_hh)
        c' = sigmoid(f) c + sigmoid(i) tanh(g)
        h' = W_hr (sigmoid(o) tanh(c'))

    h is (B, P) and c is (B, H). It is torch.nn.LSTM(proj_size=P).

    Args:
        x: inputs; what stands beyond a row's length means nothing (NaN included).
        state: the state before the first step read.
        weights: in torch's gate order i, f, g, o.
        lengths: real steps of each row, on any device, unsorted, 0 allowed; None when all are real.
        resets: where inside the sequences the state starts anew.
        reverse: read each row from its own last real step to its first.
        noise: recurrent dropout (B, P), and zoneout of h (B, T, P) and c (B, T, H).
        backend: "auto", or a name of `BACKENDS`.

    Returns:
        Hidden states in the order of the input, zero in the padding, and the state after the last step read (of a
        row of length zero: the state it came with).

    Raises:
        BackendUnavailable: the backend named cannot run this.
        ValueError: shapes that do not fit.

    Source: Sak, Senior & Beaufays 2014, section 2, without peepholes and without a second projection that the
    recurrence does not read.
    """
    check_input(x, state, weights.w_ih.shape[1], lengths, resets)
    chosen = choose_backend("projected_lstm", backend, x, resets, noise)
    if x.shape[0] * x.shape[1] == 0:
        return run_nothing(x, weights.w_hr.shape[0], state, weights)
    if chosen == "cpu":
        output, (last,) = run_compiled("projected_lstm", x, [Direction(state, weights, resets, noise, reverse)], lengths)
        return output, last
    return projected_lstm_reference(x, state, weights, lengths=lengths, resets=resets, reverse=reverse, noise=noise)
