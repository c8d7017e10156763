"""Cells on top of each other, in one or both directions, with what regularizes them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from recurra.cells import CELLS, Cell, ScanCell, StandardCell
from recurra.cells.initialization import Initialization
from recurra.cells.noise import check_rate
from recurra.data.batch import padding_mask
from recurra.errors import SettingsError, nearest
from recurra.kernels.backend import choose
from recurra.kernels.directions import run_directions
from recurra.kernels.lengths import check_is_tensor, values_are_known
from recurra.layers.directions import reversed_reset
from recurra.layers.dropout import StepDropout, VariationalDropout
from recurra.shapes import Bool, Float, Int, Tensor

__all__ = ["Regularization", "Stack"]


@dataclass(frozen=True)
class Regularization:
    """Noise of a stack in training.

    Attributes:
        input: dropout of the first layer's input, one mask for all steps.
        between: dropout between the layers, drawn anew at each step unless `variational`.
        variational: one mask for all steps between the layers (Gal & Ghahramani 2016).
        recurrent: dropout of the hidden state that the recurrence reads, one mask for all steps.
        weight: dropout of the recurrent weights, one mask a call (Merity et al. 2017).
        zoneout: share of the units that keep their previous state at a step (Krueger et al. 2016).
    """

    input: float = 0.0
    between: float = 0.0
    variational: bool = False
    recurrent: float = 0.0
    weight: float = 0.0
    zoneout: float = 0.0

    def __post_init__(self) -> None:
        for name in ("input", "between", "recurrent", "weight", "zoneout"):
            check_rate(name, getattr(self, name))


class Stack(nn.Module):
    """Layers of one kind of cell.

    A layer reads the layer below; with `bidirectional` it reads it from both ends with two cells and puts their outputs
    side by side, forward first. With `residual` the layer's input, before any dropout, is added to its output where the
    widths agree. With `layer_norm` the sum is normalized over its features (Ba et al. 2016). Padding is zero after each.

    Args:
        cell: name of a built-in cell (`recurra.cells.CELLS`), or a callable `(input_size, hidden_size) -> Cell`.
        input_size: F.
        hidden_size: H, units of a layer and direction.
        layers: L.
        bidirectional: read from both ends.
        residual: add a layer's input to its output.
        layer_norm: normalize each layer's output.
        regularization: noise in training; recurrent, weight and zoneout need a built-in cell.
        initialization: how the cells start; anything but the default needs a built-in cell.
        backend: what computes the recurrences: "auto", or a name that runs or raises; for a cell of your own "compile" or
            "reference".

    Attributes:
        input_size: F.
        output_size: D, features of an output step.
        cells: layer by layer, forward before backward.

    Raises:
        SettingsError: an unknown cell, or an option that would do nothing.
        BackendUnavailable: the backend named cannot run these options.
    """

    def __init__(
        self,
        cell: str | Callable[[int, int], Cell],
        input_size: int,
        hidden_size: int,
        *,
        layers: int = 1,
        bidirectional: bool = False,
        residual: bool = False,
        layer_norm: bool = False,
        regularization: Regularization | None = None,
        initialization: Initialization | None = None,
        backend: str = "auto",
    ) -> None:
        super().__init__()
        if layers < 1:
            raise ValueError(f"layers must be 1 or more, not {layers}.")
        regularization = Regularization() if regularization is None else regularization
        make = _maker(cell, regularization, Initialization() if initialization is None else initialization, backend)
        self.input_size = input_size
        self.layers = layers
        self.directions = 2 if bidirectional else 1
        self.residual = residual
        self.cells = nn.ModuleList()
        width = input_size
        for _ in range(layers):
            self.cells.extend(make(width, hidden_size) for _ in range(self.directions))
            width = self.directions * int(self._cells()[-1].output_size)
        self.output_size = width
        self._refuse_idle_options(regularization)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(layers if layer_norm else 0))
        self._combines = residual or layer_norm
        self.input_dropout = VariationalDropout(regularization.input)
        self.between_dropout = (VariationalDropout if regularization.variational else StepDropout)(regularization.between)

    def _refuse_idle_options(self, regularization: Regularization) -> None:
        """Nothing is accepted and ignored."""
        if self.layers == 1 and regularization.between:
            raise SettingsError("Dropout between the layers does nothing in a stack of one layer: give it more layers, or leave it out.")
        if regularization.variational and not regularization.between:
            raise SettingsError(
                "`variational` says how the dropout between the layers is drawn, and there is none: set that, or leave it out."
            )
        if self.residual and self.input_size != self.output_size and self.layers == 1:
            raise SettingsError(
                f"`residual` does nothing here: the only layer reads {self.input_size} features and puts out {self.output_size}. "
                "Give the stack more layers or make both equal."
            )

    @property
    def bidirectional(self) -> bool:
        """Whether each layer reads from both ends."""
        return self.directions == 2

    def initial_state(self, batch_size: int) -> tuple[Any, ...]:
        """One cell's state after the other, in the order of `cells`."""
        return tuple([cell.initial_state(batch_size) for cell in self._cells()])

    def forward(
        self,
        x: Float[Tensor, "B T F"],
        state: tuple[Any, ...] | None = None,
        *,
        lengths: Int[Tensor, " B"] | None = None,
        reset: Bool[Tensor, "B T"] | None = None,
    ) -> tuple[Float[Tensor, "B T D"], tuple[Any, ...]]:
        """All layers over all steps.

        Args:
            x: inputs; what stands beyond a row's length means nothing (NaN included).
            state: one cell's state after the other, in the order of `cells`; `initial_state` when None.
            lengths: real steps of each row, on any device, unsorted, 0 allowed; None when all are real.
            reset: true where a new sequence begins inside a row: the state starts anew before the step is read. The
                backward direction starts anew where the sequence before it ends.

        Returns:
            The last layer's outputs, zero in the padding, and the state of every cell.

        Raises:
            ValueError: the state is none of this stack.
        """
        cells = self._cells()
        if state is None:
            state = tuple([cell.initial_state(x.shape[0]) for cell in cells])
        if len(state) != len(cells):
            raise ValueError(f"The state has {len(state)} parts and the stack {len(cells)} cells: use initial_state(batch_size).")
        mask = None
        if reset is not None:
            check_is_tensor("reset", reset, "booleans")
        if lengths is not None:
            check_is_tensor("lengths", lengths, "integers")
            if values_are_known(lengths) and bool((lengths == x.shape[1]).all()):
                lengths = None
            else:
                mask = padding_mask(lengths.to(x.device), x.shape[1])[..., None]
        after: list[Any] = []
        for layer in range(self.layers):
            dropout = self.between_dropout if layer else self.input_dropout
            read = dropout(x) if dropout.rate else x
            numbers = slice(layer * self.directions, (layer + 1) * self.directions)
            output, last = _read(cells[numbers], read, state[numbers], lengths, reset)
            after.extend(last)
            x = self._combine(layer, x, output, mask) if self._combines else output
        return x, tuple(after)

    def _combine(self, layer: int, x: Tensor, output: Tensor, mask: Tensor | None) -> Tensor:
        """The residual and the norm; zero in the padding."""
        if self.residual and x.shape[2] == output.shape[2]:
            # Only the user's own input can hold NaN in its padding.
            output = output + (x if mask is None or layer else x.masked_fill(~mask, 0.0))
        if len(self.norms):
            output = self.norms[layer](output)
            output = output if mask is None else output.masked_fill(~mask, 0.0)
        return output

    def explain_backend(self, x: Float[Tensor, "B T F"] | None = None, *, reset: Bool[Tensor, "B T"] | None = None) -> str:
        """What computes each layer as it stands (training or evaluation), and why; one line for layers that agree.

        Args:
            x: what `forward` would be called with; None for many steps where the weights are.
            reset: what `forward` would be called with.

        Raises:
            BackendUnavailable: the backend named cannot run this call.
        """
        lines: dict[str, list[str]] = {}
        for number, cell in enumerate(self._cells()):
            layer, direction = divmod(number, self.directions)
            name = f"layer {layer}" + (" backward" if direction else " forward" if self.bidirectional else "")
            lines.setdefault(f"{type(cell).__name__} runs on {cell.explain_backend(x, reset=reset)}", []).append(name)
        return "\n".join(f"{', '.join(names)}: {reason}" for reason, names in lines.items())

    def describe_module(self, name: str) -> str:
        """A module's name in a person's words: `"layer 1, backward"` for `"cells.1"`."""
        kind, _, rest = name.partition(".")
        number = rest.partition(".")[0]
        if not number.isdigit():
            return name
        layer, direction = (int(number), 0) if kind == "norms" else divmod(int(number), self.directions)
        way = ", norm" if kind == "norms" else "" if not self.bidirectional else (", forward", ", backward")[direction]
        return f"layer {layer + 1}{way}"

    def _cells(self) -> list[Cell]:
        return [cell for cell in self.cells if isinstance(cell, Cell)]


