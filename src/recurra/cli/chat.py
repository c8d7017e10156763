"""`recurra chat`."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

if TYPE_CHECKING:
    from recurra.model.conversation import Answer

__all__ = ["chat"]


def chat(
    model: str,
    /,
    *more: str,
    answers: Path | None = None,
    history: int | None = None,
    least: float | None = None,
    hand_over: Annotated[str | None, Parameter(allow_leading_hyphen=True)] = None,
    show: Annotated[bool | None, Parameter(negative="--no-show")] = None,
    json_: Annotated[bool, Parameter(name="--json", negative=())] = False,
) -> None:
    """Talk with trained models: one line is one utterance, an empty line begins a new dialogue, end of input ends.

    Parameters
    ----------
    model
        A model folder, or hf://OWNER/NAME: of replies, or of intents, slots and other labels of an utterance.
    more
        Further models that take part; of replies one at most.
    answers
        A YAML file of answers by label, such as `card_lost: I have blocked your card.`; given before any reply that is written.
    history
        Utterances that a reply is written to; 10 when not given. As in the pairs that the model was trained on.
    least
        Probability under which the dialogue is handed over: of a label that has an answer, or a token of a reply; 0.3 when not given.
    hand_over
        What is answered when unsure.
    show
        Also show labels and spans, in front of the answer; shown when not given, and always with --json.
    json_
        Print a JSON object an answer.
    """
    from recurra.cli.output import while_read
    from recurra.data.surrogates import without_surrogates
    from recurra.errors import SettingsError
    from recurra.model.conversation import Conversation
    from recurra.model.load import load

    if json_ and show is not None:
        raise SettingsError("--json holds labels and spans whatever --show and --no-show say: leave one of them out.")
    dialogue = Conversation(
        [load(path) for path in (model, *more)],
        answers=None if answers is None else _read_answers(answers),
        history=history,
        least=least,
        hand_over=hand_over,
    )
    interactive = sys.stdin.isatty() and not json_
    with while_read():
        for line in map(without_surrogates, _lines(interactive)):
            if not line.strip():
                if interactive and dialogue.utterances:
                    sys.stderr.write("A new dialogue.\n")
                dialogue.reset()
                continue
            answer = dialogue.say(line.strip())
            sys.stdout.write(_as_json(line.strip(), answer) if json_ else _as_text(answer, show is not False))
            sys.stdout.flush()


def _lines(interactive: bool) -> Iterator[str]:
    """Lines of standard input, as they come; a person is shown where to write."""
    if interactive:
        sys.stderr.write("Write an utterance a line; an empty line begins anew, Ctrl-D ends.\n")
    while True:
        if interactive:
            sys.stderr.write("> ")
            sys.stderr.flush()
        line = ""
        try:
            line = sys.stdin.readline()
        finally:
            if interactive and not line:  # Ctrl-D and Ctrl-C leave the cursor behind the sign
                sys.stderr.write("\n")
        if not line:
            return
        yield line


def _as_text(answer: Answer, show: bool) -> str:
    lines = []
    if show:
        lines += [f"  {column}: {_sure(label, probability)}" for column, (label, probability) in answer.labels.items()]
        lines += [f"  {span['label']}: {span['text']} ({span['probability']:.2f})" for spans in answer.spans.values() for span in spans]
        lines += [f"  handed over: {answer.reason}"] if answer.reason else []
    return "".join(f"{line}\n" for line in [*lines, *([answer.text] if answer.text is not None else [])])


def _sure(label: Any, probability: float) -> str:
    """A label with its probability; a number that was predicted has none."""
    return f"{label:.4g}" if math.isnan(probability) else f"{label} ({probability:.2f})"


def _as_json(utterance: str, answer: Answer) -> str:
    found = {
        "utterance": utterance,
        "answer": answer.text,
        "source": answer.source,
        "reason": answer.reason,
        "probability": _number(answer.probability),
        "labels": {column: {"label": label, "probability": _number(probability)} for column, (label, probability) in answer.labels.items()},
        "spans": {column: list(spans) for column, spans in answer.spans.items()},
    }
    return json.dumps(found, ensure_ascii=False, default=str) + "\n"


def _number(value: float) -> float | None:
    return float(f"{value:.4g}") if value == value else None  # noqa: PLR0124  # NaN is no JSON


def _read_answers(path: Path) -> dict[str, str]:
    import yaml

    from recurra.errors import DataError

    try:
        content: Any = yaml.load(path.read_text(encoding="utf-8"), yaml.BaseLoader)  # noqa: S506  # labels and answers stay as written
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise DataError(f"The answers in {str(path)!r} cannot be read: {error}.") from error
    if not isinstance(content, dict) or not all(isinstance(value, str) and value for value in content.values()):
        raise DataError(f"{str(path)!r} must hold an answer a label, such as `card_lost: I have blocked your card.`")
    return content
