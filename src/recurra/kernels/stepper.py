"""Steps of streams: packed weights and the state of every stream stay in compiled code between calls.

For whole sequences with gradients there are the recurrences; what makes a stepper of a stack, or steps a stack without a
compiler, is `recurra.layers.stepper`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from operator import index
from typing import Any, NamedTuple, TypeAlias, overload

import numpy as np
import torch

from recurra.errors import BackendUnavailable
from recurra.kernels import compiled
from recurra.kernels.loop import RecurrentWeights
from recurra.kernels.signatures import SIGNATURES
from recurra.kernels.state import ElmanState, GRUState, LSTMState, leaves
from recurra.shapes import Float, Tensor

__all__ = [
    "FOLDED_BYTES",
    "STEPPED",
    "CompiledStepper",
    "Rows",
    "StepLayer",
    "check_fork",
    "check_input",
    "check_rows",
    "check_sizes",
    "check_state",
]

Rows: TypeAlias = Iterable[int] | Tensor | np.ndarray
"""Numbers of streams."""

STEPPED: dict[str, type[Any]] = {"elman": ElmanState, "elman_relu": ElmanState, "lstm": LSTMState, "gru": GRUState}
"""Operations that have compiled steps, and their states."""

FOLDED_BYTES = 2**27
"""Most memory for an embedding's products with the input weights. A step then reads one row of them, and no input weights."""


class StepLayer(NamedTuple):
    """One layer of a stepper.

    Attributes:
        operation: a name of `STEPPED`.
        weights: of the recurrence.
        initial: (H,) the start of every field of the state; zeros when empty.
        zoneout: share of the previous state that a step keeps.
        residual: add the input to the output; F = H.
        norm: weight and bias (H,) of the output's layer normalization; None for none.
        norm_epsilon: added to its variance.
    """

    operation: str
    weights: RecurrentWeights
    initial: tuple[Float[Tensor, " H"], ...] = ()
    zoneout: float = 0.0
    residual: bool = False
    norm: tuple[Float[Tensor, " H"], Float[Tensor, " H"]] | None = None
    norm_epsilon: float = 1e-5

    @property
    def sizes(self) -> tuple[int, int]:
        """F and H."""
        return int(self.weights.w_ih.shape[1]), int(self.weights.w_hh.shape[1])


