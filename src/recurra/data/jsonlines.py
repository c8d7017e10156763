"""JSON lines files (one object a line) and JSON files (one array of objects).

JSON lines are read in blocks, in constant memory; opening one reads it once, to learn its columns and their types.
A column that holds values of different kinds becomes text. A JSON array has to be read whole.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from recurra.data.records import Block, Dialect, blocks
from recurra.data.sources import BadRow, FrameSource, digest_file, open_bytes, row_error
from recurra.data.surrogates import without_surrogates
from recurra.errors import DataError, EmptyData, RowError

if TYPE_CHECKING:
    from hashlib import blake2b

    import polars as pl

__all__ = ["JSONLinesFile", "frame_of_columns", "frame_of_records", "read_json"]

_LINES = Dialect(separator="\x1f", quotes=False)  # every line is a record
_BAD_ROWS_KEPT = 1_000


class JSONLinesFile:
    """A file of one JSON object a line, plain or compressed.

    Attributes:
        name: the path, for messages.
        schema: columns in the order in which they first appear, with polars types that hold every value of the file.
    """

    def __init__(self, path: Path, *, on_error: str = "fail") -> None:
        """Read the file once.

        Raises:
            EmptyData: there is no line.
            RowError: a line is not a JSON object, and rows are not to be skipped.
        """
        import polars as pl

        self.name = str(path)
        self._path = path
        self._skip = on_error == "skip"
        with open_bytes(path) as file:
            self._start = 3 if file.read(3) == b"\xef\xbb\xbf" else 0
        self._bad: list[BadRow] = []
        self._bad_count = 0
        self._slow: set[int] = set()  # blocks with bad lines
        self._rows: list[int] = []
        schema: dict[str, pl.DataType] = {}
        for number, block in enumerate(self._blocks()):
            frame = self._infer(number, block)
            self._rows.append(frame.height)
            for name, dtype in frame.schema.items():
                schema[name] = _common(schema[name], dtype) if name in schema else dtype
        if not self._rows:
            raise EmptyData(f"{self.name} is empty: it needs one JSON object a line.")
        self.schema = {name: pl.String() if dtype == pl.Null else dtype for name, dtype in schema.items()}

    def frames(self) -> Iterator[pl.DataFrame]:
        """The rows, some megabytes at a time."""
        import polars as pl

        for number, block in enumerate(self._blocks()):
            data = block.data
            if number in self._slow:
                good = [json.dumps(record).encode() for _, record, problem in _lines(block) if not problem]
                data = b"\n".join(good)
            if not data.strip():
                continue
            try:
                frame = pl.read_ndjson(data, schema=self.schema)
            except (pl.exceptions.PolarsError, OSError):
                frame = frame_of_records([record for _, record, _ in _lines(block)], self.schema)
            if frame.height:
                yield frame

    def count(self) -> int:
        """Rows that can be read."""
        return sum(self._rows)

    def bad_rows(self) -> list[BadRow]:
        """Rows left out (the first 1,000)."""
        return list(self._bad)

    def bad_row_count(self) -> int:
        """Rows left out, all of them."""
        return self._bad_count

    def place(self, row: int) -> str:
        """`path:line` of a row."""
        for number, block in enumerate(self._blocks()):
            if row < self._rows[number]:
                good = (line for line, _, problem in _lines(block) if not problem)
                return f"{self.name}:{next(itertools.islice(good, row, None))}"
            row -= self._rows[number]
        raise IndexError(row)

    def digest(self, into: blake2b) -> None:
        """Feed the file's bytes to a hash."""
        digest_file(self._path, into)

    def _blocks(self) -> Iterator[Block]:
        with open_bytes(self._path) as file:
            file.read(self._start)
            yield from blocks(file, _LINES, 1)

    def _infer(self, number: int, block: Block) -> pl.DataFrame:
        """The rows of a block with types of their own; bad lines are raised or recorded."""
        import polars as pl

        try:
            return pl.read_ndjson(block.data, infer_schema_length=None) if block.data.strip() else pl.DataFrame()
        except (pl.exceptions.PolarsError, OSError):
            pass
        records: list[dict[str, Any]] = []
        for line, record, problem in _lines(block):
            if not problem:
                records.append(record)
                continue
            bad = BadRow(self.name, line, problem)
            if not self._skip:
                raise row_error(bad, "Correct the line")
            self._slow.add(number)
            self._bad_count += 1
            if len(self._bad) < _BAD_ROWS_KEPT:
                self._bad.append(bad)
        return frame_of_records(records)


def _lines(block: Block) -> Iterator[tuple[int, dict[str, Any], str]]:
    """Line number, object and problem (empty for a good line) of every line that is not blank."""
    for line, raw in enumerate(block.data.split(b"\n"), block.line):
        if not raw.strip():
            continue
        try:
            record = json.loads(raw.decode(), parse_constant=_refuse_constant)
        except UnicodeDecodeError as error:
            yield line, {}, f"the byte 0x{error.object[error.start]:02x} is not valid UTF-8"
        except json.JSONDecodeError as error:
            yield line, {}, f"the line is not valid JSON ({error.msg} at character {error.colno})"
        except (ValueError, RecursionError) as error:
            yield line, {}, f"the line is not valid JSON ({error})"
        else:
            kind = {list: "a list", str: "a string", type(None): "null", bool: "true or false"}.get(type(record), "a number")
            yield (line, record, "") if isinstance(record, dict) else (line, {}, f"the line must hold an object {{...}}, not {kind}")


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON value; write null")


