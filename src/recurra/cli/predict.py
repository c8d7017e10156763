"""`recurra predict`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

if TYPE_CHECKING:
    from recurra.model.answer.model import Answerer

__all__ = ["predict"]


def predict(
    model: str,
    data: Annotated[str | None, Parameter(allow_leading_hyphen=True)] = None,
    /,
    *more: str,
    output: Annotated[Path | None, Parameter(alias="-o")] = None,
    top: Annotated[int | None, Parameter(alias="-k")] = None,
    question: str | None = None,
    context: str | None = None,
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
        Also the most probable labels (for a model of answers, the next best answers), as many as given.
    question
        For a model of answers: what is asked, in place of a table.
    context
        The text in which the answer stands, or a file of it, or - for standard input.
    on_error
        What happens to rows that cannot be read: an error, or left out and reported.
    json_
        Print JSON lines instead of a table.
    """
    from recurra.cli.output import write_predictions
    from recurra.errors import SettingsError
    from recurra.model.answer.model import Answerer
    from recurra.model.load import load
    from recurra.model.model import Model

    chosen = load(model)
    if not isinstance(chosen, (Model, Answerer)):
        raise SettingsError(f"{model!r} predicts nothing row by row: use `recurra {chosen.command} {model} ...`.")
    given = [] if data is None else [data, *more]
    if isinstance(chosen, Answerer):
        source = _questions(chosen, given, question, context)
    elif question is not None or context is not None:
        raise SettingsError(f"{model!r} answers no questions: --question and --context are for models of the task answer.")
    else:
        source = _rows(given)
    write_predictions(chosen.predict_chunks(source, top=top, on_error=on_error), output, as_json=json_)


def _rows(given: list[str]) -> str | list[str]:
    """Texts or tables, those on standard input read."""
    from recurra.errors import EmptyData, SettingsError

    if not given:
        raise SettingsError("There is nothing to predict: give a text, a table, or - for texts on standard input.")
    if given[0].startswith("--"):
        raise SettingsError(
            f"There is no option {given[0]!r}: see `recurra predict --help`. A text that starts so can come on standard input (-)."
        )
    if given != ["-"]:
        return given if len(given) > 1 else given[0]
    lines = [line.rstrip("\n") for line in sys.stdin]
    if not lines:
        raise EmptyData("There is nothing on standard input: give texts there, one a line.")
    return lines


def _questions(model: Answerer, given: list[str], question: str | None, context: str | None) -> Any:
    """A table of questions, or the one that the options hold."""
    from recurra.errors import SettingsError

    if (question is None) != (context is None) or (question is None) == (not given):
        raise SettingsError("This model answers questions: give a table of them, or one with --question and --context.")
    if question is None or context is None:
        return given if len(given) > 1 else given[0]
    names = model.settings.answer
    return [{names.question: question, names.context: _text(context)}]


def _text(context: str) -> str:
    """A text, or that of the file or standard input that it names."""
    from recurra.errors import DataError

    if context == "-":
        return sys.stdin.read()
    try:
        path = Path(context)
        return path.read_text(encoding="utf-8") if path.is_file() else context
    except UnicodeDecodeError as error:
        raise DataError(f"{context!r} is not valid UTF-8: save it as UTF-8.") from error
    except (OSError, ValueError):  # a text that no file can be named
        return context