class CompiledStepper:
    """Streams through layers of compiled steps.

    A step of one stream takes about the time of reading the weights once. Outputs are the same to the last bit whether
    steps come one by one or many at once, for any number of streams and threads, and the same as those of the compiled
    recurrences. Weights are copied: later changes do not reach a stepper. No gradients.

    With `half_weights` the matrices are kept in 16 bits (float16), which halves what a step reads; biases, inputs, states and
    sums stay float32. The outputs are then, to the last bit, those of the layers with matrices rounded to float16.

    Inputs and outputs are numpy arrays or torch tensors on a CPU, whichever is given. Inputs of another type of number are
    converted. One object serves one Python thread at a time: a call beside a step that has not ended raises RuntimeError.
    A stepper is copied by `fork`, and not pickled.

    Args:
        layers: from the first to the last, of one type of number, float32 or float64.
        streams: S.
        embedding: (V, F) vectors of tokens. Steps then take numbers of tokens in place of vectors.
        threads: most threads that a step uses; torch's number when None. Small steps use fewer.
        half_weights: keep the matrices in 16 bits; of layers in float32.

    Attributes:
        streams: S.
        half_weights: whether they are.
        folded: whether a token's input product is looked up (`FOLDED_BYTES`), or computed from its vector.
        threads: how many threads a step may use.

    Raises:
        BackendUnavailable: the compiled kernels are not there.
        ValueError: the layers or the embedding do not fit each other, or a weight does not fit into 16 bits.
        TypeError: they are of a type of number that has no steps, or not in memory.
    """

    def __init__(
        self,
        layers: Sequence[StepLayer],
        *,
        streams: int = 1,
        embedding: Float[Tensor, "V F"] | None = None,
        threads: int | None = None,
        half_weights: bool = False,
    ) -> None:
        if compiled.UNAVAILABLE is not None:
            raise BackendUnavailable(f"Compiled steps cannot run: {compiled.UNAVAILABLE}.")
        from recurra.kernels import _cpu  # type: ignore[attr-defined]

        dtype = layers[0].weights.w_ih.dtype if layers else None
        _check_layers(layers, dtype, streams, embedding)
        if half_weights:
            _check_half(layers, dtype)
        assert dtype is not None
        self._layers = tuple((layer.operation, layer.sizes[1]) for layer in layers)
        self._initial = _initial_state(layers).to("cpu", dtype)
        self.half_weights = half_weights
        self._tokens = embedding is not None
        self._features, wide = layers[0].sizes
        rows = 0 if embedding is None else len(embedding)
        self.folded = 0 < rows * SIGNATURES[layers[0].operation].gates * wide * dtype.itemsize <= FOLDED_BYTES
        kept = [[_plain(tensor) for tensor in (*layer.weights, *(layer.norm or ()))] for layer in layers]
        vectors = torch.empty(0, device="cpu") if embedding is None else _plain(embedding)
        self._steps = _cpu.make_stepper(
            dtype == torch.float64,
            half_weights,
            [_addresses(layer, tensors) for layer, tensors in zip(layers, kept, strict=True)],
            vectors.data_ptr() if rows else 0,
            rows,
            self.folded,
            streams,
            torch.get_num_threads() if threads is None else threads,
        )
        self._set_streams(streams, dtype)

    def _set_streams(self, streams: int, dtype: torch.dtype) -> None:
        self.streams = streams
        self.dtype = dtype
        self.threads = int(self._steps.threads)
        self._x_dtype = torch.int64 if self._tokens else dtype
        self._x_shape = (streams,) if self._tokens else (streams, self._features)
        self._output_shape = (streams, self._layers[-1][1])
        # Empty tensors and arrays are made faster after a pattern.
        self._tensor = torch.empty(self._output_shape, dtype=dtype, device="cpu")
        self._array = self._tensor.numpy()
        self.reset()

    @overload
    def step(self, x: Tensor, *, out: Tensor | None = None) -> Tensor: ...

    @overload
    def step(self, x: np.ndarray, *, out: np.ndarray | None = None) -> np.ndarray: ...

    def step(self, x: Any, *, out: Any = None) -> Any:
        """One step of all streams.

        Args:
            x: (S, F) inputs, or (S,) tokens.
            out: (S, H), contiguous, to be filled; new memory when None.

        Returns:
            (S, H) outputs of the last layer.

        Raises:
            ValueError: of another shape, or `out` shares memory with `x`.
            IndexError: a token that the embedding has not.
        """
        if isinstance(x, Tensor):
            if not (x.dtype is self._x_dtype and x.shape == self._x_shape and x.is_contiguous() and x.is_cpu and not x.is_neg()):
                x = self._converted(x, many=False)
            out = torch.empty_like(self._tensor) if out is None else self._checked(out, Tensor)
            self._steps.step(x.data_ptr(), out.data_ptr())
            return out
        out = np.empty_like(self._array) if out is None else out
        if not self._steps.step_buffers(x, out):
            given = self._converted(torch.as_tensor(np.array(x), device="cpu"), many=False)
            self._steps.step(given.data_ptr(), self._checked(out, np.ndarray).ctypes.data)
        return out

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
        given = self._converted(x if isinstance(x, Tensor) else torch.as_tensor(np.array(x), device="cpu"), many=True)
        steps = given.shape[1]
        output = self._tensor.new_empty(self.streams, steps, self._output_shape[1])
        if steps:
            width = given.shape[2] if given.ndim == 3 else 1
            self._steps.run(given.data_ptr(), steps * width, width, output.data_ptr(), output.stride(0), output.stride(1), steps)
        return output if isinstance(x, Tensor) else output.numpy()

    def read_weights(self) -> None:
        """Read all packed weights once, on the threads of a step, and nothing else: the time that a step is measured against."""
        self._steps.read_weights()

    def snapshot(self) -> tuple[Any, ...]:
        """A copy of the state of every layer: NamedTuples of (S, H), what a stack, `restore` and `recurra.cells.state` take."""
        numbers = self._tensor.new_empty(self.streams, self._steps.state_numbers)
        self._steps.read_state(numbers.data_ptr())
        state, at = [], 0
        for operation, hidden in self._layers:
            kind = STEPPED[operation]
            places = [at + number * hidden for number in range(len(kind._fields))]
            state.append(kind(*(numbers[:, place : place + hidden] for place in places)))
            at = places[-1] + hidden
        return tuple(state)

    def restore(self, snapshot: tuple[Any, ...], rows: Rows | None = None) -> None:
        """Go on from a state.

        Args:
            snapshot: what `snapshot` returned, or a stack.
            rows: the streams that go on from it, one for each of its rows; all when None.

        Raises:
            ValueError: it is of other layers or another number of streams.
            IndexError: there is no such stream.
        """
        chosen = check_rows(rows, self.streams)
        fields = check_state(snapshot)
        expected = [(len(chosen), hidden) for operation, hidden in self._layers for _ in STEPPED[operation]._fields]
        if [tuple(field.shape) for field in fields] != expected:
            raise ValueError(
                f"The state has tensors of the shapes {[tuple(field.shape) for field in fields]}, and this stepper's state {expected}: "
                "take a snapshot of the same layers, and select its rows or use fork for another number of streams."
            )
        self._write(chosen, torch.cat(fields, 1))

    def fork(self, rows: Rows) -> CompiledStepper:
        """A stepper of its own over the same weights, whose streams begin as copies of some of these.

        Args:
            rows: for every stream of the new one the number of the stream it copies; repeats are allowed.

        Raises:
            IndexError: there is no such stream.
        """
        chosen = check_fork(rows, self.streams)
        made = object.__new__(CompiledStepper)
        made.__dict__.update(self.__dict__)
        made._steps = self._steps.fork(len(chosen))
        made._set_streams(len(chosen), self.dtype)
        numbers = self._tensor.new_empty(self.streams, self._steps.state_numbers)
        self._steps.read_state(numbers.data_ptr())
        made._write(range(len(chosen)), numbers[chosen])
        return made

    def reset(self, rows: Rows | None = None) -> None:
        """Start some streams anew; all when None.

        Raises:
            IndexError: there is no such stream.
        """
        self._write(check_rows(rows, self.streams), self._initial)

    def _write(self, rows: Sequence[int], numbers: Tensor) -> None:
        """The state of some streams: one row for each, or one for all."""
        numbers = numbers.detach().to("cpu", self.dtype).contiguous()
        self._steps.write_state(list(rows), numbers.data_ptr(), numbers.shape[1] if numbers.ndim == 2 else 0)

    def _converted(self, x: Tensor, *, many: bool) -> Tensor:
        check_input(x, self.streams, None if self._tokens else self._features, many=many)
        return x.detach().to("cpu", self._x_dtype).contiguous().resolve_neg()

    def _checked(self, out: Any, kind: type[Any]) -> Any:
        """An output that can be written: the kernels take it on trust."""
        if not isinstance(out, kind):
            raise ValueError(f"out must be what x is, a {kind.__name__}, not a {type(out).__name__}.")  # noqa: TRY004 - as what else is wrong with it
        dense = out.is_contiguous() and out.is_cpu if kind is Tensor else out.flags.c_contiguous and out.flags.writeable
        wanted = self.dtype if kind is Tensor else self._array.dtype
        if tuple(out.shape) != self._output_shape or out.dtype != wanted or not dense:
            raise ValueError(f"out must be contiguous {wanted} of shape {self._output_shape}, not {out.dtype} of shape {tuple(out.shape)}.")
        return out


