"""Equations of the units of elementwise scans, as functions of gates: the oracle of units.h.

A unit's state is one number; what it reads of the state before is only its own. Most are linear in it, c' = a c + b.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch.nn.functional import linear, logsigmoid

from recurra.shapes import Float, Tensor

__all__ = ["UNITS", "ScanWeights", "Unit", "gates_of", "positive"]


class ScanWeights(NamedTuple):
    """Weights of an elementwise scan.

    Attributes:
        w_ih: (G*H, F) weights of the input, gate after gate.
        b_ih: (G*H,) biases of the gates.
        parameters: (K, H) numbers of each unit beside its gates; None for none.
    """

    w_ih: Float[Tensor, "GH F"]
    b_ih: Float[Tensor, " GH"]
    parameters: Float[Tensor, "K H"] | None = None


class Unit(NamedTuple):
    """One kind of unit.

    Attributes:
        number: its place in the compiled kernels.
        gates: what it reads of each step, G.
        parameters: what it reads at all steps, K.
        coefficients: `(*gates, *parameters) -> (a, b)` of a unit that is linear in its state; else None.
        step: `(*gates, *parameters, state) -> state` of one that is not; else None.
        output: `(*gates, state) -> output`; None when the state is the output.
        reads_input: the last gate may be the input itself, where that has H features.
        keeps_gates: the compiled way back reads the gates' products.
    """

    number: int
    gates: int
    parameters: int = 0
    coefficients: Callable[..., tuple[Tensor, Tensor]] | None = None
    step: Callable[..., Tensor] | None = None
    output: Callable[..., Tensor] | None = None
    reads_input: bool = False
    keeps_gates: bool = True

    def after(self, gates: Sequence[Tensor], parameters: Sequence[Tensor], state: Tensor) -> Tensor:
        """The state after one step."""
        if self.step is not None:
            return self.step(*gates, *parameters, state)
        assert self.coefficients is not None
        a, b = self.coefficients(*gates, *parameters)
        return a * state + b


def gates_of(unit: Unit, x: Tensor, weights: ScanWeights, hidden_size: int) -> list[Tensor]:
    """All gates of a unit, (..., H) each."""
    gates = list(torch.split(linear(x, weights.w_ih, weights.b_ih), hidden_size, -1))
    return [*gates, x] if len(gates) < unit.gates else gates


def positive(x: Tensor) -> Tensor:
    """g(x) = x + 1/2 from zero on, sigmoid(x) below. Source: Feng et al. 2024, appendix B."""
    return torch.where(x >= 0, x + 0.5, x.sigmoid())


def _min_gru(update: Tensor, candidate: Tensor) -> tuple[Tensor, Tensor]:
    z = update.sigmoid()
    return 1 - z, z * positive(candidate)


def _min_lstm(forget: Tensor, let_in: Tensor, candidate: Tensor) -> tuple[Tensor, Tensor]:
    # f / (f + i) as one sigmoid: neither gate can vanish below the fraction line.
    share = (logsigmoid(forget) - logsigmoid(let_in)).sigmoid()
    return share, (1 - share) * positive(candidate)


def _sru(candidate: Tensor, forget: Tensor, _reset: Tensor, _highway: Tensor) -> tuple[Tensor, Tensor]:
    f = forget.sigmoid()
    return f, (1 - f) * candidate


def _sru_output(_candidate: Tensor, _forget: Tensor, reset: Tensor, highway: Tensor, state: Tensor) -> Tensor:
    r = reset.sigmoid()
    return r * state.tanh() + (1 - r) * highway


def _qrnn(candidate: Tensor, forget: Tensor, _output: Tensor) -> tuple[Tensor, Tensor]:
    f = forget.sigmoid()
    return f, (1 - f) * candidate.tanh()


def _qrnn_output(_candidate: Tensor, _forget: Tensor, output: Tensor, state: Tensor) -> Tensor:
    return output.sigmoid() * state


def _rg_lru(recurrence: Tensor, let_in: Tensor, candidate: Tensor, log_a: Tensor) -> tuple[Tensor, Tensor]:
    log_decay = log_a * recurrence.sigmoid()
    # The root's slope at zero is infinite; the least number above it keeps gradients finite where nothing decays.
    rest = (-torch.expm1(2 * log_decay)).clamp_min(torch.finfo(log_decay.dtype).tiny)
    return log_decay.exp(), rest.sqrt() * let_in.sigmoid() * candidate


def _indrnn_tanh(x: Tensor, weight: Tensor, state: Tensor) -> Tensor:
    return (x + weight * state).tanh()


def _indrnn_relu(x: Tensor, weight: Tensor, state: Tensor) -> Tensor:
    return (x + weight * state).relu()


UNITS: dict[str, Unit] = {
    "min_gru": Unit(1, 2, coefficients=_min_gru),
    "min_lstm": Unit(2, 3, coefficients=_min_lstm),
    "sru": Unit(3, 4, coefficients=_sru, output=_sru_output, reads_input=True),
    "qrnn": Unit(4, 3, coefficients=_qrnn, output=_qrnn_output),
    "rg_lru": Unit(5, 3, parameters=1, coefficients=_rg_lru, reads_input=True),
    "indrnn_tanh": Unit(6, 1, parameters=1, step=_indrnn_tanh, keeps_gates=False),
    "indrnn_relu": Unit(7, 1, parameters=1, step=_indrnn_relu, keeps_gates=False),
}
"""The units by name. What their gates mean is said by the cells that are made of them."""