def _read(cells: Sequence[Cell], x: Tensor, state: Sequence[Any], lengths: Tensor | None, reset: Tensor | None) -> tuple[Tensor, list[Any]]:
    """One layer's outputs, the directions side by side, and the state of each."""
    first = cells[0]
    if len(cells) == 1:
        output, last = first(x, state[0], lengths=lengths, reset=reset)
        return output, [last]
    wheres = [reset, None if reset is None else reversed_reset(reset, lengths)]
    # Who watches a cell (gradient flow does) is to see its own call; no bit changes by it.
    alike = all(type(cell) is type(first) and isinstance(cell, StandardCell) and cell.is_plain() for cell in cells)
    if isinstance(first, StandardCell) and alike:
        calls = [
            cell.direction(x, start, reset=where, reverse=cell is not first)
            for cell, start, where in zip(cells, state, wheres, strict=True)
            if isinstance(cell, StandardCell)
        ]
        return run_directions(first.operation, type(first).recurrence, x, calls, lengths=lengths, backend=first.backend)
    x = x.view_as(x)  # what the directions give it is added up before what other readers do, as in one call
    results = [
        cell(x, start, lengths=lengths, reset=where, reverse=cell is not first)
        for cell, start, where in zip(cells, state, wheres, strict=True)
    ]
    return torch.cat([output for output, _ in results], 2), [last for _, last in results]


