"""`recurra dialogues`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

__all__ = ["dialogues"]


def dialogues(
    data: str,
    /,
    *more: str,
    output: Annotated[Path, Parameter(alias="-o")],
    column: str | None = None,
    history: int | None = None,
    every: Annotated[bool, Parameter(negative=())] = False,
) -> None:
    """Write the table that a model of replies learns from: a row a reply, with what was said before it.

    Parameters
    ----------
    data
        JSON lines with a list of utterances a row, dialogues in the text form of the bAbI dialogue tasks, or `chatterbot`.
    more
        Further files of the same form.
    output
        The .csv or .jsonl file to write: columns dialogue, history, reply.
    column
        The column of utterances; the only one with lists of strings when not given.
    history
        Utterances of a history, the last ones; 10 when not given.
    every
        Every utterance is a reply to those before it; otherwise each second one is, as where a customer begins.
    """
    from recurra.cli.output import make_place
    from recurra.data.dialogues import HISTORY, is_babi, pairs, read_babi, read_chatterbot, read_dialogues
    from recurra.data.read import read
    from recurra.errors import DataError, SettingsError
    from recurra.files import replacing

    if output.suffix not in {".csv", ".jsonl"}:
        raise SettingsError(f"{str(output)!r} is neither a .csv nor a .jsonl file: give it such a name.")
    if history is not None and history < 1:
        raise SettingsError(f"history is {history}: give 1 or more utterances.")
    tables = [path for path in (data, *more) if path != "chatterbot" and not is_babi(path)]
    idle = [name for name, given in (("--column", column is not None), ("--every", every)) if given and not tables]
    if idle:
        raise SettingsError(
            f"{', '.join(idle)} does nothing here: it is for tables, and {data!r} says itself what is a reply. Leave it out."
        )
    make_place(output)
    found = []
    for path in (data, *more):
        if path in tables:
            found += read_dialogues(read(path), column, every=every)
        else:
            found += read_chatterbot() if path == "chatterbot" else read_babi(path)
    table = pairs(found, HISTORY if history is None else history)
    try:
        with replacing(output) as file:
            (table.write_csv if output.suffix == ".csv" else table.write_ndjson)(file)
    except OSError as error:
        raise DataError(f"{str(output)!r} cannot be written: {error.strerror or error}. Free some space or choose another file.") from error
    sys.stderr.write(f"{len(table):,} replies of {len(found):,} dialogues: {output}\n")
