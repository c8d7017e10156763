"""What a recurrent unit is: the base class of every cell, built in or written by a user.

Dropouts, layers, directions and pooling are not here; they are `recurra.layers`.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import nn

from recurra.kernels import compiled_loop
from recurra.kernels.backend import Choice, choose
from recurra.kernels.compiled_loop import run_compiled_loop
from recurra.kernels.dispatch import check_input
from recurra.kernels.lengths import check_is_tensor
from recurra.kernels.loop import Resets, run_loop
from recurra.kernels.state import ElmanState
from recurra.shapes import Bool, Float, Int, Tensor

__all__ = ["Cell"]


class Cell(nn.Module):
    """A recurrent unit.

    A new one defines its parameters and `step`, and runs everywhere:

        class Leaky(Cell):
            def __init__(self, input_size: int, hidden_size: int) -> None:
                super().__init__(input_size, hidden_size)
                self.read = nn.Linear(input_size, hidden_size)
                self.rate = nn.Parameter(torch.zeros(hidden_size))

            def step(self, x, state):
                rate = self.rate.sigmoid()
                h = rate * state.h + (1 - rate) * self.read(x).tanh()
                return h, ElmanState(h)

    `recurra.testing.assert_conforms(Leaky(3, 4))` says whether it keeps the contract: a whole sequence equals any chunks
    of it and single steps, gradients included; padding and the other rows of the batch change nothing.

    Attributes:
        input_size: F, features of an input step.
        hidden_size: H, units.
        output_size: features of an output step; H unless a cell says otherwise.
        state_type: NamedTuple of the state.
        backend: what computes the loop over the steps. "auto": plain PyTorch; "compile": chunks of steps by torch.compile, two to
            five times as fast after half a minute of compiling; a subclass, or whoever has the cell, sets it.
    """

    state_type: ClassVar[type[Any]] = ElmanState
    backend: str = "auto"

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        for name, size in (("input_size", input_size), ("hidden_size", hidden_size)):
            if size < 1:
                raise ValueError(f"{name} must be 1 or more, not {size}.")
        self.input_size = input_size
        self.hidden_size = hidden_size
        self.output_size = hidden_size

    def initial_state(self, batch_size: int) -> Any:
        """The state before the first step: zeros (B, H) in every field, unless a cell says otherwise."""
        like = next(self.parameters(), torch.empty(0))
        return self.state_type(*(like.new_zeros(batch_size, self.hidden_size) for _ in self.state_type._fields))

    def step(self, x: Float[Tensor, "B F"], state: Any) -> tuple[Float[Tensor, "B D"], Any]:
        """One step.

        Args:
            x: inputs.
            state: the state before.

        Returns:
            The output and the state after.
        """
        raise NotImplementedError(f"{type(self).__name__} has no step(x, state): define it.")

    def forward(
        self,
        x: Float[Tensor, "B T F"],
        state: Any = None,
        *,
        lengths: Int[Tensor, " B"] | None = None,
        reset: Bool[Tensor, "B T"] | None = None,
        reverse: bool = False,
    ) -> tuple[Float[Tensor, "B T D"], Any]:
        """All steps of all rows.

        Args:
            x: inputs; what stands beyond a row's length means nothing (NaN included).
            state: the state before the first step read; `initial_state` when None.
            lengths: real steps of each row, on any device, unsorted, 0 allowed; None when all are real.
            reset: true where the state starts anew before the step is read.
            reverse: read each row from its last real step to its first.

        Returns:
            Outputs in the order of the input, zero in the padding, and the state after the last step read.

        Raises:
            BackendUnavailable: the backend named cannot run this call.
            ValueError: shapes that do not fit.
            TypeError: the state is no NamedTuple, or `step` returns something else than an output and a state of the type that it got.
        """
        state = self._before(state, x.shape[0], tuple)
        resets = self._resets(reset)
        check_input(x, state, self.input_size, lengths, resets)
        if x.shape[0] * x.shape[1] == 0:
            return x.new_zeros(*x.shape[:2], self.output_size), state
        # Within a larger graph that is being compiled, the loop is part of it.
        if not torch.compiler.is_compiling() and self._choose(x, reset=resets is not None).backend == "compile":
            return run_compiled_loop(self, x, state, lengths=lengths, resets=resets, reverse=reverse)
        return run_loop(self._checked_step, x, state, lengths=lengths, resets=resets, reverse=reverse)

    def explain_backend(self, x: Float[Tensor, "B T F"] | None = None, *, reset: Bool[Tensor, "B T"] | None = None) -> str:
        """What computes this cell as it stands (training or evaluation), and why.

        Args:
            x: what `forward` would be called with; None for many steps where the weights are.
            reset: what `forward` would be called with.

        Raises:
            BackendUnavailable: the backend named cannot run this call.
        """
        choice = self._choose(x, reset=reset is not None)
        return f"{choice.backend}: {choice.reason}"

    def _choose(self, x: Tensor | None, *, reset: bool) -> Choice:  # noqa: ARG002 - a step knows no resets
        if self.backend == "auto":
            return Choice("reference", "this cell has no kernel of its own, so its step runs in a Python loop (see backend 'compile')")
        like = next(self.parameters(), torch.empty(0)) if x is None else x
        choice = choose("step", self.backend, device=like.device.type)
        if choice.backend == "compile" and x is not None and x.shape[1] < compiled_loop.STEPS:
            return Choice("reference", f"compiled are chunks of {compiled_loop.STEPS} steps, and here are {x.shape[1]}")
        return choice

    def extra_repr(self) -> str:
        """Sizes, for `print(cell)`."""
        return f"{self.input_size}, {self.hidden_size}"

    def _before(self, state: Any, batch_size: int, kind: type[Any]) -> Any:
        """The state that a call begins with.

        Args:
            state: what was given; None for `initial_state`.
            batch_size: B.
            kind: what it must be.

        Raises:
            TypeError: it is something else.
        """
        if state is None:
            return self.initial_state(batch_size)
        if not isinstance(state, kind):
            name = "a NamedTuple of tensors" if kind is tuple else f"of the type {kind.__name__}"
            raise TypeError(
                f"The state of {type(self).__name__} must be {name}, as `initial_state` and every call return it, not a {type(state).__name__}."
            )
        return state

    def _checked_step(self, x: Tensor, state: Any) -> tuple[Tensor, Any]:
        """`step`, and that it returns what it says."""
        found: Any = self.step(x, state)
        if not (isinstance(found, tuple) and len(found) == 2 and type(found[1]) is type(state)):
            what = f"({', '.join(type(each).__name__ for each in found)})" if isinstance(found, tuple) else f"a {type(found).__name__}"
            raise TypeError(
                f"{type(self).__name__}.step must return (output, state) with the state a {type(state).__name__}, as it got it, not {what}."
            )
        output, after = found
        return output, after

    def _resets(self, reset: Tensor | None) -> Resets | None:
        if reset is None:
            return None
        check_is_tensor("reset", reset, "booleans")
        return Resets(reset, self.initial_state(reset.shape[0]))
