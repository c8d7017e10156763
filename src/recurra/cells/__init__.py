"""One recurrent unit a file: parameters, equations by reference to their kernel, state.

Layers, directions and everything around a cell is in `recurra.layers`.
"""

from __future__ import annotations

from recurra.cells.cell import Cell
from recurra.cells.elman import ElmanCell, ElmanReluCell
from recurra.cells.gru import GRUCell
from recurra.cells.gru_reset_before import GRUResetBeforeCell
from recurra.cells.indrnn import IndRNNCell
from recurra.cells.initialization import Initialization
from recurra.cells.layernorm_gru import LayerNormGRUCell
from recurra.cells.layernorm_lstm import LayerNormLSTMCell
from recurra.cells.lstm import LSTMCell
from recurra.cells.min_gru import MinGRUCell
from recurra.cells.min_lstm import MinLSTMCell
from recurra.cells.peephole_lstm import PeepholeLSTMCell
from recurra.cells.projected_lstm import ProjectedLSTMCell
from recurra.cells.qrnn import QRNNCell
from recurra.cells.rg_lru import RGLRUCell
from recurra.cells.scan import ScanCell
from recurra.cells.slstm import SLSTMCell
from recurra.cells.sru import SRUCell
from recurra.cells.standard import StandardCell
from recurra.cells.state import ElmanState, GRUState, LSTMState, MemoryState, QRNNState, ScanState, SLSTMState, clone, detach, reset, select

__all__ = [
    "CELLS",
    "Cell",
    "ElmanCell",
    "ElmanReluCell",
    "ElmanState",
    "GRUCell",
    "GRUResetBeforeCell",
    "GRUState",
    "IndRNNCell",
    "Initialization",
    "LSTMCell",
    "LSTMState",
    "LayerNormGRUCell",
    "LayerNormLSTMCell",
    "MemoryState",
    "MinGRUCell",
    "MinLSTMCell",
    "PeepholeLSTMCell",
    "ProjectedLSTMCell",
    "QRNNCell",
    "QRNNState",
    "RGLRUCell",
    "SLSTMCell",
    "SLSTMState",
    "SRUCell",
    "ScanCell",
    "ScanState",
    "StandardCell",
    "clone",
    "detach",
    "reset",
    "select",
]

CELLS: dict[str, type[StandardCell] | type[ScanCell]] = {
    "elman": ElmanCell,
    "elman_relu": ElmanReluCell,
    "lstm": LSTMCell,
    "gru": GRUCell,
    "layernorm_lstm": LayerNormLSTMCell,
    "layernorm_gru": LayerNormGRUCell,
    "gru_reset_before": GRUResetBeforeCell,
    "peephole_lstm": PeepholeLSTMCell,
    "slstm": SLSTMCell,
    "min_gru": MinGRUCell,
    "min_lstm": MinLSTMCell,
    "sru": SRUCell,
    "qrnn": QRNNCell,
    "rg_lru": RGLRUCell,
    "indrnn": IndRNNCell,
}
"""The built-in cells by the names that settings use: those that are made of an input size and a hidden size."""
