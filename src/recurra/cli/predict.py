"""`recurra predict`."""

from __future__ import annotations

import io
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
    question: Annotated[str | None, Parameter(allow_leading_hyphen=True)] = None,
    context: Annotated[str | None, Parameter(allow_leading_hyphen=True)] = None,
    beam: int | None = None,
    n_best: int | None = None,
    forbid: Annotated[list[str] | None, Parameter(negative=(), allow_leading_hyphen=True)] = None,
    force: Annotated[list[str] | None, Parameter(negative=(), allow_leading_hyphen=True)] = None,
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
    beam
        Text to text: outputs that the search follows; 1 takes the most probable token at each step.
    n_best
        Text to text: outputs wanted of each text; the further ones are in `alternatives`.
    forbid
        Text to text: a word or phrase that may not come; repeated for several.
    force
        Text to text: a word or phrase that must come; repeated for several.
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
    from recurra.model.translate.model import Translator

    chosen = load(model)
    if not isinstance(chosen, (Model, Answerer, Translator)):
        raise SettingsError(f"{model!r} predicts nothing row by row: use `recurra {chosen.command} {model} ...`.")
    given = [] if data is None else [data, *more]
    if isinstance(chosen, Answerer):
        source = _questions(chosen, given, question, context)
    elif question is not None or context is not None:
        raise SettingsError(f"{model!r} answers no questions: --question and --context are for models of the task answer.")
    else:
        source = _rows(given)
    _refuse_idle(model, {"--top": top}, idle=isinstance(chosen, Translator), why="writes texts and knows no labels")
    of_texts = {"--beam": beam, "--n-best": n_best, "--forbid": forbid, "--force": force}
    _refuse_idle(model, of_texts, idle=not isinstance(chosen, Translator), why="writes no texts")
    if isinstance(chosen, Translator):
        parts = chosen.predict_chunks(
            source, on_error=on_error, beam=beam, n_best=1 if n_best is None else n_best, forbidden=forbid or (), forced=force or ()
        )
    else:
        parts = chosen.predict_chunks(source, top=top, on_error=on_error)
    write_predictions(parts, output, as_json=json_, digits=_digits(chosen))


def _digits(model: Any) -> dict[str, int]:
    """Significant digits of the columns of predicted numbers."""
    from recurra.cli.output import digits_of
    from recurra.heads import RegressHead
    from recurra.model.model import Model

    heads = model.head.heads if isinstance(model, Model) else ()
    several = len(heads) > 1
    return {
        f"{head.name}.value" if several else "value": digits_of(head.mean, head.deviation)
        for head in heads
        if isinstance(head, RegressHead)
    }


def _refuse_idle(model: str, given: dict[str, Any], *, idle: bool, why: str) -> None:
    """Nothing is accepted and ignored.

    Raises:
        SettingsError: an option is given that does nothing for this model.
    """
    from recurra.errors import SettingsError

    names = [name for name, value in given.items() if value is not None]
    if idle and names:
        raise SettingsError(f"{', '.join(names)} does nothing here: {model!r} {why}. Leave it out.")


def _rows(given: list[str]) -> Any:
    """Texts or tables, those on standard input read."""
    from recurra.cli.arguments import refuse_option
    from recurra.errors import EmptyData, SettingsError

    if not given:
        raise SettingsError("There is nothing to predict: give a text, a table, or - for texts on standard input.")
    for text in given:
        refuse_option(text, "predict")
    if "-" in given and len(given) > 1:
        raise SettingsError("'-' reads texts from standard input, and stands alone: leave the others out, or put them there.")
    if given != ["-"]:
        return given if len(given) > 1 else given[0]
    lines = [line.rstrip("\n") for line in sys.stdin]
    if not lines:
        raise EmptyData("There is nothing on standard input: give texts there, one a line.")
    import numpy as np

    return np.array(lines, dtype=object)  # a column: of a list, lines such as report.csv would be names of tables


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
    """A text, or that of the file or standard input that it names, with the ends of lines as they are: they count in places."""
    from recurra.errors import DataError

    if context == "-":
        if isinstance(sys.stdin, io.TextIOWrapper):
            sys.stdin.reconfigure(newline="")
        return sys.stdin.read()
    try:
        path = Path(context)
        return path.read_bytes().decode() if path.is_file() else context
    except UnicodeDecodeError as error:
        raise DataError(f"{context!r} is not valid UTF-8: save it as UTF-8.") from error
    except (OSError, ValueError):  # a text that no file can be named
        return context
