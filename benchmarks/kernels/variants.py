"""What the variants of a cell cost: against the plain cell, and against the Python loop that a user would write.

The loops are over torch's own single step with the noise added, and for layer normalization over torch's linear maps
and norms. Lengths are full, the mode is training. Values of ours are compared with the reference; those of the loops are
not, as they draw their noise in another order.
"""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from benchmarks.kernels.cases import Case, Data, Shape, Unable, make_data
from benchmarks.kernels.contenders import OTHERS, Call, Layer, ours, timed_call
from benchmarks.kernels.gate import check, make_oracle, refuse
from benchmarks.kernels.grid import pick
from benchmarks.kernels.options import Effort, Options
from benchmarks.kernels.report import Report, Target, milliseconds, table, times
from benchmarks.kernels.timing import interleave, pair_ratios
from recurra.cells import CELLS
from recurra.layers import Regularization

__all__ = ["VARIANTS", "VariantRecord", "cell_named", "measure_variant", "run_variants"]

SHAPES = (Shape(64, 50, 300, 128), Shape(64, 50, 300, 512), Shape(16, 200, 128, 256))

RATE = 0.1
"""Of the noise; the time does not depend on it."""


class VariantRecord(NamedTuple):
    """What was measured of a variant.

    Attributes:
        variant: its name.
        case: what it computed.
        samples: seconds of a training step of the variant, of the plain cell and of the loop.
    """

    variant: str
    case: Case
    samples: dict[str, list[float]]

    def ratio(self, slower: str, faster: str) -> float:
        """How many times longer one takes than the other, as the median over the rounds."""
        return statistics.median(pair_ratios(self.samples[faster], self.samples[slower]))

    def describe(self) -> dict[str, Any]:
        """Plain values with every sample, for JSON."""
        return {
            "variant": self.variant,
            **self.case.describe(),
            "samples": self.samples,
            "over_plain": self.ratio("variant", "plain"),
            "loop_over_variant": self.ratio("loop", "variant"),
        }


def _zoneout(cell: str, shape: Shape) -> Case:
    return Case(cell, shape, regularization=Regularization(zoneout=RATE))


def _dropout(cell: str, shape: Shape) -> Case:
    return Case(cell, shape, regularization=Regularization(recurrent=RATE))


def _normalized(cell: str, shape: Shape) -> Case:
    return Case(cell_named(f"layernorm_{cell}", f"layer_norm_{cell}"), shape)


VARIANTS: dict[str, Callable[[str, Shape], Case]] = {
    "zoneout": _zoneout,
    "recurrent dropout": _dropout,
    "layer normalization": _normalized,
}
"""`(plain cell, shape) -> case`."""


def run_variants(options: Options, report: Report) -> None:
    """Measure, print and write `variants.json`."""
    cells = pick("cell", {"lstm": "lstm", "gru": "gru"}, options.cells)
    shapes = [Shape.parse(text) for text in options.shapes] or ((Shape(32, 30, 64, 64),) if options.quick else SHAPES)
    backend = options.backend[0] if options.backend else "auto"
    records, left_out = [], {}
    for cell, shape, variant in itertools.product(cells, shapes, VARIANTS):
        report.progress(f"{cell} {shape}, {variant}")
        try:
            records.append(measure_variant(variant, cell, shape, backend=backend, effort=options.effort))
        except Unable as error:
            left_out[f"{cell}, {variant}"] = str(error)
    heads = ["variant", "cell", "B,T,I,H", "variant", "plain", "variant / plain", "loop", "loop / variant"]
    report.print(table("Variants, training step: milliseconds", heads, [_row(record) for record in records]))
    for name, reason in left_out.items():
        report.print(f"Left out: {name}: {reason}")
    targets = [
        Target("variants, times of the plain cell", [r.ratio("variant", "plain") for r in records], least=1.3, at_most=True),
        Target("variants, over a Python loop", [r.ratio("loop", "variant") for r in records], least=8.0),
    ]
    report.print_targets(targets)
    report.write("variants", {"variants": [record.describe() for record in records], "left_out": left_out}, targets)


