"""Dialogues, and the pairs that a model of replies learns from: what was said so far, and what was said next.

Inside: the form of a history, readers of dialogues (lists of utterances in a table, the text of the bAbI dialogue tasks, the
conversations of the package `chatterbot-corpus`). Not inside: models of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from recurra.data.languages import conversations
from recurra.errors import DataError, EmptyData

if TYPE_CHECKING:
    import polars as pl

    from recurra.data.table import Table

__all__ = ["HISTORY", "SEPARATOR", "Dialogue", "history_text", "is_babi", "pairs", "read_babi", "read_chatterbot", "read_dialogues"]

SEPARATOR = " <|> "
"""What stands between two utterances of a history."""
HISTORY = 10
"""Utterances of a history, the last ones, where nothing else is said."""


@dataclass(frozen=True)
class Dialogue:
    """Utterances in order.

    Attributes:
        utterances: what was said.
        replies: places of those that a model should learn to say.
    """

    utterances: tuple[str, ...]
    replies: tuple[int, ...]


def history_text(utterances: Sequence[str], most: int = HISTORY) -> str:
    """The last utterances as one text, oldest first: what a model of replies reads.

    Args:
        utterances: all so far.
        most: how many are read.
    """
    return SEPARATOR.join(" ".join(utterance.split()) for utterance in utterances[-most:])


def pairs(dialogues: Iterable[Dialogue], most: int = HISTORY) -> pl.DataFrame:
    """A row a reply, with the columns `dialogue` (its number), `history` and `reply`.

    Args:
        dialogues: to learn from; replies without anything before them, and empty ones, are left out.
        most: utterances of a history.

    Raises:
        EmptyData: there is no reply.
    """
    import polars as pl

    rows = [
        (number, history_text(dialogue.utterances[:place], most), " ".join(dialogue.utterances[place].split()))
        for number, dialogue in enumerate(dialogues)
        for place in dialogue.replies
        if place and dialogue.utterances[place].strip()
    ]
    if not rows:
        raise EmptyData("No dialogue has a reply: each needs two utterances or more.")
    return pl.DataFrame(rows, schema={"dialogue": pl.Int64, "history": pl.String, "reply": pl.String}, orient="row")


def read_dialogues(table: Table, column: str | None = None, *, every: bool = False) -> list[Dialogue]:
    """Dialogues of a table: a row each, its utterances a list of strings.

    Args:
        table: of the rows.
        column: that holds the lists; the only one when not given.
        every: each utterance but the first is a reply; otherwise each second one, as where a customer begins and is answered.

    Raises:
        DataError: no column holds lists of strings, or several do and none is named.
    """
    import polars as pl

    lists = [name for name, dtype in table.schema.items() if dtype == pl.List(pl.String)]
    if column is None and len(lists) != 1:
        what = (
            f"several do ({', '.join(lists)}): name one of them"
            if lists
            else 'none does. Give JSON lines such as {"turns": ["Hello", "Good morning"]}'
        )
        raise DataError(f"A column of {table.description} must hold the dialogues as lists of utterances, and {what}.")
    name = lists[0] if column is None else column
    if name not in lists:
        raise DataError(f"Column {name!r} of {table.description} holds no lists of utterances.")
    step = 1 if every else 2
    found = []
    for frame in table.chunks([name]):
        for row in frame[name].to_list():
            utterances = tuple(str(utterance or "") for utterance in row or ())
            found.append(Dialogue(utterances, tuple(range(1, len(utterances), step))))
    return found


def read_babi(path: str | Path) -> list[Dialogue]:
    """Dialogues in the form of the bAbI dialogue tasks.

    A line is `number utterance TAB reply`, numbers begin at 1 with each dialogue; a line without a tab is something that is known from
    there on, such as a row that a search has found, and stands in the history as an utterance of its own.

    Args:
        path: of the text file.

    Raises:
        DataError: the file cannot be read, or a line has another form; it is named.

    Source: Bordes, Boureau & Weston 2017, Learning End-to-End Goal-Oriented Dialog.
    """
    try:
        # Ends of lines alone: U+0085 and U+2028, at which `splitlines` cuts too, may stand within an utterance.
        lines = Path(path).read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{str(path)!r} cannot be read: {error}.") from error
    found: list[Dialogue] = []
    utterances: list[str] = []
    replies: list[int] = []

    def close() -> None:
        if utterances:
            found.append(Dialogue(tuple(utterances), tuple(replies)))
        utterances.clear()
        replies.clear()

    for place, line in enumerate(lines, 1):
        if not line.strip():
            continue
        number, blank, rest = line.partition(" ")
        if not number.isdigit() or not blank:
            raise DataError(f"{path}:{place}: a line of a dialogue is `number utterance TAB reply`, not {line[:60]!r}.")
        if number == "1":
            close()
        said, tab, reply = rest.partition("\t")
        utterances.append(said)
        if tab:
            replies.append(len(utterances))
            utterances.append(reply)
    close()
    if not found:
        raise DataError(f"{str(path)!r} holds no dialogue: its lines are `number utterance TAB reply`.")
    return found


def read_chatterbot(language: str = "english") -> list[Dialogue]:
    """The conversations of one language, in an order shuffled once for all; every utterance but the first is a reply.

    Raises:
        MissingDependency: the package `chatterbot-corpus` is not installed.

    Source: https://github.com/gunthercox/chatterbot-corpus (BSD licence).
    """
    import numpy as np

    found = [Dialogue(tuple(said), tuple(range(1, len(said)))) for of, said in conversations() if of == language and len(said) > 1]
    distinct = list(dict.fromkeys(found))
    return [distinct[number] for number in np.random.default_rng(0).permutation(len(distinct))]


def is_babi(path: str | Path) -> bool:
    """Whether a text file begins like dialogues of the bAbI tasks."""
    try:
        with Path(path).open(encoding="utf-8") as file:
            return file.readline().startswith("1 ")
    except (OSError, UnicodeDecodeError):
        return False
