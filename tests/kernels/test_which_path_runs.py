"""Who computes is told before and is what runs; without the compiled kernels everything works, and one line says so."""

import logging
import os
import subprocess
import sys
from functools import partial

import pytest
import torch

from recurra.cells import CELLS, LSTMCell, MinGRUCell
from recurra.errors import BackendUnavailable
from recurra.kernels import directions, dispatch
from recurra.kernels.backend import available_backends
from recurra.kernels.elementwise_scan import operator as scan
from recurra.layers import GRU, LSTM, RNN, Stack, Stepper

WITHOUT_KERNELS = """
import sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name == "recurra.kernels._cpu":
            raise ImportError("blocked for this test")

sys.meta_path.insert(0, Missing())

import torch
from recurra.cells import LSTMCell
from recurra.errors import BackendUnavailable
from recurra.layers import Stack, Stepper

torch.manual_seed(0)
stack = Stack("{cell}", 3, 8, layers=2, bidirectional=True)
print(stack.explain_backend())
optimizer = torch.optim.Adam(stack.parameters(), 0.01)
x, lengths = torch.randn(16, 9, 3), torch.randint(0, 10, (16,))
losses = []
for _ in range(30):
    output, _ = stack(x, lengths=lengths)
    loss = ((output.sum(2) - x.sum(2).cumsum(1)) ** 2)[torch.arange(9) < lengths[:, None]].mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    losses.append(float(loss.detach()))
assert losses[-1] < 0.7 * losses[0], losses
print(Stepper(Stack("lstm", 3, 4)).explain_backend())
try:
    LSTMCell(3, 4, backend="cpu")
except BackendUnavailable as error:
    print(error)
"""


@pytest.mark.parametrize(("cell", "path"), [("lstm", "aten"), ("layernorm_lstm", "reference"), ("sru", "aten")])
def test_a_stack_trains_without_the_compiled_kernels(cell, path):
    command = [sys.executable, "-W", "error", "-c", WITHOUT_KERNELS.replace("{cell}", cell)]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    missing = "the compiled kernels are not installed (blocked for this test); where there is a C++17 compiler, installing Recurra again builds them"
    explained, *_, stepper, refused = ran.stdout.splitlines()
    assert f"runs on {path}: {missing}" in explained
    assert stepper == f"the stack itself, called for every step: {missing}"
    assert refused.startswith(f"The backend 'cpu' cannot run this lstm: {missing}.")
    assert ran.stderr == f"Recurrences run on PyTorch's own operations, slower: {missing}.\n"


