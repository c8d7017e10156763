"""Questions about texts, with the places of their answers: tables of any format, and SQuAD's JSON.

A row holds a question, a context and an answer; several answers stand in a list, as SQuAD's record of texts and starts, or in several
rows with the same question and context. Each answer becomes a span of characters of its context; one that does not stand there is
an error that names its row. Not inside: tokens and windows (`recurra.model.answer.windows`).
"""

from __future__ import annotations

import glob
import hashlib
import json
import os
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

from recurra.config import AnswerSettings
from recurra.data.read import Table, read, require_columns
from recurra.data.sources import open_bytes
from recurra.data.surrogates import without_surrogates
from recurra.errors import DataError, EmptyData, MissingColumn, RowError

__all__ = ["CharacterSpan", "Question", "Questions", "is_squad", "locate", "read_asked", "read_questions", "without_marker"]

OnError = Literal["fail", "skip"]
ANSWERS = ("answer", "answers")
"""Columns that hold the answer where no target is named, the first that is there."""
SPANS = ("span", "answer_start")
"""Columns that say where it stands, the first that is there."""
_PEEK = 2**16
"""Bytes of a JSON file that tell whether it is SQuAD's."""
_SHOWN = 60
_LETTER = r"[^\W\u0e00-\uffff\U00010000-\U0010ffff]"
"""A letter or digit of the scripts that part words by blanks; Thai, Chinese, Japanese and what lies near them in Unicode do not count."""
_WHOLE = rf"(?!(?<={_LETTER}){_LETTER}){{}}(?!(?<={_LETTER}){_LETTER})"
"""A text that begins and ends where words do."""


class CharacterSpan(NamedTuple):
    """An answer: `context[start:end]`."""

    start: int
    end: int


@dataclass(frozen=True)
class Question:
    """A question about a text.

    Attributes:
        question: what is asked.
        context: the text.
        answers: where the references stand in it, without repeats; none where it holds no answer.
        place: where it comes from, for a person.
    """

    question: str
    context: str
    answers: tuple[CharacterSpan, ...]
    place: str = ""

    @property
    def texts(self) -> list[str]:
        """The references as they stand in the context."""
        return [self.context[start:end] for start, end in self.answers]


@dataclass(frozen=True)
class Questions:
    """Questions, those with the same words and context as one.

    Attributes:
        items: in order of their first appearance.
        rows: that they were read from.
        fingerprint: hash of their content.
        description: where they come from.
        left_out: rows that cannot be used, by reason.
    """

    items: list[Question]
    rows: int
    fingerprint: str
    description: str
    left_out: Mapping[str, int]


class _Row(NamedTuple):
    """A row before its answers are placed: each answer with where it is said to begin and end (None where nothing is said)."""

    question: str
    context: str
    answers: list[tuple[str, int | None, int | None]]
    place: str
    problem: str = ""


def read_questions(source: Any, settings: AnswerSettings, *, target: str | None = None, on_error: OnError = "fail") -> Questions:
    """Questions of a table, or of SQuAD's JSON files.

    Args:
        source: what `recurra.data.read.read` takes, or paths of SQuAD's JSON.
        settings: the columns, and what stands for no answer.
        target: column of answers; `answer` or `answers` when not given.
        on_error: what happens to rows that cannot be read, or whose answer does not stand in the context.

    Raises:
        MissingColumn: a column is not there.
        RowError: an answer does not stand in its context, its span does not, or question or context is empty; only with "fail".
        EmptyData: there are no questions.
    """
    paths = _paths(source)
    if any(is_squad(path) for path in paths):
        return _gathered((row for path in paths for row in _squad_rows(path)), settings, ", ".join(paths), on_error)
    table = read(source, on_error=on_error)
    try:
        found = _gathered(_table_rows(table, settings, target), settings, table.description, on_error)
    except RowError as error:
        if error.line is None or error.source != table.description:
            raise
        source, _, line = table.place(error.line - 1).rpartition(":")  # read again up to there, and only now
        raise RowError(error.message, source=source, line=int(line.removeprefix(" row "))) from None
    unreadable = {"cannot be read": table.bad_row_count} if table.bad_row_count else {}
    return replace(found, left_out={**found.left_out, **unreadable})


