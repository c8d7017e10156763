"""Recurrences over whole sequences as functions of tensors: one folder an operation, one file a backend.

No modules and no parameters here; those are cells.
"""

from __future__ import annotations

from recurra.kernels.backend import BACKENDS, Choice, Needs, choose
from recurra.kernels.elementwise_scan.operator import elementwise_scan_recurrence
from recurra.kernels.elementwise_scan.units import UNITS, ScanWeights
from recurra.kernels.elman.operator import elman_recurrence
from recurra.kernels.gru.operator import gru_recurrence
from recurra.kernels.gru_reset_before.operator import gru_reset_before_recurrence
from recurra.kernels.layernorm_gru.operator import layernorm_gru_recurrence
from recurra.kernels.layernorm_gru.reference import LayerNormGRUWeights
from recurra.kernels.layernorm_lstm.operator import layernorm_lstm_recurrence
from recurra.kernels.layernorm_lstm.reference import LayerNormLSTMWeights
from recurra.kernels.linear_scan.operator import linear_scan_recurrence
from recurra.kernels.loop import RecurrentNoise, RecurrentWeights, Resets, run_loop
from recurra.kernels.lstm.operator import lstm_recurrence
from recurra.kernels.peephole_lstm.operator import peephole_lstm_recurrence
from recurra.kernels.peephole_lstm.reference import PeepholeLSTMWeights
from recurra.kernels.projected_lstm.operator import projected_lstm_recurrence
from recurra.kernels.projected_lstm.reference import ProjectedLSTMWeights
from recurra.kernels.slstm.operator import slstm_recurrence
from recurra.kernels.state import ElmanState, GRUState, LSTMState, MemoryState, QRNNState, ScanState, SLSTMState

__all__ = [
    "BACKENDS",
    "UNITS",
    "Choice",
    "ElmanState",
    "GRUState",
    "LSTMState",
    "LayerNormGRUWeights",
    "LayerNormLSTMWeights",
    "MemoryState",
    "Needs",
    "PeepholeLSTMWeights",
    "ProjectedLSTMWeights",
    "QRNNState",
    "RecurrentNoise",
    "RecurrentWeights",
    "Resets",
    "SLSTMState",
    "ScanState",
    "ScanWeights",
    "choose",
    "elementwise_scan_recurrence",
    "elman_recurrence",
    "gru_recurrence",
    "gru_reset_before_recurrence",
    "layernorm_gru_recurrence",
    "layernorm_lstm_recurrence",
    "linear_scan_recurrence",
    "lstm_recurrence",
    "peephole_lstm_recurrence",
    "projected_lstm_recurrence",
    "run_loop",
    "slstm_recurrence",
]
