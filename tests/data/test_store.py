from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recurra.data import store as module
from recurra.data.cache import cache_folder, cache_key, cached, prune_cache
from recurra.data.store import Ragged, Store, StoreWriter
from recurra.errors import DataError

ROWS = [[1, 2, 3], [], [4], [5, 6]]


def build(writer: StoreWriter) -> None:
    writer.append("text", Ragged.from_rows(ROWS[:2]))
    writer.append("text", Ragged(np.arange(9, dtype=np.int32)[3:], np.array([1, 2, 4])))  # offsets need not start at 0
    writer.append("number", np.arange(6, dtype=np.float32).reshape(3, 2))
    writer.append("number", np.full((1, 2), 9, np.float32))
    writer.meta["note"] = {"a": [1, "ü"]}


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def folder(tmp_path):
    with StoreWriter(tmp_path / "s") as writer:
        build(writer)
    return tmp_path / "s"


# --- Ragged


@settings(max_examples=50, deadline=None)
@given(st.lists(st.lists(st.integers(1, 9), max_size=6), min_size=1, max_size=8), st.data())
def test_take_and_pad_are_row_by_row(rows, data):
    ragged = Ragged.from_rows(rows)
    chosen = data.draw(st.lists(st.integers(0, len(rows) - 1), max_size=10))
    taken = ragged.take(np.array(chosen, np.int64))
    assert [taken[i].tolist() for i in range(len(chosen))] == [rows[i] for i in chosen]
    padded, lengths = ragged.rows(np.array(chosen, np.int64), fill=-1)
    steps = max((len(rows[i]) for i in chosen), default=0)
    assert padded.tolist() == [rows[i] + [-1] * (steps - len(rows[i])) for i in chosen]
    assert lengths.tolist() == [len(rows[i]) for i in chosen]


def test_ragged_of_vectors():
    ragged = Ragged(np.arange(8.0).reshape(4, 2), np.array([0, 3, 3, 4]))
    padded, lengths = ragged.rows([2, 0])
    assert padded.shape == (2, 3, 2)
    assert padded[0].tolist() == [[6, 7], [0, 0], [0, 0]]
    assert lengths.tolist() == [1, 3]


def test_ragged_rows_and_concatenation():
    both = Ragged.concatenate([Ragged.from_rows(ROWS), Ragged(np.array([7]), np.array([0, 1]), truncated=1)])
    assert [both[i].tolist() for i in range(len(both))] == [*ROWS, [7]]
    assert both[-1].tolist() == [7]
    assert both.truncated == 1
    with pytest.raises(IndexError):
        both[5]


# --- store


def test_round_trip(folder):
    store = Store.open(folder)
    assert list(store) == ["text", "number"]
    text = store["text"]
    assert [text[i].tolist() for i in range(4)] == [[1, 2, 3], [], [4], [5, 6]]
    assert text.values.dtype == np.int32
    assert store["number"].tolist() == [[0, 1], [2, 3], [4, 5], [9, 9]]
    assert store.meta == {"note": {"a": [1, "ü"]}}
    assert names(folder.parent) == ["s"]


def test_arrays_are_mapped_and_plain(folder):
    values = Store.open(folder)["text"].values
    assert isinstance(values.base, np.memmap)
    assert type(values) is np.ndarray


def test_files_are_ordinary_npy(folder):
    assert np.load(folder / "0.values.npy").tolist() == [1, 2, 3, 4, 5, 6]


def test_header_grows_in_place(tmp_path):
    with StoreWriter(tmp_path / "s") as writer:
        for _ in range(3):
            writer.append("x", np.zeros(70_000, np.int8))
    assert Store.open(tmp_path / "s")["x"].shape == (210_000,)


def test_empty_columns(tmp_path):
    with StoreWriter(tmp_path / "s") as writer:
        writer.append("text", Ragged.from_rows([]))
        writer.append("x", np.zeros((0, 3)))
        writer.append("blank", Ragged.from_rows([[], []]))
    store = Store.open(tmp_path / "s")
    assert len(store["text"]) == 0
    assert store["x"].shape == (0, 3)
    assert store["blank"].rows([0, 1])[0].shape == (2, 0)


