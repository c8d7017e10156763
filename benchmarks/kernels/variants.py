"""What the variants of a cell cost: against the plain cell, and against the Python loop that a user would write.

The loops are over torch's own single step with the noise added, and for layer normalization over torch's linear maps
and norms. The mode is training. Values of ours are compared with the reference; those of the loops are
not, as they draw their noise in another order.
"""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from benchmarks.kernels.cases import GRID, Case, Data, Shape, Unable, make_data
from benchmarks.kernels.contenders import OTHERS, Call, Layer, ours, real_mask, timed_call
from benchmarks.kernels.gate import check, make_oracle, refuse
from benchmarks.kernels.grid import pick
from benchmarks.kernels.options import Effort, Options
from benchmarks.kernels.report import Report, Target, milliseconds, table, times
from benchmarks.kernels.timing import interleave, pair_ratios
from recurra.cells import CELLS
from recurra.layers import Regularization

__all__ = ["VARIANTS", "VariantRecord", "cell_named", "measure_variant", "run_variants"]

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


def _zoneout(plain: Case) -> Case:
    return plain._replace(regularization=Regularization(zoneout=RATE))


def _dropout(plain: Case) -> Case:
    return plain._replace(regularization=Regularization(recurrent=RATE))


def _normalized(plain: Case) -> Case:
    return plain._replace(cell=cell_named(f"layernorm_{plain.cell}", f"layer_norm_{plain.cell}"))


VARIANTS: dict[str, Callable[[Case], Case]] = {
    "zoneout": _zoneout,
    "recurrent dropout": _dropout,
    "layer normalization": _normalized,
}
"""`plain case -> case`."""


def run_variants(options: Options, report: Report) -> None:
    """Measure, print and write `variants.json`."""
    cells = pick("cell", {"lstm": "lstm", "gru": "gru"}, options.cells)
    shapes = [Shape.parse(text) for text in options.shapes] or ((Shape(32, 30, 64, 64),) if options.quick else GRID)
    lengths = pick("lengths", {"full": False, "varied": True}, options.lengths)
    backend = options.backend[0] if options.backend else "auto"
    records, left_out = [], {}
    for cell, shape, varied, variant in itertools.product(cells, shapes, lengths, VARIANTS):
        plain = Case(cell, shape, varied=varied)
        report.progress(f"{plain}, {variant}")
        try:
            records.append(measure_variant(variant, plain, backend=backend, effort=options.effort))
        except Unable as error:
            left_out[f"{cell}, {variant}"] = str(error)
    heads = ["variant", "cell", "B,T,I,H", "lengths", "variant", "plain", "variant / plain", "loop", "loop / variant"]
    report.print(table("Variants, training step: milliseconds", heads, [_row(record) for record in records]))
    for name, reason in left_out.items():
        report.print(f"Left out: {name}: {reason}")
    targets = [
        Target("variants, times of the plain cell", [r.ratio("variant", "plain") for r in records], least=1.3, at_most=True),
        Target("variants, over a Python loop", [r.ratio("loop", "variant") for r in records], least=8.0),
    ]
    report.print_targets(targets)
    report.write("variants", {"variants": [record.describe() for record in records], "left_out": left_out}, targets)


def measure_variant(variant: str, plain: Case, *, backend: str, effort: Effort) -> VariantRecord:
    """Check the variant and the plain cell, and time both beside the loop.

    Raises:
        RedGate: the variant's or the plain cell's values are wrong.
        Unable: there is no such variant, or the backend cannot run it.
    """
    case = VARIANTS[variant](plain)
    calls: dict[str, Call] = {}
    for name, chosen in (("variant", case), ("plain", plain)):
        data = make_data(chosen)
        oracle = make_oracle(chosen, data)
        refuse("recurra", oracle.case, check(ours(backend), oracle, training=True))
        calls[name] = timed_call(ours(backend)(chosen, data), data, training=True)
    data = make_data(plain)
    loop = OTHERS["loop"](case, data) if case.noisy else _normalized_loop(plain, data)
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

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """(B, T, I) -> (B, T, H); rows stand still where `mask` (B, T, 1) is false."""
        # The input's products and norms do not wait for the steps before, so they are taken together.
        read = self.norm_x(self.from_x(x)).unbind(1)
        h = c = x.new_zeros(len(x), self.hidden_size)
        outputs = []
        for t, from_x in enumerate(read):
            old = h, c
            from_h = self.norm_h(self.from_h(h))
            if self.norm_c is not None:
                i, f, g, o = (from_x + from_h).chunk(4, 1)
                c = f.sigmoid() * c + i.sigmoid() * g.tanh()
                h = o.sigmoid() * self.norm_c(c).tanh()
            else:
                (r_x, z_x, n_x), (r_h, z_h, n_h) = from_x.chunk(3, 1), from_h.chunk(3, 1)
                n = (n_x + (r_x + r_h).sigmoid() * n_h).tanh()
                h = torch.lerp(n, h, (z_x + z_h).sigmoid())
            if mask is not None:
                h, c = (torch.where(mask[:, t], new, before) for new, before in zip((h, c), old, strict=True))
            outputs.append(h)
        output = torch.stack(outputs, 1)
        return output if mask is None else output * mask


def _normalized_loop(plain: Case, data: Data) -> Layer:
    loop, mask = NormalizedLoop(plain.cell, plain.shape.input_size, plain.shape.hidden_size), real_mask(data)
    return Layer(lambda x: loop(x, mask), list(loop.parameters()))


def _row(record: VariantRecord) -> list[Any]:
    seconds = {name: statistics.median(samples) for name, samples in record.samples.items()}
    return [
        record.variant,
        record.case.cell,
        str(record.case.shape),
        "varied" if record.case.varied else "full",
        milliseconds(seconds["variant"]),
        milliseconds(seconds["plain"]),
        times(record.ratio("variant", "plain")),
        milliseconds(seconds["loop"]),
        times(record.ratio("loop", "variant")),
    ]
