"""An interrupted and resumed run equals an uninterrupted one bit by bit."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from standin import TinyLoader, network, run, settings

from recurra.errors import ModelFolderError, SettingsError, TrainingInterrupted
from recurra.training.checkpoints import last_path, read_checkpoint, write_checkpoint
from recurra.training.fit import fit
from recurra.training.seeds import seed_everything

TIMES = ("seconds", "tokens_per_second")


def without_times(history):
    return [{name: value for name, value in record.items() if name not in TIMES} for record in history]


def assert_same(first, second):
    """Weights, records and everything a checkpoint holds beside times."""
    (one, result), (other, resumed) = first, second
    for name, value in one.state_dict().items():
        assert torch.equal(value, other.state_dict()[name]), name
    assert without_times(result.history) == without_times(resumed.history)
    assert result.gradient_flow == resumed.gradient_flow
    assert (result.best_epoch, result.best_metric, result.steps, result.stopped) == (
        resumed.best_epoch,
        resumed.best_metric,
        resumed.steps,
        resumed.stopped,
    )


class InterruptingLoader(TinyLoader):
    """Sends a signal to this process when it hands out a batch for the n-th time."""

    def __init__(self, moment, number=signal.SIGINT):
        super().__init__()
        self.moment, self.number = moment, number

    def __iter__(self):
        for batch in super().__iter__():
            if self.handed_out == self.moment:
                os.kill(os.getpid(), self.number)
            yield batch


VARIANTS = {
    "adamw": {},
    "averaged": {"training__average": 0.95, "training__accumulate": 4},
    "plateau": {"schedule__name": "plateau", "schedule__patience": 1, "optimizer__name": "sgd", "training__clip_value": 0.01},
    "one_cycle": {"schedule__name": "one_cycle", "optimizer__name": "nadam"},
    "asgd": {"optimizer__name": "asgd", "optimizer__learning_rate": 0.5},
    "muon": {"optimizer__name": "muon"},
    "patience": {"training__epochs": 6, "training__patience": 1, "training__monitor": "loss", "optimizer__learning_rate": 0.3},
    "found_rate": {"optimizer__learning_rate": "auto"},
    "bfloat16": {"training__precision": "bfloat16"},
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_interrupted_twice_equals_uninterrupted(tmp_path, variant):
    options = VARIANTS[variant]
    whole = run(tmp_path / "whole", **options)
    pieces = tmp_path / "pieces"
    # the finder hands out up to 100 batches before training starts
    for moment in (3, 5):
        loader = InterruptingLoader(moment if variant != "found_rate" or moment == 5 else 103)
        with pytest.raises(TrainingInterrupted, match="--resume"):
            run(pieces, resume=moment == 5, train=loader, **options)
    seed_everything(7)
    assert_same(whole, run(pieces, resume=True, **options))


@pytest.mark.parametrize("moment", range(1, 19, 2))
def test_interrupted_at_any_step(tmp_path, moment):
    whole = run(tmp_path / "whole", training__average=0.9)
    with pytest.raises(TrainingInterrupted):
        run(tmp_path / "pieces", train=InterruptingLoader(moment), training__average=0.9)
    assert_same(whole, run(tmp_path / "pieces", resume=True, training__average=0.9))


def test_sparse_embedding_resumes(tmp_path):
    whole = run(tmp_path / "whole", model=network(sparse=True))
    with pytest.raises(TrainingInterrupted):
        run(tmp_path / "pieces", model=network(sparse=True), train=InterruptingLoader(9, signal.SIGTERM))
    assert_same(whole, run(tmp_path / "pieces", model=network(sparse=True), resume=True))


@pytest.mark.parametrize("epoch", [1, 3])
def test_interrupted_in_validation(tmp_path, epoch):
    """The validation is not waited for; resuming starts with it."""
    whole = run(tmp_path / "whole", training__average=0.9)
    calls = []

    def validate(pairs):
        next(pairs)
        calls.append(torch.rand(3))  # even random numbers drawn here change nothing
        if len(calls) == epoch:
            os.kill(os.getpid(), signal.SIGINT)
        list(pairs)
        return {"accuracy": 0.0}

    model = network()
    arguments = (model, TinyLoader(), TinyLoader(24, seed=1, shuffle=False))
    chosen = settings(training__average=0.9, training__monitor="loss")
    with pytest.raises(TrainingInterrupted):
        fit(*arguments, settings=chosen, folder=tmp_path / "pieces", validate=validate, progress=False)
    state = read_checkpoint(last_path(tmp_path / "pieces"))
    assert state["course"]["batch"] == state["course"]["batches"] == 6
    resumed = fit(*arguments, settings=chosen, folder=tmp_path / "pieces", validate=validate, resume=True, progress=False)
    assert [record["train_loss"] for record in resumed.history] == [record["train_loss"] for record in whole[1].history]
    assert len(resumed.history) == 3
    tokens = [read_checkpoint(last_path(tmp_path / name))["course"]["tokens"] for name in ("whole", "pieces")]
    assert tokens[0] == tokens[1]


def test_second_signal_stops_at_once(tmp_path):
    class Impatient(TinyLoader):
        def __iter__(self):
            for batch in super().__iter__():
                if self.handed_out == 8:
                    os.kill(os.getpid(), signal.SIGINT)
                    os.kill(os.getpid(), signal.SIGINT)
                yield batch

    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(TrainingInterrupted, match="at once"):
        run(tmp_path, train=Impatient())
    assert signal.getsignal(signal.SIGINT) is before
    assert_same(run(tmp_path / "whole"), run(tmp_path, resume=True))


KILLED = """
import sys, time
sys.path.insert(0, {tests!r})
import torch
torch.set_num_threads(1)
from pathlib import Path
from standin import TinyLoader, run
class Slow(TinyLoader):
    def __iter__(self):
        for batch in super().__iter__():
            time.sleep(0.05)
            yield batch
