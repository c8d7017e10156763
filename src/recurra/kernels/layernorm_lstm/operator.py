"""The layer-normalized LSTM over whole sequences: checks, and dispatches to a backend."""

from __future__ import annotations

from recurra.kernels.directions import Direction, run_compiled
from recurra.kernels.dispatch import check_input, choose_backend, run_nothing
from recurra.kernels.layernorm_lstm.reference import LayerNormLSTMWeights, layernorm_lstm_reference
from recurra.kernels.loop import RecurrentNoise, Resets
from recurra.kernels.state import LSTMState
from recurra.shapes import Float, Int, Tensor

__all__ = ["layernorm_lstm_recurrence"]


def layernorm_lstm_recurrence(
    x: Float[Tensor, "B T F"],
    state: LSTMState,
    weights: LayerNormLSTMWeights,
    *,
    lengths: Int[Tensor, " B"] | None = None,
    resets: Resets | None = None,
    reverse: bool = False,
    noise: RecurrentNoise | None = None,
    backend: str = "auto",
) -> tuple[Float[Tensor, "B T H"], LSTMState]:
    """Layer-normalized long short-term memory, over all steps of all rows.

        i, f, g, o = split(LN(W_ih x; gain_ih, b_ih) + LN(W_hh h; gain_hh, b_hh))
        c' = sigmoid(f) c + sigmoid(i) tanh(g)
        h' = sigmoid(o) tanh(LN(c'; gain_c, bias_c))

    Each LN takes its mean and variance over the whole vector, all four gates of a product as one; see `normalize`.
    So the scale of W_ih, of W_hh and of the input means nothing (but for `EPSILON`): the gains have it.

    Args:
        x: inputs; what stands beyond a row's length means nothing (NaN included).
        state: the state before the first step read; `c` as it is remembered, not normalized.
        weights: in torch's gate order i, f, g, o.
        lengths: real steps of each row, on any device, unsorted, 0 allowed; None when all are real.
        resets: where inside the sequences the state starts anew.
        reverse: read each row from its own last real step to its first.
        noise: recurrent dropout, and zoneout of h and c.
        backend: "auto", or a name of `BACKENDS`.

    Returns:
        Hidden states in the order of the input, zero in the padding, and the state after the last step read (of a
        row of length zero: the state it came with).

    Raises:
        BackendUnavailable: the backend named cannot run this.
        ValueError: shapes that do not fit.

    Source: Ba et al. 2016, supplementary material, the LSTM. There a third bias stands beside the two LNs': it is in
    their sum here.
    """
    check_input(x, state, weights.w_ih.shape[1], lengths, resets)
    chosen = choose_backend("layernorm_lstm", backend, x, resets, noise)
    if x.shape[0] * x.shape[1] == 0:
        return run_nothing(x, weights.w_hh.shape[1], state, weights)
    if chosen == "cpu":
        output, (last,) = run_compiled("layernorm_lstm", x, [Direction(state, weights, resets, noise, reverse)], lengths)
        return output, last
    if chosen == "triton":
        from recurra.kernels.layernorm_lstm.triton import layernorm_lstm_triton

        return layernorm_lstm_triton(x, state, weights, lengths=lengths, resets=resets, reverse=reverse, noise=noise)
    return layernorm_lstm_reference(x, state, weights, lengths=lengths, resets=resets, reverse=reverse, noise=noise)
