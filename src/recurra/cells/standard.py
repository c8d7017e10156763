"""What the built-in cells share: torch's four weights, how they start, the noise inside the recurrence, the kernel's choice."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import nn

from recurra.cells.cell import Cell
from recurra.cells.initialization import Initialization, initialize
from recurra.cells.noise import check_rate, draw_noise, drop_weights
from recurra.errors import SettingsError
from recurra.kernels.backend import Choice, Needs, choose
from recurra.kernels.directions import Direction, run_directions
from recurra.kernels.loop import RecurrentWeights
from recurra.shapes import Bool, Float, Int, Tensor

__all__ = ["StandardCell"]


class StandardCell(Cell):
    """A cell whose recurrence is one of `recurra.kernels`. Abstract: a cell names its operation, and what it has more than these.

    Weights have the names of torch.nn.LSTMCell, GRUCell and RNNCell, whose state_dicts load as they are where the
    equations are torch's. Noise obeys `.train()` and `.eval()` and is drawn anew at each call, also at each call of `step`.

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
        weight_hh: (G*H, H), unless a cell says otherwise.
        bias_ih: (G*H,).
        bias_hh: (G*H,).
        initial_h: (H,) start of the hidden state, when it is learned; an LSTM has initial_c too.
        heads: parts of the hidden state that the recurrent product keeps apart; 1, unless a cell says otherwise.

    Raises:
        SettingsError: an option is out of range or means nothing for this cell.
        BackendUnavailable: the backend named cannot run these options.
    """

    operation: ClassVar[str]
    recurrence: ClassVar[Callable[..., tuple[Tensor, Any]]]
    gates: ClassVar[int]
    forget_gate: ClassVar[int | None] = None
    heads: int = 1

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
        self._add_weights()
        if self.initialization.learn_state:
            for field, size in self._learned_sizes().items():
                self.register_parameter(f"initial_{field}", nn.Parameter(torch.zeros(size)))
        self.reset_parameters()
        # An option that the named backend lacks is refused here, not in the first epoch. The device is known in a call.
        choose(self.operation, backend, self._needs(training=True), device=None)

    def _add_weights(self) -> None:
        """Make the weights, not yet filled; a cell with more than these adds its own here, in `_weights` and in `reset_parameters`."""
        rows = self.gates * self.hidden_size
        self.weight_ih = nn.Parameter(torch.empty(rows, self.input_size))
        self.weight_hh = nn.Parameter(torch.empty(rows, next(iter(self._state_sizes().values())) // self.heads))
        self.bias_ih = nn.Parameter(torch.empty(rows))
        self.bias_hh = nn.Parameter(torch.empty(rows))

    def _weights(self, weight_hh: Tensor) -> tuple[Any, ...]:
        """The operation's weights, with the recurrent ones as given."""
        return RecurrentWeights(self.weight_ih, weight_hh, self.bias_ih, self.bias_hh)

    def _state_sizes(self) -> dict[str, int]:
        """Width of every field of the state."""
        return dict.fromkeys(self.state_type._fields, self.hidden_size)

    def _learned_sizes(self) -> dict[str, int]:
        """Width of every field whose start can be learned: all of them."""
        return self._state_sizes()

    def _zoned_sizes(self) -> tuple[int, ...]:
        """Widths of what zoneout keeps on its own: every field of the state."""
        return tuple(self._state_sizes().values())

    def reset_parameters(self) -> None:
        """Draw the weights anew, as `initialization` says."""
        initialize(
            self.weight_ih,
            self.weight_hh,
            self.bias_ih,
            self.bias_hh,
            scheme=self.initialization.scheme,
            hidden_size=self.hidden_size,
            heads=self.heads,
        )
        if self.initialization.forget_bias is not None:
            self._set_forget_bias(self.initialization.forget_bias)
        for name, parameter in self.named_parameters():
            if name.startswith("initial_"):
                nn.init.zeros_(parameter)

    def _set_forget_bias(self, value: float) -> None:
        if self.forget_gate is None:
            raise SettingsError(
                f"forget_bias={value} means nothing for {type(self).__name__}, which has no forget gate: use an LSTM, or leave it out."
            )
        forget = slice(self.forget_gate * self.hidden_size, (self.forget_gate + 1) * self.hidden_size)
        with torch.no_grad():
            self.bias_ih[forget] = value
            self.bias_hh[forget] = 0.0

    def initial_state(self, batch_size: int) -> Any:
        """The state before the first step: learned when the cell was made so, else zeros."""
        if not self.initialization.learn_state:
            zeros = self.weight_ih.new_zeros
            return self.state_type(*[zeros(batch_size, size) for size in self._state_sizes().values()])
        learned = self._learned_sizes()
        fields = [
            getattr(self, f"initial_{field}").expand(batch_size, -1) if field in learned else self.weight_ih.new_zeros(batch_size, size)
            for field, size in self._state_sizes().items()
        ]
        return self.state_type(*fields)

    def step(self, x: Float[Tensor, "B F"], state: Any) -> tuple[Float[Tensor, "B D"], Any]:
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
    ) -> tuple[Float[Tensor, "B T D"], Any]:
        """All steps of all rows; see `Cell.forward`.

        Raises:
            BackendUnavailable: the backend named cannot run this call.
        """
        output, (state,) = run_directions(
            self.operation,
            type(self).recurrence,
            x,
            [self.direction(x, state, reset=reset, reverse=reverse)],
            lengths=lengths,
            backend=self.backend,
        )
        return output, state

    def direction(self, x: Float[Tensor, "B T F"], state: Any = None, *, reset: Tensor | None = None, reverse: bool = False) -> Direction:
        """What a call of this cell brings to `run_directions`; noise is drawn anew. The arguments are those of `forward`."""
        noise = None
        if self.recurrent_dropout or self.zoneout:
            noise = draw_noise(
                x,
                self._zoned_sizes(),
                recurrent_dropout=self.recurrent_dropout,
                zoneout=self.zoneout,
                training=self.training,
            )
        weight_hh = drop_weights(self.weight_hh, self.weight_dropout) if self.training else self.weight_hh
        start = self._before(state, x.shape[0], self.state_type)
        return Direction(start, self._weights(weight_hh), self._resets(reset), noise, reverse)

    def is_plain(self) -> bool:
        """Whether its kernel alone says what a call gives: a subclass has no forward or step of its own, and no hook watches or changes it."""
        own = type(self).forward is not StandardCell.forward or type(self).step is not StandardCell.step
        return not (own or self._forward_hooks or self._forward_pre_hooks)

    def _needs(self, *, training: bool, reset: bool = False) -> Needs:
        return Needs(recurrent_dropout=training and self.recurrent_dropout > 0, zoneout=self.zoneout > 0, reset=reset)

    def _choose(self, x: Tensor | None, *, reset: bool) -> Choice:
        device, shape = (self.weight_hh.device, None) if x is None else (x.device, x.shape[:2])
        return choose(self.operation, self.backend, self._needs(training=self.training, reset=reset), device=device.type, shape=shape)

    def extra_repr(self) -> str:
        """Sizes, and the options that are not at their default."""
        options = {name: getattr(self, name) for name in ("recurrent_dropout", "weight_dropout", "zoneout") if getattr(self, name)}
        return ", ".join([super().extra_repr(), *(f"{name}={value}" for name, value in options.items())])
