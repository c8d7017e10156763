"""Reading: every format gives the same rows, bad input is named by file and line, and memory does not grow with the file."""

from __future__ import annotations

import csv
import functools
import gzip
import io
import json
import subprocess
import sys
from pathlib import Path

import pandas as pd
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from recurra.data import delimited, jsonlines, records
from recurra.data import read as reading
from recurra.data.read import Table, is_table, read, require_columns, resolve
from recurra.data.sources import FrameSource
from recurra.errors import DataError, EmptyData, MissingColumn, RecurraError, RowError

ROWS = [("a cat, black", "x"), ('say "hi"', "y"), ("two\nlines", None), ("Grüße 猫", "x")]


def rows_of(table: Table) -> list[tuple[object, ...]]:
    return [row for chunk in table.chunks() for row in chunk.rows()]


def write(folder: Path, name: str, content: bytes | str) -> str:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return str(path)


def as_csv(rows: list[tuple[object, ...]], header: tuple[str, ...] = ("text", "label"), **dialect: str) -> str:
    out = io.StringIO(newline="")
    csv.writer(out, **dialect).writerows([header, *rows])  # type: ignore[arg-type]
    return out.getvalue()


@pytest.fixture
def frame() -> pl.DataFrame:
    return pl.DataFrame(ROWS, schema={"text": pl.String, "label": pl.String}, orient="row")


@pytest.mark.parametrize("kind", ["csv", "csv.gz", "tsv", "jsonl", "jsonl.xz", "json", "parquet", "arrow"])
def test_every_format_gives_the_same_rows(tmp_path: Path, frame: pl.DataFrame, kind: str) -> None:
    import lzma

    path = tmp_path / f"data.{kind}"
    if kind == "parquet":
        frame.write_parquet(path)
    elif kind == "arrow":
        frame.write_ipc(path)
    else:
        text = {
            "csv": as_csv(ROWS),
            "tsv": as_csv(ROWS, delimiter="\t"),
            "jsonl": frame.write_ndjson(),
            "json": json.dumps(frame.to_dicts()),
        }
        data = text[kind.split(".", maxsplit=1)[0]].encode()
        path.write_bytes(gzip.compress(data) if kind.endswith("gz") else lzma.compress(data) if kind.endswith("xz") else data)
    table = read(path)
    assert rows_of(table) == rows_of(table) == ROWS
    assert table.count() == len(ROWS)
    assert table.columns == ["text", "label"]


def test_frames_and_python_rows(frame: pl.DataFrame) -> None:
    dicts = frame.to_dicts()
    for source in (frame, frame.lazy(), frame.to_arrow(), frame.to_pandas(), dicts, frame.to_dict(as_series=False)):
        assert rows_of(read(source)) == ROWS, type(source)


def test_half_characters_leave_lists_what_they_are() -> None:
    """No frame can hold them; a list whose tokens have some is still a list, and so are those beside it."""
    dicts = [{"tokens": ["Anna\ud800", None]}, {"tokens": ["b"]}, {"tokens": None}]
    whole = [["Anna\N{REPLACEMENT CHARACTER}", None], ["b"], None]
    for source in (dicts, {"tokens": [row["tokens"] for row in dicts]}):
        assert read(source).head(3)["tokens"].to_list() == whole
    assert read([{"a": {"b": "\ud800"}}]).head(1)["a"].to_list() == [{"b": "\N{REPLACEMENT CHARACTER}"}]


def test_hugging_face_data_sets(tmp_path: Path, frame: pl.DataFrame) -> None:
    """Rows are the same; class numbers become their names, from the data set and from the Parquet file it writes."""
    datasets = pytest.importorskip("datasets", reason="the package `datasets` is not installed (pip install datasets)")
    assert rows_of(read(datasets.Dataset.from_list(frame.to_dicts()))) == ROWS
    features = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["bad", "good"])})
    dataset = datasets.Dataset.from_dict({"text": ["a", "b", "c"], "label": [1, 0, -1]}, features=features)
    dataset.to_parquet(tmp_path / "x.parquet")
    expected = [("a", "good"), ("b", "bad"), ("c", None)]
    assert rows_of(read(dataset)) == expected
    assert rows_of(read(tmp_path / "x.parquet")) == expected
    parts = resolve(datasets.DatasetDict({"train": dataset, "test": dataset.select([0])}))
    assert {part: table.count() for part, table in parts.items()} == {"train": 3, "test": 1}


