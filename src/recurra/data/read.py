"""Reading tables: files, patterns of files, addresses, frames and plain Python rows, all as one `Table`.

The formats themselves are in `delimited.py` (CSV, TSV), `jsonlines.py` (JSON) and `scans.py` (Parquet, Arrow, addresses).
"""

from __future__ import annotations

import glob
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from recurra.data.delimited import DelimitedFile
from recurra.data.dialogues import pairs, read_chatterbot
from recurra.data.hub import HUB_DATA_SETS
from recurra.data.jsonlines import JSONLinesFile, frame_of_columns, frame_of_records, read_json
from recurra.data.languages import read_languages
from recurra.data.scans import ScanSource, scan_address, scan_file, with_class_names
from recurra.data.sources import COMPRESSIONS, BadRow, FrameSource, Source
from recurra.data.surrogates import without_surrogates
from recurra.data.table import Table, require_columns
from recurra.errors import DataError, EmptyData, nearest

if TYPE_CHECKING:
    import polars as pl

__all__ = ["BadRow", "Table", "given_texts", "is_table", "read", "require_columns", "resolve"]

OnError = Literal["fail", "skip"]
_TEXT = (".csv", ".tsv", ".tab", ".txt", ".jsonl", ".ndjson", ".json")
_EXTENSIONS = (*_TEXT, ".parquet", ".pq", ".arrow", ".feather", ".ipc")
_LONGEST_PATH = 4_096  # characters; longer strings are texts


def read(source: Any, *, on_error: OnError = "fail", join: Mapping[str, Sequence[str]] | None = None) -> Table:
    """A table of whatever holds rows.

    Args:
        source: a path, a pattern (`logs/*.csv`, files in sorted order) or a list of both: CSV, TSV, JSON lines, JSON,
            Parquet, Arrow; text also compressed (.gz, .bz2, .xz). An address (hf://, s3://, https://) that polars reads.
            A frame of polars, pandas, Arrow, Hugging Face datasets, or anything else with the Arrow PyCapsule interface.
            A list of dictionaries, or a dictionary of lists. The names `languages` and `chatterbot`: the built-in data sets.
        on_error: what happens to rows of a text file that cannot be read: an error that names file and line when they
            are reached, or left out and recorded in `Table.bad_rows`. Text files behind an address are only read whole.
        join: new text columns made of others: `{"text": ["title", "description"]}`. A space stands between the parts.

    Raises:
        DataError: there is no such file, its format is unknown, or it cannot be read; the message says what to do.
        EmptyData: there are no rows.
        MissingColumn: a column to join is not there.
    """
    if isinstance(source, Table):
        return source
    if on_error not in {"fail", "skip"}:
        raise DataError(f"on_error must be 'fail' or 'skip', not {on_error!r}.")
    if isinstance(source, (str, os.PathLike)):
        sources, description = _open(os.fspath(source), on_error)
    elif isinstance(source, Sequence) and source and all(isinstance(item, (str, os.PathLike)) for item in source):
        opened = [_open(os.fspath(item), on_error) for item in source]
        sources = [one for group, _ in opened for one in group]
        description = opened[0][1] if len(opened) == 1 else f"{opened[0][1]} and {len(opened) - 1} more"
    else:
        sources, description = [_from_object(source)], "the given rows"
    table = Table(sources, description, join=join)
    table.require_rows()
    return table


def resolve(source: Any, *, on_error: OnError = "fail", join: Mapping[str, Sequence[str]] | None = None) -> dict[str, Table]:
    """Tables by part: one `train` table, and `validation` and `test` where the source brings its own.

    Args:
        source: what `read` takes, the name of a hub data set (`ag_news`), or a dictionary of such things by part
            (a Hugging Face `DatasetDict`).
        on_error: as for `read`.
        join: as for `read`.

    Raises:
        DataError: as for `read`.
    """
    if isinstance(source, str) and source in HUB_DATA_SETS and not Path(source).is_file():
        return {part: _read_hub(source, address, on_error=on_error, join=join) for part, address in HUB_DATA_SETS[source].items()}
    if isinstance(source, Mapping) and "train" in source and not any(map(_is_column, source.values())):
        parts = [part for part in ("train", "validation", "test") if part in source]  # others (unsupervised) are left out
        return {part: read(source[part], on_error=on_error, join=join) for part in parts}
    return {"train": read(source, on_error=on_error, join=join)}


