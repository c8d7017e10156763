"""From what the user gave to encoded columns: columns and task inferred, rows split, features fitted, everything encoded once.

The encoded columns lie in a cache on disk, by the hash of the data and of the settings that shape them, and are read
memory-mapped: a file larger than memory trains. Rows are only ever read in chunks.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import polars as pl

from recurra.config import HeadSettings, OutOfScopeSettings, Settings, TagSettings, load_settings
from recurra.config.tag import TAG_DEFAULTS
from recurra.data.cache import cache_key, cached
from recurra.data.columns import Column, Task, infer_columns, infer_task
from recurra.data.read import Table, require_columns
from recurra.data.split import Part, assign_parts, overlap, row_hashes
from recurra.data.store import Array, Columns, Ragged, Store, StoreWriter
from recurra.data.store import Rows as EncodedRows
from recurra.data.tagged import Tagged, find_tagged
from recurra.data.tokenize import Tokenizer
from recurra.errors import DataError, EmptyData, RowError, SettingsError, nearest
from recurra.features import FEATURES, Feature
from recurra.features.text import TextFeature
from recurra.heads import HEADS, OUTPUTS, Head, Output, SeveralHeads
from recurra.model.encode import encode_columns, row_place, usable_rows

__all__ = ["UNLABELLED", "Facts", "Plan", "Prepared", "Rows", "make_plan", "prepare"]

LEFT_OUT = -1
"""Part of a row that is not used."""
OPEN = 3
"""Part of a row that is still to be split."""
UNLABELLED = 4
"""Part of a row that is trained on without a target."""
INPUT, TARGET, PARTS = "input:", "target:", "parts"
"""Names in the store: of a feature's array (before its own name), of an encoded target (before its name), of the parts."""
TELL_SECONDS = 10.0
"""Time between two lines on the reading of a large table."""
VERSION = 6
"""Of what `prepare` writes; part of the cache key."""


@dataclass(frozen=True)
class Chunk:
    """Consecutive rows of one table.

    Attributes:
        frame: the rows.
        start: number of the first of them among all rows of the run.
        table: they come from.
        own: number of the first of them in that table.
        part: of the table, None where its rows are still to be split.
    """

    frame: pl.DataFrame
    start: int
    table: Table
    own: int
    part: Part | None

    @property
    def numbers(self) -> np.ndarray:
        """Numbers of the rows among all rows of the run."""
        return np.arange(self.start, self.start + len(self.frame))


class Rows:
    """The tables of a run end to end, with one numbering of their rows.

    Args:
        tables: each with the part its rows belong to, None where they are still to be split.
        show: called with a line now and then while rows are read.
    """

    def __init__(self, tables: Sequence[tuple[Table, Part | None]], show: Callable[[str], None] | None = None) -> None:
        self.tables = tables
        self._show = show

    @property
    def first(self) -> Table:
        """The table of the training rows."""
        return self.tables[0][0]

    def chunks(self, columns: Sequence[str], stage: str = "reading", *, dividing: Sequence[str] = ()) -> Iterator[Chunk]:
        """All rows, in order; where that takes long, what has been read is told under the name of the stage.

        Args:
            columns: of every table.
            stage: what the reading is for.
            dividing: columns besides, of the tables whose rows are still to be split.
        """
        start = 0
        told = time.monotonic()
        for table, part in self.tables:
            own = 0
            for frame in table.chunks(list(dict.fromkeys([*columns, *(dividing if part is None else ())]))):
                yield Chunk(frame, start + own, table, own, part)
                own += len(frame)
                if self._show is not None and time.monotonic() - told > TELL_SECONDS:
                    told = time.monotonic()
                    self._show(f"{stage}: {start + own:,} rows read")
            start += own

    def gather(self, rows: np.ndarray, columns: Sequence[str]) -> pl.DataFrame:
        """The given rows (ascending) of the given columns, in one pass over the tables."""
        return pl.concat(chunk.frame[inside - chunk.start] for chunk, inside in self._found(rows, columns))

    def places(self, rows: np.ndarray, column: str) -> list[str]:
        """Files and lines of the given rows (ascending); each costs reading its file up to there, so few at a time.

        Args:
            rows: numbers of the rows.
            column: any that all tables have.
        """
        found = self._found(rows, [column])
        return [chunk.table.place(int(row) - chunk.start + chunk.own) for chunk, inside in found for row in inside]

    def _found(self, rows: np.ndarray, columns: Sequence[str]) -> Iterator[tuple[Chunk, np.ndarray]]:
        """Each chunk with those of `rows` that stand in it."""
        for chunk in self.chunks(columns):
            yield chunk, rows[np.searchsorted(rows, chunk.start) : np.searchsorted(rows, chunk.start + len(chunk.frame))]


