"""From tables and a plan to encoded columns: rows split, features fitted, everything encoded once.

The encoded columns lie in a cache on disk, by the hash of the data and of the settings that shape them, and are read
memory-mapped: a file larger than memory trains. Rows are only ever read in chunks.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from recurra.config import HeadSettings, OutOfScopeSettings, Settings
from recurra.data.cache import cache_key, cached
from recurra.data.read import Table
from recurra.data.split import Part, overlap, row_hashes
from recurra.data.store import Array, Columns, Ragged, Store, StoreWriter
from recurra.data.store import Rows as EncodedRows
from recurra.errors import DataError, EmptyData, RowError, SettingsError, nearest
from recurra.features import FEATURES, Feature
from recurra.features.text import TextFeature
from recurra.heads import HEADS, OUTPUTS, Head, Output, SeveralHeads
from recurra.model.encode import encode_columns, row_place, usable_rows
from recurra.training.rows import LEFT_OUT, OPEN, UNLABELLED, Rows, divide
from recurra.training.tables.plan import Plan, Target

__all__ = ["Facts", "Prepared", "prepare"]

INPUT, TARGET, PARTS = "input:", "target:", "parts"
"""Names in the store: of a feature's array (before its own name), of an encoded target (before its name), of the parts."""
VERSION = 7
"""Of what `prepare` writes; part of the cache key."""


@dataclass
class Facts:
    """What was seen of the data.

    Attributes:
        rows: by part.
        left_out: rows that are not used, by reason.
        overlap: rows of validation and test whose inputs also stand in the training rows.
        fingerprint: hash of the content of the tables.
    """

    rows: dict[str, int] = field(default_factory=dict)
    left_out: dict[str, int] = field(default_factory=dict)
    overlap: dict[str, int] = field(default_factory=dict)
    fingerprint: str = ""


@dataclass(frozen=True)
class Prepared:
    """Data ready to train on.

    Attributes:
        plan: columns, task and settings.
        features: fitted on the training rows.
        head: fitted on the training rows.
        store: the encoded columns and targets.
        parts: (N,) int8, the part of each row, -1 where it is left out.
        rows: the tables.
        facts: what was seen.
    """

    plan: Plan
    features: list[Feature]
    head: Output
    store: Store
    parts: np.ndarray
    rows: Rows
    facts: Facts

    def part(self, part: Part) -> np.ndarray:
        """Numbers of the rows of a part, ascending."""
        return np.flatnonzero(self.parts == part)

    @property
    def inputs(self) -> dict[str, Any]:
        """Encoded columns by feature name."""
        return {feature.name: self.store[INPUT + feature.name] for feature in self.features}

    @property
    def targets(self) -> EncodedRows:
        """Encoded targets of all rows; several heads have several columns of them."""
        columns = self.target_columns
        return columns[self.head.name] if isinstance(self.head, Head) else Columns(columns)

    @property
    def target_columns(self) -> dict[str, Array | Ragged]:
        """Encoded targets of all rows, by column."""
        return {name: self.store[TARGET + name] for name in self.head.columns}

    def of(self, head: Head) -> Prepared:
        """The same data as one of several heads sees it: its target alone, and the rows that have it."""
        if head is self.head:
            return self
        task = next(target for target in self.plan.targets if target.name == head.name)
        targets = self.store[TARGET + head.name]
        if isinstance(targets, Ragged):
            steps = self.store[INPUT + (head.steps or "")]
            assert isinstance(steps, Ragged)
            known = targets.lengths == steps.lengths
        else:
            known = head.known(targets, targets)
        parts = np.where(known, self.parts, LEFT_OUT).astype(self.parts.dtype)
        return replace(self, plan=replace(self.plan, targets=[task]), head=head, parts=parts)


