"""What the built-in cells share: torch's four weights, their start, the noise inside the recurrence, the kernel's choice."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import nn

from recurra.cells.cell import Cell
from recurra.cells.initialization import Initialization, initialize
from recurra.cells.noise import check_rate, draw_noise, drop_weights
from recurra.errors import SettingsError
from recurra.kernels.backend import Choice, Needs, choose
from recurra.kernels.loop import RecurrentNoise, RecurrentWeights, Resets
from recurra.shapes import Bool, Float, Int, Tensor

__all__ = ["StandardCell"]


class StandardCell(Cell):
    """A cell whose recurrence is one of `recurra.kernels`. Abstract: a cell names its operation and calls it in `_run`.

    Weights have the names of torch.nn.LSTMCell, GRUCell and RNNCell, whose state_dicts load as they are.
    Noise obeys `.train()` and `.eval()` and is drawn anew at each call, also at each call of `step`.

    Args:
        input_size: F.
        hidden_size: H.
        recurrent_dropout: share of the hidden state that is zero where the recurrent product reads it, the same units
            at all steps of a row (Gal & Ghahramani 2016).
        weight_dropout: share of the recurrent weights that is zero in a call (Merity et al. 2017).
        zoneout: share of the units that keep their previous state at a step (Krueger et al. 2016).
        initialization: how the weights and the state start.
        backend: what computes the recurrence: "auto", or a name that runs or raises.

    Attributes:
        weight_ih: (G*H, F).
        weight_hh: (G*H, H).
        bias_ih: (G*H,).
        bias_hh: (G*H,).
        initial_h: (H,) start of the hidden state, when it is learned; an LSTM has initial_c too.

    Raises:
        SettingsError: an option is out of range or means nothing for this cell.
        BackendUnavailable: the backend named cannot run these options.
    """

    operation: ClassVar[str]
    gates: ClassVar[int]

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        recurrent_dropout: float = 0.0,
        weight_dropout: float = 0.0,
        zoneout: float = 0.0,
        initialization: Initialization | None = None,
        backend: str = "auto",
    ) -> None:
        super().__init__(input_size, hidden_size)
        for name, rate in (("recurrent_dropout", recurrent_dropout), ("weight_dropout", weight_dropout), ("zoneout", zoneout)):
            check_rate(name, rate)
        self.recurrent_dropout = recurrent_dropout
        self.weight_dropout = weight_dropout
        self.zoneout = zoneout
        self.backend = backend
        self.initialization = Initialization() if initialization is None else initialization
        rows = self.gates * hidden_size
        self.weight_ih = nn.Parameter(torch.empty(rows, input_size))
        self.weight_hh = nn.Parameter(torch.empty(rows, hidden_size))
        self.bias_ih = nn.Parameter(torch.empty(rows))
        self.bias_hh = nn.Parameter(torch.empty(rows))
        if self.initialization.learn_state:
            for field in self.state_type._fields:
                self.register_parameter(f"initial_{field}", nn.Parameter(torch.zeros(hidden_size)))
        self.reset_parameters()
        self._choose(training=True)  # an option that the named backend lacks is refused here, not in the first epoch

    def reset_parameters(self) -> None:
        """Draw the weights anew, as `initialization` says."""
        initialize(self.weight_ih, self.weight_hh, self.bias_ih, self.bias_hh, scheme=self.initialization.scheme)
        if self.initialization.forget_bias is not None:
            self._set_forget_bias(self.initialization.forget_bias)
        for name, parameter in self.named_parameters():
            if name.startswith("initial_"):
                nn.init.zeros_(parameter)

    def _set_forget_bias(self, value: float) -> None:
        raise SettingsError(
            f"forget_bias={value} means nothing for {type(self).__name__}, which has no forget gate: use an LSTM, or leave it out."
        )

    def initial_state(self, batch_size: int) -> Any:
        """The state before the first step: learned when the cell was made so, else zeros."""
        if not self.initialization.learn_state:
            return super().initial_state(batch_size)
        return self.state_type(*(getattr(self, f"initial_{field}").expand(batch_size, -1) for field in self.state_type._fields))

    def step(self, x: Float[Tensor, "B F"], state: Any) -> tuple[Float[Tensor, "B H"], Any]:
        """One step; see `Cell.step`."""
        output, state = self(x[:, None], state)
        return output[:, 0], state

    def forward(
        self,
        x: Float[Tensor, "B T F"],
        state: Any = None,
        *,
        lengths: Int[Tensor, " B"] | None = None,
        reset: Bool[Tensor, "B T"] | None = None,
        reverse: bool = False,
    ) -> tuple[Float[Tensor, "B T H"], Any]:
        """All steps of all rows; see `Cell.forward`.

        Raises:
            BackendUnavailable: the backend named cannot run this call.
        """
        noise = draw_noise(
            x,
            self.hidden_size,
            fields=len(self.state_type._fields),
            recurrent_dropout=self.recurrent_dropout,
            zoneout=self.zoneout,
            training=self.training,
        )
        weight_hh = drop_weights(self.weight_hh, self.weight_dropout) if self.training else self.weight_hh
        return self._run(
            x,
            self.initial_state(len(x)) if state is None else state,
            RecurrentWeights(self.weight_ih, weight_hh, self.bias_ih, self.bias_hh),
            lengths=lengths,
            resets=self._resets(reset),
            reverse=reverse,
            noise=noise,
        )

    def _run(
        self,
        x: Tensor,
        state: Any,
        weights: RecurrentWeights,
        *,
        lengths: Tensor | None,
        resets: Resets | None,
        reverse: bool,
        noise: RecurrentNoise | None,
    ) -> tuple[Tensor, Any]:
        """Call the cell's operation."""
        raise NotImplementedError

    def explain_backend(self) -> str:
        """What computes this cell as it stands (training or evaluation), and why."""
        choice = self._choose(training=self.training)
        return f"{choice.backend}: {choice.reason}"

    def _choose(self, *, training: bool) -> Choice:
        needs = Needs(recurrent_dropout=training and self.recurrent_dropout > 0, zoneout=self.zoneout > 0)
        return choose(self.operation, self.backend, needs)

    def extra_repr(self) -> str:
        """Sizes, and the options that are not at their default."""
        options = {name: getattr(self, name) for name in ("recurrent_dropout", "weight_dropout", "zoneout") if getattr(self, name)}
        return ", ".join([super().extra_repr(), *(f"{name}={value}" for name, value in options.items())])
