"""A stack stepped through streams that never end: one step after the other, the state kept between calls."""

from __future__ import annotations

from copy import deepcopy
from typing import Any, overload

import numpy as np
import torch
from torch import nn

from recurra.cells import StandardCell
from recurra.cells.state import clone, map_state, reset, select
from recurra.errors import BackendUnavailable, SettingsError
from recurra.kernels import compiled
from recurra.kernels.loop import RecurrentWeights
from recurra.kernels.state import leaves
from recurra.kernels.stepper import STEPPED, CompiledStepper, Rows, StepLayer, check_fork, check_input, check_rows, check_sizes, check_state
from recurra.layers.embedding import Embedding
from recurra.layers.stack import Stack
from recurra.shapes import Float, Tensor

__all__ = ["Stepper"]


class Stepper:
    """Streams through a stack in evaluation mode.

    Outputs equal those of `stack(x)` over the whole sequence, and are the same to the last bit whether steps come one by
    one or many at once. Weights are copied: later changes of the stack do not reach its stepper. No gradients.

    Inputs and outputs are numpy arrays or torch tensors, whichever is given. Compiled steps are taken when all cells are
    the built-in Elman, LSTM or GRU on a CPU, in float32 or float64; any other stack runs as it is, one call a step.
    `explain_backend` tells which.

    Args:
        stack: read in one direction.
        streams: S.
        embedding: vectors of tokens, (V, F) or their module, torch's too. Steps then take numbers of tokens in place of vectors; while
            the products with the input weights fit in `recurra.kernels.stepper.FOLDED_BYTES` they are computed beforehand.
        half_weights: keep the matrices of the recurrence in 16 bits, all else in float32. A step then reads half as much, which
            is what it takes its time for where weights are larger than the near caches (from some 256 units on). Outputs are
            those of the stack with matrices rounded to float16: 11 bits of each weight in place of 24.

    Attributes:
        streams: S.

    Raises:
        SettingsError: the stack reads both ways, or the embedding has a `max_norm`.
        ValueError: there is no stream, the embedding does not fit the stack, or a weight does not fit into 16 bits.
        TypeError: it is no stack, or 16 bits are asked for of one in float64.
        BackendUnavailable: there are no compiled steps of the stack, and it names the backend "cpu" or 16 bits are asked for.
    """

    def __init__(
        self,
        stack: Stack,
        *,
        streams: int = 1,
        embedding: Embedding | nn.Embedding | Float[Tensor, "V F"] | None = None,
        half_weights: bool = False,
    ) -> None:
        if not isinstance(stack, Stack):
            raise TypeError(
                f"A stepper takes a recurra.layers.Stack, not a {type(stack).__name__}: `load_torch_weights` copies those of torch's layers into one."
            )
        if stack.bidirectional:
            raise SettingsError(
                "A stack that reads both ways cannot be stepped: its backward half begins at the end, and a stream has none. "
                "Train one with bidirectional=False."
            )
        if isinstance(embedding, nn.Embedding) and embedding.max_norm is not None:
            raise SettingsError(
                "The embedding's max_norm changes vectors when they are read: give the stepper vectors that are as they stay."
            )
        vectors = embedding.weight if isinstance(embedding, Embedding | nn.Embedding) else embedding
        check_sizes(streams, vectors, stack.input_size)
        refusal = _refusal(stack)
        if refusal and any(getattr(cell, "backend", "auto") == "cpu" for cell in stack.cells):
            raise BackendUnavailable(f"There are no compiled steps of this stack: {refusal}. Use backend 'auto', or another that is named.")
        if refusal and half_weights:
            raise BackendUnavailable(f"Weights in 16 bits are read by compiled steps alone: {refusal}. Leave half_weights out.")
        self._refusal = refusal
        self._runner: CompiledStepper | _StackSteps
        if refusal:
            self._runner = _StackSteps(stack, streams, vectors)
        else:
            self._runner = CompiledStepper(_layers(stack), streams=streams, embedding=vectors, half_weights=half_weights)

    @property
    def streams(self) -> int:
        """S."""
        return self._runner.streams

    @overload
    def step(self, x: Tensor, *, out: Tensor | None = None) -> Tensor: ...

    @overload
    def step(self, x: np.ndarray, *, out: np.ndarray | None = None) -> np.ndarray: ...

    def step(self, x: Any, *, out: Any = None) -> Any:
        """One step of all streams.

        Args:
            x: (S, F) inputs, or (S,) tokens.
            out: (S, H), contiguous, to be filled; new memory when None. Compiled steps only.

        Returns:
            (S, H) outputs of the last layer.

        Raises:
            ValueError: of another shape.
            IndexError: a token that the embedding has not.
        """
        return self._runner.step(x, out=out)

    @overload
    def run(self, x: Tensor) -> Tensor: ...

    @overload
    def run(self, x: np.ndarray) -> np.ndarray: ...

    def run(self, x: Any) -> Any:
        """Many steps of all streams: the same as `step` after `step`, in less time.

        Args:
            x: (S, T, F) inputs, or (S, T) tokens.

        Returns:
            (S, T, H) outputs of the last layer.

        Raises:
            ValueError: of another shape.
            IndexError: a token that the embedding has not.
        """
        return self._runner.run(x)

    def snapshot(self) -> tuple[Any, ...]:
        """A copy of the state, in the form that the stack takes and returns; `recurra.cells.state.select` reorders its streams."""
        return self._runner.snapshot()

    def restore(self, snapshot: tuple[Any, ...], rows: Rows | None = None) -> None:
        """Go on from a state: a snapshot, or what the stack returned.

        Args:
            snapshot: the state.
            rows: numbers of the streams that go on from it, one for each of its rows (a list, an array or a tensor); all when None.

        Raises:
            ValueError: it is of other layers or another number of streams.
            IndexError: there is no such stream.
            TypeError: streams are not named by numbers, or the state has no NamedTuple a layer.
        """
        self._runner.restore(snapshot, rows)

    def fork(self, rows: Rows) -> Stepper:
        """A stepper of its own over the same weights, whose streams begin as copies of some of these.

        Args:
            rows: for every stream of the new one the number of the stream it copies; repeats are allowed.

        Raises:
            IndexError: there is no such stream.
            TypeError: streams are not named by numbers.
        """
        made = object.__new__(type(self))
        made._refusal = self._refusal
        made._runner = self._runner.fork(rows)
        return made

    def reset(self, rows: Rows | None = None) -> None:
        """Start some streams anew, from the cells' initial state; all when None.

        Raises:
            IndexError: there is no such stream.
            TypeError: streams are not named by numbers.
        """
        self._runner.reset(rows)

    def explain_backend(self) -> str:
        """What computes the steps, and why."""
        if self._refusal:
            return f"the stack itself, called for every step: {self._refusal}"
        assert isinstance(self._runner, CompiledStepper)
        threads = f"up to {self._runner.threads} threads" if self._runner.threads > 1 else "one thread"
        folded = ", input products of the tokens looked up" if self._runner.folded else ""
        weights = "packed weights in 16 bits" if self._runner.half_weights else "packed weights"
        return f"cpu: compiled steps over {weights} ({compiled.INSTRUCTION_SET} instructions, {threads}){folded}"


