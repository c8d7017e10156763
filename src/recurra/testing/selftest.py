"""The self-test of an installation: every cell, option and backend of this machine against the reference in float64."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch

from recurra.cells import CELLS, Cell, ProjectedLSTMCell, ScanCell
from recurra.cells.state import detach, map_state
from recurra.errors import BackendUnavailable
from recurra.kernels.backend import available_backends
from recurra.kernels.state import leaves
from recurra.layers.stack import Regularization, Stack
from recurra.shapes import Tensor
from recurra.testing.rounding import allowed_error, rounding_error

__all__ = ["SUBJECTS", "Finding", "run_selftest"]

SUBJECTS: dict[str, type[Cell]] = {**CELLS, "projected_lstm": ProjectedLSTMCell}
"""The cells that are tested, by name."""

CASES: tuple[tuple[str, ...], ...] = (
    (),
    ("lengths", "initial state", "both directions"),
    ("reset", "both directions"),
    ("recurrent dropout", "zoneout", "lengths"),
    ("lengths", "initial state", "both directions", "reset", "recurrent dropout", "zoneout"),
    ("lengths", "initial state", "both directions", "reset", "zoneout in evaluation"),
)
"""Options that are in force together. A reader of both directions reads one of them in reverse."""

NOISE = ("recurrent dropout", "zoneout", "zoneout in evaluation")
"""Options that a scan has not."""

ROWS, STEPS, FEATURES, UNITS, PROJECTED = 5, 7, 6, 19, 5
"""Sizes of a call. 19 units fill no vector of any instruction set, and more than one of each."""

TYPES = (torch.float32, torch.float64)


class Finding(NamedTuple):
    """What came out for one cell and backend.

    Attributes:
        cell: its name.
        backend: who computed; "reference" where there is no other on the device, and nothing to compare.
        device: type of the device.
        options: all that were in force in one of the calls.
        float32: the largest error of values and gradients in units of what is allowed (`allowed_error`); None: not compared.
        float64: the same.
        problem: what was raised, if anything was; the errors are then infinite.
    """

    cell: str
    backend: str
    device: str
    options: tuple[str, ...]
    float32: float | None
    float64: float | None
    problem: str = ""

    @property
    def within(self) -> bool:
        """Whether nothing is out of bounds."""
        return all(error is None or error <= 1.0 for error in (self.float32, self.float64))


def run_selftest(cells: Sequence[str] = tuple(SUBJECTS)) -> Iterator[Finding]:
    """Compare every backend that can run on this machine with the reference.

    Values and gradients, in float32 and float64, also of both directions at once; on a GPU too where there is one.

    Args:
        cells: names of `SUBJECTS`.

    Yields:
        One finding for each cell, device and backend.
    """
    with torch.random.fork_rng(), torch.backends.cudnn.flags(allow_tf32=False):
        for name in cells:
            for device in ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]:
                yield from _examine(name, device)


def _examine(name: str, device: str) -> Iterator[Finding]:
    """All backends of one cell on one device."""
    backends = [backend for backend in available_backends(device) if backend != "reference"]
    errors: dict[str, dict[torch.dtype, float]] = {}
    problems: dict[str, str] = {}
    options: dict[str, dict[str, None]] = {backend: {} for backend in backends}
    for chosen in _cases(name):
        call = _Call(name, chosen, device)
        exact, short = call.run("reference", torch.float64), call.run("reference", torch.float32)
        for backend in backends:
            try:
                found = {dtype: rounding_error(call.run(backend, dtype), exact) for dtype in TYPES}
            except BackendUnavailable:
                continue  # it does not claim to run these options
            except RuntimeError as error:
                found = dict.fromkeys(TYPES, float("inf"))
                problems[backend] = str(error)
            options[backend].update(dict.fromkeys(chosen))
            worst = errors.setdefault(backend, dict.fromkeys(TYPES, 0.0))
            for dtype in TYPES:
                worst[dtype] = max(worst[dtype], found[dtype] / allowed_error(short, exact, dtype))
    for backend, worst in errors.items():
        yield Finding(name, backend, device, tuple(options[backend]), worst[torch.float32], worst[torch.float64], problems.get(backend, ""))
    if not errors:
        yield Finding(name, "reference", device, (), None, None)


def _cases(name: str) -> list[tuple[str, ...]]:
    """Those that a cell has, each once."""
    without = NOISE if issubclass(SUBJECTS[name], ScanCell) else ()
    return list(dict.fromkeys(tuple(option for option in chosen if option not in without) for chosen in CASES))


class _Call:
    """A layer of one kind of cell and what it is called with; all numbers are float32's in any type."""

    def __init__(self, name: str, options: tuple[str, ...], device: str) -> None:
        torch.manual_seed(0)
        self.device = device
        noise = Regularization(recurrent=0.4 * ("recurrent dropout" in options), zoneout=0.3 * any("zoneout" in each for each in options))
        self.stack = _stack(name, noise, both="both directions" in options)
        self.stack.train("zoneout in evaluation" not in options)
        self.x = torch.randn(ROWS, STEPS, FEATURES)
        # A state that the layer came to by itself, because not every tensor need be a valid state.
        self.state = detach(self.stack(self.x)[1]) if "initial state" in options else None
        self.reset = torch.rand(ROWS, STEPS) < 0.3 if "reset" in options else None
        self.lengths = None
        if "lengths" in options:
            self.lengths = torch.tensor([STEPS, 0, 3, 1, STEPS - 1])
            self.x[torch.arange(STEPS) >= self.lengths[:, None]] = torch.nan

    def run(self, backend: str, dtype: torch.dtype) -> list[Tensor]:
        """Outputs and states, the same without gradients, and the gradients of a weighted sum by everything."""
        stack = copy.deepcopy(self.stack).to(self.device, dtype)
        for cell in stack.cells:
            assert isinstance(cell, Cell)
            cell.backend = backend

        def place(tensor: Tensor) -> Tensor:
            return tensor.to(self.device, dtype).requires_grad_()

        x, state = place(self.x), None if self.state is None else map_state(place, self.state)
        inputs = [x, *stack.parameters(), *(leaves(state) if state is not None else [])]
        with torch.no_grad():
            values = self._results(stack, x, state)
        results = self._results(stack, x, state)
        generator = torch.Generator().manual_seed(1)
        weights = [torch.randn(each.shape, generator=generator).to(each) for each in results]
        gradients = torch.autograd.grad(results, inputs, weights, materialize_grads=True)
        return [each.detach().cpu() for each in (*values, *results, *gradients)]

    def _results(self, stack: Stack, x: Tensor, state: Any) -> list[Tensor]:
        torch.manual_seed(1)  # the same noise in every type and for every backend
        reset = None if self.reset is None else self.reset.to(self.device)
        output, last = stack(x, state, lengths=self.lengths, reset=reset)
        return [output, *leaves(last)]


def _stack(name: str, noise: Regularization, *, both: bool) -> Stack:
    kind: Any = SUBJECTS[name]
    if kind is ProjectedLSTMCell:
        projected = partial(kind, proj_size=PROJECTED, recurrent_dropout=noise.recurrent, zoneout=noise.zoneout, backend="reference")
        return Stack(projected, FEATURES, UNITS, bidirectional=both)
    return Stack(kind, FEATURES, UNITS, bidirectional=both, regularization=noise, backend="reference")
