"""`recurra backtest`."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

if TYPE_CHECKING:
    from recurra.training.forecast.backtest import Backtest

__all__ = ["backtest"]


def backtest(
    model: str,
    data: str,
    /,
    *more: str,
    folds: int = 5,
    fold_length: int | None = None,
    refit: Literal["never", "each"] = "never",
    output: Annotated[Path | None, Parameter(alias="-o")] = None,
    resume: Annotated[bool, Parameter(negative=())] = False,
    overwrite: Annotated[bool, Parameter(negative=())] = False,
    on_error: Literal["fail", "skip"] = "fail",
    json_: Annotated[bool, Parameter(name="--json", negative=())] = False,
    quiet: Annotated[bool, Parameter(alias="-q", negative=())] = False,
) -> None:
    """Measure a forecaster on the last stretches of a history, forecast as if they were not known.

    Parameters
    ----------
    model
        A model folder, or hf://OWNER/NAME.
    data
        A table with the model's columns: a file, a glob, an hf:// or s3:// path. As long a history as there is.
    more
        Further files with the same columns.
    folds
        Stretches, oldest first; the last one ends with the last step.
    fold_length
        Forecasts of a fold, one from each step; as many as the horizon has steps when not given.
    refit
        `never`: the model as it is. `each`: trained anew, with its settings, on all steps before each fold.
    output
        A folder for backtest.json and report.html. Finished folds are kept there, so that Ctrl-C loses little.
    resume
        Go on with an interrupted backtest in the output folder.
    overwrite
        Replace a backtest that is in the output folder.
    on_error
        What happens to rows that cannot be read: an error, or left out.
    json_
        Print one JSON object on standard output, and nothing else.
    quiet
        Print the table only.
    """
    from recurra.cli.output import while_read
    from recurra.training.forecast.backtest import backtest as job
    from recurra.training.train import print_line

    found = job(
        model,
        [data, *more] if more else data,
        folds=folds,
        fold_length=fold_length,
        refit=refit,
        output=output,
        resume=resume,
        overwrite=overwrite,
        on_error=on_error,
        show=None if quiet or json_ else print_line,
    )
    if json_:
        with while_read():
            sys.stdout.write(json.dumps(found.state()) + "\n")
    else:
        _print(found)


def _print(found: Backtest) -> None:
    """The folds one by one, all of them together, and the comparison with the best baseline."""
    from rich.console import Console
    from rich.table import Table

    from recurra.evaluation.report.quantities import baseline, metric, number, per_cent

    rows = found.table()
    main = found.metric
    coverage = next((name for name in found.metrics if name.startswith("coverage_") and name.count("_") == 1), None)
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))  # one blank between columns: five baselines fit on 80
    table.add_column("fold", no_wrap=True)
    table.add_column("from", no_wrap=True)
    titles = [f"model {metric(main).label}", *(baseline(name).label for name in found.baselines), "MAE", "RMSE"]
    for title in [*titles, *([f"inside {coverage.partition('_')[2]}%"] if coverage else [])]:
        table.add_column(title, justify="right", min_width=max(map(len, title.split())))  # titles break at blanks only
    names = [main, *(f"{main}_{name}" for name in found.baselines), "mae", "rmse"]
    together = [
        found.metrics.get(main),
        *(figures.get(main) for figures in found.baselines.values()),
        found.metrics["mae"],
        found.metrics["rmse"],
    ]
    for row in rows.iter_rows(named=True):
        share = [per_cent(row[coverage])] if coverage else []
        table.add_row(str(row["fold"]), row["begin"], *(_cell(row.get(name), number) for name in names), *share)
    share = [per_cent(found.metrics[coverage])] if coverage else []
    table.add_row("all", "", *(_cell(value, number) for value in together), *share, style="bold")
    console = Console()
    console.print(table)
    if found.comparison is not None:
        compared = found.comparison
        sign = "lower" if compared.gain >= 0 else "higher"
        low, high = sorted((compared.low, compared.high))
        console.print(
            f"{metric(compared.metric).label} {number(abs(compared.gain))} {sign} than that of {baseline(compared.rival).inline}; "
            f"{100 * compared.confidence:g}% interval of the gain {number(low)} to {number(high)}"
        )


def _cell(value: float | None, write: Callable[[float], str]) -> str:
    return "–" if value is None else write(value)
