"""What will be done with tables, known from the head of the first: types of the columns, targets and the task they make."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import cast

import polars as pl

from recurra.config import Settings, TagSettings, load_settings
from recurra.config.tag import TAG_DEFAULTS
from recurra.data.columns import Column, Task, infer_columns, infer_task
from recurra.data.read import Table, require_columns
from recurra.data.split import Part
from recurra.data.tagged import Tagged, find_tagged
from recurra.data.tokenize import Tokenizer
from recurra.errors import DataError, SettingsError

__all__ = ["Plan", "Target", "make_plan"]


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
        raise SettingsError(
            f"No target is named: say which column to predict with --target, or learn a text itself with --task language. "
            f"Columns: {', '.join(table.columns)}."
        )
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
    """What a column makes, and the tokens that it tags where it does.

    Raises:
        DataError: a column of lists is to be one class a row.
    """
    chosen = settings.several.tasks.get(name, "auto") if settings.several.targets else settings.head.task
    kind = table.head(1).schema[name]
    if chosen == "classify" and isinstance(kind, pl.List):
        raise DataError(
            f"The target {name!r} holds lists, and the task classify needs one class a row: "
            "leave the task out, or set it to labels (several labels a row) or tag (a tag for every token)."
        )
    lists = kind == pl.List(pl.String)
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
