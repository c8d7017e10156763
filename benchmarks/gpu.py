"""The Triton kernels on a GPU, against cuDNN's plain LSTM and against what runs without them. It has not been run on one yet."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
from rich.console import Console
from rich.table import Table
from torch.utils.benchmark import Timer

from recurra.cells import Cell, LayerNormLSTMCell, LSTMCell, MinGRUCell, SLSTMCell

__all__ = ["gpu"]

SHAPES = ((64, 50, 300, 128), (64, 50, 300, 512), (16, 200, 128, 256), (256, 100, 128, 64), (8, 1000, 40, 256), (1, 4000, 128, 128))
"""B, T, F, H."""


class Entry(NamedTuple):
    """A cell, and the backends that it is timed with beside cuDNN's LSTM."""

    make: Callable[..., Cell]
    backends: tuple[str, ...]


CELLS = {
    "LSTM, plain": Entry(LSTMCell, ("triton",)),
    "LSTM, recurrent dropout": Entry(partial(LSTMCell, recurrent_dropout=0.2), ("triton", "reference")),
    "layer-normalized LSTM": Entry(LayerNormLSTMCell, ("triton", "reference")),
    "sLSTM": Entry(SLSTMCell, ("triton", "reference")),
    "minGRU": Entry(MinGRUCell, ("triton", "aten")),
}


def gpu(*, seconds: float = 1.0) -> None:
    """Training steps of the cells that have Triton kernels, in milliseconds, beside cuDNN's LSTM of equal width.

    Before the clock each backend's outputs are compared with the reference's in double precision: at eight times the reference's
    own error the run ends.

    Args:
        seconds: least time of a measurement.
    """
    if not torch.cuda.is_available():
        raise SystemExit("There is no CUDA GPU here.")
    table = Table("cell", "B,T,F,H", "backend", "ms", "cuDNN's LSTM, ms", title=torch.cuda.get_device_name())
    for shape in SHAPES:
        plain = _milliseconds(_cell(LSTMCell, shape, "aten"), shape, seconds)
        for name, entry in CELLS.items():
            for backend in entry.backends:
                cell = _cell(entry.make, shape, backend)
                if backend != "reference":
                    _check(entry.make, shape, backend)
                took = _milliseconds(cell, shape, seconds)
                table.add_row(name, ",".join(map(str, shape)), backend, f"{took:.2f}", f"{plain:.2f}")
    Console().print(table)


def _cell(make: Callable[..., Cell], shape: tuple[int, ...], backend: str) -> Cell:
    """The same weights each time; made on the GPU, as a backend that cannot run there is refused when the cell is made."""
    torch.manual_seed(0)
    with torch.device("cuda"):
        return make(shape[2], shape[3], backend=backend)


def _input(shape: tuple[int, ...]) -> torch.Tensor:
    return torch.randn(*shape[:3], device="cuda", generator=torch.Generator("cuda").manual_seed(1))


def _check(make: Callable[..., Cell], shape: tuple[int, ...], backend: str) -> None:
    x = _input(shape)
    loop = _cell(make, shape, "reference").eval()
    with torch.no_grad():
        mine, single = _cell(make, shape, backend).eval()(x)[0], loop(x)[0]
        exact = loop.double()(x.double())[0]
    worst, own = (mine - exact).abs().max(), (single - exact).abs().max()
    if worst > 8 * own + 8 * torch.finfo(x.dtype).eps:
        raise SystemExit(f"{type(loop).__name__} by {backend} at {shape} is off by {worst:.1e}, the reference itself by {own:.1e}.")


def _milliseconds(cell: Cell, shape: tuple[int, ...], seconds: float) -> float:
    x = _input(shape).requires_grad_()

    def step() -> None:
        output, _ = cell(x)
        torch.autograd.grad(output.sum(), [x, *cell.parameters()], allow_unused=True)

    return 1000 * float(Timer("step()", globals={"step": step}).blocked_autorange(min_run_time=seconds).median)
