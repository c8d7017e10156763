"""Elman's network over whole sequences: checks, and dispatches to a backend."""

from __future__ import annotations

from recurra.kernels.directions import Direction, run_compiled
from recurra.kernels.dispatch import check_input, choose_backend, run_nothing
from recurra.kernels.elman.aten import elman_aten
from recurra.kernels.elman.reference import elman_reference
from recurra.kernels.loop import RecurrentNoise, RecurrentWeights, Resets
from recurra.kernels.state import ElmanState
from recurra.shapes import Float, Int, Tensor

__all__ = ["elman_recurrence"]


def elman_recurrence(
    x: Float[Tensor, "B T F"],
    state: ElmanState,
    weights: RecurrentWeights,
    *,
    nonlinearity: str = "tanh",
    lengths: Int[Tensor, " B"] | None = None,
    resets: Resets | None = None,
    reverse: bool = False,
    noise: RecurrentNoise | None = None,
    backend: str = "auto",
) -> tuple[Float[Tensor, "B T H"], ElmanState]:
    """Elman's simple recurrent network, over all steps of all rows.

        h' = tanh(W_ih x + b_ih + W_hh h + b_hh)            (or relu in place of tanh)

    Args:
        x: inputs; what stands beyond a row's length means nothing (NaN included).
        state: the state before the first step read.
        weights: its one "gate" is the sum above.
        nonlinearity: "tanh" or "relu".
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

    Source: Elman 1990, figure 2; torch.nn.RNN's two biases.
    """
    check_input(x, state, weights.w_ih.shape[1], lengths, resets)
    operation = "elman" if nonlinearity == "tanh" else "elman_relu"
    chosen = choose_backend(operation, backend, x, resets, noise)
    if x.shape[0] * x.shape[1] == 0:
        return run_nothing(x, weights.w_hh.shape[1], state, weights)
    if chosen == "cpu":
        output, (last,) = run_compiled(operation, x, [Direction(state, weights, resets, noise, reverse)], lengths)
        return output, last
    if chosen == "aten":
        return elman_aten(x, state, weights, nonlinearity=nonlinearity, lengths=lengths, reverse=reverse)
    return elman_reference(x, state, weights, nonlinearity=nonlinearity, lengths=lengths, resets=resets, reverse=reverse, noise=noise)
