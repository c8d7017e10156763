"""Running text from files and tables."""

from __future__ import annotations

import gzip
from pathlib import Path

import polars as pl
import pytest

from recurra.data.texts import read_texts
from recurra.errors import DataError, EmptyData, MissingColumn, RowError


def whole(*arguments: object, **options: object) -> str:
    return "".join(read_texts(*arguments, **options).pieces())  # type: ignore[arg-type]


def test_files_come_one_after_the_other_and_end_with_a_line(tmp_path: Path) -> None:
    (tmp_path / "b.txt").write_bytes(b"\xef\xbb\xbftwo\r\nlines")
    (tmp_path / "a.txt").write_text("one\n")
    (tmp_path / "code.py").write_text("x = 1\n")
    with gzip.open(tmp_path / "c.txt.gz", "wt") as file:
        file.write("packed")
    assert whole(str(tmp_path / "*.txt")) == "one\ntwo\nlines\n"
    assert whole([tmp_path / "code.py", tmp_path / "c.txt.gz"]) == "x = 1\npacked\n"


def test_a_long_file_is_read_in_pieces_that_end_with_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("recurra.data.texts._PIECE", 20)
    text = "".join(f"line {number}\n" for number in range(30))
    (tmp_path / "t.txt").write_text(text)
    pieces = list(read_texts(tmp_path / "t.txt").pieces())
    assert len(pieces) > 5
    assert "".join(pieces) == text
    assert all(piece.endswith("\n") for piece in pieces)


def test_a_table_has_a_text_column(tmp_path: Path) -> None:
    frame = pl.DataFrame({"text": ["a b", None, "c"], "number": [1, 2, 3]})
    frame.write_csv(tmp_path / "t.csv")
    assert whole(frame) == whole(tmp_path / "t.csv") == "a b\nc\n"
    two = frame.with_columns(other=pl.Series(["x y", "x z", "w"]))
    assert whole(two, column="other") == "x y\nx z\nw\n"
    with pytest.raises(MissingColumn, match="text, other"):
        read_texts(two)
    with pytest.raises(MissingColumn, match="no text column"):
        read_texts(frame[["number"]])
    with pytest.raises(MissingColumn, match=r"'txet'.*Did you mean 'text'"):
        read_texts(two, column="txet")


def test_bytes_that_are_no_text_are_named_by_file_and_line(tmp_path: Path) -> None:
    path = tmp_path / "latin.txt"
    path.write_bytes(b"one\ncaf\xe9\nthree\n")
    with pytest.raises(RowError, match=r"latin\.txt:2: the byte 0xE9"):
        whole(path)
    text = read_texts(path, on_error="skip")
    assert "".join(text.pieces()) == "one\nthree\n"
    assert text.left_out == 1


def test_what_is_not_there_is_told(tmp_path: Path) -> None:
    (tmp_path / "corpus.txt").write_text("x")
    (tmp_path / "empty.txt").write_text("")
    with pytest.raises(DataError, match=r"Did you mean '.*corpus\.txt'"):
        read_texts(tmp_path / "corpos.txt")
    with pytest.raises(DataError, match="is a folder"):
        read_texts(tmp_path)
    with pytest.raises(DataError, match="No file matches"):
        read_texts(str(tmp_path / "*.md"))
    with pytest.raises(EmptyData, match="0 bytes"):
        read_texts(tmp_path / "empty.txt")
    with pytest.raises(MissingColumn, match="plain text"):
        read_texts(tmp_path / "corpus.txt", column="text")
    with pytest.raises(DataError, match="one kind"):
        read_texts([tmp_path / "corpus.txt", tmp_path / "t.csv"])


def test_the_fingerprint_goes_with_the_content(tmp_path: Path) -> None:
    path = tmp_path / "t.txt"
    path.write_text("a")
    first = read_texts(path).fingerprint()
    assert read_texts(path).fingerprint() == first
    path.write_text("b")
    assert read_texts(path).fingerprint() != first