def read_json(path: Path, *, on_error: str = "fail") -> FrameSource | JSONLinesFile:
    """A .json file: an array of objects, an object of columns (`{"text": [...], "label": [...]}`), or JSON lines after all.

    Raises:
        EmptyData: the file or its array is empty.
        RowError: the JSON is broken, named by line.
        DataError: it holds something else.
    """
    with open_bytes(path) as file:
        lines = (line for line in file if line.strip(b"\xef\xbb\xbf \t\r\n"))
        first = next(lines, None)
        if first is None:
            raise EmptyData(f"{path} is empty: it needs an array of objects, [{{...}}, {{...}}].")
        record = _object(first.removeprefix(b"\xef\xbb\xbf"))
        columns = (
            record is not None
            and len(record) > 0
            and all(isinstance(value, list) for value in record.values())
            and next(lines, None) is None
        )
        if record is not None and not columns:
            return JSONLinesFile(path, on_error=on_error)
    with open_bytes(path) as file:
        content = file.read()
    try:
        value = json.loads(content.decode("utf-8-sig"), parse_constant=_refuse_constant)
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise RowError("not valid UTF-8. Save the file as UTF-8.", source=str(path), line=line) from error
    except json.JSONDecodeError as error:
        raise RowError(
            f"not valid JSON ({error.msg} at character {error.colno}). Correct the file.", source=str(path), line=error.lineno
        ) from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is not valid JSON: {error}.") from error
    if isinstance(value, list) and all(isinstance(item, dict) for item in value):
        return FrameSource(str(path), frame_of_records(value))
    if isinstance(value, dict) and value and all(isinstance(item, list) for item in value.values()):
        return FrameSource(str(path), frame_of_columns(value, str(path)))
    raise DataError(f"{path} must hold an array of objects, [{{...}}, {{...}}], or an object of columns, {{name: [...], ...}}.")


def _object(line: bytes) -> dict[str, Any] | None:
    """The JSON object that a line is, or None."""
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def frame_of_records(records: list[dict[str, Any]], schema: dict[str, pl.DataType] | None = None) -> pl.DataFrame:
    """A frame of dictionaries; a key that is missing is a missing value.

    Args:
        records: the rows.
        schema: columns and types; taken from the values when not given.
    """
    import polars as pl

    names = list(schema) if schema is not None else list(dict.fromkeys(key for record in records for key in record))
    columns = [_series(name, [record.get(name) for record in records], schema[name] if schema is not None else None) for name in names]
    return pl.DataFrame(columns) if columns else pl.DataFrame(height=len(records))


def frame_of_columns(columns: dict[str, Any], name: str) -> pl.DataFrame:
    """A frame of equally long lists.

    Raises:
        DataError: they are no lists, or not equally long.
    """
    import polars as pl

    wrong = [key for key, values in columns.items() if isinstance(values, (str, bytes)) or not hasattr(values, "__iter__")]
    if wrong:
        raise DataError(f"{wrong[0]!r} in {name} must be a list with one value a row, not {columns[wrong[0]]!r}.")
    try:
        return pl.DataFrame([_series(str(key), list(values)) for key, values in columns.items()])
    except pl.exceptions.ShapeError as error:
        lengths = ", ".join(f"{key}: {len(list(values))}" for key, values in columns.items())
        raise DataError(f"The columns of {name} are not equally long ({lengths}).") from error


def _series(name: str, values: list[Any], dtype: pl.DataType | None = None) -> pl.Series:
    """A column of Python values; of text where they are of different kinds."""
    import polars as pl

    kinds = {_kind(value) for value in values} - {type(None)}
    if kinds == {float} and dtype is None and not all(isinstance(value, (int, type(None))) for value in values):
        dtype = pl.Float64()
    if len(kinds) <= 1 and dtype != pl.String:
        try:
            return pl.Series(name, values, dtype, strict=dtype is None)
        except UnicodeEncodeError:  # lone surrogates, which no file can hold
            with suppress(TypeError, ValueError, pl.exceptions.PolarsError):
                return pl.Series(name, without_surrogates(values), dtype, strict=dtype is None)
        except (TypeError, ValueError, OverflowError, pl.exceptions.PolarsError):
            pass
    texts = [v if v is None or isinstance(v, str) else json.dumps(v, ensure_ascii=False, default=str) for v in values]
    try:
        return pl.Series(name, texts, pl.String)
    except UnicodeEncodeError:
        return pl.Series(name, without_surrogates(texts), pl.String)


def _kind(value: Any) -> type:
    """The kind of a JSON value; integers and decimals are one kind, `float`."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return float
    return type(value)


def _common(left: pl.DataType, right: pl.DataType) -> pl.DataType:
    """The type that holds the values of both; text where their kinds differ."""
    import polars as pl

    if right in {left, pl.Null()}:
        return left
    if left == pl.Null:
        return right
    if left.is_numeric() and right.is_numeric():
        return pl.Float64()
    if isinstance(left, pl.List) and isinstance(right, pl.List):
        return pl.List(_common(left.inner, right.inner))  # type: ignore[arg-type]
    return pl.String()
