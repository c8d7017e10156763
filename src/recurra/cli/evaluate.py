"""`recurra evaluate`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

__all__ = ["evaluate"]


def evaluate(
    model: str,
    data: str,
    /,
    *more: str,
    on_error: Literal["fail", "skip"] = "fail",
    json_: Annotated[bool, Parameter(name="--json", negative=())] = False,
    output: Annotated[Path | None, Parameter(alias="-o")] = None,
) -> None:
    """Measure a model on a table with targets.

    Parameters
    ----------
    model
        A model folder, or hf://OWNER/NAME.
    data
        A table with the model's input columns and its target: a file, a glob, an hf:// or s3:// path.
    more
        Further files with the same columns.
    on_error
        What happens to rows that cannot be read or have an unknown label: an error, or left out and counted.
    json_
        Print one flat JSON object of metrics on standard output, and nothing else.
    output
        Also write the metrics to this JSON file.
    """
    from recurra.model.load import load

    metrics = load(model).evaluate([data, *more] if more else data, on_error=on_error)
    if output is not None:
        from recurra.model.folder import write_file

        write_file(output, (json.dumps(metrics, indent=1) + "\n").encode())
    if json_:
        sys.stdout.write(json.dumps(metrics) + "\n")
    else:
        from recurra.cli.table import print_metrics

        print_metrics(metrics)