def is_table(text: str) -> bool:
    """Whether a string names a table, and is not itself a text to predict for.

    It does when a file of that name is there, or when it has no blanks in it and is a name with a known extension (so that a
    misspelt name is an error and not a text), a pattern that matches, or an address of the hub or a bucket, or whose path has a
    known extension or a pattern.
    """
    if len(text) > _LONGEST_PATH:
        return False
    try:
        if Path(text).is_file():
            return True
    except (OSError, ValueError):  # no name that a file can have
        return False
    if any(character.isspace() for character in text):
        return False
    scheme, mark, rest = text.lower().partition("://")
    if mark:
        path = rest.partition("/")[2].partition("?")[0].partition("#")[0]
        return scheme in {"hf", "s3"} or path.endswith((*_EXTENSIONS, *COMPRESSIONS)) or glob.has_magic(path)
    return scheme.endswith((*_EXTENSIONS, *COMPRESSIONS)) or (glob.has_magic(text) and bool(glob.glob(text)))  # noqa: PTH207


def given_texts(data: Any) -> list[str | None] | None:
    """The texts, where texts were given and no table: a string, a list of strings, or a column of them.

    Args:
        data: what a person gave. Strings are names of tables where all of them are (`is_table`); those in a column (a series of
            polars or pandas, a NumPy array of one dimension) never are.

    Returns:
        The texts, without lone surrogates, None for missing ones; None where something else was given.
    """
    if isinstance(data, (str, list, tuple)):
        values = [data] if isinstance(data, str) else list(data)
        if all(isinstance(value, str) and is_table(value) for value in values):
            return None
    elif getattr(data, "ndim", None) == 1 or type(data).__name__ == "Series":
        values = list(data)
    else:
        return None
    missing = [value is None or value != value for value in values]  # noqa: PLR0124  # pandas writes NaN
    if all(missing) or not all(gone or isinstance(value, str) for value, gone in zip(values, missing, strict=True)):
        return None
    return [None if gone else without_surrogates(value) for value, gone in zip(values, missing, strict=True)]


def _is_column(values: Any) -> bool:
    """Whether the value of a dictionary is a column of cells, not a table."""
    return isinstance(values, (list, tuple)) and not (values and isinstance(values[0], Mapping))


def _read_hub(name: str, address: str, *, on_error: OnError, join: Mapping[str, Sequence[str]] | None) -> Table:
    try:
        return read(address, on_error=on_error, join=join)
    except DataError as error:
        raise DataError(
            f"{name!r} is a data set of the Hugging Face hub, and {address} cannot be reached.\n"
            f"Without a network, pass files of your own instead: recurra train train.csv --target label. {error}"
        ) from error


def _open(path: str, on_error: OnError) -> tuple[list[Source], str]:
    """The sources behind a path, a pattern, an address or a name, and a description of them."""
    if "://" in path:
        return [scan_address(path, on_error=on_error)], path
    if Path(path).is_file():
        opened = _open_file(Path(path), on_error)
        note = opened.note if isinstance(opened, DelimitedFile) else ""
        return [opened], f"{path} ({note})" if note else path
    if path == "languages":  # also where a folder has that name
        return [FrameSource("languages", read_languages())], "languages"
    if path == "chatterbot":
        return [FrameSource("chatterbot", pairs(read_chatterbot()))], "chatterbot"
    if glob.has_magic(path):
        found = glob.glob(path, recursive=True)  # noqa: PTH207 - Path.glob takes no absolute pattern
        names = sorted(name for name in found if Path(name).is_file())
        if not names:
            raise DataError(f"No file matches {path!r}. In quotes it is expanded here, without them by the shell.")
        return [_open_file(Path(name), on_error) for name in names], f"{path} ({len(names)} files)"
    raise _missing(Path(path))


