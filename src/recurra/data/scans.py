"""Sources that polars scans: Parquet and Arrow files, files on a hub or in a bucket (hf://, s3://, https://), lazy frames.

Rows are fetched slice by slice. A slice holds some megabytes; a Parquet file is best written in row groups of at most a few
hundred thousand rows, because a row group is the least that can be decoded.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from recurra.data.sources import BadRow, digest_file, digest_frame
from recurra.errors import DataError

if TYPE_CHECKING:
    from hashlib import blake2b

    import polars as pl

__all__ = ["ScanSource", "class_names", "scan_address", "scan_file", "with_class_names"]

_SLICE_BYTES = 16 * 2**20
_SLICE_ROWS = 65_536


class ScanSource:
    """Rows of a polars lazy frame, never all in memory.

    Attributes:
        name: path or address for messages.
        schema: column names and their polars types.
    """

    def __init__(self, name: str, scan: Callable[[], pl.LazyFrame], *, path: Path | None = None, sliced: bool = True) -> None:
        """Read the schema.

        Args:
            name: path or address for messages.
            scan: makes the lazy frame.
            path: the file whose bytes are the content, where there is one.
            sliced: whether polars finds rows by number without reading all those before (Parquet, Arrow).

        Raises:
            DataError: the file is damaged or cannot be reached.
        """
        import polars as pl

        self.name = name
        self._path = path
        self._sliced = sliced
        self._count: int | None = None
        try:
            self._frame = scan()
            self.schema: dict[str, pl.DataType] = dict(self._frame.collect_schema())
        except (pl.exceptions.PolarsError, OSError, ValueError) as error:
            self._fail(error)

    def frames(self) -> Iterator[pl.DataFrame]:
        """The rows, some megabytes at a time."""
        import polars as pl

        try:
            yield from self._slices() if self._sliced else self._frame.collect_batches(chunk_size=_SLICE_ROWS, maintain_order=True)
        except (pl.exceptions.PolarsError, OSError) as error:
            self._fail(error)

    def count(self) -> int:
        """Rows of the source."""
        import polars as pl

        if self._count is None:
            try:
                self._count = int(self._frame.select(pl.len()).collect().item())
            except (pl.exceptions.PolarsError, OSError) as error:
                self._fail(error)
        return self._count

    def place(self, row: int) -> str:
        """The 1-based row."""
        return f"{self.name}: row {row + 1}"

    def bad_rows(self) -> list[BadRow]:
        """None: these formats have no bad rows, only damaged files."""
        return []

    def bad_row_count(self) -> int:
        """None, as for `bad_rows`."""
        return 0

    def digest(self, into: blake2b) -> None:
        """Feed the file's bytes, or else the rows, to a hash."""
        if self._path is not None:
            digest_file(self._path, into)
        else:
            for frame in self.frames():
                digest_frame(frame, into)

    def _slices(self) -> Iterator[pl.DataFrame]:
        position, rows, total = 0, 1_024, self.count()
        while position < total:
            frame = self._frame.slice(position, rows).collect()
            yield frame
            position += rows
            row_bytes = max(1.0, frame.estimated_size() / max(1, frame.height))
            rows = int(min(_SLICE_ROWS, max(1_024, _SLICE_BYTES / row_bytes)))

    def _fail(self, error: Exception) -> NoReturn:
        reason = str(error).strip().partition("\n")[0]
        if "://" in self.name:
            raise DataError(
                f"{self.name} cannot be read ({reason}). Without a network, or where access needs a key: "
                "download the files and pass their paths instead."
            ) from error
        raise DataError(f"{self.name} cannot be read ({reason}). It is damaged, cut short, or not what its extension says.") from error


def scan_file(path: Path) -> ScanSource:
    """A Parquet or Arrow file on this machine."""
    import polars as pl

    if path.suffix.lower() in {".parquet", ".pq"}:
        return ScanSource(str(path), lambda: with_class_names(pl.scan_parquet(path, glob=False), class_names(path)), path=path)
    return ScanSource(str(path), lambda: pl.scan_ipc(path, glob=False), path=path)


def scan_address(address: str, *, on_error: str = "fail") -> ScanSource:
    """A file, or a pattern of files, on a hub, in a bucket or on a web server.

    Args:
        address: with the extension that says the format.
        on_error: `"skip"` is refused for text formats, of which only files on this machine are read row by row.

    Raises:
        DataError: polars does not read the format, the address cannot be reached, or bad rows of a text file are to be skipped.
    """
    import polars as pl

    kind = address.lower().removesuffix(".gz").rpartition(".")[2]
    if on_error == "skip" and kind in {"csv", "tsv", "tab", "jsonl", "ndjson"}:
        raise DataError(
            f"{address}: rows that cannot be read are left out (on_error='skip', --on-error skip) only of text files on this machine. "
            "Download the file and pass its path, or read the address without on_error='skip'."
        )
    if kind in {"csv", "tsv", "tab"}:
        separator = "," if kind == "csv" else "\t"
        return ScanSource(address, lambda: pl.scan_csv(address, separator=separator, infer_schema=False, null_values=[""]), sliced=False)
    if kind in {"jsonl", "ndjson"}:
        return ScanSource(address, lambda: pl.scan_ndjson(address, infer_schema_length=10_000), sliced=False)
    if kind in {"parquet", "pq"}:
        return ScanSource(address, lambda: with_class_names(pl.scan_parquet(address), class_names(address)))
    if kind in {"arrow", "feather", "ipc"}:
        return ScanSource(address, lambda: pl.scan_ipc(address))
    raise DataError(
        f"{address} must end in .csv, .tsv, .jsonl, .ndjson, .parquet, .arrow, .feather or .ipc: the extension says how to read it."
    )


def class_names(source: Path | str) -> dict[str, list[str]]:
    """Names of the classes of integer columns, where the Hugging Face library left them in a Parquet file."""
    import polars as pl

    if "*" in str(source):
        return {}
    if isinstance(source, str) and source.startswith("hf://datasets/"):  # polars reads the metadata of web addresses only
        owner, name, path = source.removeprefix("hf://datasets/").split("/", 2)
        source = f"https://huggingface.co/datasets/{owner}/{name}/resolve/main/{path}"
    try:
        features: dict[str, Any] = json.loads(pl.read_parquet_metadata(source).get("huggingface", "{}"))["info"]["features"]
        return {name: list(f["names"]) for name, f in features.items() if isinstance(f, dict) and f.get("_type") == "ClassLabel"}
    except (pl.exceptions.PolarsError, OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def with_class_names(frame: pl.LazyFrame, names: dict[str, list[str]]) -> pl.LazyFrame:
    """`frame` with class numbers replaced by their names; a number without a name (-1, a hidden label) is missing."""
    import polars as pl

    changes = [
        pl.col(column).replace_strict(dict(enumerate(classes)), default=None, return_dtype=pl.String)
        for column, classes in names.items()
        if column in frame.collect_schema() and frame.collect_schema()[column].is_integer()
    ]
    return frame.with_columns(changes)
