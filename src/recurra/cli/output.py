"""Predictions to a file or to the terminal, piece by piece, in the order of the rows."""

from __future__ import annotations

import codecs
import json
import math
import os
import sys
from collections.abc import Iterable, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING

from recurra.errors import DataError, SettingsError
from recurra.files import replacing

if TYPE_CHECKING:
    from collections.abc import Iterator

    import polars as pl

    from recurra.model.model import Prediction

__all__ = ["digits_of", "drop_output", "make_place", "while_read", "write_predictions"]

SEPARATORS = {".csv": ",", ".tsv": "\t"}
LINES = {".jsonl", ".ndjson"}
DIGITS = 6
"""Significant digits of a prediction: what float32 arithmetic carries."""
OF_DEVIATION = 4
"""Significant digits, at least, of how far a number lies from the mean of those learnt from, in deviations: networks know numbers so."""
MOST_DIGITS = 15
"""What float64 carries."""
SHOWN = 20
"""Bad rows that are told one by one; the others are counted."""


def write_predictions(parts: Iterable[Prediction], output: Path | None, *, as_json: bool, digits: Mapping[str, int] | None = None) -> None:
    """Write predictions beside the rows they belong to, and report the rows that were left out on standard error.

    Args:
        parts: of `Model.predict_chunks`.
        output: a .csv, .tsv or .jsonl file, which appears when it is complete; None for standard output.
        as_json: JSON lines instead of CSV on standard output.
        digits: significant digits of a column's numbers, where they are other than `DIGITS`.

    Raises:
        SettingsError: the file's suffix is none of these.
        DataError: the file cannot be written.
    """
    suffix = output.suffix.lower() if output is not None else (".jsonl" if as_json else ".csv")
    if suffix not in SEPARATORS and suffix not in LINES:
        raise SettingsError(f"Predictions are written as .csv, .tsv or .jsonl, not as {suffix or 'a file without suffix'!r}.")
    left_out = 0
    header = True
    try:
        with while_read(), _opened(output) as file:
            for part in parts:
                for bad in part.bad_rows[: max(0, SHOWN - left_out)]:
                    print(f"left out: {bad.source}:{bad.line}: {bad.reason}", file=sys.stderr)  # noqa: T201
                left_out += part.left_out
                for note in part.notes:
                    print(f"note: {note}", file=sys.stderr)  # noqa: T201
                frame = _without_bytes(beside(part.inputs, _rounded(part.outputs, digits or {})))
                if not frame.is_empty():
                    file.write(
                        _lines(frame)
                        if suffix in LINES
                        else _flat(frame).write_csv(None, separator=SEPARATORS[suffix], include_header=header)
                    )
                    header = False
    except OSError as error:
        place = "standard output" if output is None else repr(str(output))
        if output is None:
            drop_output()
        raise DataError(
            f"The predictions cannot be written to {place}: {error.strerror or error}. Free some space or choose another file."
        ) from error
    if left_out:
        print(f"{left_out:,} rows were left out.", file=sys.stderr)  # noqa: T201


def make_place(output: Path) -> None:
    """Make the folder of a file that is written when the work is done, so that the work is not lost on a name that cannot be.

    Raises:
        DataError: the file is a folder, or its folder cannot be made.
    """
    if output.is_dir():
        raise DataError(f"{str(output)!r} is a folder: give the name of a file.")
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"{str(output)!r} cannot be written: {error.strerror or error}. Choose another file.") from error


@contextmanager
def while_read() -> Iterator[None]:
    """What is written to standard output herein ends without an error where its reader (head, less) has seen enough."""
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        drop_output()


def drop_output() -> None:
    """Let what is still buffered for standard output go nowhere: the end of the process would fail on it again."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def beside(inputs: pl.DataFrame, outputs: pl.DataFrame) -> pl.DataFrame:
    """Inputs and predictions in one table.

    An input column of the same name as a prediction is called `input.NAME`, or `input.input.NAME` where there is such a column
    already, as in predictions that are predicted for again.
    """
    import polars as pl

    taken = {*inputs.columns, *outputs.columns}
    names = {}
    for name in (name for name in inputs.columns if name in outputs.columns):
        names[name] = f"input.{name}"
        while names[name] in taken:
            names[name] = f"input.{names[name]}"
        taken.add(names[name])
    renamed = inputs.rename(names)
    return pl.concat([renamed, outputs], how="horizontal") if renamed.width else outputs


def digits_of(mean: float, deviation: float) -> int:
    """Significant digits of numbers with this mean and deviation: a price of 65,432.17 that moves by cents needs more than six."""
    if not deviation > 0.0:
        return DIGITS
    return min(MOST_DIGITS, max(DIGITS, OF_DEVIATION + math.ceil(math.log10(1.0 + abs(mean) / deviation))))


def _rounded(outputs: pl.DataFrame, digits: Mapping[str, int]) -> pl.DataFrame:
    """Predictions with as many digits as mean something."""
    import polars as pl

    lists = [name for name, dtype in outputs.schema.items() if dtype == pl.List(pl.Float64)]
    numbers = [name for name, dtype in outputs.schema.items() if dtype.is_float()]
    return outputs.with_columns(
        *(pl.col(name).round_sig_figs(digits.get(name, DIGITS)) for name in numbers),
        pl.col(lists).list.eval(pl.element().round_sig_figs(DIGITS)),
    )


def _without_bytes(frame: pl.DataFrame) -> pl.DataFrame:
    """Columns of bytes as base64, since neither CSV nor JSON has bytes."""
    from polars import selectors

    return frame.with_columns(selectors.binary().bin.encode("base64"))


def _lines(frame: pl.DataFrame) -> str:
    """JSON lines; infinite numbers, which JSON has not, are null as missing ones are."""
    import polars as pl
    from polars import selectors

    numbers = selectors.float()
    frame = frame.with_columns(pl.when(numbers.is_finite()).then(numbers))
    return "".join(json.dumps(row, ensure_ascii=False, default=str) + "\n" for row in frame.iter_rows(named=True))


def _flat(frame: pl.DataFrame) -> pl.DataFrame:
    """Lists as JSON text, which a CSV file can hold."""
    import polars as pl

    def as_text(values: pl.Series) -> pl.Series:
        rows = [None if row is None else json.dumps(row, ensure_ascii=False, default=str) for row in values.to_list()]
        return pl.Series(values.name, rows, dtype=pl.String)

    nested = [name for name, dtype in frame.schema.items() if dtype.is_nested()]
    return frame.with_columns([as_text(frame[name]) for name in nested])


@contextmanager
def _opened(output: Path | None) -> Iterator[IO[str] | codecs.StreamWriter]:
    """Standard output, or a file that takes its name when it is complete."""
    if output is None:
        yield sys.stdout
        return
    output.parent.mkdir(parents=True, exist_ok=True)
    with replacing(output) as file:
        yield codecs.getwriter("utf-8")(file)