def prepare(
    tables: Sequence[tuple[Table, Part | None]], plan: Plan, *, cache: Path | None = None, show: Callable[[str], None] | None = None
) -> Prepared:
    """Split, fit and encode, or take all of it from the cache.

    Args:
        tables: the training table first (its part is None where rows are held out of it), then those of fixed parts.
        plan: what will be done.
        cache: folder of the encoded columns; the user's cache folder when not given.
        show: called with a line now and then while rows are read.

    Raises:
        EmptyData: no row is left to train on.
        RowError: a value does not fit its column and data.on_error is "fail".
        DataError: the targets make no task, or the cache cannot be written.
    """
    settings = plan.settings
    rows = Rows(tables, show)
    fingerprint = cache_key(*[(table.fingerprint(), part) for table, part in tables])
    shaping = settings.model_dump(
        mode="json", include={"target": True, "several": {"targets"}, "data": True, "text": True, "tag": True, "out_of_scope": True}
    )
    del shaping["text"]["vectors"]  # what starts the embedding does not shape the data
    known = {column: cache_key(tokenizer.to_json()) for column, tokenizer in plan.vocabularies.items()}
    key = cache_key(
        VERSION,
        fingerprint,
        [asdict(column) for column in plan.columns],
        [asdict(target) for target in plan.targets],
        shaping,
        known,
        settings.training.seed,
    )
    store = cached(key, lambda writer: _build(writer, rows, plan), folder=cache)
    meta = store.meta
    features = [FEATURES[state["type"]].from_state(state["name"], state) for state in meta["features"]]
    fitted = meta["heads"]
    state = fitted[0] if len(fitted) == 1 else {"heads": fitted, "weights": settings.several.weights}
    head = OUTPUTS[plan.task].from_state(plan.target_names[0], state, settings.head)
    parts = store[PARTS]
    assert isinstance(parts, np.ndarray)
    return Prepared(plan, features, head, store, parts, rows, Facts(**{**meta["facts"], "fingerprint": fingerprint}))


def _build(writer: StoreWriter, rows: Rows, plan: Plan) -> None:
    parts, facts = _split(rows, plan)
    _require_training_rows(parts, facts)
    features, heads = _fit(rows, parts, plan)
    head: Output = heads[0] if len(heads) == 1 else SeveralHeads(heads)
    unusable = _encode(writer, rows, parts, features=features, head=head, plan=plan)
    if unusable:
        facts.left_out["unusable value"] = unusable
    _require_training_rows(parts, facts)
    counted = Counter(parts.tolist())
    facts.rows = {part.name.lower(): counted[part] for part in Part if counted[part]}
    if counted[UNLABELLED]:
        facts.rows["unlabelled"] = counted[UNLABELLED]
    writer.append(PARTS, parts)
    writer.meta = {
        "features": [{"name": feature.name, "type": feature.type, **feature.state()} for feature in features],
        "heads": [{"name": each.name, "task": each.task, **each.state()} for each in heads],
        "facts": asdict(facts),
    }


def _require_training_rows(parts: np.ndarray, facts: Facts) -> None:
    if not (parts == Part.TRAIN).any():
        reasons = ", ".join(f"{count:,} for {reason!r}" for reason, count in facts.left_out.items())
        raise EmptyData(f"No row is left to train on; left out are {reasons or 'none'}. Check the target column and data.ignore_labels.")


def _split(rows: Rows, plan: Plan) -> tuple[np.ndarray, Facts]:
    """The part of each row: one pass over target, group, time and the hashes of the inputs."""
    settings = plan.settings
    data = settings.data
    classes = next((target.name for target in plan.targets if target.task == "classify"), None)
    names = [column.name for column in plan.inputs]
    dividing = [name for name in (data.group, data.time) if name]
    codes = _Codes()
    seen: dict[str, list[Any]] = {"fixed": [], "targets": [], "group": [], "time": [], "hashes": []}
    without = ignored = 0
    for chunk in rows.chunks([*plan.target_names, *names], "splitting", dividing=dividing):
        missing, skipped = _without(chunk.frame, plan)
        if missing.any() and data.missing_targets == "fail":
            source, line = row_place(chunk.table, chunk.own + int(missing.arg_true()[0]))
            raise RowError(
                "the target is missing. Fill it in, or leave such rows out with data.missing_targets=drop.", source=source, line=line
            )
        if data.missing_targets != "unlabelled" or chunk.part is not None:
            without += int(missing.sum())
        ignored += int(skipped.sum())
        part = OPEN if chunk.part is None else chunk.part
        keep = data.missing_targets == "unlabelled" and chunk.part is None
        absent = np.where(missing.to_numpy(), UNLABELLED if keep else LEFT_OUT, LEFT_OUT)
        seen["fixed"].append(np.where((missing | skipped).to_numpy(), absent, part).astype(np.int8))
        if classes is not None:
            seen["targets"].append(codes.of(chunk.frame[classes]))
        seen["hashes"].append(row_hashes(chunk.frame, names))
        for role, column in (("group", data.group), ("time", data.time)):
            if column is not None and chunk.part is None:
                seen[role].append(chunk.frame[column])
    if not seen["fixed"]:
        raise EmptyData(f"{rows.first.description} has no rows.")
    if classes is not None:
        codes.require(data.ignore_labels, classes)
    fixed, hashes = np.concatenate(seen["fixed"]), np.concatenate(seen["hashes"])
    parts = divide(
        rows,
        fixed,
        settings,
        stratify=np.concatenate(seen["targets"]) if seen["targets"] else None,
        group=pl.concat(seen["group"]) if seen["group"] else None,
        time=pl.concat(seen["time"]) if seen["time"] else None,
    )
    facts = Facts(left_out={reason: count for reason, count in (("no target", without), ("ignored label", ignored)) if count})
    unread = sum(table.bad_row_count for table, _ in rows.tables)
    if unread:
        facts.left_out["unreadable"] = unread
    used = parts != LEFT_OUT
    facts.overlap = {part: count for part, count in overlap(hashes[used], parts[used])._asdict().items() if count}
    return parts, facts


