"""The recurrence as a Python loop over single steps: what every reference kernel and every user's cell runs on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import torch

from recurra.kernels.lengths import real_steps
from recurra.kernels.state import map_state, where_rows
from recurra.shapes import Bool, Float, Int, Tensor

__all__ = ["RecurrentNoise", "RecurrentWeights", "Resets", "run_loop"]

S = TypeVar("S", bound=tuple[Any, ...])


class RecurrentWeights(NamedTuple):
    """Weights of one layer and direction, in torch's gate order and torch's order of arguments.

    Attributes:
        w_ih: (G*H, F) weights of the input.
        w_hh: (G*H, H) weights of the hidden state.
        b_ih: (G*H,) biases beside the input's product.
        b_hh: (G*H,) biases beside the hidden state's product.
    """

    w_ih: Float[Tensor, "GH F"]
    w_hh: Float[Tensor, "GH H"]
    b_ih: Float[Tensor, " GH"]
    b_hh: Float[Tensor, " GH"]


class RecurrentNoise(NamedTuple):
    """Noise inside the recurrence, drawn by the caller.

    Attributes:
        dropout: (B, H) factors of the hidden state that the recurrent product reads, the same at all steps
            (Gal & Ghahramani 2016); None for none.
        zoneout: for every field of the state the share of its previous value that is kept: (B, T, H), in training true
            where it is kept (or zeros and ones), the rate itself in evaluation (Krueger et al. 2016). Empty for none.
    """

    dropout: Float[Tensor, "B H"] | None = None
    zoneout: tuple[Float[Tensor, "B T H"] | Bool[Tensor, "B T H"] | float, ...] = ()


class Resets(NamedTuple):
    """Where inside the sequences the state starts anew.

    Attributes:
        where: (B, T) true where the state is replaced before the step is read.
        state: what it is replaced with.
    """

    where: Bool[Tensor, "B T"]
    state: Any


def run_loop(
    step: Callable[[Tensor, S], tuple[Tensor, S]],
    x: Float[Tensor, "B T F"],
    state: S,
    *,
    lengths: Int[Tensor, " B"] | None = None,
    resets: Resets | None = None,
    reverse: bool = False,
    zoneout: tuple[Tensor | float, ...] = (),
) -> tuple[Float[Tensor, "B T D"], S]:
    """`step` over all steps, with padding, resets and zoneout handled here once.

    Rows stand still in their padding: the state is kept and the output is zero, so that reading from the last step to
    the first (`reverse`) begins at each row's own last real step. What stands in the padding is replaced by zeros before
    `step` sees it, because zero times NaN is NaN in a gradient.

    Args:
        step: `(x_t (B, F), state) -> (output_t (B, D), state)`.
        x: the steps; at least one.
        state: the state before the first step read.
        lengths: real steps of each row; None when all are real.
        resets: where the state starts anew.
        reverse: read from the last step to the first.
        zoneout: see `RecurrentNoise`. The output of a step is then the state's first field, after zoneout.

    Returns:
        Outputs in the order of the input, and the state after the last step read.
    """
    mask = None if lengths is None else real_steps(lengths.to(x.device), x.shape[1])
    if mask is not None:
        x = x.masked_fill(~mask[..., None], 0.0)
    if resets is not None:
        where = resets.where if mask is None else resets.where & mask
    inputs = x.unbind(1)
    outputs: list[Tensor] = [x] * len(inputs)
    for t in reversed(range(len(inputs))) if reverse else range(len(inputs)):
        if resets is not None:
            state = where_rows(where[:, t], resets.state, state)
        output, new = step(inputs[t], state)
        if zoneout:
            new = _zone_out(state, new, tuple(rate if isinstance(rate, float) else rate[:, t] for rate in zoneout))
            output = new[0]
        if mask is not None:
            output = output.masked_fill(~mask[:, t].view(-1, *(1,) * (output.ndim - 1)), 0.0)
            new = where_rows(mask[:, t], new, state)
        outputs[t], state = output, new
    return torch.stack(outputs, 1), state


def _zone_out(old: S, new: S, rates: tuple[Tensor | float, ...]) -> S:
    """Every field moves from its new value back to its old one by its rate. Source: Krueger et al. 2016, section 3.2."""
    rate_of = iter(rates)
    return map_state(lambda before, after: after + next(rate_of) * (before - after), old, new)
