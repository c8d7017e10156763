"""Which column the tags of a target belong to, and how text is cut there: guesses from the first rows, by length.

Not inside: the types of all other columns (`columns`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import polars as pl

from recurra.config import TagSettings
from recurra.data.table import Table, require_columns
from recurra.data.words import Cut, as_tokens, detect
from recurra.errors import DataError

__all__ = ["Tagged", "find_tagged"]

_ROWS = 10_000
_AGREEMENT = 0.9
"""Share of rows from which on lists as long as the tags are no chance: rows that disagree are mistakes, told by file and line."""
_CUTS: tuple[Cut, ...] = ("whitespace", "word", "character")
_SINGLE = 1.2
"""Characters of a token, on average, up to which lists are lists of characters."""


class Tagged(NamedTuple):
    """The tokens that tags belong to.

    Attributes:
        column: that holds them.
        cut: how strings are cut there: those of the column, or where it holds lists, texts to predict.
        others: further columns of lists that are as long as the tags, such as another tagging.
    """

    column: str
    cut: Cut
    others: list[str]


def find_tagged(table: Table, target: str, settings: TagSettings, *, columns: Sequence[str] | None = None) -> Tagged | None:
    """The column that has a token for every tag of the target, in the first 10,000 rows.

    Of several columns of lists that have in nine rows of ten or more, the one with most different tokens; a column of text, which has
    in every row, only where there is no such list.

    Args:
        table: the rows.
        target: column of tags, lists of strings or strings that are cut at blanks.
        settings: `tokens` and `cut` replace what is inferred.
        columns: those that may be inputs; all when not given.

    Returns:
        None where there is no such column.

    Raises:
        MissingColumn: `settings.tokens` is not in the table.
        DataError: a column is named whose tokens never are as many as the tags.
    """
    if settings.tokens is not None:
        require_columns(table, [settings.tokens])
    head = table.head(_ROWS)
    head = head.filter(head[target].is_not_null())
    tags = _lengths(head[target], "whitespace")
    named = [settings.tokens] if settings.tokens is not None else [name for name in columns or table.columns if name != target]
    lists = [name for name in named if head.schema[name] == pl.List(pl.String)]
    if settings.tokens is None:
        lists = [name for name in lists if int(tags.sum()) > 0 and (_lengths(head[name], "whitespace") == tags).mean() >= _AGREEMENT]  # type: ignore[operator]
    if lists:
        chosen = max(lists, key=lambda name: head[name].explode(empty_as_null=False).n_unique())
        cut = _cut_of_lists(head[chosen]) if settings.cut == "auto" else settings.cut
        return Tagged(chosen, cut, [name for name in lists if name != chosen])
    cuts = _CUTS if settings.cut == "auto" else (settings.cut,)
    texts = [name for name in named if head.schema[name] == pl.String]
    found = [(name, cut) for name in texts for cut in cuts if (_lengths(head[name], cut) == tags).all() and int(tags.sum()) > 0]
    if found:
        return Tagged(*found[0], [])
    if settings.tokens is not None:
        return _closest(head, target, settings.tokens, cuts)
    return None


def _closest(head: pl.DataFrame, target: str, column: str, cuts: Sequence[Cut]) -> Tagged:
    """The named column, cut so that most rows have as many tokens as tags; rows that have not are told later, by file and line."""
    if head.schema[column] != pl.String:
        raise DataError(f"Column {column!r} holds {head.schema[column]}: tags belong to lists of tokens, or to text.")
    tags = _lengths(head[target], "whitespace")
    fitting = {cut: int((_lengths(head[column], cut) == tags).sum()) for cut in cuts}
    best = max(fitting, key=fitting.__getitem__)
    if not fitting[best]:
        raise DataError(
            f"In none of the first {len(head):,} rows column {column!r} has as many tokens as {target!r} has tags, cut by {', '.join(cuts)}. "
            "Check the columns, or set tag.cut."
        )
    return Tagged(column, best, [])


def _lengths(values: pl.Series, cut: Cut) -> pl.Series:
    return as_tokens(values, cut).list.len().fill_null(0)


def _cut_of_lists(values: pl.Series) -> Cut:
    flat = values.explode(empty_as_null=False).drop_nulls()
    single = float(flat.str.len_chars().mean() or 0.0) <= _SINGLE  # type: ignore[arg-type]
    return "character" if single and detect([flat])[0] == "character" else "word"
