"""`recurra train`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from recurra.errors import SettingsError

__all__ = ["train"]


def train(
    data: str,
    /,
    *more: str,
    target: Annotated[list[str] | None, Parameter(alias="-t", negative=())] = None,
    output: Annotated[Path | None, Parameter(alias="-o")] = None,
    validation: str | None = None,
    test: str | None = None,
    type_: Annotated[list[str] | None, Parameter(name="--type", negative=())] = None,
    join: Annotated[list[str] | None, Parameter(negative=())] = None,
    on_error: Literal["fail", "skip"] | None = None,
    group: str | None = None,
    task: Literal["classify", "labels", "regress", "forecast", "language", "recommend", "tag", "several", "translate", "answer"]
    | None = None,
    text: str | None = None,
    source: str | None = None,
    session: str | None = None,
    user: str | None = None,
    item: str | None = None,
    time: str | None = None,
    series: Annotated[list[str] | None, Parameter(negative=())] = None,
    horizon: int | None = None,
    from_: Annotated[str | None, Parameter(name="--from")] = None,
    settings: Annotated[Path | None, Parameter(alias="-s")] = None,
    set_: Annotated[list[str] | None, Parameter(name="--set", negative=())] = None,
    seed: int | None = None,
    resume: Annotated[bool, Parameter(negative=())] = False,
    overwrite: Annotated[bool, Parameter(negative=())] = False,
    dry_run: Annotated[bool, Parameter(negative=())] = False,
    json_: Annotated[bool, Parameter(name="--json", negative=())] = False,
    quiet: Annotated[bool, Parameter(alias="-q", negative=())] = False,
) -> None:
    """Train a model from a table or a text and write its folder and report.

    Parameters
    ----------
    data
        A table: a CSV, TSV, JSON lines, Parquet or Arrow file, a glob of files, an hf:// or s3:// path, the name of a
        hub data set (ag_news), or `languages` or `chatterbot` (replies), tables that need no download. For --task language also files of plain text.
    more
        Further files with the same columns.
    target
        The column to predict; repeated for several, each with a head of its own on one network, or, with --horizon, --series or
        --time, for several columns to forecast ('*' for all columns of numbers).
    output
        The model folder to write; runs/NAME when not given.
    validation
        A table (or text) that selects the model; a share is held out when not given.
    test
        A table (or text) that measures the model; a share is held out when not given.
    type_
        Column type, as title=text. Types: text, tokens, category, number, ignore.
    join
        A new text column made of others, as text=title+description.
    on_error
        What happens to rows that cannot be read or used: an error (the default), or left out and counted.
    group
        Column whose rows stay together on one side of the split.
    time
        Column that orders the rows in time: the latest are held out. For a recommendation: when a click was.
    task
        What the model does; inferred from the target when not given. language: the next token of a text. tag: a tag a token.
        several: a head for each of several targets. translate: another text. answer: the span of a text that answers a question.
    text
        For a language model: the text column of a table; its only one when not given.
    source
        For text to text: the column that is read; the only other text column when not given. Makes the task translate.
    session
        For a recommendation: the column of sessions. The latest clicks are held out.
    user
        The column of users, in place of sessions. The last two clicks of each user are held out.
    item
        For a recommendation: the column of items.
    series
        Column whose values name the series that a row belongs to; repeated for several. Makes the task a forecast.
    horizon
        Steps to forecast. Makes the task a forecast.
    from_
        Folder of a trained model to begin with: a language model of such texts, or a model of a table with text.
    settings
        A YAML file of settings; `recurra settings` prints all.
    set_
        One setting, as encoder.hidden_size=256.
    seed
        Seed of everything that is drawn.
    resume
        Go on with an interrupted training in the output folder.
    overwrite
        Replace a model that is in the output folder.
    dry_run
        Show the settings, the columns and the size of the model, and stop.
    json_
        Print one flat JSON object on standard output, and nothing else.
    quiet
        Print errors only.
    """
    from recurra.cli.output import while_read
    from recurra.config import load_settings, parse_assignment, target_settings
    from recurra.training import train as job

    if session and user:
        raise SettingsError("--session and --user both name the column that says which clicks belong together: give one of them.")
    given = {
        **target_settings(target),
        "language.text": text,
        "translate.source": source,
        "forecast.series": series,
        "forecast.horizon": horizon,
        "data.group": group,
        "data.time": time,
        "head.task": task,
        "recommend.session": session or user,
        "recommend.split": "leave_one_out" if user else None,
        "recommend.item": item,
        "transfer.model": from_,
        "data.types": _pairs(type_, "--type title=text"),
        "data.join": _joins(join),
        "data.on_error": on_error,
        "training.seed": seed,
    }
    chosen = load_settings(
        settings,
        {name: value for name, value in given.items() if value not in (None, {})},
        *(dict([parse_assignment(assignment)]) for assignment in set_ or []),
    )
    sources: Any = [data, *more] if more else data
    if output is None:
        output = Path("runs") / (Path(data).name.split(".")[0].strip("*?") or "model")
    show = None if quiet or json_ else job.print_line
    if dry_run:
        plan = job.plan(sources, validation=validation, test=test, settings=chosen, show=show)
        if json_:
            with while_read():
                sys.stdout.write(json.dumps(plan, default=str) + "\n")
        return
    model = job.train(
        sources, output=output, validation=validation, test=test, settings=chosen, resume=resume, overwrite=overwrite, show=show
    )
    if json_:
        with while_read():
            sys.stdout.write(json.dumps(model.flat_metrics()) + "\n")


def _pairs(items: list[str] | None, example: str) -> dict[str, str]:
    pairs = {}
    for item in items or []:
        column, equals, value = item.rpartition("=")
        if not equals or not column or not value:
            raise SettingsError(f"{item!r} cannot be read: write {example}.")
        pairs[column] = value
    return pairs


def _joins(items: list[str] | None) -> dict[str, list[str]]:
    return {name: columns.split("+") for name, columns in _pairs(items, "--join text=title+description").items()}
