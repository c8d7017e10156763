"""`recurra predict`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

__all__ = ["predict"]


def predict(
    model: str,
    data: Annotated[str, Parameter(allow_leading_hyphen=True)],
    /,
    *more: str,
    output: Annotated[Path | None, Parameter(alias="-o")] = None,
    top: Annotated[int | None, Parameter(alias="-k")] = None,
    on_error: Literal["fail", "skip"] = "fail",
    json_: Annotated[bool, Parameter(name="--json", negative=())] = False,
) -> None:
    """Predict for texts, or for the rows of a table of any size.

    Parameters
    ----------
    model
        A model folder, or hf://OWNER/NAME.
    data
        A text, a table (a file, a glob, an hf:// or s3:// path), or - for texts on standard input, one a line.
    more
        Further texts or files.
    output
        A .csv, .tsv or .jsonl file to write; the input columns come first. Standard output when not given.
    top
        Also the most probable labels, as many as given.
    on_error
        What happens to rows that cannot be read: an error, or left out and reported.
    json_
        Print JSON lines instead of a table.
    """
    from recurra.cli.output import write_predictions
    from recurra.errors import EmptyData, SettingsError
    from recurra.model.load import load
    from recurra.model.model import Model

    chosen = load(model)
    if not isinstance(chosen, Model):
        raise SettingsError(f"{model!r} predicts nothing row by row: use `recurra {chosen.command} {model} ...`.")
    if data.startswith("--"):
        raise SettingsError(
            f"There is no option {data!r}: see `recurra predict --help`. A text that starts so can come on standard input (-)."
        )
    source: str | list[str] = [data, *more] if more else data
    if data == "-" and not more:
        source = [line.rstrip("\n") for line in sys.stdin]
        if not source:
            raise EmptyData("There is nothing on standard input: give texts there, one a line.")
    write_predictions(chosen.predict_chunks(source, top=top, on_error=on_error), output, as_json=json_)