run(Path({folder!r}), train=Slow(), training__checkpoint_seconds=0.01, training__epochs=50, training__average=0.9)
"""


def test_killed_in_the_middle_of_an_epoch(tmp_path):
    options = {"training__average": 0.9}
    whole = run(tmp_path / "whole", **options)
    folder = tmp_path / "killed"
    # the epochs of the killed run matter only for the schedule, which is part of what must be equal
    program = KILLED.format(tests=str(Path(__file__).parent), folder=str(folder)).replace("training__epochs=50, ", "")
    process = subprocess.Popen([sys.executable, "-c", program], env={**os.environ, "OMP_NUM_THREADS": "1"})
    deadline = time.monotonic() + 60
    try:
        while time.monotonic() < deadline and process.poll() is None:
            state = read_checkpoint(last_path(folder)) if last_path(folder).exists() else None
            if state and state["course"]["epoch"] == 1 and 2 <= state["course"]["batch"] < 6:
                break
            time.sleep(0.01)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert process.returncode == -signal.SIGKILL
    position = read_checkpoint(last_path(folder))["course"]
    assert 0 < position["batch"] < 6, "killed in the middle of an epoch"
    assert_same(whole, run(folder, resume=True, training__checkpoint_seconds=0.01, **options))


def test_finished_run_resumes_to_the_same_result(tmp_path):
    whole = run(tmp_path)
    assert_same(whole, run(tmp_path, resume=True))


def test_more_epochs_after_the_end(tmp_path):
    run(tmp_path, training__epochs=1)
    _, result = run(tmp_path, resume=True, training__epochs=3)
    assert [record["epoch"] for record in result.history] == [1, 2, 3]


def test_other_settings_are_refused(tmp_path):
    run(tmp_path, training__epochs=1)
    with pytest.raises(SettingsError, match=r"optimizer\.name \(was 'adamw', is 'sgd'\).*start anew with --overwrite"):
        run(tmp_path, resume=True, optimizer__name="sgd")


@pytest.mark.parametrize(("now", "refused"), [({}, False), ({"training__average": 0.9}, True)])
def test_settings_that_an_older_version_did_not_have(tmp_path, now, refused):
    """A run begun before a setting or a group of them was there goes on, with their defaults and with nothing else."""
    whole = run(tmp_path / "whole")
    with pytest.raises(TrainingInterrupted):
        run(tmp_path / "old", train=InterruptingLoader(8))
    state = read_checkpoint(last_path(tmp_path / "old"))
    del state["settings"]["training"]["average"], state["settings"]["translate"]
    write_checkpoint(last_path(tmp_path / "old"), state)
    if refused:
        with pytest.raises(SettingsError, match=r"training\.average \(was 0\.0, is 0\.9\)"):
            run(tmp_path / "old", resume=True, **now)
    else:
        assert_same(whole, run(tmp_path / "old", resume=True))


def test_nothing_to_resume(tmp_path):
    with pytest.raises(ModelFolderError, match="Start without --resume"):
        run(tmp_path, resume=True)


def test_damaged_checkpoint(tmp_path):
    run(tmp_path, training__epochs=1)
    path = last_path(tmp_path)
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(ModelFolderError, match=r"damaged .*Start anew with --overwrite"):
        run(tmp_path, resume=True)


def test_steps_log_has_each_step_once(tmp_path):
    with pytest.raises(TrainingInterrupted):
        run(tmp_path, train=InterruptingLoader(14), training__epochs=8)
    with (tmp_path / "logs" / "steps.csv").open("a") as file:
        file.write("3,14,1.0,1.0,1.0,1.0\n3,15")  # written after the checkpoint, the last line cut off by a kill
    run(tmp_path, resume=True, training__epochs=8)
    rows = (tmp_path / "logs" / "steps.csv").read_text().splitlines()
    assert [row.split(",")[1] for row in rows] == ["step", "1", "20", "40"]


def test_no_other_handler_hears_the_signals_while_training(tmp_path):
    """Lightning sets one of its own for SIGTERM, which would end the program without a word."""
    seen = []

    class Listening(TinyLoader):
        def __iter__(self):
            for batch in super().__iter__():
                yield batch
                seen.append({str(getattr(signal.getsignal(number), "__qualname__", "")) for number in (signal.SIGINT, signal.SIGTERM)})

    at_first = signal.getsignal(signal.SIGTERM)
    run(tmp_path, train=Listening())
    assert seen
    assert all(handlers == {"Interruption._receive"} for handlers in seen)
    assert signal.getsignal(signal.SIGTERM) == at_first
