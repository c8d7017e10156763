"""The Triton kernels: their values in Triton's interpreter, their machine code for two GPUs, and both on a GPU where there is one.

What is tested is in triton_contracts.py, which runs in processes of its own.
"""

import json
import os
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
import torch

from recurra.cells import GRUCell, IndRNNCell, LayerNormLSTMCell, LSTMCell, MinGRUCell
from recurra.errors import BackendUnavailable
from recurra.kernels import backend
from recurra.kernels.backend import Needs, available_backends, choose
from recurra.kernels.linear_scan import operator as scan
from recurra.kernels.linear_scan.operator import choose_scan
from recurra.kernels.triton import UNAVAILABLE
from recurra.layers import GRU, LSTM

SCRIPT = Path(__file__).with_name("triton_contracts.py")
OPERATIONS = ["linear_scan", "lstm", "layernorm_lstm", "slstm, two heads"]
operations = pytest.mark.parametrize("operation", OPERATIONS)
contracts = pytest.mark.parametrize("contract", ["values", "rounding", "derivatives", "transforms", "registration", "halves"])
with_triton = pytest.mark.skipif(UNAVAILABLE is not None, reason=str(UNAVAILABLE))
on_gpu = pytest.mark.skipif(UNAVAILABLE is not None or not torch.cuda.is_available(), reason="it needs Triton and a CUDA GPU")


@cache
def start(operation, place):
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "TRITON_INTERPRET": str(int(place == "interpreter"))}
    command = [sys.executable, str(SCRIPT), operation, place]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)


@cache
def report(operation, place):
    """What the contracts of an operation came to."""
    process = start(operation, place)
    if place == "interpreter":
        for following in OPERATIONS[OPERATIONS.index(operation) + 1 :][:1]:
            start(following, place)  # two at a time
    output, errors = process.communicate()
    assert process.returncode == 0, errors
    return json.loads(output.splitlines()[-1])


@with_triton
@operations
@contracts
def test_contracts_in_the_interpreter(operation, contract):
    assert report(operation, "interpreter")[contract] == ""


@with_triton
@pytest.mark.parametrize("operation", ["linear_scan", "lstm", "layernorm_lstm", "slstm"])
@pytest.mark.parametrize("capability", ["80", "90"])
def test_compiles_for(operation, capability, tmp_path, monkeypatch):
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    assert report("all", "compiler")[f"{operation} {capability}"] == ""


@on_gpu
@operations
@contracts
def test_contracts_on_a_gpu(operation, contract):
    assert report(operation, "cuda")[contract] == ""


def test_choice_on_a_gpu(monkeypatch):
    monkeypatch.setattr(backend, "NO_TRITON", None)
    monkeypatch.setattr(scan, "NO_TRITON", None)
    assert choose("layernorm_lstm", "auto", device="cuda").backend == "triton"
    assert choose("slstm", "auto", device="cuda").backend == "triton"
    assert choose("lstm", "auto", device="cuda").backend == "aten"
    chosen = choose("lstm", "auto", Needs(recurrent_dropout=True), device="cuda")
    assert chosen.backend == "triton"
    assert "torch's fused lstm has no recurrent dropout; Triton kernels" in chosen.reason
    assert choose("lstm", "triton", device="cuda").reason.startswith("asked for by name: Triton kernels")
    assert choose_scan("min_gru", "auto", "cuda").backend == "triton"
    assert choose_scan("indrnn_relu", "auto", "cuda", linear=False).backend == "reference"
    assert "triton" in available_backends("cuda")
    with pytest.raises(BackendUnavailable, match="'triton' cannot run this gru: there is none for gru"):
        choose("gru", "triton", device="cuda")
    with pytest.raises(BackendUnavailable, match="indrnn_relu: its state is not linear"):
        choose_scan("indrnn_relu", "triton", "cuda", linear=False)


def test_without_triton_another_backend_is_chosen_and_told(monkeypatch):
    monkeypatch.setattr(backend, "NO_TRITON", "Triton is not installed")
    monkeypatch.setattr(scan, "NO_TRITON", "Triton is not installed")
    assert choose("slstm", "auto", device="cuda").backend == "reference"
    assert "Triton is not installed" in choose("slstm", "auto", device="cuda").reason
    with pytest.raises(BackendUnavailable, match="Triton is not installed"):
        choose("slstm", "triton", device="cuda")
    chosen = choose_scan("min_gru", "auto", "cuda")
    assert chosen.backend == "aten"
    assert chosen.reason.startswith("Triton is not installed")
    assert "triton" not in available_backends("cuda")


@pytest.mark.parametrize("make", [LSTMCell, LayerNormLSTMCell, MinGRUCell, LSTM])
def test_on_a_cpu_it_is_refused_in_the_call_and_not_spoken_of(make, monkeypatch):
    monkeypatch.setattr(backend, "NO_TRITON", None)
    monkeypatch.setattr(scan, "NO_TRITON", None)
    layer = make(3, 4, backend="triton")  # it may be moved to a GPU yet
    for call in (layer, layer.explain_backend):
        with pytest.raises(BackendUnavailable, match="run on a CUDA GPU, and the input is on cpu"):
            call(torch.zeros(2, 5, 3))
    assert "riton" not in make(3, 4).explain_backend()
    assert "triton" not in available_backends()


@pytest.mark.parametrize("make", [LSTMCell, MinGRUCell, LSTM])
def test_what_can_never_run_is_refused_when_it_is_made(make, monkeypatch):
    monkeypatch.setattr(backend, "NO_TRITON", "Triton is not installed")
    monkeypatch.setattr(scan, "NO_TRITON", "Triton is not installed")
    with pytest.raises(BackendUnavailable, match="Triton is not installed"):
        make(3, 4, backend="triton")


@pytest.mark.parametrize(
    ("make", "reason"), [(GRUCell, "there is none for gru"), (IndRNNCell, "cannot be scanned in parallel"), (GRU, "there is none")]
)
def test_operations_without_such_a_kernel_are_refused_when_they_are_made(make, reason):
    with pytest.raises(BackendUnavailable, match=reason):
        make(3, 4, backend="triton")


def test_compiled_kernels_named_on_another_device_are_refused_in_the_call():
    with torch.device("meta"):
        layer = LSTMCell(3, 4, backend="aten")
        assert "asked for by name" in layer.explain_backend()
    with pytest.raises(BackendUnavailable, match="run on a CPU, and the input is on meta"):
        choose("lstm", "cpu", device="meta")
