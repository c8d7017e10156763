"""Files that are there as a whole or not at all, with the permissions of any new file."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import polars as pl
import pytest

from recurra.cli.output import write_predictions
from recurra.evaluation.report import page
from recurra.files import replacing
from recurra.model.folder import write_file
from recurra.model.model import Prediction
from recurra.training.checkpoints import write_atomically

WRITERS: dict[str, Callable[[Path], object]] = {
    "model folder": lambda path: write_file(path, b"x"),
    "checkpoint": lambda path: write_atomically(path, lambda file: file.write(b"x")),
    "predictions": lambda path: write_predictions(
        [Prediction(pl.DataFrame({"a": ["é\r\n"]}), pl.DataFrame({"label": ["x"]}), [])], path, as_json=False
    ),
    "report": lambda path: page.write_report(path, None),  # type: ignore[arg-type] # what the page says does not matter here
}


@pytest.fixture(params=[0o077, 0o002])
def mask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


@pytest.mark.skipif(os.name != "posix", reason="permissions by mask are those of POSIX")
@pytest.mark.parametrize("name", WRITERS)
def test_permissions_are_those_of_any_new_file(name: str, mask: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page, "render_report", lambda _: "é")
    path = tmp_path / "new.csv"
    WRITERS[name](path)
    assert path.stat().st_mode & 0o777 == 0o666 & ~mask
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("temporary", [None, "other"])
def test_a_failure_leaves_what_was_there(tmp_path: Path, temporary: str | None) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def interrupted() -> None:
        with replacing(path, temporary=tmp_path / temporary if temporary else None) as file:
            file.write(b"new")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_two_writers_do_not_meet(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with replacing(path) as first, replacing(path) as second:
        first.write(b"first")
        second.write(b"second")
    assert path.read_bytes() == b"first"  # the last to end


@pytest.mark.skipif(os.name != "posix", reason="named pipes are those of POSIX")
def test_a_pipe_or_device_is_written_to_and_not_replaced(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        write_file(pipe, b"x")
        assert os.read(reader, 9) == b"x"
    finally:
        os.close(reader)
    assert pipe.is_fifo()
    assert list(tmp_path.iterdir()) == [pipe]