def _gathered(rows: Iterator[_Row], settings: AnswerSettings, description: str, on_error: OnError) -> Questions:
    """All questions, those that are the same as one."""
    merged: dict[tuple[str, str], Question] = {}
    left_out: dict[str, int] = {}
    count = 0
    digest = hashlib.blake2b(digest_size=16)
    for number, row in enumerate(rows, 1):
        found = row.problem or _placed(row, settings)
        if isinstance(found, str):
            if on_error == "fail":
                raise RowError(found, source=row.place or description, line=None if row.place else number)
            reason = found.partition(":")[0]
            left_out[reason] = left_out.get(reason, 0) + 1
            continue
        count += 1
        digest.update(json.dumps([found.question, found.context, found.answers]).encode())
        key = (found.question, found.context)
        known = merged.get(key)
        if known is not None:
            found = replace(known, answers=tuple(dict.fromkeys((*known.answers, *found.answers))))
        merged[key] = found if found.place else replace(found, place=f"{description}, row {number}")
    if not merged:
        raise EmptyData(f"{description} holds no questions that can be used.")
    return Questions(list(merged.values()), count, digest.hexdigest(), description, left_out)


def _placed(row: _Row, settings: AnswerSettings) -> Question | str:
    """A row with the spans of its answers, or what is wrong with it."""
    context = without_marker(row.context, settings.no_answer)
    if not row.question.strip():
        return "the question is empty"
    if not context.strip():
        return "the context is empty"
    spans = []
    for text, start, end in row.answers:
        if not text.strip() or text.strip() == settings.no_answer:
            continue
        span = _span(row.context, text, start, end)
        if isinstance(span, str):
            return span
        if span.start < len(context):  # an answer may reach into the marker
            spans.append(CharacterSpan(span.start, min(span.end, len(context))))
    return Question(row.question, context, tuple(dict.fromkeys(spans)), row.place)


def without_marker(context: str, marker: str | None) -> str:
    """A context without the `answer.no_answer` that it ends with."""
    stripped = context.rstrip()
    return stripped[: -len(marker)].rstrip() if marker and stripped.endswith(marker) else context


def _span(context: str, text: str, start: int | None, end: int | None) -> CharacterSpan | str:
    """Where an answer stands, or what is wrong: the given place where it is one, else the first that fits."""
    if start is None:
        found = locate(context, text)
        return found or f"the answer does not stand in the context: {_short(text)}. Correct it, or leave it empty where there is no answer"
    end = start + len(text) if end is None else end
    if not 0 <= start < end <= len(context):
        return (
            f"the answer stands outside of its context: characters {start} to {end} of {len(context)}. "
            "Spans count characters from 0, the end not included"
        )
    there = context[start:end]
    if not _alike(there, text):
        return (
            f"another text than the answer stands at its place: {_short(there)} at characters {start} to {end}, not {_short(text)}. "
            "Spans count characters, not bytes or tokens"
        )
    blank = len(there) - len(there.lstrip())
    return CharacterSpan(start + blank, start + len(there.rstrip()))


def _alike(there: str, text: str) -> bool:
    """Whether two texts can be the same answer: a common word, or one within the other but for blanks and signs."""
    first, second = (re.findall(r"\w+", unicodedata.normalize("NFC", each.lower())) for each in (there, text))
    if set(first) & set(second):
        return True
    joined = ["".join(words) for words in (first, second)]
    if not any(joined):
        return bool(there.strip())
    return all(joined) and (joined[0] in joined[1] or joined[1] in joined[0])


