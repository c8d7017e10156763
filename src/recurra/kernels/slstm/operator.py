"""The sLSTM over whole sequences: checks, and dispatches to a backend."""

from __future__ import annotations

from recurra.kernels.directions import Direction, run_compiled
from recurra.kernels.dispatch import check_input, choose_backend, run_nothing
from recurra.kernels.loop import RecurrentNoise, RecurrentWeights, Resets
from recurra.kernels.slstm.reference import slstm_reference
from recurra.kernels.state import SLSTMState
from recurra.shapes import Float, Int, Tensor

__all__ = ["slstm_recurrence"]


def slstm_recurrence(
    x: Float[Tensor, "B T F"],
    state: SLSTMState,
    weights: RecurrentWeights,
    *,
    lengths: Int[Tensor, " B"] | None = None,
    resets: Resets | None = None,
    reverse: bool = False,
    noise: RecurrentNoise | None = None,
    backend: str = "auto",
) -> tuple[Float[Tensor, "B T H"], SLSTMState]:
    """Long short-term memory with an exponential input gate, over all steps of all rows.

        i, f, g, o = split(W_ih x + b_ih + W_hh h + b_hh)
        C' = sigmoid(f) C + exp(i) tanh(g)
        N' = sigmoid(f) N + exp(i)
        h' = sigmoid(o) C' / N'

    W_hh is block-diagonal: the units stand in H/D heads of D, and row j of each gate's block has the D weights of the
    units in j's own head. With D = H every unit reads every other.

    exp(i) overflows, so the memory C, N is kept as C = c e^m, N = n e^m with the stabilizer m:

        m' = max(log sigmoid(f) + m, i)
        c' = exp(log sigmoid(f) + m - m') c + exp(i - m') tanh(g)
        n' = exp(log sigmoid(f) + m - m') n + exp(i - m')

    A memory with n = 0 is empty, whatever its m: the first step has m' = i. So n' is 1 or more, and h' is between -1 and 1
    for any input.

    Args:
        x: inputs; what stands beyond a row's length means nothing (NaN included).
        state: the state before the first step read.
        weights: in the gate order i, f, g, o; `w_hh` (4*H, D), so that its shape tells the heads.
        lengths: real steps of each row, on any device, unsorted, 0 allowed; None when all are real.
        resets: where inside the sequences the state starts anew.
        reverse: read each row from its own last real step to its first.
        noise: recurrent dropout, and zoneout of h and of the memory, two rates or masks: c, n and m are one value in three
            parts and are kept or replaced together. In evaluation C and N move by the expectation.
        backend: "auto", or a name of `BACKENDS`.

    Returns:
        Hidden states in the order of the input, zero in the padding, and the state after the last step read (of a
        row of length zero: the state it came with).

    Raises:
        BackendUnavailable: the backend named cannot run this.
        ValueError: shapes that do not fit.

    Source: Beck et al. 2024, equations 8 to 17. The paper allows the sigmoid or the exponential as forget gate; this is the
    sigmoid, which the authors' published code computes: a memory that cannot grow by itself, and a gate that means what
    the LSTM's means.
    """
    check_input(x, state, weights.w_ih.shape[1], lengths, resets)
    chosen = choose_backend("slstm", backend, x, resets, noise)
    if x.shape[0] * x.shape[1] == 0:
        return run_nothing(x, len(weights.b_hh) // 4, state, weights)
    if chosen == "cpu":
        output, (last,) = run_compiled("slstm", x, [Direction(state, weights, resets, noise, reverse)], lengths)
        return output, last
    if chosen == "triton":
        from recurra.kernels.slstm.triton import slstm_triton

        return slstm_triton(x, state, weights, lengths=lengths, resets=resets, reverse=reverse, noise=noise)
    return slstm_reference(x, state, weights, lengths=lengths, resets=resets, reverse=reverse, noise=noise)
