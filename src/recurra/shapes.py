"""Dimension letters and tensor types, used in annotations and docstrings everywhere.

| letter | dimension |
| --- | --- |
| B | batch: sequences side by side |
| T | time: steps of the longest sequence of the batch |
| F | features of one step's input |
| H | hidden units |
| G | gates stacked in one weight (4 for the LSTM, 3 for the GRU, 1 for Elman's network) |
| P | width of a projected hidden state |
| L | layers of a stack |
| V | vocabulary |
| C | classes |
| N | rows of a table or of an evaluation |

Annotations are documentation at run time; the tests switch on an import hook that checks them.
"""

from __future__ import annotations

from jaxtyping import Bool, Float, Int
from torch import Tensor

__all__ = ["Bool", "Float", "Int", "Tensor"]
