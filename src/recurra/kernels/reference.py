"""A compiled call computed by the reference recurrences instead: for second derivatives, and for comparison."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch.nn.functional import pad

from recurra.kernels.compiled import Arguments
from recurra.kernels.elman.reference import elman_reference
from recurra.kernels.gru.reference import gru_reference
from recurra.kernels.gru_reset_before.reference import gru_reset_before_reference
from recurra.kernels.layernorm_gru.reference import LayerNormGRUWeights, layernorm_gru_reference
from recurra.kernels.layernorm_lstm.reference import LayerNormLSTMWeights, layernorm_lstm_reference
from recurra.kernels.loop import RecurrentNoise, RecurrentWeights, Resets
from recurra.kernels.lstm.reference import lstm_reference
from recurra.kernels.peephole_lstm.reference import PeepholeLSTMWeights, peephole_lstm_reference
from recurra.kernels.projected_lstm.reference import ProjectedLSTMWeights, projected_lstm_reference
from recurra.kernels.slstm.reference import slstm_reference
from recurra.kernels.state import ElmanState, GRUState, LSTMState, SLSTMState
from recurra.shapes import Tensor

__all__ = ["run_reference"]


class _Reference(NamedTuple):
    function: Callable[..., Any]
    state_type: type[Any]
    weights_type: type[Any] = RecurrentWeights


_REFERENCES = {
    "elman": _Reference(partial(elman_reference, nonlinearity="tanh"), ElmanState),
    "elman_relu": _Reference(partial(elman_reference, nonlinearity="relu"), ElmanState),
    "gru": _Reference(gru_reference, GRUState),
    "lstm": _Reference(lstm_reference, LSTMState),
    "layernorm_lstm": _Reference(layernorm_lstm_reference, LSTMState, LayerNormLSTMWeights),
    "layernorm_gru": _Reference(layernorm_gru_reference, GRUState, LayerNormGRUWeights),
    "gru_reset_before": _Reference(gru_reset_before_reference, GRUState),
    "projected_lstm": _Reference(projected_lstm_reference, LSTMState, ProjectedLSTMWeights),
    "peephole_lstm": _Reference(peephole_lstm_reference, LSTMState, PeepholeLSTMWeights),
    "slstm": _Reference(slstm_reference, SLSTMState),
}


def run_reference(given: Arguments) -> tuple[Tensor, Tensor]:
    """Outputs (B, T, D*P) and states after the last step (D*fields, B, widest field), by plain PyTorch."""
    reference, signature, widest = _REFERENCES[given.operation], given.signature, given.sizes.widest
    outputs: list[Tensor] = []
    last: list[Tensor] = []
    for number, reverse in enumerate(given.reverse):

        def mine(tensors: Sequence[Any], count: int, number: int = number) -> Sequence[Any]:
            return tensors[number * count : (number + 1) * count]

        reset_state = mine(given.reset_states, signature.fields)
        resets = Resets(given.resets[number], reference.state_type(*reset_state)) if given.resets else None
        # One of the two is empty.
        zones: tuple[Tensor | float, ...] = (*mine(given.zones, signature.zones), *mine(given.zone_rates, signature.zones))
        output, state = reference.function(
            given.x,
            reference.state_type(*mine(given.states, signature.fields)),
            reference.weights_type(*mine(given.weights, signature.weights)),
            lengths=given.lengths,
            resets=resets,
            reverse=reverse,
            noise=RecurrentNoise(given.dropouts[number] if given.dropouts else None, zones),
        )
        outputs.append(output)
        last.extend(pad(field, (0, widest - field.shape[1])) for field in state)
    return torch.cat(outputs, 2), torch.stack(last)