def _without(frame: pl.DataFrame, plan: Plan) -> tuple[pl.Series, pl.Series]:
    """Rows without any target, and rows whose targets are all ignored or missing."""
    missing = gone = pl.repeat(True, len(frame), eager=True)
    for target in plan.targets:
        head, values = HEADS[target.task], frame[target.name]
        absent = head.missing(values)
        missing = missing & absent
        gone = gone & (absent | head.ignored(values, plan.settings.data.ignore_labels))
    return missing, gone & ~missing


class _Codes:
    """Numbers for the distinct values of a column, in the order they are met."""

    def __init__(self) -> None:
        self._codes: dict[str | None, int] = {}

    def of(self, values: pl.Series) -> np.ndarray:
        texts = values.cast(pl.String).str.strip_chars()
        for text in texts.unique(maintain_order=True):
            self._codes.setdefault(text, len(self._codes))
        return np.fromiter((self._codes[text] for text in texts), np.int32, len(texts))

    def require(self, labels: Sequence[str], column: str) -> None:
        """Raise a `SettingsError` for a label of `data.ignore_labels` that no row has."""
        for label in labels:
            if label not in self._codes:
                known = [text for text in self._codes if text is not None]
                raise SettingsError(f"data.ignore_labels names {label!r}, which no row has in column {column!r}.{nearest(label, known)}")


def _fit(rows: Rows, parts: np.ndarray, plan: Plan) -> tuple[list[Feature], list[Head]]:
    """Features and heads, each in one pass over its column's training rows."""

    def training(column: str, wanted: Sequence[int] = (Part.TRAIN, UNLABELLED)) -> Iterator[pl.Series]:
        for chunk in rows.chunks([column], f"fitting {column}"):
            mask = np.isin(parts[chunk.numbers], wanted)
            if mask.any():
                yield chunk.frame[column].filter(pl.Series(mask))

    heads = [
        HEADS[target.task].fit(target.name, training(target.name, [Part.TRAIN]), _settings_for(target, plan)) for target in plan.targets
    ]
    features: list[Feature] = []
    for column in plan.inputs:
        try:
            feature = FEATURES[column.type].fit(column.name, training(column.name), plan.settings)
        except EmptyData as error:
            raise EmptyData(f"Column {column.name!r}: {error} The column is left out with --type {column.name}=ignore.") from error
        known = plan.vocabularies.get(column.name)
        features.append(feature.continuing(known) if known is not None and isinstance(feature, TextFeature) else feature)
    if not features:
        reasons = "; ".join(f"{column.name}: {column.reason}" for column in plan.columns if column.name not in plan.target_names)
        raise DataError(
            f"No input column is left ({reasons or 'the table has only the target'}). Set a type, for example --type title=text."
        )
    return features, heads


def _settings_for(target: Target, plan: Plan) -> Settings:
    """What a head is fitted with: beside classes, other heads do not refuse the settings of classes."""
    if plan.task != "several" or target.task == "classify":
        return plan.settings
    head = HeadSettings(task="regress") if target.task == "regress" else plan.settings.head
    return plan.settings.model_copy(update={"head": head, "out_of_scope": OutOfScopeSettings()})


def _encode(writer: StoreWriter, rows: Rows, parts: np.ndarray, *, features: Sequence[Feature], head: Output, plan: Plan) -> int:
    """Write every row's encoded columns; rows with a problem leave the parts when data.on_error is "skip", and are counted."""
    unusable = 0
    columns = list(dict.fromkeys([*(feature.name for feature in features), *head.columns]))
    for chunk in rows.chunks(columns, "encoding"):
        used = chunk.numbers[parts[chunk.numbers] != LEFT_OUT]
        kept = chunk.frame[used - chunk.start]
        own = (used - chunk.start + chunk.own).tolist()
        mask, bad = usable_rows(chunk.table, kept, own, columns=[*features, head], on_error=plan.settings.data.on_error)
        parts[used[~mask.to_numpy()]] = LEFT_OUT
        unusable += len(bad)
        for each in head.heads:
            writer.append(TARGET + each.name, each.encode_rows(chunk.frame))
        for name, encoded in encode_columns(chunk.frame, features).items():
            writer.append(INPUT + name, encoded)
    return unusable
