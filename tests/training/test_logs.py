from __future__ import annotations

import csv
import io
import random

import numpy as np
import pytest
import torch
from rich.console import Console
from standin import run

from recurra.config import LoggingSettings
from recurra.errors import MissingDependency
from recurra.training.interruption import Interruption
from recurra.training.logs import Logs
from recurra.training.progress import ProgressDisplay
from recurra.training.seeds import random_state, restore_random_state, seed_everything


def rows(path):
    with path.open() as file:
        return list(csv.DictReader(file))


def test_csv_files(tmp_path):
    _, result = run(tmp_path, training__epochs=8)
    steps = rows(tmp_path / "logs" / "steps.csv")
    assert [int(row["step"]) for row in steps] == [1, 20, 40]
    assert {"epoch", "step", "loss", "learning_rate", "gradient_norm", "tokens_per_second"} == set(steps[0])
    assert all(float(row["gradient_norm"]) > 0 for row in steps)
    epochs = rows(tmp_path / "logs" / "epochs.csv")
    assert [{name: float(value) for name, value in row.items()} for row in epochs] == result.history
    assert len(rows(tmp_path / "logs" / "gradient_flow.csv")) == len(result.gradient_flow)


def test_tensorboard_holds_the_same_figures(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    _, result = run(tmp_path, logging__tensorboard=True)
    events = EventAccumulator(str(tmp_path / "logs" / "tensorboard"))
    events.Reload()
    tags = events.Tags()["scalars"]
    assert {"epoch/accuracy", "epoch/loss", "step/loss", "gradient_norm/layer", "gradient_norm/layer/distance_00004"} <= set(tags)
    found = events.Scalars("epoch/accuracy")
    assert [event.step for event in found] == [6, 12, 18]
    # event files hold float32
    assert [event.value for event in found] == pytest.approx([record["accuracy"] for record in result.history], rel=1e-6)


@pytest.mark.parametrize("package", ["wandb", "mlflow"])
def test_missing_loggers_say_how_to_install_them(tmp_path, package, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingDependency, match=rf"logging\.{package} needs the package {package}: pip install 'recurra\[{package}\]'"):
        Logs(tmp_path, LoggingSettings(tensorboard=False, **{package: "project"}))


def show(console, *, visible=True):
    display = ProgressDisplay(100, visible=visible, console=console)
    display._last_line -= 60
    display.step(epoch=1, step=10, loss=0.5, tokens_per_second=1234.0)
    display.step(epoch=1, step=11, loss=0.5, tokens_per_second=1234.0)
    record = {"epoch": 1, "step": 50, "train_loss": 0.4, "seconds": 2.0, "tokens_per_second": 1000.0, "loss": 0.3, "accuracy": 0.9}
    display.epoch(record, best=True)
    display.close()
    return console.file.getvalue()


def test_plain_lines_in_a_log_file():
    lines = show(Console(file=io.StringIO(), force_terminal=False)).splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("epoch 1  step 10/100  loss 0.5000  1,234 tokens/s  ")
    assert lines[0].endswith("left at most")
    assert lines[1] == "epoch   1  train loss 0.4000  loss 0.3000  accuracy 0.9000  2.0 s  1,000 tokens/s  best"


def test_a_bar_in_a_terminal():
    text = show(Console(file=io.StringIO(), force_terminal=True, width=120))
    assert "\x1b[" in text
    assert "accuracy 0.9000" in text
    assert "11/100 steps" in text


def test_silence():
    assert show(Console(file=io.StringIO(), force_terminal=True), visible=False) == ""


def draw():
    return random.random(), np.random.rand(), torch.rand(1).item()  # noqa: NPY002 - the global generator is meant


def test_seeds_are_recorded_and_states_restored():
    record = seed_everything(11)
    assert record["seed"] == 11
    first = draw()
    state = random_state()
    second = draw()
    restore_random_state(state)
    assert draw() == second
    seed_everything(11)
    assert draw() == first


def test_signals_are_left_alone_outside_the_main_thread():
    from threading import Thread

    seen = []

    def inside():
        with Interruption() as interruption:
            seen.append(interruption.requested)

    thread = Thread(target=inside)
    thread.start()
    thread.join()
    assert seen == [None]
