"""What the gates of a layer did at every step: to look at, not to train with. Slower than the layer itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch.nn.functional import linear

from recurra.kernels import GRUState, LayerNormGRUWeights, LayerNormLSTMWeights, LSTMState, RecurrentNoise, Resets
from recurra.kernels.lengths import real_steps
from recurra.kernels.normalization import normalize
from recurra.kernels.state import map_state, where_rows
from recurra.shapes import Float, Int, Tensor

__all__ = ["GRUGates", "GateRecorder", "LSTMGates", "gru_gates", "lstm_gates"]


class LSTMGates(NamedTuple):
    """One LSTM layer and direction at every step, zero in the padding; each in the form of the layer's output.

    Attributes:
        input: share of the candidate that enters the memory.
        forget: share of the memory that stays.
        candidate: what would enter the memory.
        output: share of the memory's tanh that is put out.
        memory: the memory cells after the step.
    """

    input: Any
    forget: Any
    candidate: Any
    output: Any
    memory: Any


class GRUGates(NamedTuple):
    """One GRU layer and direction at every step, zero in the padding; each in the form of the layer's output.

    Attributes:
        reset: share of the hidden state's product that the candidate reads.
        update: share of the hidden state that stays.
        candidate: what takes the rest's place.
    """

    reset: Any
    update: Any
    candidate: Any


def lstm_gates(x: Float[Tensor, "N F"], before: LSTMState, after: LSTMState, weights: Any) -> LSTMGates:
    """The equations of `lstm_recurrence`, or of `layernorm_lstm_recurrence`, up to the gates.

    Args:
        x: inputs of N steps.
        before: the state that each step reads.
        after: the state after each step.
        weights: of the layer and direction.
    """
    if isinstance(weights, LayerNormLSTMWeights):
        from_x = normalize(linear(x, weights.w_ih), weights.gain_ih, weights.b_ih)
        from_h = normalize(linear(before.h, weights.w_hh), weights.gain_hh, weights.b_hh)
    else:
        from_x, from_h = linear(x, weights.w_ih, weights.b_ih), linear(before.h, weights.w_hh, weights.b_hh)
    i, f, g, o = (from_x + from_h).chunk(4, 1)
    return LSTMGates(i.sigmoid(), f.sigmoid(), g.tanh(), o.sigmoid(), after.c)


def gru_gates(x: Float[Tensor, "N F"], before: GRUState, after: GRUState, weights: Any) -> GRUGates:  # noqa: ARG001 - as lstm_gates
    """The equations of `gru_recurrence`, or of `layernorm_gru_recurrence`, up to the gates; see `lstm_gates`."""
    if isinstance(weights, LayerNormGRUWeights):
        from_x = _normalized(linear(x, weights.w_ih), weights.gain_ih, weights.b_ih)
        from_h = _normalized(linear(before.h, weights.w_hh), weights.gain_hh, weights.b_hh)
    else:
        from_x, from_h = linear(x, weights.w_ih, weights.b_ih), linear(before.h, weights.w_hh, weights.b_hh)
    (r_x, z_x, n_x), (r_h, z_h, n_h) = from_x.chunk(3, 1), from_h.chunk(3, 1)
    r, z = (r_x + r_h).sigmoid(), (z_x + z_h).sigmoid()
    return GRUGates(r, z, (n_x + r * n_h).tanh())


def _normalized(product: Tensor, gain: Tensor, bias: Tensor) -> Tensor:
    """Both gates as one vector, the candidate as another."""
    cut = 2 * product.shape[1] // 3
    parts = (slice(cut), slice(cut, None))
    return torch.cat([normalize(product[:, part], gain[part], bias[part]) for part in parts], 1)


class GateRecorder:
    """Stands in for a recurrence: runs it step by step, and keeps what its gates were.

    Args:
        run: the recurrence, one of `recurra.kernels`.
        equations: `lstm_gates` or `gru_gates`.

    Attributes:
        found: the gates (B, T, H) of each call, in order.
    """

    def __init__(self, run: Callable[..., tuple[Tensor, Any]], equations: Callable[..., Any]) -> None:
        self.run = run
        self.equations = equations
        self.found: list[Any] = []

    def __call__(
        self,
        x: Float[Tensor, "B T F"],
        state: Any,
        weights: Any,
        *,
        lengths: Int[Tensor, " B"] | None,
        resets: Resets | None,
        reverse: bool,
        noise: RecurrentNoise | None,
        backend: str,
    ) -> tuple[Float[Tensor, "B T D"], Any]:
        """As the recurrence itself."""
        steps = range(x.shape[1])
        noise = noise or RecurrentNoise()
        outputs, gates = [x] * len(steps), [state] * len(steps)
        real = torch.ones(x.shape[:2], dtype=torch.bool, device=x.device) if lengths is None else real_steps(lengths, len(steps))
        real = real.to(x.device)
        for t in reversed(steps) if reverse else steps:
            if resets is not None:
                state = where_rows(resets.where[:, t] & real[:, t], resets.state, state)
            before = state if noise.dropout is None else state._replace(h=state.h * noise.dropout)
            zoneout = tuple(rate if isinstance(rate, float) else rate[:, t : t + 1] for rate in noise.zoneout)
            outputs[t], state = self.run(
                x[:, t : t + 1], state, weights, lengths=real[:, t].long(), noise=RecurrentNoise(noise.dropout, zoneout), backend=backend
            )
            gates[t] = self.equations(x[:, t].masked_fill(~real[:, t, None], 0.0), before, state, weights)
        self.found.append(map_state(lambda *fields: torch.stack(fields, 1).masked_fill(~real[..., None], 0.0), *gates))
        return torch.cat(outputs, 1), state