def test_chunks_must_agree(tmp_path):
    with StoreWriter(tmp_path / "s") as writer:
        writer.append("x", np.zeros(2))
        with pytest.raises(ValueError, match="same type and row shape"):
            writer.append("x", np.zeros(2, np.int32))
        with pytest.raises(ValueError, match="same type and row shape"):
            writer.append("x", np.zeros((2, 2)))
        with pytest.raises(ValueError, match="is dense"):
            writer.append("x", Ragged.from_rows([[1]]))


def test_nothing_is_left_after_an_error(tmp_path):
    def fail():
        with StoreWriter(tmp_path / "s") as writer:
            build(writer)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert names(tmp_path) == []


def test_existing_store_is_not_overwritten(folder):
    def again():
        with StoreWriter(folder) as writer:
            build(writer)

    with pytest.raises(FileExistsError):
        again()
    assert len(Store.open(folder)["text"]) == 4
    assert names(folder.parent) == ["s"]


def damage_truncated(folder):
    os.truncate(folder / "0.values.npy", 130)


def damage_missing(folder):
    (folder / "1.npy").unlink()


def damage_header(folder):
    with (folder / "1.npy").open("r+b") as file:
        file.write(b"\0" * 40)


def damage_offsets(folder):
    array = np.load(folder / "0.offsets.npy", mmap_mode="r+")
    array[:] = 0
    array.flush()


def damage_index(folder):
    (folder / "index.json").write_text('{"format": 1, "files": ')


def damage_version(folder):
    index = json.loads((folder / "index.json").read_text())
    (folder / "index.json").write_text(json.dumps(index | {"format": 0}))


def damage_list(folder):
    (folder / "index.json").write_text("[]")


DAMAGES = [damage_truncated, damage_missing, damage_header, damage_offsets, damage_index, damage_version, damage_list]


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_is_seen(folder, damage):
    damage(folder)
    with pytest.raises(DataError, match="cannot be used"):
        Store.open(folder)


def test_missing(tmp_path):
    with pytest.raises(DataError, match="Delete the folder"):
        Store.open(tmp_path / "none")


def test_full_disk(tmp_path, monkeypatch):
    class FullDisk:
        def __init__(self, file):
            self.file = file

        def write(self, data):
            raise OSError(errno.ENOSPC, "No space left on device")

        def __getattr__(self, name):
            return getattr(self.file, name)

    def append(self, array):
        self._file = FullDisk(self._file)
        return original(self, array)

    original = module._ArrayWriter.append
    monkeypatch.setattr(module._ArrayWriter, "append", append)
    monkeypatch.setenv("RECURRA_CACHE", str(tmp_path))
    with pytest.raises(DataError, match=r"No space left on device.*\$RECURRA_CACHE") as caught:
        cached("k", build)
    assert str(tmp_path) in str(caught.value)
    assert not list(tmp_path.rglob("*.npy"))


def test_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"\$RECURRA_CACHE"):
        cached("k", build, folder=tmp_path / "file")


# --- cache


def test_cache_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("RECURRA_CACHE", str(tmp_path / "c"))
    assert cache_folder() == tmp_path / "c"
    monkeypatch.delenv("RECURRA_CACHE")
    assert "recurra" in str(cache_folder()).lower()


def test_key():
    assert cache_key("a", {"x": 1, "y": 2}) == cache_key("a", {"y": 2, "x": 1})
    assert len({cache_key("a"), cache_key("b"), cache_key("a", "b"), cache_key(["a", "b"])}) == 4
    assert len(cache_key()) == 32


def test_built_once(tmp_path):
    calls = []
    for _ in range(2):
        store = cached("k", lambda writer: (calls.append(1), build(writer))[0], folder=tmp_path)
        assert store["text"][0].tolist() == [1, 2, 3]
    assert len(calls) == 1


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_entry_is_rebuilt(tmp_path, damage):
    path = cached("k", build, folder=tmp_path).path
    damage(path)
    assert cached("k", build, folder=tmp_path)["number"].shape == (4, 2)
    assert names(path.parent) == ["k"]


