"""From a table to numbered pairs in the cache: rows split, one vocabulary of both texts, everything encoded once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from recurra.config import Settings
from recurra.data.cache import cache_key, cached
from recurra.data.codec import TextCodec
from recurra.data.pairs import blank, encode_texts, find_source, fit_codec
from recurra.data.read import Table, require_columns
from recurra.data.split import Part, overlap, row_hashes
from recurra.data.store import Ragged, StoreWriter
from recurra.data.tokenize import UNKNOWN
from recurra.errors import EmptyData, RowError, SettingsError
from recurra.model.encode import row_place
from recurra.training.rows import LEFT_OUT, OPEN, Rows, divide

__all__ = ["PreparedPairs", "prepare", "with_columns"]

VERSION = 1
"""Of what is written into the cache."""
SOURCE, TARGET, PARTS = "source", "target", "parts"
"""Names in the store."""


@dataclass(frozen=True)
class PreparedPairs:
    """Pairs of texts that are ready to be learnt.

    Attributes:
        settings: of the run, with source and target filled in.
        reason: why this source.
        codec: the vocabulary of both.
        sources: numbered tokens of all rows.
        targets: likewise.
        parts: (N,) the part of each row, -1 where it is left out.
        rows: the tables.
        left_out: rows that are not used, by reason.
        overlap: rows of validation and test whose source also stands in the training rows.
        cut: texts cut at `text.max_length`, by column.
        unknown: share of the tokens of each part and column that the vocabulary lacks.
        fingerprint: hash of the content of the tables.
    """

    settings: Settings
    reason: str
    codec: TextCodec
    sources: Ragged
    targets: Ragged
    parts: np.ndarray
    rows: Rows
    left_out: dict[str, int]
    overlap: dict[str, int]
    cut: dict[str, int]
    unknown: dict[str, float]
    fingerprint: str

    @property
    def columns(self) -> tuple[str, str]:
        """Names of source and target."""
        return self.settings.translate.source or "", self.settings.target or ""

    def part(self, part: Part) -> np.ndarray:
        """Numbers of the rows of a part, ascending."""
        return np.flatnonzero(self.parts == part)

    @property
    def sizes(self) -> dict[str, int]:
        """Rows by part."""
        counted = Counter(self.parts.tolist())
        return {part.name.lower(): counted[part] for part in Part if counted[part]}

    @property
    def longest(self) -> int:
        """Tokens of the longest target in the training part."""
        return int(self.targets.lengths[self.part(Part.TRAIN)].max())

    def texts(self, part: Part) -> tuple[pl.Series, pl.Series]:
        """Source and target of the rows of a part as they stand in the tables."""
        source, target = self.columns
        frame = self.rows.gather(self.part(part), [source, target])
        return frame[source].cast(pl.String), frame[target].cast(pl.String)


def with_columns(tables: Sequence[tuple[Table, Part | None]], settings: Settings) -> tuple[Settings, str]:
    """The settings with the source filled in, and why it is that column.

    Raises:
        SettingsError: no target is named.
        MissingColumn: a column is not in a table.
        DataError: the source cannot be told.
    """
    table = tables[0][0]
    if settings.target is None:
        raise SettingsError(f"No target is named: say which column is to be written with --target. Columns: {', '.join(table.columns)}.")
    require_columns(table, [name for name in (settings.data.group, settings.data.time) if name is not None])
    source, reason = find_source(table, settings.target, settings.translate.source)
    for other, _ in tables[1:]:
        require_columns(other, [source, settings.target])
    return settings.model_copy(update={"translate": settings.translate.model_copy(update={"source": source})}), reason


def prepare(
    tables: Sequence[tuple[Table, Part | None]], settings: Settings, *, cache: Path | None, say: Callable[[str], None]
) -> PreparedPairs:
    """Split, learn the vocabulary, encode, or take all of it from the cache.

    Args:
        tables: the training table first (its part is None where rows are held out of it), then those of fixed parts.
        settings: of the run.
        cache: folder for the encoded pairs; the user's cache when None.
        say: shows a line.

    Raises:
        EmptyData: no row has both texts.
        RowError: a row has no target, and data.missing_targets is "fail".
    """
    settings, reason = with_columns(tables, settings)
    rows = Rows(tables, say)
    fingerprint = cache_key(*[(table.fingerprint(), part) for table, part in tables])
    shaping = settings.model_dump(mode="json", include={"target": True, "data": True, "text": True})
    key = cache_key("translate", VERSION, fingerprint, shaping, settings.translate.source, settings.training.seed)
    store = cached(key, lambda writer: _build(writer, rows, settings), folder=cache)
    sources, targets, parts = store[SOURCE], store[TARGET], store[PARTS]
    assert isinstance(sources, Ragged)
    assert isinstance(targets, Ragged)
    assert isinstance(parts, np.ndarray)
    codec = TextCodec.from_json(store.meta["codec"])
    facts = {name: store.meta[name] for name in ("left_out", "overlap", "cut", "unknown")}
    return PreparedPairs(settings, reason, codec, sources, targets, parts, rows, fingerprint=fingerprint, **facts)


def _build(writer: StoreWriter, rows: Rows, settings: Settings) -> None:
    """Three passes: which rows are used and where they belong, the vocabulary, the tokens."""
    source, target = settings.translate.source or "", settings.target or ""
    parts, left_out, repeated = _split(rows, settings)
    codec = fit_codec(_training_texts(rows, parts, (source, target)), settings.text)
    cut, unknown, seen = Counter[str](), Counter[str](), Counter[str]()
    for chunk in rows.chunks([source, target], "encoding"):
        for name, column in ((SOURCE, source), (TARGET, target)):
            used = pl.Series(parts[chunk.numbers] != LEFT_OUT)
            texts = chunk.frame[column].cast(pl.String)
            encoded = encode_texts(codec, texts.set(~used, None), settings.text.max_length)
            cut[column] += encoded.truncated
            for part in Part:
                inside = encoded.take(np.flatnonzero(parts[chunk.numbers] == part)).values
                unknown[f"{part.name.lower()} {column}"] += int((inside == UNKNOWN).sum())
                seen[f"{part.name.lower()} {column}"] += len(inside)
            writer.append(name, encoded)
    writer.append(PARTS, parts)
    writer.meta = {
        "codec": codec.to_json(),
        "left_out": left_out,
        "overlap": repeated,
        "cut": {name: count for name, count in cut.items() if count},
        "unknown": {name: count / seen[name] for name, count in unknown.items() if count},
    }


def _training_texts(rows: Rows, parts: np.ndarray, columns: tuple[str, str]) -> Iterator[pl.Series]:
    for chunk in rows.chunks(columns, "vocabulary"):
        inside = pl.Series(parts[chunk.numbers] == Part.TRAIN)
        for column in columns:
            yield chunk.frame[column].filter(inside)


def _split(rows: Rows, settings: Settings) -> tuple[np.ndarray, dict[str, int], dict[str, int]]:
    """The part of each row, the rows that are left out by reason, and sources that stand in two parts."""
    source, target = settings.translate.source or "", settings.target or ""
    dividing = [name for name in (settings.data.group, settings.data.time) if name]
    fixed, hashes = [], []
    group: list[pl.Series] = []
    time: list[pl.Series] = []
    without = {"no target": 0, "no source": 0}
    for chunk in rows.chunks([source, target], "splitting", dividing=dividing):
        no_target, no_source = blank(chunk.frame[target]), blank(chunk.frame[source])
        if no_target.any() and settings.data.missing_targets == "fail":
            name, line = row_place(chunk.table, chunk.own + int(no_target.arg_true()[0]))
            raise RowError(
                "the target is missing. Fill it in, or leave such rows out with data.missing_targets=drop.", source=name, line=line
            )
        without["no target"] += int(no_target.sum())
        without["no source"] += int((no_source & ~no_target).sum())
        part = OPEN if chunk.part is None else chunk.part
        fixed.append(np.where((no_target | no_source).to_numpy(), LEFT_OUT, part).astype(np.int8))
        hashes.append(row_hashes(chunk.frame, [source]))
        for column, into in ((settings.data.group, group), (settings.data.time, time)):
            if column is not None and chunk.part is None:
                into.append(chunk.frame[column])
    if not fixed:
        raise EmptyData(f"{rows.first.description} has no rows.")
    parts = divide(
        rows,
        np.concatenate(fixed),
        settings,
        group=pl.concat(group) if group else None,
        time=pl.concat(time) if time else None,
    )
    if not (parts == Part.TRAIN).any():
        raise EmptyData(f"No row is left to train on: none of {rows.first.description} has a text in both {source!r} and {target!r}.")
    used, every = parts != LEFT_OUT, np.concatenate(hashes)
    without["unreadable"] = sum(table.bad_row_count for table, _ in rows.tables)
    repeated = {part: count for part, count in overlap(every[used], parts[used])._asdict().items() if count}
    return parts, {reason: count for reason, count in without.items() if count}, repeated