@dataclass(frozen=True)
class Target:
    """A column to predict.

    Attributes:
        name: of the column.
        task: what it makes.
        reason: why this task.
    """

    name: str
    task: Task
    reason: str


@dataclass(frozen=True)
class Plan:
    """What will be done, known from the head of the table.

    Attributes:
        settings: with task filled in.
        columns: all columns with their types and the reasons.
        targets: what is predicted.
        vocabularies: of a trained model, by the text column that begins with it.
    """

    settings: Settings
    columns: list[Column]
    targets: list[Target]
    vocabularies: Mapping[str, Tokenizer] = field(default_factory=dict)

    @property
    def task(self) -> Task:
        """What the targets make."""
        return self.targets[0].task if len(self.targets) == 1 else "several"

    @property
    def target_names(self) -> list[str]:
        """The columns that are predicted."""
        return [target.name for target in self.targets]

    @property
    def inputs(self) -> list[Column]:
        """The columns that become features."""
        return [column for column in self.columns if column.type != "ignore" and column.name not in self.target_names]


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


def make_plan(tables: Sequence[tuple[Table, Part | None]], settings: Settings) -> Plan:
    """Infer columns and task from the head of the first table.

    Raises:
        SettingsError: no target is named.
        MissingColumn: a named column is not in a table.
        DataError: the target is joined into an input, or no column is left to learn from.
    """
    table = tables[0][0]
    names = settings.several.targets or ([settings.target] if settings.target is not None else [])
    if not names:
        raise SettingsError(f"No target is named: say which column to predict with --target. Columns: {', '.join(table.columns)}.")
    if settings.head.task == "several" and len(names) < 2:
        raise SettingsError(
            f"The task several needs two targets or more, and {names[0]!r} is the only one: name another, or leave the task out."
        )
    named = [name for name in (*names, settings.data.group, settings.data.time) if name is not None]
    require_columns(table, [*named, *(settings.data.columns or []), *settings.data.types])
    for name, joined in settings.data.join.items():
        for column in names:
            if column in joined:
                raise DataError(f"The target {column!r} cannot be an input too: take it out of the joined column {name!r} (data.join).")
    columns = _input_columns(table, names, settings)
    targets: list[Target] = []
    tagged: Tagged | None = None
    for column in names:
        target, tokens = _target(table, column, settings, candidates=_candidates(columns))
        targets.append(target)
        tagged = tokens or tagged
    tags = [target for target in targets if target.task == "tag"]
    if len(tags) > 1:
        raise SettingsError(
            f"{' and '.join(repr(target.name) for target in tags)} are tags: of several targets one can be. Train a model for each of them, "
            "or set several.tasks."
        )
    if tags:
        settings, columns = _tag_plan(settings, columns, tagged, target=tags[0].name)
    elif len(targets) > 1 and settings.tag != TagSettings():
        raise SettingsError("Settings of tag have no effect where no target is tags: leave them out, or set several.tasks.")
    plan = Plan(settings, columns, targets)
    plan = replace(plan, settings=settings.model_copy(update={"head": settings.head.model_copy(update={"task": plan.task})}))
    if settings.semi_supervised.active and plan.task != "classify":
        raise SettingsError(
            f"semi_supervised learns one class a row, and {names[0]!r} makes the task {plan.task!r}: leave its settings out, or set head.task=classify."
        )
    for other, _ in tables[1:]:
        require_columns(other, [*names, *(column.name for column in plan.inputs)])
    return plan


