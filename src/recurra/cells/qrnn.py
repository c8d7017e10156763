"""The quasi-recurrent neural network."""

from __future__ import annotations

from typing import Any, ClassVar

import torch

from recurra.cells.initialization import Initialization
from recurra.cells.scan import ScanCell
from recurra.errors import SettingsError
from recurra.kernels.dispatch import check_input
from recurra.kernels.linear_scan.previous import previous_steps
from recurra.kernels.loop import Resets
from recurra.kernels.state import MemoryState, QRNNState
from recurra.kernels.transforms import is_traced
from recurra.shapes import Bool, Float, Int, Tensor

__all__ = ["QRNNCell"]


class QRNNCell(ScanCell):
    """The quasi-recurrent neural network: a convolution over time for the gates, and fo-pooling.

        z = tanh(W_z [x_before, x] + b_z)
        f = sigmoid(W_f [x_before, x] + b_f)
        o = sigmoid(W_o [x_before, x] + b_o)
        c' = f c + (1 - f) z
        h' = o c'

    `x_before` is the input of the step read before, zero before the first; it is carried in the state. With `window` 1 the
    gates read x alone. Gates stand in the weights in this order: candidate z, forget f, output o; in their columns x_before
    comes first. Parameters: 3H(window F + 1). A step of a row: 6 window HF floating-point operations in the products, about 12H
    beside them.

    What differs from the paper: biases, which its equations leave out; zoneout and the dense connections between layers are
    not here.

    Args:
        input_size: F.
        hidden_size: H.
        window: steps that the gates read, 1 or 2.
        initialization: see `ScanCell`.
        backend: see `ScanCell`.

    Raises:
        SettingsError: another window.

    Source: Bradbury et al. 2017, section 2.
    """

    state_type: ClassVar[type[Any]] = QRNNState
    unit: str = "qrnn"
    forget_gate: ClassVar[int | None] = 1

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        window: int = 2,
        initialization: Initialization | None = None,
        backend: str = "auto",
    ) -> None:
        if window not in {1, 2}:
            raise SettingsError(f"window must be 1 or 2, not {window}.")
        self.window = window  # before the base class makes the weights, whose shapes it decides
        super().__init__(input_size, hidden_size, initialization=initialization, backend=backend)

    def _features(self) -> int:
        return self.window * self.input_size

    def initial_state(self, batch_size: int) -> Any:
        """The state before the first step: c learned when the cell was made so, else zeros; zeros for x."""
        c = self._initial(batch_size)
        return MemoryState(c) if self.window == 1 else QRNNState(c, c.new_zeros(batch_size, self.input_size))

    def forward(
        self,
        x: Float[Tensor, "B T F"],
        state: Any = None,
        *,
        lengths: Int[Tensor, " B"] | None = None,
        reset: Bool[Tensor, "B T"] | None = None,
        reverse: bool = False,
    ) -> tuple[Float[Tensor, "B T H"], Any]:
        """All steps of all rows; see `Cell.forward`."""
        state = self._before(state, x.shape[0], MemoryState if self.window == 1 else QRNNState)
        if self.window == 1:
            output, c = self._scan(x, state.c, lengths=lengths, reset=reset, reverse=reverse)
            return output, MemoryState(c)
        check_input(x, state, self.input_size, lengths, None if reset is None else Resets(reset, None))
        if x.is_cpu and x.shape[1] and reset is None and not reverse and not is_traced():
            both = _Beside.apply(x, state.x)  # type: ignore[no-untyped-call]
        else:
            both = torch.cat([previous_steps(x, state.x, None, lengths=lengths, resets=reset, reverse=reverse), x], 2)
        output, c = self._scan(both, state.c, lengths=lengths, reset=reset, reverse=reverse)
        return output, QRNNState(c, _last_read(x, state.x, lengths, reverse=reverse))

    def extra_repr(self) -> str:
        """Sizes and the window."""
        return f"{super().extra_repr()}, window={self.window}"


class _Beside(torch.autograd.Function):
    """x (B, T, F) and the input before it (B, F) -> at each step the input before and its own, (B, T, 2F), which share memory.

    torch's own gradient of such a view adds number by number.
    """

    @staticmethod
    def forward(_ctx: Any, x: Tensor, before: Tensor) -> Tensor:
        batch_size, steps, features = x.shape
        joined = torch.cat([before[:, None], x], 1)
        return joined.as_strided((batch_size, steps, 2 * features), ((steps + 1) * features, features, 1))

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor, Tensor]:  # noqa: ARG004 - torch hands it over
        before, own = upstream[0].chunk(2, 2)
        gradient = own.clone()
        gradient[:, :-1] += before[:, 1:]
        return gradient, before[:, 0]


def _last_read(x: Tensor, before: Tensor, lengths: Tensor | None, *, reverse: bool) -> Tensor:
    """The input of the step read last: of a row of length zero what it came with."""
    if x.shape[1] == 0:
        return before
    if lengths is None:
        return x[:, 0 if reverse else -1]
    lengths = lengths.to(x.device)
    at = torch.zeros_like(lengths) if reverse else (lengths - 1).clamp_min(0)
    last = x.gather(1, at[:, None, None].expand(-1, 1, x.shape[2]))[:, 0]
    return torch.where((lengths == 0)[:, None], before, last)
