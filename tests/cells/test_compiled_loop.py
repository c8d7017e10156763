"""A user's cell whose loop torch.compile compiles: the same numbers, no graph for each size, strict by its name.

What needs a compiler runs in a process of its own: the check of annotations that tests switch on cannot be traced.
"""

import json
import subprocess
import sys
from functools import cache

import pytest
import torch

from catalogue import LeakyCell
from jobs import ENVIRONMENT
from recurra.cells import LSTMCell
from recurra.errors import BackendUnavailable, SettingsError
from recurra.kernels import compiled_loop
from recurra.kernels.backend import available_backends
from recurra.layers import Stack
from recurra.testing import assert_conforms

CALLS = """
import copy, gc, json, pickle, sys, weakref
import torch
from torch._dynamo.utils import counters
from recurra.cells import Cell, LSTMState, detach
from recurra.kernels import compiled_loop
from recurra.layers import Stack
from recurra.testing.rounding import rounding_error

compiled_loop.STEPS = 3  # a third of the time to compile


class Mine(Cell):
    state_type = LSTMState

    def __init__(self, input_size, hidden_size):
        super().__init__(input_size, hidden_size)
        self.read = torch.nn.Linear(input_size + hidden_size, 2 * hidden_size)
        self.drop = torch.nn.Dropout(0.5)
        self.start = torch.nn.Parameter(torch.randn(hidden_size))

    def initial_state(self, batch_size):
        return LSTMState(self.start.expand(batch_size, -1), self.start.new_zeros(batch_size, self.hidden_size))

    def step(self, x, state):
        new, keep = self.read(torch.cat([x, state.h], 1)).chunk(2, 1)
        c = keep.sigmoid() * state.c + self.drop(new).tanh()
        return 2 * c, LSTMState(c.tanh(), c)


def results(layer, x, **options):
    x = x.clone().requires_grad_()
    output, state = layer(x, **options)
    leaves = [leaf for field in state for leaf in (field if isinstance(field, tuple) else [field])]
    total = sum((each * torch.arange(each.numel()).view(each.shape).cos()).sum() for each in (output, *leaves))
    return [output, *leaves, *torch.autograd.grad(total, [x, *layer.parameters()], materialize_grads=True)]


def graphs():
    return counters["stats"]["unique_graphs"]


torch.manual_seed(0)
eager = Stack(Mine, 2, 3, bidirectional=True).double().eval()
layer = copy.deepcopy(eager)
for cell in layer.cells:
    cell.backend = "compile"
found = {}


def compare(name, x, **options):
    before = graphs()
    error = rounding_error(results(layer, x, **options), results(eager, x, **options))
    found[name] = [error, graphs() - before]


def draw(rows, steps):
    return torch.randn(rows, steps, 2, dtype=torch.float64)


poisoned = draw(4, 8)
lengths = torch.tensor([8, 0, 5, 1])
poisoned[torch.arange(8) >= lengths[:, None]] = torch.nan
compare("lengths", poisoned, lengths=lengths)
compare("other sizes", draw(7, 11), lengths=torch.randint(0, 12, (7,)))
compare("more other sizes", draw(2, 3), lengths=torch.tensor([3, 2]))
compare("reset", draw(5, 7), lengths=torch.tensor([7, 6, 5, 0, 1]), reset=torch.rand(5, 7) < 0.4)
compare("fewer steps than a chunk", draw(5, 2))
compare("a state", draw(4, 6), lengths=lengths.clamp(max=6), state=detach(eager(draw(4, 3))[1]))

with torch.no_grad():
    x = draw(4, 7)
    found["without gradients"] = [rounding_error([layer(x, lengths=lengths.clamp(max=7))[0]], [eager(x, lengths=lengths.clamp(max=7))[0]]), 0]

layer.train()
x = draw(64, 6)
torch.manual_seed(0)
outputs = layer(x, lengths=torch.full((64,), 6))[0], layer(x, lengths=torch.full((64,), 6))[0]
found["dropout is drawn anew in training"] = [0.0 if not torch.equal(*outputs) else 1.0, 0]
layer.eval()

twin = copy.deepcopy(layer)
found["copies are cells of their own"] = [rounding_error(results(twin, poisoned, lengths=lengths), results(eager, poisoned, lengths=lengths)), 0]
again = pickle.loads(pickle.dumps(layer))
found["pickles hold no code"] = [float(any(cell in compiled_loop._COMPILED for cell in again.cells)), 0]
alive = weakref.ref(twin.cells[0])
del twin
gc.collect()
found["what was compiled goes with the cell"] = [float(alive() is not None), 0]

def whole(x):
    return layer(x)[0]

before = graphs()
found["inside a larger graph"] = [rounding_error([torch.compile(whole, fullgraph=True, backend="eager")(x[:2])], [eager(x[:2])[0]]), 0]
found["inside a larger graph"][1] = graphs() - before
print(json.dumps(found))
"""

