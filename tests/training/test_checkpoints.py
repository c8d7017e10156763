from __future__ import annotations

import errno
import threading
from contextlib import contextmanager, nullcontext

import pytest
import torch
from standin import run

from recurra.errors import ModelFolderError, RecurraError
from recurra.training import checkpoints
from recurra.training.checkpoints import best_path, last_path, read_checkpoint, write_atomically, write_checkpoint
from recurra.training.fitting import Fitting


def test_round_trip(tmp_path):
    state = {"weights": torch.randn(3), "numbers": [1, 2.5, float("nan")], "names": {"a": ("b", None, True)}}
    write_checkpoint(tmp_path / "deep" / "one.pt", state)
    found = read_checkpoint(tmp_path / "deep" / "one.pt")
    assert torch.equal(found["weights"], state["weights"])
    assert found["names"] == state["names"]
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["one.pt"]


def test_a_changed_bit_is_noticed(tmp_path):
    """torch does not look at the checksums that it writes: the run would go on with other weights."""
    path, weights = tmp_path / "one.pt", torch.randn(1000)
    write_checkpoint(path, {"weights": weights})
    content = bytearray(path.read_bytes())
    content[content.find(weights[500:502].numpy().tobytes())] ^= 1
    path.write_bytes(content)
    with pytest.raises(ModelFolderError, match="is damaged"):
        read_checkpoint(path)


@contextmanager
def small_disk():
    """Files of checkpoints may not grow over 20,000 bytes: the write fails in the middle, as on a full disk.

    Not by a limit of the process (RLIMIT_FSIZE), which would stop pytest's own output to a file as well.
    """
    write = checkpoints._Recorder.write

    def limited(self, data):
        if self.file.tell() + len(data) > 20_000:
            self.error = OSError(errno.EFBIG, "File too large")
            raise self.error
        return write(self, data)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checkpoints._Recorder, "write", limited)
        yield


def test_a_failed_write_leaves_the_file_before_it(tmp_path):
    path = tmp_path / "last.pt"
    write_checkpoint(path, {"step": 1})
    with small_disk(), pytest.raises(RecurraError, match=r"could not be written.*File too large.*complete.*--resume"):
        write_checkpoint(path, {"step": 2, "weights": torch.zeros(100_000)})
    assert read_checkpoint(path) == {"step": 1}
    assert [each.name for each in tmp_path.iterdir()] == ["last.pt"]


def test_a_full_disk_is_named(tmp_path, monkeypatch):
    def full(self, data):
        self.error = OSError(errno.ENOSPC, "No space left on device")
        raise self.error

    monkeypatch.setattr(checkpoints._Recorder, "write", full)
    with pytest.raises(RecurraError, match=r"The disk is full: .*last.pt.* Free some space and start again"):
        write_checkpoint(last_path(tmp_path), {"weights": torch.zeros(10)})
    with pytest.raises(RecurraError, match="The disk is full"):
        write_atomically(tmp_path / "rows.csv", lambda file: file.write(b"x"))


def test_training_stops_on_a_full_disk_and_can_go_on(tmp_path):
    whole, _ = run(tmp_path / "whole")
    original = Fitting.on_train_epoch_end

    def later(self):
        with small_disk() if self.course.epoch == 1 else nullcontext():
            original(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Fitting, "on_train_epoch_end", later)
        with pytest.raises(RecurraError, match="could not be written"):
            run(tmp_path / "pieces")
    resumed, result = run(tmp_path / "pieces", resume=True)
    assert len(result.history) == 3
    assert all(torch.equal(value, resumed.state_dict()[name]) for name, value in whole.state_dict().items())


def test_neither_pickles_nor_other_files_are_read(tmp_path):
    torch.save({"lock": Evil()}, tmp_path / "pickle.pt")
    torch.save([1], tmp_path / "list.pt")
    (tmp_path / "text.pt").write_text("weights")
    (tmp_path / "empty.pt").touch()
    for name in ("pickle.pt", "text.pt", "empty.pt"):
        with pytest.raises(ModelFolderError, match="damaged"):
            read_checkpoint(tmp_path / name)
    with pytest.raises(ModelFolderError, match="holds a list"):
        read_checkpoint(tmp_path / "list.pt")


class Evil:
    def __reduce__(self):
        return threading.Lock, ()


def test_files_of_a_run(tmp_path):
    run(tmp_path, training__epochs=1)
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == ["best.pt", "last.pt"]
    best = read_checkpoint(best_path(tmp_path))
    assert (best["epoch"], best["metric"]) == (1, "accuracy")