def test_pandas_with_mixed_objects_and_missing_values() -> None:
    table = read(pd.DataFrame({"mixed": ["a", 1, None], "number": [1.5, float("nan"), 2.0]}, index=[7, 8, 9]))
    assert rows_of(table) == [("a", 1.5), ("1", None), (None, 2.0)]


def test_types_of_other_formats_are_kept(tmp_path: Path) -> None:
    frame = pl.DataFrame({"tokens": [["a", "b"], None], "n": [1.5, float("nan")], "i": [1, 2]})
    frame.write_parquet(tmp_path / "x.parquet")
    table = read(tmp_path / "x.parquet")
    assert table.schema == {"tokens": pl.List(pl.String), "n": pl.Float64, "i": pl.Int64}
    assert rows_of(table) == [(["a", "b"], 1.5, 1), (None, None, 2)]


cell = st.text(st.sampled_from('ab";,\t\n é猫|'), max_size=6)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(st.tuples(cell, cell, cell), min_size=1, max_size=8), size=st.integers(1, 40), end=st.sampled_from(["\n", "\r\n"]))
def test_csv_round_trip_at_any_block_size(tmp_path: Path, rows: list[tuple[str, ...]], size: int, end: str) -> None:
    """What csv.writer writes is read back, and every row is placed on its first line, wherever the blocks are cut."""
    path = tmp_path / "x.csv"
    path.write_text(as_csv(rows, ("a", "b", "c"), lineterminator=end), encoding="utf-8", newline="")
    lines = [2]
    for row in rows:
        lines.append(lines[-1] + 1 + sum(value.count("\n") for value in row))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(delimited, "blocks", functools.partial(records.blocks, size=size))
        table = read(path)
        assert rows_of(table) == [tuple(value or None for value in row) for row in rows]
        assert [table.place(i) for i in range(len(rows))] == [f"{path}:{line}" for line in lines[:-1]]