def measure_variant(variant: str, cell: str, shape: Shape, *, backend: str, effort: Effort) -> VariantRecord:
    """Check the variant and the plain cell, and time both beside the loop.

    Raises:
        RedGate: the variant's or the plain cell's values are wrong.
        Unable: there is no such variant, or the backend cannot run it.
    """
    case, plain = VARIANTS[variant](cell, shape), Case(cell, shape)
    calls: dict[str, Call] = {}
    for name, chosen in (("variant", case), ("plain", plain)):
        data = make_data(chosen)
        oracle = make_oracle(chosen, data)
        refuse("recurra", oracle.case, check(ours(backend), oracle, training=True))
        calls[name] = timed_call(ours(backend)(chosen, data), data, training=True)
    data = make_data(plain)
    loop = OTHERS["loop"](case, data) if case.noisy else _normalized_loop(cell, data)
    calls["loop"] = timed_call(loop, data, training=True)
    return VariantRecord(variant, case, interleave(calls, effort=effort, slow={"loop"}))


def cell_named(*spellings: str) -> str:
    """The first of several spellings that is a cell here.

    Raises:
        Unable: none of them is.
    """
    for name in spellings:
        if name in CELLS:
            return name
    raise Unable(f"there is no cell {' or '.join(spellings)} in recurra.cells.CELLS")


class NormalizedLoop(nn.Module):
    """A layer-normalized LSTM or GRU as one writes it: linear maps and norms of torch, a Python loop over the steps.

    Source: Ba et al. 2016, supplementary material.
    """

    def __init__(self, cell: str, input_size: int, hidden_size: int) -> None:
        super().__init__()
        self.cell, self.hidden_size = cell, hidden_size
        wide = (4 if cell == "lstm" else 3) * hidden_size
        self.from_x, self.from_h = nn.Linear(input_size, wide, bias=False), nn.Linear(hidden_size, wide, bias=False)
        self.norm_x, self.norm_h = nn.LayerNorm(wide), nn.LayerNorm(wide)
        self.norm_c = nn.LayerNorm(hidden_size) if cell == "lstm" else None

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, I) -> (B, T, H)."""
        # The input's products and norms do not wait for the steps before, so they are taken together.
        read = self.norm_x(self.from_x(x)).unbind(1)
        h = c = x.new_zeros(len(x), self.hidden_size)
        outputs = []
        for from_x in read:
            from_h = self.norm_h(self.from_h(h))
            if self.norm_c is not None:
                i, f, g, o = (from_x + from_h).chunk(4, 1)
                c = f.sigmoid() * c + i.sigmoid() * g.tanh()
                h = o.sigmoid() * self.norm_c(c).tanh()
            else:
                (r_x, z_x, n_x), (r_h, z_h, n_h) = from_x.chunk(3, 1), from_h.chunk(3, 1)
                n = (n_x + (r_x + r_h).sigmoid() * n_h).tanh()
                h = torch.lerp(n, h, (z_x + z_h).sigmoid())
            outputs.append(h)
        return torch.stack(outputs, 1)


def _normalized_loop(cell: str, data: Data) -> Layer:
    loop = NormalizedLoop(cell, data.x.shape[2], data.gradient.shape[2])
    return Layer(loop, list(loop.parameters()))


def _row(record: VariantRecord) -> list[Any]:
    seconds = {name: statistics.median(samples) for name, samples in record.samples.items()}
    return [
        record.variant,
        record.case.cell,
        str(record.case.shape),
        milliseconds(seconds["variant"]),
        milliseconds(seconds["plain"]),
        times(record.ratio("variant", "plain")),
        milliseconds(seconds["loop"]),
        times(record.ratio("loop", "variant")),
    ]
