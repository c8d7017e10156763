"""Clicks in a table -> sessions: who clicked what, in order of time; and which clicks are held out.

Not here: item numbers of a model (`features.items`), questions about held-out clicks (`cases`), batches (`streams`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt
import polars as pl

from recurra.data.columns import as_names
from recurra.data.read import Table, require_columns
from recurra.data.split import time_keys
from recurra.data.store import Ragged, offsets_of
from recurra.errors import DataError, EmptyData, RowError

__all__ = [
    "HeldOut",
    "Sessions",
    "SessionsSplit",
    "answer_times",
    "every_click",
    "last_click",
    "leave_one_out",
    "read_sessions",
    "renamed",
    "split_by_time",
]

Numbers = npt.NDArray[np.int64]
FEWEST_CLICKS = 3
"""Of a sequence whose last click is held out, and the one before it."""


@dataclass(frozen=True, eq=False)
class Sessions:
    """Clicks by session, in order of time; the sessions in order of their first click.

    Attributes:
        items: of each session, numbers into `names`.
        times: (S,) of the clicks, end to end like `items.values`: as in the column, or the number of the row where there is none.
        names: what was clicked, as text.
        sessions: (N,) names of the sessions, as text.
        attributes: by column, (S,) the values of each click's item.
        facts: what was found while reading: rows left out or put in order, sessions of one click.
    """

    items: Ragged
    times: npt.NDArray[np.float64]
    names: pl.Series
    sessions: pl.Series
    attributes: pl.DataFrame = field(default_factory=pl.DataFrame)
    facts: dict[str, int] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.items)

    @property
    def clicks(self) -> int:
        """S, of all sessions."""
        return int(self.items.offsets[-1])

    def part(self, starts: Numbers, stops: Numbers) -> Sessions:
        """Some steps of each session.

        Args:
            starts: (N,) first step of each session that is kept, counted inside it.
            stops: (N,) the step behind the last that is kept; sessions without any are left out.
        """
        rows = np.flatnonzero(stops > starts)
        lengths = (stops - starts)[rows]
        offsets = offsets_of(lengths)
        steps = np.arange(offsets[-1]) + np.repeat(self.items.offsets[rows] + starts[rows] - offsets[:-1], lengths)
        return Sessions(
            Ragged(self.items.values[steps], offsets),
            self.times[steps],
            self.names,
            self.sessions[rows],
            self.attributes[steps] if self.attributes.width else self.attributes,
        )


@dataclass(frozen=True, eq=False)
class HeldOut:
    """Sessions with questions: which item comes next?

    Attributes:
        sessions: with everything that the model may have read before each answer.
        first: (N,) step of each session's first answer, 1 at least; every later step is an answer too.
    """

    sessions: Sessions
    first: Numbers

    @property
    def answers(self) -> int:
        """How many there are."""
        return int((self.sessions.items.lengths - self.first).clip(0).sum())


@dataclass(frozen=True, eq=False)
class SessionsSplit:
    """What trains, what selects, what measures.

    Attributes:
        train: clicks to learn from.
        validation: None where nothing is held out.
        test: None where nothing is held out.
        facts: what a person should know of the split.
    """

    train: Sessions
    validation: HeldOut | None
    test: HeldOut | None
    facts: dict[str, float] = field(default_factory=dict)


def read_sessions(
    table: Table, *, session: str, item: str, time: str | None = None, attributes: Sequence[str] = (), skip: bool = False
) -> Sessions:
    """Sessions of a table.

    Rows of a session may stand anywhere and in any order. Rows of equal time keep their order; of rows with the same session,
    item and time, one is kept. Without a time column, rows are taken to be in order.

    Args:
        table: one row a click.
        session: column that says which rows belong together.
        item: column of what was clicked: text or whole numbers (`7`, `7.0` and `"7"` are one item).
        time: column of dates, ISO text or numbers.
        attributes: columns of properties of the item.
        skip: leave rows without session, item or time out and count them; else they are an error.

    Raises:
        MissingColumn: a column is not there; the nearest name is given.
        RowError: session, item or time of a row is missing.
        DataError: times cannot be read.
        EmptyData: no row can be used.
    """
    columns = [session, item, *([time] if time is not None else []), *attributes]
    if len({session, item, time}) < 3:
        raise DataError(f"Session ({session}), item ({item}) and time ({time}) are different columns: name three.")
    require_columns(table, columns)
    frame = pl.concat(table.chunks(list(dict.fromkeys(columns))))
    keys = time_keys(frame[time], place=table.place, skip=skip) if time is not None else np.arange(len(frame), dtype=np.float64)
    clicks = pl.DataFrame({"session": as_names(frame[session]), "item": as_names(frame[item]), "time": keys})
    usable = clicks["session"].is_not_null() & clicks["item"].is_not_null() & clicks["time"].is_finite()
    if not usable.all():
        _refuse(table, clicks, {"session": session, "item": item, "time": time or ""}, usable, skip=skip)
    rows = pl.arange(len(frame), eager=True).filter(usable)
    clicks = clicks.with_row_index("row").filter(usable)
    if clicks.is_empty():
        raise EmptyData(f"No row of {table.description} has a session, an item and a time: there is nothing to learn from.")
    facts = {"left out": len(frame) - len(rows), "rows": len(frame)}
    if time is not None:
        found = len(clicks)
        clicks = clicks.unique(["session", "item", "time"], keep="first", maintain_order=True)
        facts["repeated"] = found - len(clicks)
    return _grouped(clicks, frame.select([as_names(frame[name]).alias(name) for name in attributes]), facts)


def _grouped(clicks: pl.DataFrame, attributes: pl.DataFrame, facts: dict[str, int]) -> Sessions:
    """Clicks, one row each, as sessions in order of time."""
    names = clicks["item"].unique(maintain_order=True)
    first = clicks.group_by("session", maintain_order=True).agg(pl.col("time").min().alias("first"))
    first = first.sort("first", maintain_order=True).with_row_index("number")
    numbered = clicks.join(first.select("session", "number"), on="session", how="left", maintain_order="left").join(
        pl.DataFrame({"item": names}).with_row_index("code"), on="item", how="left", maintain_order="left"
    )
    ordered = numbered.sort("number", "time", maintain_order=True)
    own = numbered.select((pl.col("time") < pl.col("time").shift(1).over("number")).sum()).item()
    lengths = np.bincount(ordered["number"].to_numpy(), minlength=len(first))
    facts = {**facts, "unsorted": int(own or 0), "of one click": int((lengths == 1).sum())}
    return Sessions(
        Ragged(ordered["code"].to_numpy().astype(np.int32), offsets_of(lengths)),
        ordered["time"].to_numpy(),
        names,
        first["session"],
        attributes[ordered["row"]] if attributes.width else attributes,
        {name: count for name, count in facts.items() if count},
    )


def _refuse(table: Table, clicks: pl.DataFrame, columns: dict[str, str], usable: pl.Series, *, skip: bool) -> None:
    if skip:
        return
    row = int((~usable).arg_max() or 0)
    missing = next(column for name, column in columns.items() if clicks[name][row] is None or clicks[name][row] == -np.inf)
    raise RowError(
        f"the column {missing!r} {'holds no time' if missing == columns['time'] else 'is empty'}: a click needs a session, an item and a time. "
        f"Fill it in, or leave such rows ({int((~usable).sum()):,}) out with data.on_error=skip.",
        source=table.place(row),
    )


def leave_one_out(sessions: Sessions) -> SessionsSplit:
    """The last click of each sequence tests, the one before it selects, those before train.

    The answer of the test is asked for after everything before it, the answer of the validation included. Sequences of one or
    two clicks train and are not measured.

    Raises:
        EmptyData: no sequence has three clicks.
    """
    lengths = sessions.items.lengths
    long = lengths >= FEWEST_CLICKS
    if not long.any():
        raise EmptyData("No sequence has three clicks: nothing can be held out. Use recommend.split=time, or name the column of users.")
    nothing = np.zeros_like(lengths)
    train = sessions.part(nothing, np.where(long, lengths - 2, lengths))
    shorter = sessions.part(nothing, np.where(long, lengths - 1, 0))
    return SessionsSplit(
        train,
        HeldOut(shorter, shorter.items.lengths - 1),
        last_click(sessions),
        {"sequences too short to measure": int((~long).sum())},
    )


def split_by_time(sessions: Sessions, *, validation_share: float, test_share: float) -> SessionsSplit:
    """The latest clicks of all are held out, at one moment for everybody.

    A click trains when it came before the first held-out moment, selects between the two moments, and tests after the second.
    A session that goes on over a moment keeps what came before as context. That no training click is as late as any answer is
    checked.

    Args:
        sessions: with their times.
        validation_share: of the clicks.
        test_share: of the clicks.

    Raises:
        EmptyData: a part has no click, because too many have the same time or there are too few.
    """
    ordered = np.sort(sessions.times)
    count = len(ordered)
    moments = [ordered[min(count - 1, round(count * share))] for share in (1.0 - validation_share - test_share, 1.0 - test_share)]
    begin, middle = (moments[0] if validation_share else np.inf), (moments[1] if test_share else np.inf)
    begin = min(begin, middle)
    before = [_clicks_before(sessions, moment) for moment in (begin, middle)]
    nothing = np.zeros_like(before[0])
    train = sessions.part(nothing, before[0])
    if not train.clicks:
        raise EmptyData("No click is earlier than those held out: too many have the same time. Leave data.time out, or give a test file.")
    validation = _held_out(sessions, before[0], before[1]) if validation_share else None
    test = _held_out(sessions, before[1], sessions.items.lengths) if test_share else None
    for part in (validation, test):
        if part is not None and train.times.max() >= answer_times(part).min():
            raise DataError("A training click is as late as a held-out one: the split leaks. This is a mistake of ours, please tell us.")
    facts = {"latest training click": float(train.times.max())}
    return SessionsSplit(train, validation, test, facts)


def _clicks_before(sessions: Sessions, moment: float) -> Numbers:
    """(N,) clicks of each session before a moment."""
    sums = offsets_of((sessions.times < moment).astype(np.int64))
    return np.diff(sums[sessions.items.offsets])


def _held_out(sessions: Sessions, first: Numbers, stops: Numbers) -> HeldOut:
    """Sessions up to `stops`, asked from step `first` on, and never for a session's first click.

    Raises:
        EmptyData: there is no answer.
    """
    first = np.maximum(first, 1)
    asked = stops > first
    if not asked.any():
        raise EmptyData(
            "A held-out part has no click that follows another one of its session: hold out more (data.test_share, data.validation_share)."
        )
    part = sessions.part(np.zeros_like(stops), np.where(asked, stops, 0))
    return HeldOut(part, first[asked])


def answer_times(part: HeldOut) -> npt.NDArray[np.float64]:
    """(N,) when each answer was clicked."""
    lengths = part.sessions.items.lengths
    inside = np.arange(part.sessions.clicks) - np.repeat(part.sessions.items.offsets[:-1], lengths)
    return part.sessions.times[inside >= np.repeat(part.first, lengths)]


def every_click(sessions: Sessions) -> HeldOut:
    """All clicks but the first of each session are answers: what a given validation or test file of sessions is.

    Raises:
        EmptyData: every session has one click.
    """
    return _held_out(sessions, np.zeros(len(sessions), np.int64), sessions.items.lengths)


def last_click(sessions: Sessions) -> HeldOut:
    """The last click of each sequence of three or more is an answer: what a given file is to a model of `leave_one_out`.

    Raises:
        EmptyData: no sequence has three clicks.
    """
    lengths = sessions.items.lengths
    whole = sessions.part(np.zeros_like(lengths), np.where(lengths >= FEWEST_CLICKS, lengths, 0))
    if not len(whole):
        raise EmptyData(
            f"No sequence has {FEWEST_CLICKS} clicks, and with recommend.split=leave_one_out the last click of such is foreseen: give longer ones."
        )
    return HeldOut(whole, whole.items.lengths - 1)


def renamed(sessions: Sessions, names: pl.Series) -> Sessions:
    """The same clicks with numbers into other names; -1 where an item is not among them."""
    codes = sessions.names.to_frame("item").join(
        names.to_frame("item").with_row_index("code"), on="item", how="left", maintain_order="left"
    )
    table = codes["code"].cast(pl.Int64).fill_null(-1).to_numpy().astype(np.int32)
    return replace(sessions, items=Ragged(table[sessions.items.values], sessions.items.offsets), names=names)