bad_lines = st.sampled_from([b"only one", b"one,two,three", b"\xff\xfe,x", b'"never closed,x', b'"open"?,"never,y'])
good_lines = st.sampled_from([b"a,x", b'"b, c",y', b'"d\nd",z', b'"say ""hi""",x', b'5" pipe,y'])


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(lines=st.lists(st.one_of(good_lines, bad_lines), min_size=1, max_size=12), size=st.integers(1, 60))
def test_skipping_keeps_every_good_row(tmp_path: Path, lines: list[bytes], size: int) -> None:
    """Bad rows among good ones: all good rows come in order, every bad one is recorded with its line."""
    expected = {b"a,x": ("a", "x"), b'"b, c",y': ("b, c", "y"), b'"d\nd",z': ("d\nd", "z"), b'"say ""hi""",x': ('say "hi"', "x")}
    expected |= {b'5" pipe,y': ('5" pipe', "y")}
    lines = [b'"q, r",s', *lines, b'"t, u",v', b'"w, x",y', b'"z, z",z']  # enough quoted rows that quotes mean quotes
    expected |= {line: tuple(next(csv.reader([line.decode()]))) for line in (lines[0], *lines[-3:])}
    path = tmp_path / "x.csv"
    path.write_bytes(b"\n".join([b"text,label", *lines, b""]))
    good, bad, number = [], [], 2
    for line in lines:
        good += [(expected[line], number)] if line in expected else []
        bad += [] if line in expected else [number]
        number += 1 + line.count(b"\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(delimited, "blocks", functools.partial(records.blocks, size=size))
        patch.setattr(delimited, "_detect", lambda *_, **__: (records.Dialect(), ""))
        table = read(path, on_error="skip")
        assert rows_of(table) == [row for row, _ in good]
        assert [row.line for row in table.bad_rows] == bad
        assert [table.place(i) for i in range(table.count())] == [f"{path}:{line}" for _, line in good]
        if bad:
            with pytest.raises(RowError) as error:
                rows_of(read(path))
            assert error.value.line == bad[0]


def test_detected_dialects_are_stated(tmp_path: Path) -> None:
    semicolons = read(write(tmp_path, "s.csv", "text;label\na, b;x\n"))
    assert rows_of(semicolons) == [("a, b", "x")]
    assert "separated by semicolons" in semicolons.description
    raw = read(write(tmp_path, "raw.tsv", 'text\tlabel\n"hello he said\t1\n`` x\t0\n"so\t0\n'))
    assert rows_of(raw) == [('"hello he said', "1"), ("`` x", "0"), ('"so', "0")]
    assert "quotes are part of the text" in raw.description


def test_marks_of_other_systems(tmp_path: Path) -> None:
    """Byte order mark, carriage returns, blanks in the header, an unnamed column, blank lines, no newline at the end."""
    table = read(write(tmp_path, "x.csv", b"\xef\xbb\xbf,text, label\r\n0,a,x\r\n\r\n1,b,"))
    assert table.columns == ["column_1", "text", "label"]
    assert rows_of(table) == [("0", "a", "x"), ("1", "b", None)]
    assert table.place(1).endswith("x.csv:4")


def test_a_quote_inside_text_is_text(tmp_path: Path) -> None:
    path = write(tmp_path, "x.csv", 'text,label\nTV 40",x\n5" pipe,y\n"q, r",z\n a "b",x\n')
    assert rows_of(read(path)) == [('TV 40"', "x"), ('5" pipe', "y"), ("q, r", "z"), (' a "b"', "x")]


def test_one_column_keeps_commas_and_blank_lines(tmp_path: Path) -> None:
    assert rows_of(read(write(tmp_path, "x.csv", "text\nhello, you\n\nbye\n"))) == [("hello, you",), (None,), ("bye",)]


def test_long_cells_and_unclosed_quotes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    long = "word\n" * 2_000_000  # 10 MB in one cell
    table = read(write(tmp_path, "long.csv", as_csv([(long, "x"), ("b", "y")])))
    assert [len(text) for text, _ in rows_of(table)] == [len(long), 1]
    monkeypatch.setattr(records, "RECORD_BYTES", 1_000)
    monkeypatch.setattr(delimited, "blocks", functools.partial(records.blocks, size=100))
    path = write(tmp_path, "open.csv", 'text,label\n"a, a",x\n"open,x\n' + "b,y\n" * 1_000)
    table = read(path, on_error="skip")
    assert table.count() == 1_001
    assert [row.line for row in table.bad_rows] == [3]


def test_json_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jsonlines, "blocks", functools.partial(records.blocks, size=16))
    table = read(
        write(tmp_path, "x.jsonl", b'\xef\xbb\xbf{"a": 1, "t": ["x"]}\n\n{"a": 2.5, "b": null}\n{"m": 1}\n{"m": "s"}\n{"m": [1]}\n')
    )
    assert table.schema == {"a": pl.Float64, "t": pl.List(pl.String), "b": pl.String, "m": pl.String}
    assert rows_of(table)[:2] == [(1.0, ["x"], None, None), (2.5, None, None, None)]
    assert [row[3] for row in rows_of(table)[2:]] == ["1", "s", "[1]"]
    assert table.place(1).endswith("x.jsonl:3")


@pytest.mark.parametrize("indent", [None, 1])
def test_json_columns_on_one_line_or_many(indent: int | None, tmp_path: Path) -> None:
    columns = {"text": ["x", "y"], "label": ["p", "q"]}
    assert rows_of(read(write(tmp_path, "x.json", json.dumps(columns, indent=indent) + "\n"))) == [("x", "p"), ("y", "q")]


def test_json_lines_in_a_json_file(tmp_path: Path) -> None:
    """Also those of lists, and with a first line of any length; one object that holds more than lists is one row."""
    lists = "".join(json.dumps({"tokens": ["x" * size], "tags": ["O"]}) + "\n" for size in (2**17, 1))
    assert rows_of(read(write(tmp_path, "lists.json", "\n" + lists))) == [(["x" * 2**17], ["O"]), (["x"], ["O"])]
    assert rows_of(read(write(tmp_path, "one.json", '{"text": "x", "tags": ["O"]}'))) == [("x", ["O"])]