def _input_columns(table: Table, targets: Sequence[str], settings: Settings) -> list[Column]:
    """The columns that are no targets."""
    for target in targets:
        if target in (settings.data.columns or []):
            raise DataError(f"The target {target!r} cannot be an input too: take it out of the columns.")
    return [column for column in infer_columns(table, target=targets[0], settings=settings.data) if column.name not in targets]


def _target(table: Table, name: str, settings: Settings, *, candidates: Sequence[str]) -> tuple[Target, Tagged | None]:
    """What a column makes, and the tokens that it tags where it does."""
    chosen = settings.several.tasks.get(name, "auto") if settings.several.targets else settings.head.task
    lists = table.head(1).schema[name] == pl.List(pl.String)
    may_be_tags = chosen == "tag" or (chosen == "auto" and lists)
    tagged = find_tagged(table, name, settings.tag, columns=candidates) if may_be_tags else None
    if chosen != "auto":
        return Target(name, cast("Task", chosen), "set"), tagged
    if tagged is not None:
        return Target(name, "tag", f"the target holds a tag for each token of {tagged.column!r}"), tagged
    return Target(name, *infer_task(table, name, settings.data)), None


def _candidates(columns: Sequence[Column]) -> list[str]:
    return [column.name for column in columns if column.type != "ignore" or column.reason != "not among the columns chosen"]


def _tag_plan(settings: Settings, columns: list[Column], tagged: Tagged | None, *, target: str) -> tuple[Settings, list[Column]]:
    """The settings with the defaults of tagging and the column of the tokens, and the columns as tagging reads them.

    Raises:
        DataError: no column has as many tokens as there are tags.
    """
    if tagged is None:
        names = ", ".join(repr(column.name) for column in columns)
        raise DataError(
            f"No column ({names}) has a token for every tag of {target!r}: each row's tags must be as many as its tokens. "
            "Name the column with tag.tokens, and rows that disagree are told by file and line."
        )
    task = "several" if settings.several.targets else "tag"
    defaults = {**TAG_DEFAULTS, "head.task": task}
    settings = load_settings(defaults, settings, {"head.task": task, "tag.tokens": tagged.column, "tag.cut": tagged.cut})
    settings = settings.model_copy(update={"tag": settings.tag.model_copy(update={"tokens": tagged.column, "cut": tagged.cut})})
    found = []
    for column in columns:
        if column.name == tagged.column:
            found.append(Column(column.name, "tokens", f"has a token for every tag; text is cut by {tagged.cut}"))
        elif column.name in tagged.others and column.name not in {*settings.data.types, *(settings.data.columns or [])}:
            found.append(Column(column.name, "ignore", "as long as the tags, as another tagging is; name it in data.columns to read it"))
        else:
            found.append(column)
    return settings, found


def prepare(
    tables: Sequence[tuple[Table, Part | None]], plan: Plan, *, cache: Path | None = None, show: Callable[[str], None] | None = None
) -> Prepared:
    """Split, fit and encode, or take all of it from the cache.

    Args:
        tables: the training table first (its part is None where rows are held out of it), then those of fixed parts.
        plan: of `make_plan`.
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
    parts = _assign(fixed, seen, rows, plan)
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


def _assign(fixed: np.ndarray, seen: dict[str, list[Any]], rows: Rows, plan: Plan) -> np.ndarray:
    settings = plan.settings
    given = {part for _, part in rows.tables[1:]}
    open_rows = np.flatnonzero(fixed == OPEN)
    if not len(open_rows):
        return fixed
    gathered = {role: pl.concat(seen[role]).gather(open_rows) if seen[role] else None for role in ("group", "time")}
    classes = pl.Series(np.concatenate(seen["targets"])[open_rows]) if seen["targets"] else None
    parts = fixed.copy()
    parts[open_rows] = assign_parts(
        len(open_rows),
        validation_share=0.0 if Part.VALIDATION in given else settings.data.validation_share,
        test_share=0.0 if Part.TEST in given else settings.data.test_share,
        stratify=classes,
        group=gathered["group"],
        time=gathered["time"],
        seed=settings.training.seed,
    )
    return parts


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