def check_input(x: Tensor, streams: int, features: int | None, *, many: bool) -> None:
    """Refuse what a stepper does not read.

    Args:
        x: the input.
        streams: S.
        features: F; None for tokens.
        many: whether there are steps, (S, T, F) or (S, T).

    Raises:
        ValueError: of another shape, or tokens that are no whole numbers.
    """
    sizes: dict[str, int | None] = {
        "streams": streams,
        **({"steps": None} if many else {}),
        **({} if features is None else {"features": features}),
    }
    if x.ndim != len(sizes) or any(size not in (None, mine) for size, mine in zip(sizes.values(), x.shape, strict=True)):
        shown = ", ".join("T" if size is None else str(size) for size in sizes.values())
        raise ValueError(f"The input must be of shape ({', '.join(sizes)}) = ({shown}), not {tuple(x.shape)}.")
    if features is None and (x.is_floating_point() or x.dtype == torch.bool):
        raise ValueError(f"This stepper reads tokens, which are whole numbers, not {x.dtype}.")


def check_rows(rows: Rows | None, streams: int) -> list[int]:
    """Numbers of streams as a list; of all streams when None.

    Raises:
        IndexError: there is no such stream.
        TypeError: they are no whole numbers. Truth values are none: as numbers they would name the streams 0 and 1.
    """
    if rows is None:
        return list(range(streams))
    given: Any = rows.tolist() if isinstance(rows, (Tensor, np.ndarray)) else rows
    given = list(given) if isinstance(given, Iterable) else None
    if given is None or any(isinstance(row, (bool, np.bool_, float)) for row in given):
        raise TypeError(f"Name the streams by a list of their numbers, such as [0] or mask.nonzero()[:, 0], not by {rows!r}.")
    chosen = [index(row) for row in given]
    for row in chosen:
        if not 0 <= row < streams:
            raise IndexError(f"There is no stream {row}: they are 0 to {streams - 1}.")
    return chosen


def check_fork(rows: Rows, streams: int) -> list[int]:
    """Numbers of the streams that a fork copies; see `check_rows`.

    Raises:
        ValueError: no stream.
        IndexError: there is no such stream.
        TypeError: they are no whole numbers.
    """
    chosen = check_rows(rows, streams)
    if not chosen:
        raise ValueError("A fork needs at least one stream: name the rows to copy.")
    return chosen


