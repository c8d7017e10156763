"""From a table of clicks to encoded sessions: read, split, numbered, and what a person should know of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from recurra.config import Settings
from recurra.data.cases import Cases
from recurra.data.read import Table, read, resolve
from recurra.data.sessions import (
    HeldOut,
    Sessions,
    SessionsSplit,
    answer_times,
    every_click,
    last_click,
    leave_one_out,
    read_sessions,
    split_by_time,
)
from recurra.errors import EmptyData, SettingsError
from recurra.features.items import UNKNOWN_ITEM, ItemVocabulary, gap_numbers

__all__ = ["Prepared", "Questions", "prepare", "read_clicks"]

NATURAL = 3
"""Clicks from which on it is no chance that a held-out session stands in the training part too."""


@dataclass(frozen=True, eq=False)
class Questions:
    """A held-out part, encoded.

    Attributes:
        cases: the questions.
        gaps: (S,) numbers of the time gaps; None where they are not read.
    """

    cases: Cases
    gaps: npt.NDArray[np.int64] | None


@dataclass(frozen=True, eq=False)
class Prepared:
    """What is trained on and measured on.

    Attributes:
        settings: of the run.
        items: vocabulary of the training part.
        train: encoded training sessions, oldest first.
        validation: None where nothing is held out.
        test: None where nothing is held out.
        source: description of the data.
        fingerprint: hash of the tables.
        rows: clicks by part.
        left_out: clicks that are not used, by reason.
        overlap: by part that was given as a file, its sessions of three clicks or more that stand click for click in the training part.
        facts: whatever else a person should know, in lines.
    """

    settings: Settings
    items: ItemVocabulary
    train: Sessions
    validation: Questions | None
    test: Questions | None
    source: str
    fingerprint: str
    rows: dict[str, int]
    left_out: dict[str, int]
    overlap: dict[str, int]
    facts: list[str] = field(default_factory=list)


def prepare(data: Any, settings: Settings, *, validation: Any = None, test: Any = None) -> Prepared:
    """Read clicks, hold some out, number the items.

    Args:
        data: whatever `recurra.train` takes.
        settings: `recommend` and `data` are read.
        validation: clicks that select the model; their sessions are asked for every click but the first (the last one with
            `recommend.split=leave_one_out`).
        test: clicks that measure the model, likewise.

    Raises:
        SettingsError: session or item is not named.
        MissingColumn: a column is not there.
        EmptyData: there is nothing to learn from, or nothing to measure.
    """
    found = resolve(data, on_error=settings.data.on_error)
    tables = {"train": found["train"]}
    for part, given in (("validation", validation), ("test", test)):
        if given is not None:
            tables[part] = read(given, on_error=settings.data.on_error)
        elif part in found:
            tables[part] = found[part]
    parts = {part: read_clicks(table, settings) for part, table in tables.items()}
    if (parts["train"].items.lengths < 2).all():
        raise EmptyData(
            f"No session has two clicks: there is no next click to learn. Is {settings.recommend.session!r} the column of sessions?"
        )
    split = _split(parts, settings)
    items = ItemVocabulary.fit(split.train)
    train = items.encode(split.train)
    if not (train.items.lengths > 1).any():
        raise EmptyData("No session has two clicks: there is no next click to learn. Is the column of sessions the right one?")
    held_out = {"validation": split.validation, "test": split.test}
    asked = {part: _questions(each, items, settings) for part, each in held_out.items() if each is not None}
    left_out: dict[str, int] = {}
    for sessions in parts.values():
        for name in ("left out", "repeated"):
            left_out[name] = left_out.get(name, 0) + sessions.facts.get(name, 0)
    return Prepared(
        settings,
        items,
        train,
        asked.get("validation"),
        asked.get("test"),
        tables["train"].description,
        "-".join(table.fingerprint() for table in tables.values())[:65],
        {"train": train.clicks, **{part: len(each.cases) for part, each in asked.items()}},
        {_REASONS[name]: count for name, count in left_out.items() if count},
        _overlap(train, {part: asked[part] for part in asked if part in parts}),
        [*_facts(parts["train"], split, train, asked), *(_earlier(split, parts) if settings.data.time is not None else ())],
    )


_REASONS = {"left out": "no session, item or time", "repeated": "the same session, item and time as another row"}


def read_clicks(table: Table, settings: Settings) -> Sessions:
    """The sessions of a table, by the columns that the settings name.

    Raises:
        SettingsError: session or item is not named.
    """
    chosen = settings.recommend
    for name, value in (("session", chosen.session), ("item", chosen.item)):
        if value is None:
            raise SettingsError(
                f"recommend.{name} is not named: say with --{name} which column holds it. Columns: {', '.join(table.columns)}."
            )
    assert chosen.session is not None
    assert chosen.item is not None
    return read_sessions(
        table,
        session=chosen.session,
        item=chosen.item,
        time=settings.data.time,
        attributes=chosen.attributes,
        skip=settings.data.on_error == "skip",
    )


def _split(parts: dict[str, Sessions], settings: Settings) -> SessionsSplit:
    """Given files are parts as they are; what is not given is held out of the training clicks."""
    train = parts["train"]
    ask = last_click if settings.recommend.split == "leave_one_out" else every_click
    given = {part: ask(sessions) for part, sessions in parts.items() if part != "train"}
    shares = {part: 0.0 if part in given else getattr(settings.data, f"{part}_share") for part in ("validation", "test")}
    if "test" in given and "validation" in given:
        return SessionsSplit(train, given["validation"], given["test"])
    if not given and settings.recommend.split == "leave_one_out":
        return leave_one_out(train)
    if settings.recommend.split == "leave_one_out":
        raise SettingsError(
            "recommend.split=leave_one_out holds both parts out of the training clicks: give no files of them, or give both."
        )
    if not any(shares.values()):
        return SessionsSplit(train, given.get("validation"), given.get("test"))
    split = split_by_time(train, validation_share=shares["validation"], test_share=shares["test"])
    return SessionsSplit(split.train, given.get("validation", split.validation), given.get("test", split.test), split.facts)


def _questions(part: HeldOut, items: ItemVocabulary, settings: Settings) -> Questions:
    sessions = items.encode(part.sessions)
    counts = sessions.items.lengths - part.first
    session = np.repeat(np.arange(len(sessions)), counts)
    inside = np.arange(len(session)) - np.repeat(np.cumsum(counts) - counts, counts)
    gaps = gap_numbers(sessions.times, sessions.items.offsets) if settings.recommend.time_gaps else None
    return Questions(Cases(sessions.items, session, part.first[session] + inside), gaps)


def _overlap(train: Sessions, asked: dict[str, Questions]) -> dict[str, int]:
    """Held-out sessions that are training sessions, click for click."""
    known = {tuple(train.items[row]) for row in range(len(train))}
    found = {}
    for part, questions in asked.items():
        sessions = questions.cases.sessions
        same = [len(sessions[row]) for row in range(len(sessions)) if tuple(sessions[row]) in known]
        if long := sum(length >= NATURAL for length in same):
            found[part] = long
    return found


def _facts(given: Sessions, split: SessionsSplit, train: Sessions, asked: dict[str, Questions]) -> Sequence[str]:
    """What a person should know, line by line."""
    lines = []
    if unsorted := given.facts.get("unsorted"):
        lines.append(f"{unsorted:,} clicks stood before an earlier one of their session: they were put in order of time")
    if single := int((train.items.lengths == 1).sum()):
        lines.append(
            f"{single:,} of {len(train):,} training sessions have one click: they count for popularity, and nothing follows from them"
        )
    if short := split.facts.get("sequences too short to measure"):
        lines.append(f"{int(short):,} sequences have one or two clicks: they train and are not measured")
    for part, questions in asked.items():
        answers = questions.cases.answers
        if unknown := int((answers == UNKNOWN_ITEM).sum()):
            lines.append(
                f"{unknown:,} of {len(answers):,} {part} answers are items that the training part does not have: they count as misses"
            )
    return lines


def _earlier(split: SessionsSplit, parts: dict[str, Sessions]) -> Sequence[str]:
    """Lines on parts of files of their own that begin before the training ends: it then knows what came later."""
    latest, lines = split.train.times.max(), []
    for part in ("validation", "test"):
        held_out = getattr(split, part)
        if part in parts and (early := int((answer_times(held_out) <= latest).sum())):
            lines.append(
                f"{early:,} of {held_out.answers:,} {part} answers are no later than the last training click: in service, the model would not know "
                "what it learnt from clicks after them"
            )
    return lines
