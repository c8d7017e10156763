"""The LSTM with peepholes over whole sequences: checks, and dispatches to a backend."""

from __future__ import annotations

from recurra.kernels.directions import Direction, run_compiled
from recurra.kernels.dispatch import check_input, choose_backend, run_nothing
from recurra.kernels.loop import RecurrentNoise, Resets
from recurra.kernels.peephole_lstm.reference import PeepholeLSTMWeights, peephole_lstm_reference
from recurra.kernels.state import LSTMState
from recurra.shapes import Float, Int, Tensor

__all__ = ["peephole_lstm_recurrence"]


def peephole_lstm_recurrence(
    x: Float[Tensor, "B T F"],
    state: LSTMState,
    weights: PeepholeLSTMWeights,
    *,
    lengths: Int[Tensor, " B"] | None = None,
    resets: Resets | None = None,
    reverse: bool = False,
    noise: RecurrentNoise | None = None,
    backend: str = "auto",
) -> tuple[Float[Tensor, "B T H"], LSTMState]:
    """Long short-term memory whose gates see the memory cells, over all steps of all rows.

        i, f, g, o = split(W_ih x + b_ih + W_hh h + b_hh)
        c' = sigmoid(f + w_cf c) c + sigmoid(i + w_ci c) tanh(g)
        h' = sigmoid(o + w_co c') tanh(c')

    A peephole is one number a unit: a gate sees its own cell. The output gate sees the new one.

    Args:
        x: inputs; what stands beyond a row's length means nothing (NaN included).
        state: the state before the first step read.
        weights: in torch's gate order i, f, g, o.
        lengths: real steps of each row, on any device, unsorted, 0 allowed; None when all are real.
        resets: where inside the sequences the state starts anew.
        reverse: read each row from its own last real step to its first.
        noise: recurrent dropout of h (the peepholes read c as it is), and zoneout of h and c.
        backend: "auto", or a name of `BACKENDS`.

    Returns:
        Hidden states in the order of the input, zero in the padding, and the state after the last step read (of a
        row of length zero: the state it came with).

    Raises:
        BackendUnavailable: the backend named cannot run this.
        ValueError: shapes that do not fit.

    Source: Graves 2013, equations 7 to 11, after Gers & Schmidhuber 2000; torch.nn.LSTM's two biases.
    """
    check_input(x, state, weights.w_ih.shape[1], lengths, resets)
    chosen = choose_backend("peephole_lstm", backend, x, resets, noise)
    if x.shape[0] * x.shape[1] == 0:
        return run_nothing(x, weights.w_hh.shape[1], state, weights)
    if chosen == "cpu":
        output, (last,) = run_compiled("peephole_lstm", x, [Direction(state, weights, resets, noise, reverse)], lengths)
        return output, last
    return peephole_lstm_reference(x, state, weights, lengths=lengths, resets=resets, reverse=reverse, noise=noise)
