"""`recurra forecast`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

__all__ = ["forecast"]


def forecast(
    model: str,
    history: str,
    /,
    *more: str,
    future: str | None = None,
    quantile: Annotated[list[float] | None, Parameter(alias="-q", negative=())] = None,
    output: Annotated[Path | None, Parameter(alias="-o")] = None,
    on_error: Literal["fail", "skip"] = "fail",
    json_: Annotated[bool, Parameter(name="--json", negative=())] = False,
) -> None:
    """Forecast the next steps of every series of a table.

    Parameters
    ----------
    model
        A model folder, or hf://OWNER/NAME.
    history
        A table with the model's columns up to the present: a file, a glob, an hf:// or s3:// path.
    more
        Further files with the same columns.
    future
        A table with the times, series and known columns of the horizon, where the model has such. Without times, its rows follow those
        of the history.
    quantile
        A level that is put out, as 0.9; repeated for several. All levels of the model when not given.
    output
        A .csv, .tsv or .jsonl file to write. Standard output when not given.
    on_error
        What happens to rows that cannot be read: an error, or left out and counted.
    json_
        Print JSON lines instead of a table.
    """
    import polars as pl

    from recurra.cli.output import DIGITS, digits_of, write_predictions
    from recurra.errors import SettingsError
    from recurra.model.forecast.forecaster import Forecaster
    from recurra.model.load import load
    from recurra.model.model import Prediction

    chosen = load(model)
    if not isinstance(chosen, Forecaster):
        raise SettingsError(f"{model!r} forecasts nothing: use `recurra {chosen.command} {model} ...`.")
    frame = chosen.forecast(
        [history, *more] if more else history,
        future=future,
        quantiles=quantile,
        on_error=on_error,
        show=lambda line: print(f"note: {line}", file=sys.stderr),  # noqa: T201
    )
    several = [
        (mean, deviation) for each in chosen.feature.standards.values() for mean, deviation in zip(each.mean, each.deviation, strict=True)
    ]
    digits = max((digits_of(float(mean), float(deviation)) for mean, deviation in several), default=DIGITS)
    names = dict.fromkeys((name for name in frame.columns if name not in chosen.roles.series), digits)
    write_predictions([Prediction(pl.DataFrame(), frame, (), 0)], output, as_json=json_, digits=names)
