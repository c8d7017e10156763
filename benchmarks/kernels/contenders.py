"""Who is measured over whole sequences. A contender is a function that copies the case's weights into its own layer.

All read the same padded rows, (B, T, I), and put out (B, T, D*H): what a contender needs to get from one to the other
(packing, masks, turning rows round) is part of its time, as it is part of its user's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch._dynamo.exc import TorchDynamoException
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from benchmarks.kernels.cases import Case, Data, Unable
from recurra.errors import RecurraError
from recurra.layers import Stack, torch_weights

__all__ = [
    "LAYERS",
    "OTHERS",
    "SLOW",
    "Call",
    "Contender",
    "Layer",
    "contenders",
    "make_cells",
    "make_layer",
    "make_stack",
    "ours",
    "real_mask",
    "rival",
    "timed_call",
]

Call = Callable[[], list[Tensor]]
"""One forward pass, `[output]`, or one training step, `[output, gradient of x, gradients of the weights...]`."""


class Layer(NamedTuple):
    """A contender made ready for a case.

    Attributes:
        run: (B, T, I) -> (B, T, D*H).
        weights: in torch's order; None when it computes no gradients.
    """

    run: Callable[[Tensor], Tensor]
    weights: Sequence[Tensor] | None


Contender = Callable[[Case, Data], Layer]
"""Raises Unable when it cannot do the case."""

LAYERS: dict[str, Callable[..., nn.RNNBase]] = {"lstm": nn.LSTM, "gru": nn.GRU, "elman": nn.RNN}
"""torch's layers by the names of our cells."""

STEPS: dict[str, Callable[..., nn.RNNCellBase]] = {"lstm": nn.LSTMCell, "gru": nn.GRUCell, "elman": nn.RNNCell}
"""torch's single steps by the names of our cells."""

MOST_COMPILED_STEPS = 64
"""torch.compile unrolls a loop: beyond this many steps it compiles for minutes."""

SLOW = frozenset({"loop", "compiled"})
"""Contenders that get few samples."""


def contenders(backends: Iterable[str], others: Iterable[str]) -> dict[str, Contender]:
    """The contenders by name; the first is the one that the others are compared with.

    Raises:
        SystemExit: there is none of this name.
    """
    mine = list(backends) or ["auto"]
    named = {"recurra" if backend == "auto" else f"recurra {backend}": ours(backend) for backend in mine}
    chosen = list(others) or ["torch", "packed", "onnxruntime"]
    unknown = [name for name in chosen if name not in OTHERS]
    if unknown:
        raise SystemExit(f"There is no contender {', '.join(unknown)}: use {', '.join(OTHERS)}.")
    return named | {name: OTHERS[name] for name in OTHERS if name in chosen}


def rival(case: Case) -> str:
    """Whom a case is compared with: torch's layer, in the way that gives right values at every step."""
    return "packed" if case.varied else "torch"


def timed_call(layer: Layer, data: Data, *, training: bool) -> Call:
    """What is timed: a forward pass without gradients, or one with the gradients of the input and of the weights.

    Raises:
        Unable: training is asked of a layer without gradients.
    """
    if not training:

        def forward() -> list[Tensor]:
            with torch.no_grad():
                return [layer.run(data.x)]

        return forward
    if layer.weights is None:
        raise Unable("it computes no gradients")
    x = data.x.clone().requires_grad_()
    leaves = [x, *layer.weights]

    def step() -> list[Tensor]:
        output = layer.run(x)
        return [output.detach(), *torch.autograd.grad(output, leaves, data.gradient)]

    return step


def ours(backend: str) -> Contender:
    """A stack of one layer in training mode, on a backend."""

    def prepare(case: Case, data: Data) -> Layer:
        stack = make_stack(case, data, backend)
        return Layer(lambda x: stack(x, lengths=data.lengths)[0], list(stack.parameters()))

    return prepare


def make_stack(case: Case, data: Data, backend: str) -> Stack:
    """A stack with the case's weights.

    Raises:
        Unable: the backend cannot run this.
    """
    _, _, input_size, hidden_size = case.shape
    try:
        stack = Stack(
            case.cell, input_size, hidden_size, bidirectional=case.bidirectional, regularization=case.regularization, backend=backend
        )
    except RecurraError as error:
        raise Unable(str(error)) from error
    stack.load_state_dict(data.stack.state_dict())
    return stack


def make_layer(case: Case, data: Data) -> nn.RNNBase:
    """torch's layer with the case's weights."""
    if case.cell not in LAYERS:
        raise Unable(f"torch has no {case.cell} layer")
    if case.noisy:
        raise Unable("torch's layer has no noise inside the recurrence")
    _, _, input_size, hidden_size = case.shape
    layer = LAYERS[case.cell](input_size, hidden_size, batch_first=True, bidirectional=case.bidirectional)
    layer.load_state_dict(torch_weights(data.stack))
    return layer


