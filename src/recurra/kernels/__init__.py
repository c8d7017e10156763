"""Recurrences over whole sequences as functions of tensors: one folder an operation, one file a backend.

No modules and no parameters here; those are cells.
"""

from __future__ import annotations

from recurra.kernels.backend import BACKENDS, Choice, Needs, choose
from recurra.kernels.elman.operator import elman_recurrence
from recurra.kernels.gru.operator import gru_recurrence
from recurra.kernels.loop import RecurrentNoise, RecurrentWeights, Resets, run_loop
from recurra.kernels.lstm.operator import lstm_recurrence
from recurra.kernels.state import ElmanState, GRUState, LSTMState

__all__ = [
    "BACKENDS",
    "Choice",
    "ElmanState",
    "GRUState",
    "LSTMState",
    "Needs",
    "RecurrentNoise",
    "RecurrentWeights",
    "Resets",
    "choose",
    "elman_recurrence",
    "gru_recurrence",
    "lstm_recurrence",
    "run_loop",
]