compiler = pytest.mark.skipif(compiled_loop.absence() is not None, reason=str(compiled_loop.absence()))
# Sums of two ways over 12 steps, in float64.
CLOSE = 2.0**-52 * 2.0**8
NEW_GRAPHS = {"lengths": 2, "reset": 2, "inside a larger graph": 1}
"""Those that two directions need for a new way to call them; all other calls find theirs."""


@cache
def calls():
    command = [sys.executable, "-W", "ignore", "-c", CALLS]
    ran = subprocess.run(command, capture_output=True, text=True, check=False, env=ENVIRONMENT)
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout.splitlines()[-1])


@compiler
@pytest.mark.parametrize(
    "name",
    [
        "lengths",
        "other sizes",
        "more other sizes",
        "reset",
        "fewer steps than a chunk",
        "a state",
        "without gradients",
        "dropout is drawn anew in training",
        "copies are cells of their own",
        "pickles hold no code",
        "what was compiled goes with the cell",
        "inside a larger graph",
    ],
)
def test_a_compiled_loop(name):
    error, graphs = calls()[name]
    assert error <= CLOSE
    assert graphs == NEW_GRAPHS.get(name, 0)


def test_it_is_chosen_by_its_name_and_told():
    cell = LeakyCell(3, 4)
    assert cell.explain_backend().startswith("reference: this cell has no kernel of its own")
    if compiled_loop.absence() is None:
        stack = Stack(LeakyCell, 3, 4, backend="compile")
        assert "LeakyCell runs on compile: asked for by name: a loop over chunks of steps" in stack.explain_backend()
        assert "compile: asked for by name" in stack.explain_backend(torch.zeros(2, compiled_loop.STEPS, 3))
        assert "reference: compiled are chunks of 8 steps, and here are 7" in stack.explain_backend(torch.zeros(2, 7, 3))
        assert "compile" in available_backends()
    assert "reference: asked for by name" in Stack(LeakyCell, 3, 4, backend="reference").explain_backend()


def test_without_a_compiler_it_is_refused_by_name(monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    cell = LeakyCell(3, 4)
    assert_conforms(cell)
    cell.backend = "compile"
    for call in (cell, cell.explain_backend):
        with pytest.raises(BackendUnavailable, match="needs a C\\+\\+ compiler, and there is no 'no-such-compiler'"):
            call(torch.zeros(2, 9, 3))
    with pytest.raises(BackendUnavailable, match="needs a C"):
        Stack(LeakyCell, 3, 4, backend="compile")


def test_built_in_cells_have_kernels_and_no_compiled_loop():
    with pytest.raises(BackendUnavailable, match="there is none for lstm"):
        LSTMCell(3, 4, backend="compile")
    with pytest.raises(SettingsError, match="backend cannot reach inside"):
        Stack(LeakyCell, 3, 4, backend="cpu")
    cell = LeakyCell(3, 4)
    cell.backend = "compiled"
    with pytest.raises(SettingsError, match="Did you mean 'compile'"):
        cell(torch.zeros(2, 9, 3))
