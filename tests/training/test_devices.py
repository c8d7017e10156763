from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from standin import TinyLoader, network, run

from recurra.config import TrainingSettings
from recurra.errors import SettingsError
from recurra.training.checkpoints import best_path, read_checkpoint
from recurra.training.devices import choose_device

OPTIONS = {"optimizer__name": "sgd", "training__epochs": 2, "training__monitor": "loss", "training__device": "cpu"}

PROGRAM = """
import os, sys
sys.path.insert(0, {tests!r})
import torch
torch.set_num_threads(1)
from pathlib import Path
from standin import Batch, Sequence, TinyLoader, network, run
class Half(TinyLoader):
    def __iter__(self):
        rank = int(os.environ.get("LOCAL_RANK", 0))
        for batch in super().__iter__():
            text = batch.inputs["text"]
            mine = Sequence(text.values[rank::2], text.lengths[rank::2])
            yield Batch({{"text": mine}}, {{"label": batch.targets["label"][rank::2]}}, batch.rows[rank::2])
model = network()
model.dropout.p = 0.0
_, result = run(Path({folder!r}), model=model, train=Half(48, batch_size=16), training__devices=2, **{options!r})
losses = [record["train_loss"] for record in result.history]
Path({folder!r}, "losses_" + os.environ.get("LOCAL_RANK", "0")).write_text(repr(losses))
"""


def test_two_processes_equal_one_with_the_whole_batch(tmp_path):
    """On the CPU over gloo; each process takes every second row."""
    program = tmp_path / "program.py"
    program.write_text(PROGRAM.format(tests=str(Path(__file__).parent), folder=str(tmp_path / "two"), options=OPTIONS))
    done = subprocess.run(
        [sys.executable, str(program)],
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    model = network()
    model.dropout.p = 0.0
    _, result = run(tmp_path / "one", model=model, train=TinyLoader(48, batch_size=16), **OPTIONS)
    lines = [(tmp_path / "two" / f"losses_{rank}").read_text() for rank in (0, 1)]
    assert lines[0] == lines[1], "both processes know the mean over both"
    assert json.loads(lines[0]) == pytest.approx([record["train_loss"] for record in result.history], rel=1e-4)
    for name, value in read_checkpoint(best_path(tmp_path / "two"))["network"].items():
        # float32 means of two halves against one of the whole, over six steps
        torch.testing.assert_close(value, model.state_dict()[name], rtol=1e-4, atol=1e-6)


def test_automatic_device():
    expected = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    assert choose_device(TrainingSettings()).type == expected
    assert choose_device(TrainingSettings(device="cpu", devices=3)).type == "cpu"


def test_more_devices_than_there_are(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert choose_device(TrainingSettings(precision="float16")).type == "cuda"
    with pytest.raises(SettingsError, match=r"training\.devices=2, but there are 1 devices of type 'cuda'"):
        choose_device(TrainingSettings(devices=2))
