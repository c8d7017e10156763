"""`recurra recommend`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from recurra.errors import SettingsError

__all__ = ["recommend"]


def recommend(
    model: str,
    data: str | None = None,
    /,
    *more: str,
    items: str | None = None,
    top: Annotated[int, Parameter(alias="-k")] = 20,
    seen: Annotated[bool | None, Parameter(negative="--no-seen")] = None,
    output: Annotated[Path | None, Parameter(alias="-o")] = None,
    on_error: Literal["fail", "skip"] = "fail",
    json_: Annotated[bool, Parameter(name="--json", negative=())] = False,
) -> None:
    """Recommend the next item of a session, or of every session of a table.

    Parameters
    ----------
    model
        A model folder, or hf://OWNER/NAME.
    data
        A table of clicks with the model's columns of session and item: a file, a glob, an hf:// or s3:// path.
    more
        Further files with the same columns.
    items
        The items of one session in order of time, with commas between them, in place of a table.
    top
        Items that are named for a session.
    seen
        Whether items that a session already holds are named too; as in the training when not given (users no, sessions yes).
    output
        A .csv, .tsv or .jsonl file to write. Standard output when not given.
    on_error
        What happens to rows that cannot be read: an error, or left out.
    json_
        Print JSON lines instead of a table.
    """
    import polars as pl

    from recurra.cli.output import write_predictions
    from recurra.data.surrogates import without_surrogates
    from recurra.model.load import load
    from recurra.model.model import Prediction
    from recurra.model.recommend.model import Recommender

    if (items is None) == (data is None):
        raise SettingsError("Give either a table of clicks, or the items of one session with --items 12,7,99.")
    chosen = load(model)
    if not isinstance(chosen, Recommender):
        raise SettingsError(f"{model!r} recommends nothing: use `recurra {chosen.command} {model} ...`.")
    if items is not None:
        clicks = [item.strip() for item in without_surrogates(items).split(",") if item.strip()]
        for number, name in zip(chosen.items.numbers(pl.Series(clicks, dtype=pl.String)), clicks, strict=True):
            if number < 0:
                sys.stderr.write(f"note: the training clicks did not have {name!r}: it is stepped over.{chosen.items.suggest(name)}\n")
        frame = chosen.recommend(clicks, top=top, exclude_seen=None if seen is None else not seen).drop("session")
    else:
        frame = chosen.recommend(
            [data, *more] if more else data, top=top, exclude_seen=None if seen is None else not seen, on_error=on_error
        )
    write_predictions([Prediction(pl.DataFrame(), frame, (), 0)], output, as_json=json_)