def locate(context: str, text: str) -> CharacterSpan | None:
    """The first place of a text in a context: as written, else in another case, else with other blanks around its words and signs, else
    with its accents written otherwise (as one sign with their letter, or behind it).

    A place where it is part of a longer word, as "in" of "Berlin", is taken only where there is no other.
    """
    forms = (text, unicodedata.normalize("NFC", text), unicodedata.normalize("NFD", text))
    return next((found for form in dict.fromkeys(forms) if (found := _locate(context, form.strip())) is not None), None)


def _locate(context: str, text: str) -> CharacterSpan | None:
    tokens = re.findall(r"\w+|[^\w\s]", text)
    written, loose = re.escape(text), r"\s*".join(map(re.escape, tokens))
    for form in (_WHOLE, "{}"):
        found = re.search(form.format(written), context)
        if found is None and tokens:
            found = re.search(form.format(loose), context, re.IGNORECASE)
        if found is not None:
            return CharacterSpan(*found.span())
    return None


def _short(text: str) -> str:
    text = " ".join(text.split())
    return repr(text if len(text) <= _SHOWN else text[:_SHOWN] + "...")


# --- tables -------------------------------------------------------------------------------------------------------


def _table_rows(table: Table, settings: AnswerSettings, target: str | None) -> Iterator[_Row]:
    require_columns(table, [settings.question, settings.context])
    answer = _column(table, target, ANSWERS)
    if answer is None:
        raise MissingColumn(
            f"There is no column of answers in {table.description}: name it with --target. Its columns: {', '.join(table.columns)}."
        )
    span = _column(table, settings.span, SPANS)
    names = [settings.question, settings.context, answer, *([] if span is None else [span])]
    for chunk in table.chunks(columns=list(dict.fromkeys(names))):
        for values in zip(*(chunk[name].to_list() for name in names), strict=True):
            question, context = ("" if value is None else str(value) for value in values[:2])
            try:
                yield _Row(question, context, _answers(values[2], values[3] if span is not None else None), "")
            except ValueError as error:
                yield _Row(question, context, [], "", str(error))


def _column(table: Table, named: str | None, usual: Sequence[str]) -> str | None:
    if named is not None:
        require_columns(table, [named])
        return named
    return next((name for name in usual if name in table.columns), None)


def _answers(value: Any, span: Any) -> list[tuple[str, int | None, int | None]]:
    """The answers of a cell with where they are said to stand.

    Raises:
        ValueError: they are of no form that is known.
    """
    if value is None:
        return []
    if isinstance(value, Mapping):
        texts, starts = value.get("text"), value.get("answer_start")
        if isinstance(texts, str):
            texts, starts = [texts], [starts]
        if not isinstance(texts, list) or not (starts is None or (isinstance(starts, list) and len(starts) == len(texts))):
            raise ValueError("the answers are no record of text and answer_start, two lists of the same length")
        return [(str(text), *_ends(start)) for text, start in zip(texts, starts or [None] * len(texts), strict=True)]
    if isinstance(value, list):
        if any(isinstance(item, Mapping) for item in value):
            return [answer for item in value for answer in _answers(item, None)]
        spans = [span] if len(value) == 1 and isinstance(span, list) and len(span) == 2 else span
        if isinstance(spans, list) and spans and len(spans) != len(value):
            raise ValueError(f"there are {len(value)} answers and {len(spans)} spans")
        return [(str(text), *_ends(place)) for text, place in zip(value, spans or [None] * len(value), strict=True) if text is not None]
    return [(str(value), *_ends(span))]


def _ends(span: Any) -> tuple[int | None, int | None]:
    """Start and end of a cell that says where an answer stands: a number, two numbers, or text that holds them."""
    if isinstance(span, str):
        span = [int(number) for number in re.findall(r"-?\d+", span)]
    if span is None or span == []:
        return None, None
    numbers = span if isinstance(span, list) else [span]
    if len(numbers) > 2 or not all(isinstance(number, (int, float)) and float(number).is_integer() for number in numbers):
        raise ValueError("the span is no pair of numbers: first character, and the one after the last")
    return int(numbers[0]), int(numbers[1]) if len(numbers) == 2 else None