def _open_file(path: Path, on_error: OnError) -> Source:
    """A source by the file's extension."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    compressed = bool(suffixes) and suffixes[-1] in COMPRESSIONS
    kind = suffixes[-2] if compressed and len(suffixes) > 1 else (suffixes[-1] if suffixes else "")
    if path.stat().st_size == 0:
        raise EmptyData(f"{path} is empty (0 bytes).")
    if compressed and kind not in _TEXT:
        raise DataError(
            f"{path}: only text files are read compressed ({', '.join(_TEXT)}). Parquet and Arrow files compress their content."
        )
    if kind in {".csv", ".tsv", ".tab", ".txt"}:
        return DelimitedFile(path, on_error=on_error)
    if kind in {".jsonl", ".ndjson"}:
        return JSONLinesFile(path, on_error=on_error)
    if kind == ".json":
        return read_json(path, on_error=on_error)
    if kind in _EXTENSIONS:
        return scan_file(path)
    advice = " Save the sheet as CSV." if kind in {".xlsx", ".xls", ".ods"} else ""
    raise DataError(
        f"{path}: the extension {kind or '(none)'!r} is unknown. Known: {', '.join(_EXTENSIONS)} (text also with .gz, .bz2, .xz).{advice}"
    )


def _missing(path: Path) -> DataError:
    """The error for a path where nothing is, with the nearest name that would be something."""
    if path.is_dir():
        found = sorted(p.name for p in path.iterdir() if p.suffix.lower() in _EXTENSIONS)
        example = f"{path}/{found[0]}" if found else f"{path}/*.csv"
        return DataError(f"{path} is a folder: name its files or a pattern, for example {example!r}.")
    folder = path.parent
    if not folder.is_dir():
        return DataError(f"There is no file {str(path)!r}: the folder {str(folder)!r} does not exist.")
    names = sorted(p.name for p in folder.iterdir() if p.suffix.lower() in (*_EXTENSIONS, *COMPRESSIONS))
    hint = nearest(path.name, names)
    others = f" Data files in {str(folder)!r}: {', '.join(names[:10])}." if names and not hint else ""
    if path.suffix or len(path.parts) > 1:
        return DataError(f"There is no file {str(path)!r}.{hint}{others}")
    hint = hint or nearest(path.name, ["languages", "chatterbot", *HUB_DATA_SETS])
    known = f" Names of data sets: languages, chatterbot, {', '.join(HUB_DATA_SETS)}."
    return DataError(f"There is no file {str(path)!r}, and it is no data set known by name.{hint}{others}{known}")


def _from_object(source: Any) -> Source:
    """A source of a frame or of Python rows."""
    import polars as pl

    kind = type(source).__name__
    if isinstance(source, pl.LazyFrame):
        return ScanSource("the lazy frame", lambda: source, sliced=False)
    if isinstance(source, pl.DataFrame):
        return FrameSource("the frame", source)
    if hasattr(source, "with_format") and hasattr(source, "features"):
        return FrameSource("the data set", _from_hugging_face(source))
    if hasattr(source, "__arrow_c_stream__") or hasattr(source, "__arrow_c_array__"):
        return FrameSource("the frame", _from_capsule(source))
    if isinstance(source, Mapping):
        return FrameSource("the given columns", frame_of_columns(dict(source), "the given dictionary"))
    if isinstance(source, Sequence) and not isinstance(source, (str, bytes)) and all(isinstance(row, Mapping) for row in source):
        if not source:
            raise EmptyData("The list of rows is empty.")
        return FrameSource("the given rows", frame_of_records([dict(row) for row in source]))
    raise DataError(
        f"A table cannot be made of {kind}. Give a path, a list of dictionaries, a dictionary of lists, or a frame "
        "(polars, pandas, Arrow, Hugging Face datasets)."
    )


def _from_hugging_face(source: Any) -> pl.DataFrame:
    import polars as pl

    frame = pl.DataFrame(source.with_format("arrow")[:])
    names = {name: list(f.names) for name, f in source.features.items() if type(f).__name__ == "ClassLabel"}
    return with_class_names(frame.lazy(), names).collect()


def _from_capsule(source: Any) -> pl.DataFrame:
    import polars as pl

    try:
        return pl.DataFrame(source)
    except Exception as error:  # whatever the exporting library raises, for columns of mixed values say
        if not hasattr(source, "columns"):
            raise DataError(f"The {type(source).__name__} cannot be read through the Arrow interface: {error}") from error
    # pandas: object columns of mixed kinds, or no pyarrow
    columns = {str(name): source[name].astype(object).where(source[name].notna(), None).tolist() for name in source.columns}
    return frame_of_columns(columns, "the frame")