def _refusal(stack: Stack) -> str | None:
    """Why there are no compiled steps of a stack; None when there are."""
    if compiled.UNAVAILABLE:
        return compiled.UNAVAILABLE
    for cell in stack.cells:
        if not isinstance(cell, StandardCell) or cell.operation not in STEPPED:
            return f"{type(cell).__name__} has no compiled steps, only the cells {', '.join(STEPPED)} have"
        if cell.backend not in {"auto", "cpu"}:
            return f"it names the backend {cell.backend!r}"
        if not cell.is_plain():
            return f"{type(cell).__name__} has a forward, a step or hooks of its own, which compiled steps would not call"
        weight = cell.weight_hh
        if weight.device.type != "cpu" or weight.dtype not in {torch.float32, torch.float64}:
            return f"compiled steps run on a CPU in float32 and float64, and the weights are {weight.dtype} on {weight.device.type}"
    return None


def _layers(stack: Stack) -> list[StepLayer]:
    """The layers as the compiled stepper takes them."""
    layers = []
    width = stack.input_size
    for number, cell in enumerate(stack.cells):
        assert isinstance(cell, StandardCell)
        norm = stack.norms[number] if len(stack.norms) else None
        assert norm is None or isinstance(norm, nn.LayerNorm)
        layers.append(
            StepLayer(
                cell.operation,
                RecurrentWeights(cell.weight_ih, cell.weight_hh, cell.bias_ih, cell.bias_hh),
                initial=tuple(field[0] for field in cell.initial_state(1)),
                zoneout=cell.zoneout,
                residual=stack.residual and width == cell.output_size,
                norm=None if norm is None else (norm.weight, norm.bias),
                norm_epsilon=0.0 if norm is None else norm.eps,
            )
        )
        width = cell.output_size
    return layers


