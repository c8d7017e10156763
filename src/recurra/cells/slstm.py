"""The sLSTM: long short-term memory with an exponential input gate."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import torch

from recurra.cells.initialization import Initialization
from recurra.cells.standard import StandardCell
from recurra.errors import SettingsError
from recurra.kernels.slstm.operator import slstm_recurrence
from recurra.kernels.state import SLSTMState
from recurra.shapes import Tensor

__all__ = ["SLSTMCell"]


class SLSTMCell(StandardCell):
    """The sLSTM of xLSTM, without the blocks that the paper builds around it; see `slstm_recurrence` for the equations.

    What differs from torch.nn.LSTM: the input gate is an exponential, so that a step can outweigh everything before it; the
    memory is normalized by the sum of what the gates let in, not by a tanh; and units may stand in heads that read only
    themselves. The forget gate is a sigmoid. Gates stand in torch's order: input, forget, cell, output.

    Parameters: 4H(F + H/heads + 2). A step of a row: 8H(F + H/heads) floating-point operations in its products.

    Args:
        input_size: F.
        hidden_size: H.
        heads: parts of the hidden state that read only themselves; they divide H. The paper uses 4; 1 lets every unit read
            every other, as in an LSTM.
        recurrent_dropout: see `StandardCell`.
        weight_dropout: see `StandardCell`.
        zoneout: see `StandardCell`; of `h`, and of the memory, whose fields `c`, `n` and `m` are kept together.
        initialization: see `StandardCell`. A learned state is `h` and `c`, beside `n` of one and `m` of zero: as if one
            step with a gate of one had been read.
        backend: see `StandardCell`.

    Attributes:
        weight_hh: (4*H, H/heads), row by row the weights of the units in the row's own head.

    Raises:
        SettingsError: the heads do not divide the hidden units.

    Source: Beck et al. 2024, section 2.2.
    """

    state_type: ClassVar[type[Any]] = SLSTMState
    operation: ClassVar[str] = "slstm"
    recurrence: ClassVar[Callable[..., tuple[Tensor, Any]]] = slstm_recurrence
    gates: ClassVar[int] = 4
    forget_gate: ClassVar[int | None] = 1

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        heads: int = 1,
        recurrent_dropout: float = 0.0,
        weight_dropout: float = 0.0,
        zoneout: float = 0.0,
        initialization: Initialization | None = None,
        backend: str = "auto",
    ) -> None:
        if heads < 1 or hidden_size % heads:
            raise SettingsError(f"heads must divide hidden_size, which is {hidden_size}: {heads} does not.")
        self.heads = heads  # before the base class makes the weights, whose shapes it decides
        super().__init__(
            input_size,
            hidden_size,
            recurrent_dropout=recurrent_dropout,
            weight_dropout=weight_dropout,
            zoneout=zoneout,
            initialization=initialization,
            backend=backend,
        )

    def initial_state(self, batch_size: int) -> SLSTMState:
        """The state before the first step: empty, or learned when the cell was made so."""
        state: SLSTMState = super().initial_state(batch_size)
        return state._replace(n=torch.ones_like(state.n)) if self.initialization.learn_state else state

    def _learned_sizes(self) -> dict[str, int]:
        return {"h": self.hidden_size, "c": self.hidden_size}

    def _zoned_sizes(self) -> tuple[int, ...]:
        return (self.hidden_size, self.hidden_size)

    def extra_repr(self) -> str:
        """Sizes, and the options that are not at their default."""
        return super().extra_repr() + (f", heads={self.heads}" if self.heads > 1 else "")