def test_build_error_passes_through(tmp_path):
    def fail(writer):
        build(writer)
        raise RuntimeError("inside")

    with pytest.raises(RuntimeError, match="inside"):
        cached("k", fail, folder=tmp_path)
    assert names(tmp_path / "encoded-1") == []


def test_builders_at_the_same_time(tmp_path):
    barrier = threading.Barrier(4)
    stores = []

    def slow(writer):
        build(writer)
        barrier.wait(timeout=20)  # all four are in the middle of building

    threads = [threading.Thread(target=lambda: stores.append(cached("k", slow, folder=tmp_path))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [store["text"][3].tolist() for store in stores] == [[5, 6]] * 4
    assert names(tmp_path / "encoded-1") == ["k"]


def test_an_entry_that_another_process_finishes_while_it_is_looked_at(tmp_path, monkeypatch):
    """Its temporary folder is listed, and has its last name by the time it is opened."""
    cached("k", build, folder=tmp_path)
    (tmp_path / "encoded-1" / ".other.1.tmp").mkdir()
    scandir = os.scandir

    def vanished(path):
        if str(path).endswith(".tmp"):
            raise FileNotFoundError(2, "No such file or directory", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", vanished)
    assert prune_cache(0, folder=tmp_path) == [tmp_path / "encoded-1" / "k"]


def test_processes_at_the_same_time(tmp_path):
    program = (
        "import sys, numpy as np\n"
        "from pathlib import Path\n"
        "from recurra.data.cache import cached\n"
        "for key in range(20):\n"
        "    store = cached(str(key), lambda writer: writer.append('x', np.full(50_000, key)), folder=Path(sys.argv[1]))\n"
        "    assert (store['x'] == key).all() and store['x'].shape == (50_000,)\n"
    )
    racers = [subprocess.Popen([sys.executable, "-c", program, str(tmp_path)], stderr=subprocess.PIPE, text=True) for _ in range(3)]
    errors = [racer.communicate(timeout=60)[1] for racer in racers]
    assert [racer.returncode for racer in racers] == [0, 0, 0], errors
    assert len(names(tmp_path / "encoded-1")) == 20


def entry(folder, key, used, size=10_000):
    path = cached(key, lambda writer: writer.append("x", np.zeros(size, np.int8)), folder=folder).path
    for file in [*path.iterdir(), path]:
        os.utime(file, (used, used))
    return path


def test_oldest_are_removed(tmp_path):
    now = time.time()
    paths = [entry(tmp_path, f"k{i}", now - 100 + i) for i in range(4)]
    cached("k0", build, folder=tmp_path)  # used again
    size = sum(file.stat().st_size for file in [paths[0], *paths[0].iterdir()])
    assert prune_cache(2 * size + 100, folder=tmp_path) == [paths[1], paths[2]]
    assert sorted(names(tmp_path / "encoded-1")) == ["k0", "k3"]
    assert prune_cache(0, folder=tmp_path, keep="k3") == [paths[0]]


def test_a_new_entry_pushes_out_old_ones_but_not_itself(tmp_path):
    entry(tmp_path, "old", time.time() - 100)
    store = cached("new", build, folder=tmp_path, limit=1)
    assert names(store.path.parent) == ["new"]


def test_half_built_entries_of_the_dead_are_removed(tmp_path):
    root = tmp_path / "encoded-1"
    for name, age in ((".a.1.ff.tmp", 2 * 86_400), (".b.2.ff.tmp", 60)):
        (root / name).mkdir(parents=True)
        os.utime(root / name, (time.time() - age,) * 2)
    prune_cache(folder=tmp_path)
    assert names(root) == [".b.2.ff.tmp"]


def test_prune_without_a_cache(tmp_path):
    assert prune_cache(folder=tmp_path / "none") == []
