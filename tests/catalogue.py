"""How to build every kernel, cell, layer, feature and head, once: the contracts run over these dictionaries.

What a package exports and the catalogue lacks fails `tests/contracts/test_catalogue.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from recurra.cells import CELLS as CELL_CLASSES
from recurra.cells import Cell, ElmanCell, ElmanReluCell, ElmanState, GRUCell, GRUState, Initialization, LSTMCell, LSTMState
from recurra.kernels import elman_recurrence, gru_recurrence, lstm_recurrence
from recurra.layers import (
    AttentionPooling,
    CharacterNgrams,
    Embedding,
    LastPooling,
    MaxMeanPooling,
    MaxPooling,
    MeanPooling,
    Regularization,
    Stack,
    StepDropout,
    TokenNgrams,
    VariationalDropout,
)

__all__ = ["CELLS", "FEATURES", "HEADS", "KERNELS", "MODULES", "POOLINGS", "STACKS", "Kernel", "LeakyCell", "Stacking"]

F, H = 3, 4
"""Features of the input and hidden units of everything built here."""


class Kernel(NamedTuple):
    """A recurrence, its gates and state, and the torch.nn layer that computes the same."""

    function: Callable[..., tuple[Tensor, Any]]
    gates: int
    state_type: type[Any]
    torch_layer: Callable[..., nn.RNNBase]
    options: dict[str, Any]


KERNELS: dict[str, Kernel] = {
    "elman": Kernel(elman_recurrence, 1, ElmanState, nn.RNN, {}),
    "elman_relu": Kernel(
        elman_recurrence, 1, ElmanState, lambda *sizes, **options: nn.RNN(*sizes, nonlinearity="relu", **options), {"nonlinearity": "relu"}
    ),
    "lstm": Kernel(lstm_recurrence, 4, LSTMState, nn.LSTM, {}),
    "gru": Kernel(gru_recurrence, 3, GRUState, nn.GRU, {}),
}


class LeakyCell(Cell):
    """A user's cell: what the documentation promises in 15 lines, with an output wider than its state."""

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__(input_size, hidden_size)
        self.output_size = hidden_size + 1
        self.read = nn.Linear(input_size, hidden_size)
        self.rate = nn.Parameter(torch.zeros(hidden_size))

    def step(self, x: Tensor, state: ElmanState) -> tuple[Tensor, ElmanState]:
        rate = self.rate.sigmoid()
        h = rate * state.h + (1 - rate) * self.read(x).tanh()
        return torch.cat([h, h.sum(1, keepdim=True)], 1), ElmanState(h)


LEARNED = Initialization("orthogonal", learn_state=True)

CELLS: dict[str, Callable[[], Cell]] = {
    "elman": partial(ElmanCell, F, H),
    "elman_relu": partial(ElmanReluCell, F, H),
    "lstm": partial(LSTMCell, F, H),
    "gru": partial(GRUCell, F, H),
    "a user's cell": partial(LeakyCell, F, H),
    **{f"{name}, reference": partial(make, F, H, backend="reference") for name, make in CELL_CLASSES.items()},
    **{f"{name}, zoneout": partial(make, F, H, zoneout=0.2) for name, make in CELL_CLASSES.items()},
    **{f"{name}, learned state": partial(make, F, H, initialization=LEARNED) for name, make in CELL_CLASSES.items()},
}


class Stacking(NamedTuple):
    """A stack, and what it is made of, so that contracts can change one option."""

    cell: Any
    options: dict[str, Any]

    def build(self, **changes: Any) -> Stack:
        return Stack(self.cell, F, H, **{**self.options, **changes})


STACKS: dict[str, Stacking] = {
    **{f"{name}, two layers": Stacking(name, {"layers": 2}) for name in CELL_CLASSES},
    **{f"{name}, bidirectional": Stacking(name, {"layers": 2, "bidirectional": True}) for name in CELL_CLASSES},
    "residual and normalized": Stacking("lstm", {"layers": 3, "residual": True, "layer_norm": True, "bidirectional": True}),
    "learned state": Stacking("lstm", {"initialization": Initialization("orthogonal", forget_bias=1.0, learn_state=True)}),
    "all noise": Stacking("lstm", {"layers": 2, "regularization": Regularization(0.1, 0.2, True, 0.3, 0.2, 0.1)}),
    "a user's cell": Stacking(LeakyCell, {"layers": 2, "bidirectional": True}),
}

POOLINGS: dict[str, Callable[[], nn.Module]] = {
    "last": lambda: LastPooling(H),
    "last, bidirectional": lambda: LastPooling(H, bidirectional=True),
    "mean": lambda: MeanPooling(H),
    "max": lambda: MaxPooling(H),
    "max_mean": lambda: MaxMeanPooling(H),
    "attention": lambda: AttentionPooling(H),
}

MODULES: dict[str, Callable[[], nn.Module]] = {
    "embedding": lambda: Embedding(7, F),
    "character n-grams": lambda: CharacterNgrams(["<padding>", "<unknown>", "cat", "dog"], 50, F),
    "token n-grams": lambda: TokenNgrams(2, 50, F),
    "step dropout": lambda: StepDropout(0.5),
    "variational dropout": lambda: VariationalDropout(0.5),
}
"""Layers that are none of the above."""

FEATURES: dict[str, Any] = {}

HEADS: dict[str, Any] = {}