def check_state(snapshot: tuple[Any, ...]) -> list[Tensor]:
    """The tensors of a stack's state, in order.

    Raises:
        TypeError: a part of it is no NamedTuple of tensors. torch's pair of (L, B, H) is none: its layers would be taken for fields.
    """
    wrong = [type(part).__name__ for part in snapshot if not isinstance(part, tuple)]
    if wrong:
        raise TypeError(f"A state has one NamedTuple a layer, as `snapshot` and the stack give it, and here is a {wrong[0]}.")
    return leaves(snapshot)


def check_sizes(streams: int, embedding: Tensor | None, features: int) -> None:
    """Refuse a stepper of no streams, or an embedding that does not fit.

    Raises:
        ValueError: no stream, or vectors of another width than F, or none.
    """
    if streams < 1:
        raise ValueError(f"A stepper needs at least one stream, not {streams}.")
    if embedding is not None and (embedding.ndim != 2 or embedding.shape[1] != features or not len(embedding)):
        raise ValueError(f"The embedding must be of shape (V, {features}), not {tuple(embedding.shape)}.")


def _check_layers(layers: Sequence[StepLayer], dtype: torch.dtype | None, streams: int, embedding: Tensor | None) -> None:
    """Whatever the kernels take on trust."""
    if not layers:
        raise ValueError("A stepper needs at least one layer.")
    if dtype not in {torch.float32, torch.float64}:
        raise TypeError(f"Compiled steps are of float32 or float64, not of {dtype}.")
    features = layers[0].sizes[0]
    check_sizes(streams, embedding, features)
    if embedding is not None and embedding.dtype != dtype:
        raise TypeError(f"The embedding is of {embedding.dtype} and the layers of {dtype}.")
    for number, layer in enumerate(layers):
        if layer.operation not in STEPPED:
            raise ValueError(f"There are no compiled steps of {layer.operation!r}, only of {', '.join(STEPPED)}.")
        width, hidden = layer.sizes
        wide, fields = SIGNATURES[layer.operation].gates * hidden, STEPPED[layer.operation]._fields
        expected = [(wide, features), (wide, hidden), (wide,), (wide,), *[(hidden,)] * (len(layer.initial) + 2 * (layer.norm is not None))]
        tensors = [*layer.weights, *layer.initial, *(layer.norm or ())]
        if [tuple(tensor.shape) for tensor in tensors] != expected:
            raise ValueError(f"Layer {number}'s tensors must be of shapes {expected}, not {[tuple(tensor.shape) for tensor in tensors]}.")
        if any(tensor.dtype != dtype for tensor in tensors):
            raise TypeError(f"Layer {number} must be of {dtype} as the first one is.")
        if layer.initial and len(layer.initial) != len(fields):
            raise ValueError(f"Layer {number}'s state starts with {len(fields)} tensors ({', '.join(fields)}), not {len(layer.initial)}.")
        if layer.residual and width != hidden:
            raise ValueError(f"Layer {number} reads {width} features and puts out {hidden}: there is no sum of both.")
        features = hidden


def _check_half(layers: Sequence[StepLayer], dtype: torch.dtype | None) -> None:
    """Refuse matrices that 16 bits cannot hold."""
    if dtype != torch.float32:
        raise TypeError(f"Weights in 16 bits are for layers of float32, not of {dtype}: leave half_weights out.")
    most = torch.finfo(torch.float16).max
    for number, layer in enumerate(layers):
        for name in ("w_ih", "w_hh"):
            if not bool((getattr(layer.weights, name).abs() <= most).all()):
                raise ValueError(
                    f"Layer {number}'s {name} has a weight beyond {most:,.0f}, the largest number of 16 bits, or one that is no number: "
                    "leave half_weights out."
                )


def _initial_state(layers: Sequence[StepLayer]) -> Tensor:
    """(N,) the state that a stream begins with, field after field."""
    fields = [
        field
        for layer in layers
        for field in (layer.initial or [layer.weights.w_hh.new_zeros(layer.sizes[1])] * len(STEPPED[layer.operation]._fields))
    ]
    return torch.cat([field.detach() for field in fields])


def _plain(tensor: Tensor) -> Tensor:
    """The numbers of a tensor, to be read where they lie.

    Raises:
        TypeError: they lie nowhere.
    """
    plain = tensor.detach().cpu().contiguous()
    if type(plain) is not Tensor:
        raise TypeError(
            f"Compiled steps read weights from memory, and a {type(plain).__name__} has none: make the stepper outside of the mode that made it."
        )
    return plain


def _addresses(layer: StepLayer, tensors: Sequence[Tensor]) -> tuple[Any, ...]:
    """A layer in the order in which the extension reads it; the tensors must live until it has."""
    places = [tensor.data_ptr() for tensor in tensors]
    norm = places[4:] if layer.norm else [0, 0]
    return (layer.operation, *layer.sizes, *places[:4], layer.zoneout, layer.zoneout, int(layer.residual), *norm, layer.norm_epsilon)
