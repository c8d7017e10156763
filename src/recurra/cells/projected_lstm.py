"""Long short-term memory with a projected hidden state."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import nn

from recurra.cells.initialization import Initialization
from recurra.cells.standard import StandardCell
from recurra.errors import SettingsError
from recurra.kernels.projected_lstm.operator import projected_lstm_recurrence
from recurra.kernels.projected_lstm.reference import ProjectedLSTMWeights
from recurra.kernels.state import LSTMState
from recurra.shapes import Tensor

__all__ = ["ProjectedLSTMCell"]


class ProjectedLSTMCell(StandardCell):
    """Long short-term memory that puts out, and reads back, P numbers made of its H units (torch.nn.LSTM(proj_size=P)).

    See `projected_lstm_recurrence` for the equations. Much memory at the price of few recurrent weights: H may be large
    where P is small. Names, shapes and values are torch's. It has no name in `CELLS`, because there is no good P for
    every H; in a stack it is `Stack(partial(ProjectedLSTMCell, proj_size=P), ...)`.

    Parameters: 4H(F + P + 2) + PH. A step of a row: 8H(F + P) + 2PH floating-point operations in its products.

    Args:
        input_size: F.
        hidden_size: H, units, and width of the memory `c`.
        proj_size: P, width of the hidden state `h` and of the output; from 1 to H - 1.
        recurrent_dropout: see `StandardCell`; of the P numbers.
        weight_dropout: see `StandardCell`; the projection keeps its weights.
        zoneout: see `StandardCell`; of `h` behind the projection, and of `c`.
        initialization: see `StandardCell`; with the scheme "orthogonal" the projection's rows are orthonormal.
        backend: see `StandardCell`.

    Attributes:
        output_size: P.
        weight_hh: (4*H, P).
        weight_hr: (P, H) the projection.

    Raises:
        SettingsError: proj_size is out of range.

    Source: Sak, Senior & Beaufays 2014, section 2.
    """

    state_type: ClassVar[type[Any]] = LSTMState
    operation: ClassVar[str] = "projected_lstm"
    recurrence: ClassVar[Callable[..., tuple[Tensor, Any]]] = projected_lstm_recurrence
    gates: ClassVar[int] = 4
    forget_gate: ClassVar[int | None] = 1

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        proj_size: int,
        recurrent_dropout: float = 0.0,
        weight_dropout: float = 0.0,
        zoneout: float = 0.0,
        initialization: Initialization | None = None,
        backend: str = "auto",
    ) -> None:
        if not 1 <= proj_size < hidden_size:
            raise SettingsError(f"proj_size must be from 1 to under hidden_size, which is {hidden_size}, not {proj_size}.")
        self.proj_size = proj_size  # before the base class makes the weights, whose shapes it decides
        super().__init__(
            input_size,
            hidden_size,
            recurrent_dropout=recurrent_dropout,
            weight_dropout=weight_dropout,
            zoneout=zoneout,
            initialization=initialization,
            backend=backend,
        )
        self.output_size = proj_size

    def _add_weights(self) -> None:
        super()._add_weights()
        self.weight_hr = nn.Parameter(torch.empty(self.proj_size, self.hidden_size))

    def _state_sizes(self) -> dict[str, int]:
        return {"h": self.proj_size, "c": self.hidden_size}

    def reset_parameters(self) -> None:
        """Draw the weights anew, as `initialization` says."""
        super().reset_parameters()
        bound = 1.0 / math.sqrt(self.hidden_size)
        if self.initialization.scheme == "torch":
            nn.init.uniform_(self.weight_hr, -bound, bound)
        else:
            nn.init.orthogonal_(self.weight_hr)

    def _weights(self, weight_hh: Tensor) -> ProjectedLSTMWeights:
        return ProjectedLSTMWeights(self.weight_ih, weight_hh, self.bias_ih, self.bias_hh, self.weight_hr)

    def extra_repr(self) -> str:
        """Sizes, and the options that are not at their default."""
        return f"{super().extra_repr()}, proj_size={self.proj_size}"
