"""A compiled call computed by the reference recurrences instead: for second derivatives, and for comparison."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from recurra.kernels.compiled import FIELDS, Arguments
from recurra.kernels.elman.reference import elman_reference
from recurra.kernels.gru.reference import gru_reference
from recurra.kernels.loop import RecurrentNoise, RecurrentWeights, Resets
from recurra.kernels.lstm.reference import lstm_reference
from recurra.kernels.state import ElmanState, GRUState, LSTMState
from recurra.shapes import Tensor

__all__ = ["run_reference"]

_REFERENCES: dict[str, tuple[Callable[..., Any], type[Any]]] = {
    "elman": (partial(elman_reference, nonlinearity="tanh"), ElmanState),
    "elman_relu": (partial(elman_reference, nonlinearity="relu"), ElmanState),
    "gru": (gru_reference, GRUState),
    "lstm": (lstm_reference, LSTMState),
}


def run_reference(given: Arguments) -> tuple[Tensor, Tensor]:
    """Outputs (B, T, D*H) and states after the last step (D*fields, B, H), by plain PyTorch."""
    function, state_type = _REFERENCES[given.operation]
    fields = FIELDS[given.operation]
    outputs, last = [], []
    for number, reverse in enumerate(given.reverse):
        mine = slice(number * fields, (number + 1) * fields)
        resets = Resets(given.resets[number], state_type(*given.reset_states[mine])) if given.resets else None
        zones: tuple[Tensor | float, ...] = (*given.zones[mine], *given.zone_rates[mine])  # one of the two is empty
        noise = RecurrentNoise(given.dropouts[number] if given.dropouts else None, zones)
        output, state = function(
            given.x,
            state_type(*given.states[mine]),
            RecurrentWeights(*given.weights[4 * number : 4 * number + 4]),
            lengths=given.lengths,
            resets=resets,
            reverse=reverse,
            noise=noise,
        )
        outputs.append(output)
        last.extend(state)
    return torch.cat(outputs, 2), torch.stack(last)
