"""What the cells share whose units read only themselves: one product with the input, a start, the kernel's choice."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
from torch import nn

from recurra.cells.cell import Cell
from recurra.cells.initialization import Initialization
from recurra.errors import SettingsError
from recurra.kernels.backend import Choice
from recurra.kernels.elementwise_scan.operator import elementwise_scan_recurrence
from recurra.kernels.elementwise_scan.units import UNITS, ScanWeights
from recurra.kernels.linear_scan.operator import choose_scan
from recurra.kernels.loop import Resets
from recurra.kernels.state import ScanState
from recurra.shapes import Bool, Float, Int, Tensor

__all__ = ["ScanCell"]


class ScanCell(Cell):
    """A cell without a recurrent matrix: each unit reads the input and itself. Abstract; a cell names its unit.

    So all steps' gates are one product, and what is left to do step by step costs no more than reading it. There is no
    recurrent dropout, weight dropout or zoneout: there are no recurrent weights, and a zoned-out unit is one whose gate
    is closed.

    Args:
        input_size: F.
        hidden_size: H.
        initialization: how the weights and the state start. `scheme` "torch": as the cell's paper says, or as
            torch.nn.Linear where it says nothing; "orthogonal": input weights uniform after Glorot & Bengio 2010 gate by
            gate, biases zero. `forget_bias`: of a cell that has a forget gate.
        backend: what computes the recurrence: "auto", or a name that runs or raises.

    Attributes:
        weight_ih: (G*H, F), gate after gate.
        bias_ih: biases of the gates that have them, gate after gate.
        initial_h: (H,) start of the state, when it is learned; initial_c in cells whose state is called that.

    Raises:
        SettingsError: an option means nothing for this cell.
        BackendUnavailable: the backend named cannot run it.
    """

    state_type: ClassVar[type[Any]] = ScanState
    unit: str
    forget_gate: ClassVar[int | None] = None
    unbiased: ClassVar[tuple[int, ...]] = ()

    def __init__(self, input_size: int, hidden_size: int, *, initialization: Initialization | None = None, backend: str = "auto") -> None:
        super().__init__(input_size, hidden_size)
        self.initialization = Initialization() if initialization is None else initialization
        self.backend = backend
        self.gates = self._count_gates()
        self.biased = [gate not in self.unbiased for gate in range(self.gates)]
        self.weight_ih = nn.Parameter(torch.empty(self.gates * hidden_size, self._features()))
        self.bias_ih = nn.Parameter(torch.empty(sum(self.biased) * hidden_size))
        self._add_parameters()
        if self.initialization.learn_state:
            self.register_parameter(f"initial_{self.state_type._fields[0]}", nn.Parameter(torch.zeros(hidden_size)))
        self.reset_parameters()
        # A backend that cannot run this is refused here, not in the first epoch. The device is known in a call.
        choose_scan(self.unit, backend, None, linear=self._linear)

    def _count_gates(self) -> int:
        """G: gates that are products of the input. Where a unit reads the input itself and it fits, there is one less."""
        unit = UNITS[self.unit]
        return unit.gates - (unit.reads_input and self.input_size == self.hidden_size)

    def _features(self) -> int:
        """Numbers that the gates' product reads."""
        return self.input_size

    def _add_parameters(self) -> None:
        """A cell with more than weights and biases adds it here, in `_parameters_of_units` and in `reset_parameters`."""

    def _parameters_of_units(self) -> Tensor | None:
        """(K, H) what the unit reads at every step."""
        return None

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Draw the weights anew, as `initialization` says."""
        if self.initialization.scheme == "orthogonal":
            for gate in torch.split(self.weight_ih, self.hidden_size):
                nn.init.xavier_uniform_(gate)
            self.bias_ih.zero_()
        else:
            self._start()
        if self.initialization.forget_bias is not None:
            self._set_forget_bias(self.initialization.forget_bias)
        for name, parameter in self.named_parameters():
            if name.startswith("initial_"):
                parameter.zero_()

    def _start(self) -> None:
        bound = 1.0 / math.sqrt(self.weight_ih.shape[1])
        self.weight_ih.uniform_(-bound, bound)
        self.bias_ih.uniform_(-bound, bound)

    def _set_forget_bias(self, value: float) -> None:
        if self.forget_gate is None:
            raise SettingsError(f"forget_bias={value} means nothing for {type(self).__name__}, which has no forget gate: leave it out.")
        place = sum(self.biased[: self.forget_gate])
        self.bias_ih.view(-1, self.hidden_size)[place] = value

    def initial_state(self, batch_size: int) -> Any:
        """The state before the first step: learned when the cell was made so, else zeros."""
        return self.state_type(self._initial(batch_size))

    def _initial(self, batch_size: int) -> Tensor:
        if self.initialization.learn_state:
            learned: Tensor = getattr(self, f"initial_{self.state_type._fields[0]}")
            return learned.expand(batch_size, -1)
        return self.weight_ih.new_zeros(batch_size, self.hidden_size)

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
        state = self._before(state, x.shape[0], self.state_type)
        output, last = self._scan(x, state[0], lengths=lengths, reset=reset, reverse=reverse)
        return output, self.state_type(last)

    def _scan(self, x: Tensor, state: Tensor, *, lengths: Tensor | None, reset: Tensor | None, reverse: bool) -> tuple[Tensor, Tensor]:
        return elementwise_scan_recurrence(
            x,
            state,
            ScanWeights(self.weight_ih, self._biases(), self._parameters_of_units()),
            unit=self.unit,
            lengths=lengths,
            resets=None if reset is None else Resets(reset, self._initial(x.shape[0])),
            reverse=reverse,
            backend=self.backend,
        )

    def _biases(self) -> Tensor:
        """Of all gates: zeros where a gate has none."""
        if all(self.biased):
            return self.bias_ih
        given, zeros = iter(torch.split(self.bias_ih, self.hidden_size)), self.bias_ih.new_zeros(self.hidden_size)
        return torch.cat([next(given) if biased else zeros for biased in self.biased])

    def _choose(self, x: Tensor | None, *, reset: bool) -> Choice:  # noqa: ARG002 - every backend of a scan has resets
        device, shape = (self.weight_ih.device, None) if x is None else (x.device, (x.shape[0], x.shape[1], self.hidden_size))
        return choose_scan(self.unit, self.backend, device.type, shape=shape, linear=self._linear)

    @property
    def _linear(self) -> bool:
        return UNITS[self.unit].coefficients is not None
