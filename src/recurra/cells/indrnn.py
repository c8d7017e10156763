"""The independently recurrent neural network."""

from __future__ import annotations

import torch
from torch import nn

from recurra.cells.initialization import Initialization
from recurra.cells.scan import ScanCell
from recurra.errors import SettingsError, nearest
from recurra.shapes import Tensor

__all__ = ["IndRNNCell"]

NONLINEARITIES = ("relu", "tanh")


class IndRNNCell(ScanCell):
    """The independently recurrent neural network: Elman's network whose recurrent matrix is diagonal.

        h' = act(W x + u * h + b)

    Parameters: H(F + 2). A step of a row: 2HF floating-point operations in the products, about 3H beside them.

    The relu passes growth on: over T steps a unit grows by up to u^T. So u starts uniform from 0 to 2^(1/T), which at most
    doubles a unit over the `horizon` T. The paper also cuts u off at this bound after each step of training; that is left to
    the training (`recurrent_bound`).

    What differs from torch.nn.RNN: a vector in place of the recurrent matrix, one bias. The recurrence is not linear, so there
    is no parallel scan of it: without the compiled kernels it is a Python loop.

    Args:
        input_size: F.
        hidden_size: H.
        nonlinearity: "relu" or "tanh".
        horizon: T, steps over which a unit may double at the start.
        initialization: see `ScanCell`; the recurrent weights start as above in every scheme.
        backend: see `ScanCell`.

    Attributes:
        weight_hh: (H,) u.

    Raises:
        SettingsError: another nonlinearity, or a horizon under one step.

    Source: Li et al. 2018, section 3.
    """

    unit: str = "indrnn_relu"

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        nonlinearity: str = "relu",
        horizon: int = 1000,
        initialization: Initialization | None = None,
        backend: str = "auto",
    ) -> None:
        if nonlinearity not in NONLINEARITIES:
            raise SettingsError(
                f"There is no nonlinearity {nonlinearity!r}: use {' or '.join(NONLINEARITIES)}.{nearest(nonlinearity, NONLINEARITIES)}"
            )
        if horizon < 1:
            raise SettingsError(f"horizon must be 1 or more steps, not {horizon}.")
        # Before the base class makes and draws the weights.
        self.unit = f"indrnn_{nonlinearity}"
        self.horizon = horizon
        super().__init__(input_size, hidden_size, initialization=initialization, backend=backend)

    @property
    def recurrent_bound(self) -> float:
        """2^(1/T): what the magnitude of the recurrent weights starts under."""
        return float(2.0 ** (1.0 / self.horizon))

    def _add_parameters(self) -> None:
        self.weight_hh = nn.Parameter(torch.empty(self.hidden_size))

    def _parameters_of_units(self) -> Tensor:
        return self.weight_hh[None]

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Draw the weights anew, as `initialization` says, and the recurrent ones as the paper says."""
        super().reset_parameters()
        self.weight_hh.uniform_(0.0, self.recurrent_bound)