def test_bad_json_lines(tmp_path: Path) -> None:
    path = write(tmp_path, "x.jsonl", b'{"a":1}\n{"a":\n5\n{"a":"x"}\n{"a":NaN}\n{"a":"\xff"}\n')
    with pytest.raises(RowError, match=r"x\.jsonl:2: the line is not valid JSON"):
        read(path)
    table = read(path, on_error="skip")
    assert rows_of(table) == [("1",), ("x",)]
    assert [row.line for row in table.bad_rows] == [2, 3, 5, 6]
    assert table.place(1).endswith(":4")


BAD = {
    "empty.csv": (b"", EmptyData, "is empty"),
    "blank.csv": (b"\n \n", EmptyData, "needs a header"),
    "header.csv": (b"text,label\n", EmptyData, r"has columns \(text, label\) and no rows"),
    "latin.csv": (
        b"text,label\na,x\n" + "Grüße,y\n".encode("latin1"),
        RowError,
        r"latin\.csv:3: the byte 0xfc is not valid UTF-8.*iconv",
    ),
    "ragged.csv": (b'text,label\n"a\na",x\nb\n', RowError, r"ragged\.csv:4: the row has 1 field and the header has 2.*skip"),
    "long.csv": (b"text,label\na,x\nb,c,d\n", RowError, r"long\.csv:3: the row has 3 fields"),
    "twice.csv": (b"a,b,a\n1,2,3\n", RowError, r"twice\.csv:1: the header names 'a' more than once"),
    "wide.csv": ("a,b\n1,2\n".encode("utf-16"), DataError, "UTF-16"),
    "sheet.xlsx": (b"PK", DataError, r"extension '\.xlsx' is unknown.*Save the sheet as CSV"),
    "cut.csv.gz": (gzip.compress(as_csv([(str(i), "x") for i in range(9999)]).encode())[:-500], DataError, "damaged or cut short"),
    "broken.parquet": (b"PAR1 something", DataError, "damaged, cut short"),
    "broken.arrow": (b"ARROW1 something", DataError, "damaged, cut short"),
    "broken.json": (b'[{"a": 1},\n {"a" 2}]', RowError, r"broken\.json:2: not valid JSON"),
    "scalar.json": (b"5", DataError, "array of objects"),
    "list.jsonl": (b"[1]\n", RowError, r"list\.jsonl:1: the line must hold an object"),
    "parquet.csv": (b"PAR1 something", DataError, "it is a Parquet file"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_files(tmp_path: Path, name: str) -> None:
    content, error, message = BAD[name]
    path = write(tmp_path, name, content)
    with pytest.raises(error, match=message) as raised:
        rows_of(read(path))
    assert name in str(raised.value)


def test_names_that_are_nothing(tmp_path: Path) -> None:
    write(tmp_path, "tickets.csv", "a\n1\n")
    for source, message in {
        f"{tmp_path}/ticket.csv": "There is no file.*Did you mean 'tickets.csv'",
        f"{tmp_path}/none/x.csv": "the folder .* does not exist",
        f"{tmp_path}/*.tsv": "No file matches",
        str(tmp_path): "is a folder.*tickets.csv",
        "langages": "Did you mean 'languages'",
    }.items():
        with pytest.raises(DataError, match=message):
            read(source)
    for nothing in (5, [1, 2], [], {"a": [1, 2], "b": [1]}, {"a": 5}):
        with pytest.raises(RecurraError):
            read(nothing)


def test_no_network_says_what_to_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_network(*_: object, **__: object) -> pl.LazyFrame:
        raise pl.exceptions.ComputeError("error sending request for url")

    monkeypatch.setattr(pl, "scan_parquet", no_network)
    monkeypatch.setattr(pl, "read_parquet_metadata", no_network)
    with pytest.raises(DataError, match="download the files and pass their paths"):
        read("hf://datasets/a/b/train.parquet")
    with pytest.raises(DataError, match=r"(?s)'ag_news' is a data set of the Hugging Face hub.*recurra train train\.csv --target label"):
        resolve("ag_news")
    with pytest.raises(DataError, match="must end in"):
        read("https://example.org/data")


def test_hub_names_give_train_and_test(monkeypatch: pytest.MonkeyPatch) -> None:
    """The addresses stay under the data set; what polars would fetch is replaced by a frame."""
    asked: list[str] = []

    def scan(address: str, **_: object) -> pl.LazyFrame:
        asked.append(address)
        return pl.LazyFrame({"text": ["a"], "label": [0]})

    monkeypatch.setattr(pl, "scan_parquet", scan)
    monkeypatch.setattr(pl, "read_parquet_metadata", lambda _: {})
    assert {part: table.count() for part, table in resolve("ag_news").items()} == {"train": 1, "test": 1}
    assert all(address.startswith("hf://datasets/fancyzhx/ag_news/data/t") for address in asked)


def test_several_files_are_one_table(tmp_path: Path) -> None:
    first = write(tmp_path, "part-1.csv", "a,b\n1,2\n3,4\n")
    second = write(tmp_path, "part-2.csv", "b;a\n6;5\n")
    table = read(str(tmp_path / "part-*.csv"))
    assert rows_of(table) == rows_of(read([first, second])) == [("1", "2"), ("3", "4"), ("5", "6")]
    assert [table.place(i) for i in range(3)] == [f"{first}:2", f"{first}:3", f"{second}:2"]
    with pytest.raises(IndexError):
        table.place(3)
    write(tmp_path, "part-3.csv", "a,c\n1,2\n")
    with pytest.raises(DataError, match=r"part-3\.csv does not have the columns of .*it lacks 'b' and it has 'c' besides"):
        read(str(tmp_path / "part-*.csv"))


def test_join_and_missing_columns() -> None:
    rows = [{"title": "x", "body": None}, {"title": None, "body": None}, {"title": "p", "body": "q"}]
    table = read(rows, join={"text": ["title", "body"]})
    assert table.columns == ["title", "body", "text"]
    assert [row[0] for chunk in table.chunks(["text"]) for row in chunk.rows()] == ["x", None, "p q"]
    with pytest.raises(MissingColumn, match="Did you mean 'title'"):
        read(rows, join={"text": ["tittle"]})
    with pytest.raises(DataError, match="'text' is joined of no columns"):
        read(rows, join={"text": []})
    with pytest.raises(MissingColumn, match="Its columns: title, body, text"):
        require_columns(table, ["title", "label"])


def test_chunks_are_bounded_and_whole(tmp_path: Path) -> None:
    path = write(tmp_path, "x.csv", as_csv([(i, "x" * 50) for i in range(3_000)]))
    table = read(path)
    chunks = list(table.chunks(["text"], size=700))
    assert [int(v) for chunk in chunks for v in chunk["text"]] == list(range(3_000))
    assert max(chunk.height for chunk in chunks) <= 700
    assert table.head(5)["text"].to_list() == list("01234")
    assert table.head(10_000).height == 3_000


def test_fingerprint_is_of_the_content(tmp_path: Path) -> None:
    a, b = write(tmp_path, "a.csv", "t,l\n1,x\n2,y\n"), write(tmp_path, "b.csv", "t,l\n1,x\n2,y\n")
    other = write(tmp_path, "c.csv", "t,l\n1,x\n2,z\n")
    assert read(a).fingerprint() == read(b).fingerprint() != read(other).fingerprint()
    frame = pl.DataFrame({"t": ["1", "2"], "b": [b"x", None], "l": [["u"], None]})
    pieces = pl.concat([frame.head(1), frame.tail(1)], rechunk=False)
    assert read(frame).fingerprint() == read(pieces).fingerprint() != read(frame.reverse()).fingerprint()
    assert read(a, join={"j": ["t"]}).fingerprint() != read(a).fingerprint()


PEAK = """
import re, sys
import polars
from recurra.data.read import read
def peak():
    return int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1])
before = peak()
count = sum(chunk.height for chunk in read(sys.argv[1]).chunks())
print(peak() - before, count)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from /proc, which this system lacks")
def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    """200 MB are read within 128 MB: eight times the chunk of 16 MB, which parsing, joining and handing over may hold."""
    row = b'"' + b"some words of a ticket, " * 20 + b'",label\n'
    path = tmp_path / "x.csv"
    path.write_bytes(b"text,label\n" + row * 410_000)
    out = subprocess.run([sys.executable, "-c", PEAK, str(path)], capture_output=True, text=True, check=True).stdout.split()
    path.unlink()
    assert int(out[1]) == 410_000
    assert int(out[0]) / 1024 < 128, out


def test_a_quoted_empty_cell_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the block holds a row that only the slower way can read."""
    path = write(tmp_path, "x.csv", 'text,label\n"",x\na,""\n,y\n')
    assert rows_of(read(path)) == [(None, "x"), ("a", None), (None, "y")]
    monkeypatch.setattr(delimited.DelimitedFile, "_parse_fast", lambda *_: None)
    assert rows_of(read(path)) == [(None, "x"), ("a", None), (None, "y")]


def test_fingerprint_tells_numbers_apart_that_json_does_not() -> None:
    values = [float("inf"), float("-inf"), float("nan"), None, 1.0, 0.1 + 0.2, 0.3]
    frames = [pl.DataFrame({"n": pl.Series([1.5, value], dtype=pl.Float64)}) for value in values]
    for cells in (pl.col("n"), pl.concat_list("n"), pl.concat_list("n").list.to_array(1), pl.struct("n")):
        prints = [read(frame.select(cells.alias("c"))).fingerprint() for frame in frames]
        assert len(set(prints)) == len(values)
        whole = pl.concat([frames[0].head(1), frames[0].tail(1)], rechunk=False).select(cells.alias("c"))
        assert read(whole).fingerprint() == prints[0]


@pytest.mark.parametrize("name", ["x.csv", "x.jsonl"])
def test_all_bad_rows_are_counted(tmp_path: Path, name: str) -> None:
    good, bad = ("a,b\n1,2\n", "1,2,3\n") if name == "x.csv" else ('{"a": 1}\n', "{\n")
    table = read(write(tmp_path, name, good + bad * 1_500), on_error="skip")
    assert (table.bad_row_count, len(table.bad_rows), table.count()) == (1_500, 1_000, 1)
    assert read([{"a": 1}]).bad_row_count == 0


def test_a_folder_does_not_hide_a_data_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("languages", "imdb"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(reading, "read_languages", lambda: pl.DataFrame({"text": ["a"], "language": ["x"]}))
    monkeypatch.setattr(reading, "scan_address", lambda name, **_: FrameSource(name, pl.DataFrame({"text": ["a"]})))
    assert read("languages").columns == ["text", "language"]
    assert set(resolve("imdb")) == {"train", "test"}


@pytest.mark.parametrize("address", ["https://x.org/a.csv", "s3://b/a.tsv.gz", "hf://datasets/a/b/c.jsonl"])
def test_bad_rows_behind_an_address_cannot_be_skipped(address: str) -> None:
    with pytest.raises(DataError, match=r"on_error='skip'.*Download the file and pass its path"):
        read(address, on_error="skip")


def test_skipping_is_no_matter_to_formats_without_bad_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pl, "scan_parquet", lambda *_, **__: pl.LazyFrame({"text": ["a"]}))
    monkeypatch.setattr(pl, "read_parquet_metadata", lambda _: {})
    assert read("s3://b/a.parquet", on_error="skip").count() == 1


def test_names_of_tables_and_texts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path, "my notes", "text\na\n")
    write(tmp_path, "part-1", "text\na\n")
    extensions = [".csv", ".tsv", ".tab", ".txt", ".jsonl", ".ndjson", ".json", ".parquet", ".pq", ".arrow", ".feather", ".ipc"]
    names = ["part-1", "my notes", "part-*", "X.CSV", *(f"none/x{end}" for end in [*extensions, ".csv.gz", ".csv.bz2", ".csv.xz"])]
    addresses = ["hf://datasets/a/b", "s3://bucket/x", "https://x.org/a.csv", "https://x.org/a.pq?raw=1", "gs://b/part-*"]
    for name in names + addresses:
        assert is_table(name), name
    texts = [
        "",
        "hello",
        "read a.csv",
        "a\n.csv",
        "none-*",
        "why?",
        "x" * 100_000,
        "x" * 300 + "*",
        "a\0b",
        "\ud800",
        "see https://x.org/a.csv",
    ]
    for text in [*texts, "https://x.org", "https://x.org/watch?v=1", "https://x.txt", "https://x.org/a#b.csv", "x" * 5_000 + ".csv"]:
        assert not is_table(text), text[:40]
