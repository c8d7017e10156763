"""`recurra forecast`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

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
        A table with the times, series and known columns of the horizon, where the model has such.
    quantile
        A level that is put out, as 0.9; repeated for several. All levels of the model when not given.
    output
        A .csv, .tsv or .jsonl file to write. Standard output when not given.
    json_
        Print JSON lines instead of a table.
    """
    import polars as pl

    from recurra.cli.output import write_predictions
    from recurra.errors import SettingsError
    from recurra.model.forecast.forecaster import Forecaster
    from recurra.model.load import load
    from recurra.model.model import Prediction

    chosen = load(model)
    if not isinstance(chosen, Forecaster):
        raise SettingsError(f"{model!r} forecasts nothing: use `recurra {chosen.command} {model} ...`.")
    frame = chosen.forecast([history, *more] if more else history, future=future, quantiles=quantile)
    write_predictions([Prediction(pl.DataFrame(), frame, (), 0)], output, as_json=json_)