def _maker(
    cell: str | Callable[[int, int], Cell], regularization: Regularization, initialization: Initialization, backend: str
) -> Callable[[int, int], Cell]:
    """`(input_size, hidden_size) -> Cell` with all options inside."""
    if isinstance(cell, str):
        if cell not in CELLS:
            raise SettingsError(f"There is no cell {cell!r}: use {', '.join(CELLS)}, or pass a Cell class.{nearest(cell, CELLS)}")
        cell = CELLS[cell]
    if isinstance(cell, Cell) or not callable(cell):
        raise SettingsError(
            f"`cell` is a name, a Cell class or a callable (input_size, hidden_size) -> Cell, of which a stack makes its own, not a {type(cell).__name__}."
        )
    user_cell: Callable[[int, int], Cell] = cell
    if isinstance(cell, type) and issubclass(cell, StandardCell):
        standard = cell
        return lambda input_size, hidden_size: standard(
            input_size,
            hidden_size,
            recurrent_dropout=regularization.recurrent,
            weight_dropout=regularization.weight,
            zoneout=regularization.zoneout,
            initialization=initialization,
            backend=backend,
        )
    inside = {"recurrent": regularization.recurrent, "weight": regularization.weight, "zoneout": regularization.zoneout}
    ignored = [name for name, rate in inside.items() if rate]
    if isinstance(cell, type) and issubclass(cell, ScanCell):
        if ignored:
            raise SettingsError(
                f"{', '.join(ignored)} means nothing for {cell.__name__}, whose steps are one scan: leave it out, or use a cell such as lstm or gru."
            )
        scan = cell
        return lambda input_size, hidden_size: scan(input_size, hidden_size, initialization=initialization, backend=backend)
    ignored += ["initialization"] if initialization != Initialization() else []
    ignored += ["backend"] if backend not in {"auto", "reference", "compile"} else []
    if ignored:
        raise SettingsError(
            f"{', '.join(ignored)} cannot reach inside a cell of your own: build it into the cell, or use one of {', '.join(CELLS)}."
        )

    def make(input_size: int, hidden_size: int) -> Cell:
        made = user_cell(input_size, hidden_size)
        if not isinstance(made, Cell):
            raise SettingsError(
                f"`cell` must make cells of recurra.cells.Cell, and made a {type(made).__module__}.{type(made).__name__}: derive it from Cell."
            )
        if backend != "auto":
            choose(getattr(made, "operation", "step"), backend, device=None)
            made.backend = backend
        return made

    return make