def make_cells(case: Case, data: Data) -> nn.ModuleList:
    """torch's single steps with the case's weights, one a direction."""
    if case.cell not in STEPS:
        raise Unable(f"torch has no single step of {case.cell}")
    _, _, input_size, hidden_size = case.shape
    cells = nn.ModuleList(STEPS[case.cell](input_size, hidden_size) for _ in data.stack.cells)
    for mine, cell in zip(cells, data.stack.cells, strict=True):
        mine.load_state_dict(cell.state_dict())
    return cells


def _padded(case: Case, data: Data) -> Layer:
    """torch's layer over the padding too: right where all rows are full, else wrong in the padding and, read backwards, everywhere."""
    layer = make_layer(case, data)
    return Layer(lambda x: layer(x)[0], list(layer.parameters()))


def _packed(case: Case, data: Data) -> Layer:
    """torch's layer over packed rows, as its documentation says: packing and unpacking included."""
    layer = make_layer(case, data)
    if data.lengths is None:
        raise Unable("nobody packs full rows")
    lengths = data.lengths

    def run(x: Tensor) -> Tensor:
        packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        return pad_packed_sequence(layer(packed)[0], batch_first=True, total_length=x.shape[1])[0]

    return Layer(run, list(layer.parameters()))


class Loop(nn.Module):
    """A Python loop over torch's own single step, as one writes it: rows stand still in their padding."""

    def __init__(self, case: Case, data: Data) -> None:
        super().__init__()
        self.cells = make_cells(case, data)
        self.zoneout, self.dropout = case.regularization.zoneout, case.regularization.recurrent
        self.hidden_size = case.shape.hidden_size
        self.memory = case.cell == "lstm"

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """All steps of all directions; `mask` (B, T, 1) is true at real steps."""
        outputs = [self.read(cell, x, mask, backwards=bool(number)) for number, cell in enumerate(self.cells)]
        output = torch.cat(outputs, 2) if len(outputs) > 1 else outputs[0]
        return output if mask is None else output * mask

    def read(self, cell: nn.Module, x: Tensor, mask: Tensor | None, *, backwards: bool) -> Tensor:
        """One direction."""
        state = [x.new_zeros(len(x), self.hidden_size)] * (2 if self.memory else 1)
        kept = None
        if self.dropout:
            kept = (torch.rand_like(state[0]) >= self.dropout).to(x.dtype) / (1.0 - self.dropout)
        steps = list(range(x.shape[1]))
        outputs = [x] * len(steps)
        for t in reversed(steps) if backwards else steps:
            read = state if kept is None else [state[0] * kept, *state[1:]]
            new = cell(x[:, t], tuple(read) if self.memory else read[0])
            new = list(new) if self.memory else [new]
            if self.zoneout:
                new = [torch.where(torch.rand_like(old) < self.zoneout, old, field) for old, field in zip(state, new, strict=True)]
            if mask is not None:
                new = [torch.where(mask[:, t], field, old) for old, field in zip(state, new, strict=True)]
            outputs[t], state = new[0], new
        return torch.stack(outputs, 1)


def _loop(case: Case, data: Data) -> Layer:
    """The Python loop."""
    loop, mask = Loop(case, data), real_mask(data)
    return Layer(lambda x: loop(x, mask), list(loop.parameters()))


def _compiled(case: Case, data: Data) -> Layer:
    """The Python loop, compiled: torch.compile unrolls it for this number of steps."""
    if case.shape.steps > MOST_COMPILED_STEPS:
        raise Unable(f"torch.compile unrolls the loop, for minutes beyond {MOST_COMPILED_STEPS} steps")
    torch._dynamo.reset()
    loop, mask = Loop(case, data), real_mask(data)
    compiled = torch.compile(loop, dynamic=False)

    def run(x: Tensor) -> Tensor:
        try:
            return compiled(x, mask)  # type: ignore[no-any-return]
        except TorchDynamoException as error:
            # Without a C++ compiler, or with one that it does not like.
            raise Unable(f"torch.compile failed: {str(error).strip().splitlines()[0]}") from error

    return Layer(run, list(loop.parameters()))


def real_mask(data: Data) -> Tensor | None:
    """(B, T, 1) true at real steps; None where there is no padding."""
    return None if data.lengths is None else (torch.arange(data.x.shape[1]) < data.lengths[:, None])[..., None]


def _onnxruntime(case: Case, data: Data) -> Layer:
    """ONNX Runtime's operator for the layer; it has no training."""
    if case.cell not in LAYERS:
        raise Unable(f"ONNX has no {case.cell} operator")
    if case.noisy:
        raise Unable("ONNX's operators have no noise inside the recurrence")
    from benchmarks.kernels.onnx_layers import sequence_runner

    return Layer(sequence_runner(case.cell, torch_weights(data.stack), data.lengths), None)


OTHERS: dict[str, Contender] = {
    "torch": _padded,
    "packed": _packed,
    "onnxruntime": _onnxruntime,
    "loop": _loop,
    "compiled": _compiled,
}
"""Everyone but Recurra."""
