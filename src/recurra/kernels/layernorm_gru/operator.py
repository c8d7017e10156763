"""The layer-normalized GRU over whole sequences: checks, and dispatches to a backend."""

from __future__ import annotations

from recurra.kernels.directions import Direction, run_compiled
from recurra.kernels.dispatch import check_input, choose_backend, run_nothing
from recurra.kernels.layernorm_gru.reference import LayerNormGRUWeights, layernorm_gru_reference
from recurra.kernels.loop import RecurrentNoise, Resets
from recurra.kernels.state import GRUState
from recurra.shapes import Float, Int, Tensor

__all__ = ["layernorm_gru_recurrence"]


def layernorm_gru_recurrence(
    x: Float[Tensor, "B T F"],
    state: GRUState,
    weights: LayerNormGRUWeights,
    *,
    lengths: Int[Tensor, " B"] | None = None,
    resets: Resets | None = None,
    reverse: bool = False,
    noise: RecurrentNoise | None = None,
    backend: str = "auto",
) -> tuple[Float[Tensor, "B T H"], GRUState]:
    """Layer-normalized gated recurrent unit, over all steps of all rows.

        r, z = split(sigmoid(LN(W_i,rz x; gain_i,rz, b_i,rz) + LN(W_h,rz h; gain_h,rz, b_h,rz)))
        n = tanh(LN(W_in x; gain_in, b_in) + r LN(W_hn h; gain_hn, b_hn))
        h' = (1 - z) n + z h

    Each LN takes its mean and variance over its whole vector: both gates as one (2H), the new values as another (H);
    see `normalize`. So the scale of these parts of W_ih and W_hh means nothing (but for `EPSILON`): the gains have it.

    Args:
        x: inputs; what stands beyond a row's length means nothing (NaN included).
        state: the state before the first step read.
        weights: in torch's gate order r, z, n.
        lengths: real steps of each row, on any device, unsorted, 0 allowed; None when all are real.
        resets: where inside the sequences the state starts anew.
        reverse: read each row from its own last real step to its first.
        noise: recurrent dropout, and zoneout of h.
        backend: "auto", or a name of `BACKENDS`.

    Returns:
        Hidden states in the order of the input, zero in the padding, and the state after the last step read (of a
        row of length zero: the state it came with).

    Raises:
        BackendUnavailable: the backend named cannot run this.
        ValueError: shapes that do not fit.

    Source: Ba et al. 2016, supplementary material, the GRU. Its z is 1 - z here, as torch.nn.GRU has it.
    """
    check_input(x, state, weights.w_ih.shape[1], lengths, resets)
    chosen = choose_backend("layernorm_gru", backend, x, resets, noise)
    if x.shape[0] * x.shape[1] == 0:
        return run_nothing(x, weights.w_hh.shape[1], state, weights)
    if chosen == "cpu":
        output, (last,) = run_compiled("layernorm_gru", x, [Direction(state, weights, resets, noise, reverse)], lengths)
        return output, last
    return layernorm_gru_reference(x, state, weights, lengths=lengths, resets=resets, reverse=reverse, noise=noise)
