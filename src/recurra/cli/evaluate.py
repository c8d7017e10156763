"""`recurra evaluate`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

if TYPE_CHECKING:
    from recurra.model.trained import TrainedModel

__all__ = ["evaluate"]


def evaluate(
    model: str,
    data: str,
    /,
    *more: str,
    on_error: Literal["fail", "skip"] = "fail",
    set_: Annotated[list[str] | None, Parameter(name="--set", negative=())] = None,
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
    set_
        For a language model: how it is measured besides, as language.cache=2000 or language.dynamic_rate=0.1.
    json_
        Print one flat JSON object of metrics on standard output, and nothing else.
    output
        Also write the metrics to this JSON file.
    """
    from recurra.cli.output import make_place, while_read
    from recurra.model.load import load

    chosen = load(model)
    if output is not None:
        make_place(output)
    source = [data, *more] if more else data
    metrics = _with_options(chosen, source, on_error, set_) if set_ else chosen.evaluate(source, on_error=on_error)
    if json_:
        with while_read():
            sys.stdout.write(json.dumps(metrics) + "\n")
    else:
        from recurra.cli.table import print_metrics

        print_metrics(metrics)
    if output is not None:  # last, so that the metrics are there whatever becomes of the file
        _write(output, metrics)


def _write(output: Path, metrics: dict[str, float]) -> None:
    from recurra.errors import DataError
    from recurra.model.folder import write_file

    try:
        write_file(output, (json.dumps(metrics, indent=1) + "\n").encode())
    except OSError as error:
        raise DataError(
            f"The metrics cannot be written to {str(output)!r}: {error.strerror or error}. Free some space or choose another file."
        ) from error


def _with_options(model: TrainedModel, source: Any, on_error: Literal["fail", "skip"], assignments: list[str]) -> dict[str, float]:
    """Measure a language model in other ways than it was trained with."""
    from recurra.config import load_settings, parse_assignment
    from recurra.errors import SettingsError
    from recurra.model.language.model import LanguageModel

    given = dict(parse_assignment(assignment) for assignment in assignments)
    wrong = [name for name in given if not name.startswith(("language.cache", "language.dynamic"))]
    if wrong or not isinstance(model, LanguageModel):
        raise SettingsError(
            f"--set {(wrong or list(given))[0]} changes nothing here: only how a language model is measured can be set, "
            "with language.cache and language.dynamic_rate and what belongs to them."
        )
    chosen = load_settings({f"language.{name}": value for name, value in model.settings.language.model_dump().items()}, given)
    return model.evaluate(source, on_error=on_error, options=chosen.language)