class _StackSteps:
    """The same with the stack itself, wherever it is; see `CompiledStepper`."""

    def __init__(self, stack: Stack, streams: int, embedding: Tensor | None) -> None:
        self.streams = streams
        self._stack = deepcopy(stack).eval()
        self._embedding = None if embedding is None else embedding.detach().clone()
        with torch.no_grad():
            self._state = clone(self._stack.initial_state(streams))

    def step(self, x: Any, *, out: Any = None) -> Any:
        if out is not None:
            raise ValueError("`out` is for compiled steps only: leave it out.")
        return self._outputs(x, many=False)

    def run(self, x: Any) -> Any:
        return self._outputs(x, many=True)

    def _outputs(self, x: Any, *, many: bool) -> Any:
        given: Tensor = x if isinstance(x, Tensor) else torch.as_tensor(np.array(x), device="cpu")
        check_input(given, self.streams, self._stack.input_size if self._embedding is None else None, many=many)
        output = self._through(given if many else given[:, None])
        output = output if many else output[:, 0]
        if isinstance(x, Tensor):
            return output
        # numpy has no bfloat16.
        return (output.float() if output.dtype == torch.bfloat16 else output).cpu().numpy()

    def _through(self, given: Tensor) -> Tensor:
        """(S, T, F) or (S, T) through the stack, one by one, so that many at once are the same to the last bit.

        Each step is laid out anew: some processors' matrix products of rows that lie apart differ in the last bit from those
        of the same rows side by side.
        """
        like = next(self._stack.parameters(), torch.empty(0))
        with torch.no_grad():
            if self._embedding is None:
                given = given.to(like.device, like.dtype)
            else:
                known = len(self._embedding)
                if bool(((given < 0) | (given >= known)).any()):
                    raise IndexError(f"A token is not in the embedding: its rows are 0 to {known - 1}.")
                given = self._embedding[given.to(self._embedding.device, torch.int64)]
            outputs = []
            for t in range(given.shape[1]):
                output, self._state = self._stack(given[:, t : t + 1].contiguous(), self._state)
                outputs.append(output)
            return torch.cat(outputs, 1) if outputs else given.new_zeros(self.streams, 0, self._stack.output_size)

    def snapshot(self) -> tuple[Any, ...]:
        return clone(self._state)

    def restore(self, snapshot: tuple[Any, ...], rows: Rows | None = None) -> None:
        chosen = check_rows(rows, self.streams)
        mine = [(len(chosen), *field.shape[1:]) for field in leaves(self._state)]
        given = [tuple(field.shape) for field in check_state(snapshot)]
        if mine != given:
            raise ValueError(f"The state has tensors of the shapes {given}, and this stepper's state {mine}.")
        places = torch.tensor(chosen, dtype=torch.int64, device="cpu")

        def put(field: Tensor, new: Tensor) -> Tensor:
            return field.index_copy(0, places.to(field.device), new.to(field))

        self._state = map_state(put, self._state, snapshot)

    def fork(self, rows: Rows) -> _StackSteps:
        chosen = check_fork(rows, self.streams)
        made = object.__new__(_StackSteps)
        made.__dict__.update(self.__dict__, streams=len(chosen), _state=select(self._state, torch.tensor(chosen, device="cpu")))
        return made

    def reset(self, rows: Rows | None = None) -> None:
        chosen = check_rows(rows, self.streams)
        where = torch.zeros(self.streams, dtype=torch.bool, device="cpu")
        where[chosen] = True
        with torch.no_grad():
            initial = clone(self._stack.initial_state(self.streams))
            like = next(self._stack.parameters(), torch.empty(0))
            self._state = reset(self._state, where.to(like.device), initial)