# --- SQuAD --------------------------------------------------------------------------------------------------------


def is_squad(path: str | os.PathLike[str]) -> bool:
    """Whether a file is SQuAD's JSON: articles with paragraphs, these with a context and its questions."""
    file = Path(path)
    if ".json" not in [suffix.lower() for suffix in file.suffixes] or not file.is_file():
        return False
    with open_bytes(file) as opened:
        start = opened.read(_PEEK).lstrip(b"\xef\xbb\xbf \t\r\n")
    return start.startswith(b"{") and b'"paragraphs"' in start


def _paths(source: Any) -> list[str]:
    """The files that are named, patterns expanded; none where no file is."""
    given = [source] if isinstance(source, (str, os.PathLike)) else source
    if not isinstance(given, (list, tuple)) or not all(isinstance(item, (str, os.PathLike)) for item in given):
        return []
    found: list[str] = []
    for item in map(str, given):
        found += sorted(glob.glob(item)) if glob.has_magic(item) and not Path(item).is_file() else [item]  # noqa: PTH207
    return found


def read_asked(source: Any, settings: AnswerSettings, *, on_error: OnError = "fail") -> Table:
    """A table of questions and contexts to be answered; those of SQuAD's JSON with their `id`.

    Args:
        source: as for `read_questions`.
        settings: the columns.
        on_error: what happens to rows that cannot be read.

    Raises:
        MissingColumn: a column is not there.
        DataError: it cannot be read.
    """
    paths = _paths(source)
    if any(is_squad(path) for path in paths):
        asked = [(each, paragraph) for path in paths for paragraph in _paragraphs(path) for each in paragraph.get("qas", [])]
        rows = [
            {"id": each.get("id"), settings.question: each.get("question"), settings.context: paragraph.get("context")}
            for each, paragraph in asked
        ]
        return read(rows)
    table = read(source, on_error=on_error)
    require_columns(table, [settings.question, settings.context])
    return table


def _squad_rows(path: str) -> Iterator[_Row]:
    for paragraph in _paragraphs(path):
        yield from _paragraph_rows(path, paragraph)


def _paragraphs(path: str) -> list[dict[str, Any]]:
    with open_bytes(Path(path)) as file:
        content = file.read()
    try:
        value = json.loads(content.decode("utf-8-sig"))
        articles = value["data"]
        paragraphs: list[dict[str, Any]] = [paragraph for article in articles for paragraph in article["paragraphs"]]
        asked = [each for paragraph in paragraphs for each in paragraph.get("qas", [])]
        if not all(isinstance(each, dict) for each in asked):
            raise TypeError("a question is no object")  # noqa: TRY301
    except UnicodeDecodeError as error:
        raise RowError("not valid UTF-8. Save the file as UTF-8.", source=path) from error
    except json.JSONDecodeError as error:
        raise RowError(f"not valid JSON ({error.msg} at character {error.colno})", source=path, line=error.lineno) from error
    except (AttributeError, KeyError, TypeError) as error:
        raise DataError(
            f"{path} begins as SQuAD's JSON does and goes on otherwise: {error!r}. It needs data, paragraphs, context, qas."
        ) from error
    return paragraphs


def _paragraph_rows(path: str, paragraph: Any) -> Iterator[_Row]:
    for number, asked in enumerate(paragraph.get("qas", [])):
        source = f"{path}, question {asked.get('id', number + 1)}"
        try:
            given = [] if asked.get("is_impossible") else asked.get("answers", [])
            answers = [(without_surrogates(str(answer["text"])), *_ends(answer.get("answer_start"))) for answer in given]
            question, context = (without_surrogates(str(text)) for text in (asked["question"], paragraph["context"]))
            yield _Row(question, context, answers, source)
        except (KeyError, TypeError, ValueError) as error:
            yield _Row("", "", [], source, f"it is no question of SQuAD: {error!r}")
