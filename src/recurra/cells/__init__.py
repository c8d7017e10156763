"""One recurrent unit a file: parameters, equations by reference to their kernel, state.

Layers, directions and everything around a cell is in `recurra.layers`.
"""

from __future__ import annotations

from recurra.cells.cell import Cell
from recurra.cells.elman import ElmanCell, ElmanReluCell
from recurra.cells.gru import GRUCell
from recurra.cells.initialization import Initialization
from recurra.cells.lstm import LSTMCell
from recurra.cells.standard import StandardCell
from recurra.cells.state import ElmanState, GRUState, LSTMState, clone, detach, reset, select

__all__ = [
    "CELLS",
    "Cell",
    "ElmanCell",
    "ElmanReluCell",
    "ElmanState",
    "GRUCell",
    "GRUState",
    "Initialization",
    "LSTMCell",
    "LSTMState",
    "StandardCell",
    "clone",
    "detach",
    "reset",
    "select",
]

CELLS: dict[str, type[StandardCell]] = {"elman": ElmanCell, "elman_relu": ElmanReluCell, "lstm": LSTMCell, "gru": GRUCell}
"""The built-in cells by the names that settings use."""
