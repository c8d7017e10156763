"""The compiled kernels with whatever Hypothesis draws: sizes, options, layouts, threads, instruction sets; against the reference.

`RECURRA_EXAMPLES` is how many examples each test draws, at random; without it they are few, and the same every time.
tests/sanitizers runs the same tests.
"""

import os
from collections.abc import Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from compiled_calls import OPTIONS, assert_exact, compiled, draw_call, scattered
from compiled_calls import assert_equal as assert_same_bits
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_scans import EVERY, with_gradients
from test_stepper import assert_equal, draw, forward, make_layer, one_by_one, rounded

import catalogue
from recurra.kernels.compiled import UNAVAILABLE
from recurra.kernels.stepper import STEPPED, CompiledStepper, StepLayer

pytestmark = compiled
EXAMPLES = os.environ.get("RECURRA_EXAMPLES")
WIDTHS = st.one_of(st.integers(1, 9), st.sampled_from((15, 16, 17, 31, 32, 33, 63, 64, 65, 100)))


def batch_second(tensor):
    """As torch's layers have it."""
    return tensor.transpose(0, 1).contiguous().transpose(0, 1) if tensor.ndim > 1 else tensor.clone()


def apart(tensor):
    """Rows with a gap between them, as of a part of a wider tensor."""
    return torch.cat([tensor, torch.full_like(tensor, 7.0)], -1)[..., : tensor.shape[-1]]


LAYOUTS = (torch.clone, scattered, batch_second, apart)


def fuzz(examples):
    """Settings of a test."""
    return settings(
        max_examples=int(EXAMPLES or examples),
        derandomize=EXAMPLES is None,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )


def instruction_sets():
    if UNAVAILABLE is not None:
        return ("none",)
    from recurra.kernels import _cpu

    return tuple(_cpu.instruction_sets())


MACHINES = st.tuples(st.sampled_from(instruction_sets()), st.integers(1, 3))
"""An instruction set, and a number of threads."""


@contextmanager
def running_on(machine):
    from recurra.kernels import _cpu

    before = _cpu.instruction_set(), torch.get_num_threads()
    _cpu.use_instruction_set(machine[0])
    torch.set_num_threads(machine[1])
    try:
        yield
    finally:
        _cpu.use_instruction_set(before[0])
        torch.set_num_threads(before[1])


def assert_right(call, dtype, machine, **options):
    """As the reference, from the same numbers; and to the last bit as with one thread."""
    double, single = call.to(torch.float64), call.to(torch.float32)
    exact = double.run("reference")
    given = double if dtype == torch.float64 else single
    with running_on(machine):
        mine = given.run("cpu", **options)
    with running_on((machine[0], 1)):
        assert_same_bits(given.run("cpu", **options), mine)
    assert_exact(mine, exact, double, dtype)


@st.composite
def calls(draw):
    name = draw(st.sampled_from(sorted(catalogue.KERNELS)))
    hidden = draw(WIDTHS)
    hidden += hidden % 2 if "heads" in name else 0
    sizes = draw(st.integers(1, 9)), draw(st.integers(1, 13)), draw(WIDTHS), hidden
    options = draw(st.sets(st.sampled_from(OPTIONS)))
    reverse = draw(st.sampled_from(((False,), (True,), (False, True), (True, False))))
    return draw_call(name, sizes, options=options, reverse=reverse, seed=draw(st.integers(0, 99)))


DTYPES = st.sampled_from((torch.float32, torch.float64))


@fuzz(50)
@given(call=calls(), dtype=DTYPES, machine=MACHINES, lay=st.sampled_from(LAYOUTS))
def test_gated_recurrences(call, dtype, machine, lay):
    assert_right(call, dtype, machine, lay=lay)


@dataclass(frozen=True)
class Scan:
    """A case of the scans, with the options of its call."""

    case: object
    options: dict
    tensors: Sequence[torch.Tensor]

    def run(self, backend, lay=torch.clone):
        return with_gradients(self.case, [lay(tensor) for tensor in self.tensors], **self.options, backend=backend)

    def map(self, change):
        return replace(self, tensors=[change(tensor) for tensor in self.tensors])

    def to(self, dtype):
        return self.map(lambda tensor: tensor.to(dtype))