def test_a_missing_file_is_not_taken_for_a_circular_import():
    """As after an installation without a compiler: the finders look for the extension and do not find it."""
    code = """
import sys
from importlib.machinery import FileFinder, SourceFileLoader
from pathlib import Path
import recurra
kernels = str(Path(recurra.__file__).parent / "kernels")
without_extensions = FileFinder.path_hook((SourceFileLoader, [".py"]))
sys.path_hooks.insert(0, lambda path: without_extensions(path) if path.startswith(kernels) else (_ for _ in ()).throw(ImportError()))
sys.path_importer_cache.clear()
from recurra.kernels.compiled import UNAVAILABLE
print(UNAVAILABLE)
"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "(No module named 'recurra.kernels._cpu')" in ran.stdout
    assert "circular" not in ran.stdout


def test_the_line_comes_once_and_only_where_kernels_are_missing(monkeypatch, caplog):
    caplog.set_level(logging.WARNING, logger="recurra")
    monkeypatch.setattr(dispatch, "UNAVAILABLE", None)
    dispatch.tell_what_is_missing(torch.zeros(1))
    assert not caplog.records
    monkeypatch.setattr(dispatch, "UNAVAILABLE", "no compiler")
    dispatch._warn_once.cache_clear()
    dispatch.tell_what_is_missing(torch.zeros(1, device="meta"))
    assert not caplog.records
    for _ in range(3):
        LSTMCell(3, 4)(torch.zeros(2, 5, 3))
        MinGRUCell(3, 4)(torch.zeros(2, 5, 3))
    dispatch._warn_once.cache_clear()
    assert [record.getMessage() for record in caplog.records] == ["Recurrences run on PyTorch's own operations, slower: no compiler."]


def spy(monkeypatch):
    """Names of the backends that calls are given to, as they are chosen."""
    seen = []

    def watched(chooser, *arguments, **options):
        found = chooser(*arguments, **options)
        seen.append(found if isinstance(found, str) else found.backend)
        return found

    for module, name in ((directions, "choose_backend"), (scan, "choose_scan")):
        monkeypatch.setattr(module, name, partial(watched, getattr(module, name)))
    return seen


@pytest.mark.parametrize(("rows", "steps"), [(2, 1), (2, 5), (64, 1)])
@pytest.mark.parametrize("with_reset", [False, True])
@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("name", [*CELLS, "stack", "LSTM", "GRU", "RNN"])
def test_what_is_told_is_what_runs(name, training, with_reset, rows, steps, monkeypatch):
    noise = {"LSTM": {"recurrent_dropout": 0.5}, "GRU": {"zoneout": 0.1}}.get(name, {})
    made = {"LSTM": LSTM, "GRU": GRU, "RNN": RNN}.get(name)
    layer = (
        made(3, 4, batch_first=True, **noise) if made else Stack("lstm", 3, 4, bidirectional=True) if name == "stack" else CELLS[name](3, 4)
    )
    layer.train(training)
    x, reset = torch.zeros(rows, steps, 3), torch.zeros(rows, steps, dtype=torch.bool) if with_reset else None
    told = layer.explain_backend(x, reset=reset)
    seen = spy(monkeypatch)
    layer(x, reset=reset)
    assert len(set(seen)) == 1
    assert f"{seen[0]}: " in told
    if made and reset is None:  # one sequence without a batch, whose steps stand where rows else do
        told = layer.explain_backend(x[0])
        seen.clear()
        layer(x[0])
        assert f"{seen[0]}: " in told


@pytest.mark.skipif("cpu" not in available_backends(), reason="the compiled kernels are not installed")
@pytest.mark.parametrize(("cell", "many"), [("lstm", "cpu"), ("layernorm_gru", "cpu"), ("elman", "reference")])
def test_a_single_step_of_many_rows_is_worth_packing_weights_for(cell, many):
    stack = Stack(cell, 3, 4).eval()
    for rows, expected in ((63, "reference"), (64, many)):
        assert f"{expected}: " in stack.explain_backend(torch.zeros(rows, 1, 3))


@pytest.mark.skipif("cpu" not in available_backends(), reason="the compiled kernels are not installed")
def test_the_environment_names_the_instruction_set():
    code = "from recurra.layers import LSTM; print(LSTM(3, 4).explain_backend())"
    ran = [
        subprocess.run(
            [sys.executable, "-c", code], env={**os.environ, "RECURRA_INSTRUCTION_SET": name}, capture_output=True, text=True, check=False
        )
        for name in ("baseline", "sse9")
    ]
    assert "(baseline instructions)" in ran[0].stdout
    assert "SettingsError: RECURRA_INSTRUCTION_SET=sse9: this machine has " in ran[1].stderr


@pytest.mark.parametrize("make", [LSTMCell, LSTM, lambda *sizes, **options: Stack("lstm", *sizes, **options)])
def test_a_named_backend_runs_or_raises(make):
    layer = make(3, 4, backend="aten")
    x, reset = torch.zeros(2, 2, 3), torch.ones(2, 2, dtype=torch.bool)
    assert "aten: asked for by name" in layer.explain_backend(x)
    for call in (layer, layer.explain_backend):
        with pytest.raises(BackendUnavailable, match="torch's fused lstm has no reset"):
            call(x, reset=reset)


def test_a_stepper_tells_what_steps():
    assert ("cpu: compiled steps" in Stepper(Stack("gru", 3, 4)).explain_backend()) == ("cpu" in available_backends())
    assert "the stack itself" in Stepper(Stack("gru", 3, 4, backend="reference")).explain_backend()
