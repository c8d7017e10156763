"""Nothing is timed that computes something else: values and gradients against the float64 reference, before every case.

The contender runs the very case that is timed, at its full shape, with one difference: from above a gradient comes to a few
rows alone. Rows know nothing of each other, so the outputs and input gradients of these rows, and the gradients of the weights,
must be what the reference makes of these rows alone, at a small part of the cost, and the input gradients of all
other rows must be exactly zero.

How far off is allowed follows from the reference's own error in float32, as in the package's tests: see
`recurra.testing.rounding`. Torch and ONNX Runtime stay within five eighths of it over the whole grid, while anything left out,
misplaced or mixed up is off by thousands of times as much.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from benchmarks.kernels.cases import Case, Data, Unable, make_data
from benchmarks.kernels.contenders import Contender, Layer, make_stack, timed_call
from recurra.errors import BackendUnavailable
from recurra.testing.rounding import allowed_error, rounding_errors

__all__ = ["Finding", "Oracle", "RedGate", "check", "compare", "make_oracle", "refuse"]

MOST_ROWS = 6
"""Rows that are compared: the first, the last, the longest, the shortest, and two between."""

SEED = 1
"""Of the noise, the same for the reference and for what is compared with it."""

NOISY_SHAPE = (13, 12)
"""Rows and steps of a case with noise, which draws one number for each row and unit and must be compared as a whole."""


class RedGate(SystemExit):
    """Recurra's values are wrong: there is nothing to report. The message says which."""


class Oracle(NamedTuple):
    """What is right.

    Attributes:
        case: what is compared; of `NOISY_SHAPE` when it has noise.
        data: its batch, with a gradient to the rows alone.
        rows: (N,) rows that are compared.
        exact: output of these rows, gradient of their inputs, gradients of the weights, in float64.
        allowed: how far off each may be, in the unit of `rounding_error`.
    """

    case: Case
    data: Data
    rows: Tensor
    exact: list[Tensor]
    allowed: float


class Finding(NamedTuple):
    """One tensor of a contender against the oracle."""

    tensor: str
    error: float
    allowed: float

    @property
    def passed(self) -> bool:
        """Whether it is close enough; NaN is not."""
        return self.error <= self.allowed

    def __str__(self) -> str:
        return f"{self.tensor}: off by {self.error:.1e} of the largest value, allowed are {self.allowed:.1e}"


def make_oracle(case: Case, data: Data) -> Oracle:
    """The reference's results in float64, and what its float32 results say of rounding."""
    if case.noisy:
        rows, steps = NOISY_SHAPE
        case = case._replace(shape=case.shape._replace(batch_size=min(rows, case.shape.batch_size), steps=min(steps, case.shape.steps)))
        data = make_data(case)
    chosen = _rows(case, data)
    exact = _reference(case, data, chosen, torch.float64)
    rounded = _reference(case, data, chosen, torch.float32)
    return Oracle(case, data.only(chosen), chosen, exact, allowed_error(rounded, exact))


def check(contender: Contender, oracle: Oracle, *, training: bool) -> list[Finding]:
    """What the gate finds of a contender.

    Raises:
        Unable: the contender cannot do the case.
    """
    try:
        call = timed_call(contender(oracle.case, oracle.data), oracle.data, training=training)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(SEED)
            return compare(call(), oracle)
    except BackendUnavailable as error:
        raise Unable(str(error)) from error


def compare(values: list[Tensor], oracle: Oracle) -> list[Finding]:
    """A call's results, of all rows, against the oracle's. Of a forward pass there is the output alone."""
    output, *gradients = values
    kept, names = [output[oracle.rows]], ["output"]
    findings = []
    if gradients:
        dx, *weights = gradients
        kept += [dx[oracle.rows], *weights]
        names += ["gradient of the input", *(f"gradient of weight {number}" for number in range(len(weights)))]
        others = torch.ones(len(dx), dtype=torch.bool).index_fill(0, oracle.rows, value=False)
        if others.any():
            findings.append(Finding("input gradient of rows that have none", float(dx[others].abs().max()), 0.0))
    errors = rounding_errors(kept, oracle.exact[: len(kept)])
    return [*findings, *(Finding(name, error, oracle.allowed) for name, error in zip(names, errors, strict=True))]


def refuse(name: str, case: Case, findings: list[Finding]) -> None:
    """Raise RedGate when a finding does not pass."""
    red = [str(finding) for finding in findings if not finding.passed]
    if red:
        raise RedGate("\n  ".join([f"No figures: {name} computes something else in {case}.", *red]))


def _rows(case: Case, data: Data) -> Tensor:
    batch_size = len(data.x)
    if case.noisy:
        return torch.arange(batch_size)
    rows = {round(place) for place in torch.linspace(0, batch_size - 1, MOST_ROWS - 2).tolist()}
    if data.lengths is not None:
        rows |= {int(data.lengths.argmax()), int(data.lengths.argmin())}
    return torch.tensor(sorted(rows))


def _reference(case: Case, data: Data, rows: Tensor, dtype: torch.dtype) -> list[Tensor]:
    """Output, gradient of the input and gradients of the weights, of some rows alone."""
    lengths = None if data.lengths is None else data.lengths[rows]
    part = Data(data.x[rows].to(dtype), lengths, data.gradient[rows].to(dtype), data.stack)
    stack = make_stack(case, data, "reference").to(dtype)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        layer = Layer(lambda x: stack(x, lengths=lengths)[0], list(stack.parameters()))
        return timed_call(layer, part, training=True)()