@st.composite
def scans(draw):
    name = draw(st.sampled_from(sorted(EVERY)))
    rows, steps, hidden = (
        draw(st.integers(1, 6)),
        draw(st.one_of(st.integers(1, 20), st.integers(1, 40), st.integers(190, 200))),
        draw(WIDTHS),
    )
    sizes = {"rows": rows, "steps": steps, "hidden": hidden, "seed": draw(st.integers(0, 99))}
    if name != "linear" and "input" not in name:
        sizes["features"] = draw(WIDTHS)
    lengths = draw(st.one_of(st.none(), st.lists(st.integers(0, steps), min_size=rows, max_size=rows).map(torch.tensor)))
    case = EVERY[name](**sizes)
    return Scan(
        case, {"lengths": lengths, "reset": draw(st.booleans()), "reverse": draw(st.booleans())}, [each.float() for each in case.tensors()]
    )


@fuzz(30)
@given(call=scans(), dtype=DTYPES, machine=MACHINES, lay=st.sampled_from(LAYOUTS))
def test_scans(call, dtype, machine, lay):
    assert_right(call, dtype, machine, lay=lay)


@dataclass(frozen=True)
class Steps:
    """Steps of streams through layers; tokens where there is a table of vectors."""

    layers: Sequence[StepLayer]
    x: torch.Tensor
    table: torch.Tensor | None

    def run(self, backend):
        if backend == "reference":
            output, states = forward(self.layers, self.x if self.table is None else self.table[self.x])
            return [output, *(field for state in states for field in state)]
        options = {"streams": len(self.x), "embedding": self.table, "threads": torch.get_num_threads()}
        many, single = CompiledStepper(self.layers, **options), CompiledStepper(self.layers, **options)
        output = many.run(self.x)
        assert_equal(one_by_one(single, self.x), output)
        assert_equal(single.snapshot(), many.snapshot())
        if output.dtype == torch.float32:
            halves = CompiledStepper(self.layers, half_weights=True, **options)
            assert_equal(halves.run(self.x), CompiledStepper(rounded(self.layers), **options).run(self.x))
        return [output, *(field for state in many.snapshot() for field in state)]

    def map(self, change):
        def changed(tensors):
            return tuple(map(change, tensors))

        layers = [
            each._replace(
                weights=type(each.weights)(*changed(each.weights)), initial=changed(each.initial), norm=each.norm and changed(each.norm)
            )
            for each in self.layers
        ]
        return Steps(layers, *((self.x, change(self.table)) if self.table is not None else (change(self.x), None)))

    def to(self, dtype):
        return self.map(lambda tensor: tensor.to(dtype))


@st.composite
def stacks(draw_from):
    """Streams through one to three layers with whatever a layer may have, in float32."""
    layers, features = [], draw_from(WIDTHS)
    width = features
    for _ in range(draw_from(st.integers(1, 3))):
        operation, residual, normalized = draw_from(st.sampled_from(sorted(STEPPED))), draw_from(st.booleans()), draw_from(st.booleans())
        hidden = width if residual else draw_from(WIDTHS)
        start = tuple(draw(hidden, seed=7) for _ in STEPPED[operation]._fields) if draw_from(st.booleans()) else ()
        norm = (draw(hidden, seed=8), draw(hidden, seed=9)) if normalized and hidden > 2 else None
        zoneout, seed = draw_from(st.sampled_from((0.0, 0.25))), draw_from(st.integers(0, 99))
        layers.append(make_layer(operation, width, hidden, initial=start, zoneout=zoneout, residual=residual, norm=norm, seed=seed))
        width = hidden
    streams, steps = draw_from(st.integers(1, 9)), draw_from(st.one_of(st.integers(1, 9), st.integers(190, 200)))
    vocabulary = draw_from(st.sampled_from((0, 1, 5)))
    if vocabulary:
        return Steps(layers, torch.arange(streams * steps).view(streams, steps) % vocabulary, draw(vocabulary, features))
    return Steps(layers, draw(streams, steps, features), None)


@fuzz(30)
@given(call=stacks(), dtype=DTYPES, machine=MACHINES)
def test_steppers(call, dtype, machine):
    assert_right(call, dtype, machine)
