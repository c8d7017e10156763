"""What columns are: text, tokens, category, number, or nothing to learn from; and which task a target sets.

Both are guesses from the first 10,000 rows, each with a reason that is shown, and both can be set by the user.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from recurra.config import ColumnType, DataSettings
from recurra.data.table import Table, require_columns
from recurra.errors import DataError, EmptyData

if TYPE_CHECKING:
    import polars as pl

__all__ = ["LARGEST_NUMBER", "Column", "Task", "as_names", "infer_columns", "infer_task", "missing_words", "parse_numbers", "split_labels"]

Task = Literal["classify", "labels", "regress", "tag", "several"]

_ROWS = 10_000
_CATEGORIES = 1_000  # most distinct values of a category
_CATEGORY_WORDS = 4.0  # most words of a category's value, on average
_CLASSES_FROM_INTEGERS = 20
_IDENTIFIER_NAMES = r"(?i)^(.*[_\s.-])?(id|ids|idx|index|uid|uuid|guid|key|row|nr|no)$|[a-z]I[dD]$|^column_1$"
_DATE = r"^\d{4}-\d{2}-\d{2}([T ]\d{2}:\d{2}(:\d{2}(\.\d+)?)?)?\s?(Z|UTC|[+-]\d{2}:?\d{2})?$"
LARGEST_NUMBER = 1e30
"""In absolute value; the squares of larger ones leave the range of floating point."""
missing_words = frozenset({"nan", "na", "n/a", "null", "none", "-", "?"})
"""What people write for a number they do not have, in lower case."""


@dataclass(frozen=True)
class Column:
    """An input column.

    Attributes:
        name: its name in the table.
        type: what it is read as.
        reason: why, for the person who sees the list.
    """

    name: str
    type: ColumnType
    reason: str


def parse_numbers(values: pl.Series) -> tuple[pl.Series, pl.Series]:
    """Numbers of a column, and where there is something that is not one.

    Args:
        values: numbers, booleans, or text. Blank text and words such as `NaN`, `n/a` and `null` are missing numbers.

    Returns:
        Float64 with null where missing, and a Boolean that is true where a value is there and is no number up to `LARGEST_NUMBER`.
    """
    import polars as pl

    if values.dtype == pl.String:
        text = values.str.strip_chars()
        present = (text != "") & ~text.str.to_lowercase().is_in(list(missing_words))
        numbers = text.set(~present, None).cast(pl.Float64, strict=False)
    elif values.dtype.is_numeric() or values.dtype in (pl.Boolean, pl.Null):
        numbers = values.cast(pl.Float64).fill_nan(None)
        present = numbers.is_not_null()
    else:
        numbers, present = pl.Series(values.name, [None] * len(values), pl.Float64), values.is_not_null()
    numbers = numbers.set(~(numbers.abs() <= LARGEST_NUMBER), None)
    return numbers, present.fill_null(value=False) & numbers.is_null()


def as_names(values: pl.Series) -> pl.Series:
    """Cells as names: text without blanks around it, whole numbers without a point; null where there is nothing.

    Raises:
        DataError: they are lists or records.
    """
    import polars as pl

    if values.dtype.is_nested() or values.dtype == pl.Object:
        raise DataError(f"Column {values.name!r} holds {values.dtype}, and a name is one value: text or a whole number.")
    if values.dtype.is_float():
        whole = values.is_finite() & (values == values.floor()) & (values.abs() < 2.0**53)
        texts = values.fill_nan(None).cast(pl.String)
        return pl.select(pl.when(whole).then(values.cast(pl.Int64, strict=False).cast(pl.String)).otherwise(texts)).to_series()
    text = values.cast(pl.String).str.strip_chars()
    return text.str.replace(r"^(-?\d+)\.0+$", "$1").replace("", None)


def split_labels(values: pl.Series, separator: str) -> pl.Series:
    """Lists of labels of a target: those of a list, of a list of strings that is written as JSON, or of text cut at the separator.

    Blanks around a label are removed, and so are empty and missing labels.

    Raises:
        DataError: the values are records, or lists of lists or of records, which are no labels.
    """
    import polars as pl

    if values.dtype.is_nested():
        _require_label_lists(values)
        lists = values.cast(pl.List(pl.String))
    else:
        texts = values.cast(pl.String)
        lists = texts.str.split(separator)
        written = json_lists(texts)
        if any(row is not None for row in written):
            merged = [cut if row is None else row for row, cut in zip(written, lists.to_list(), strict=True)]
            lists = pl.Series(values.name, merged, dtype=pl.List(pl.String))
    return lists.list.eval(pl.element().str.strip_chars().replace("", None).drop_nulls())


def json_lists(texts: pl.Series) -> list[list[str] | None]:
    """The lists of strings that texts hold as JSON, as predictions in a CSV file do; None for any other text."""
    return [None if text is None or not text.lstrip().startswith("[") else _json_list(text) for text in texts]


def _json_list(text: str) -> list[str] | None:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, list) and all(isinstance(item, str) for item in value) else None


def infer_columns(table: Table, *, target: str | None, settings: DataSettings) -> list[Column]:
    """The type of every column but the target, in the table's order.

    Args:
        table: the rows; the first 10,000 decide.
        target: the column to predict, left out; None where there is none.
        settings: `types` replaces what is inferred, `columns` chooses, `join`, `group` and `time` set columns aside.

    Raises:
        MissingColumn: a named column is not in the table.
        DataError: no column is left to learn from.
    """
    named = [*settings.types, *(settings.columns or []), *filter(None, [target, settings.group, settings.time])]
    require_columns(table, named)
    if target is not None and target in (settings.columns or []):
        raise DataError(f"The target {target!r} cannot be an input too: take it out of the columns.")
    head = table.head(_ROWS)
    set_aside = _set_aside(table, settings)
    columns = []
    for name in table.columns:
        if name == target:
            continue
        if name in settings.types:
            columns.append(Column(name, settings.types[name], "set by you"))
        elif name in set_aside:
            columns.append(Column(name, "ignore", set_aside[name]))
        else:
            columns.append(Column(name, *_infer(head[name])))
    return _with_inputs(columns, head, table, settings)


def infer_task(table: Table, target: str, settings: DataSettings) -> tuple[Task, str]:
    """The task a target sets, and why.

    Lists, or text that repeats the same labels in different combinations: labels. Numbers with decimals, or more than 20
    different integers: regress. All other: classify.

    Raises:
        MissingColumn: the target is not in the table.
        EmptyData: the target is missing in every row.
        DataError: there is only one class, nearly every row has a label of its own, or the target holds records.
    """
    import polars as pl

    require_columns(table, [target])
    values = _present(table, target)
    if values.dtype.is_nested():
        _require_label_lists(values)
        return "labels", "the target holds lists"
    if values.dtype == pl.String and all(row is not None for row in json_lists(values)):
        return "labels", "the target holds lists, written as JSON"
    distinct = values.n_unique()
    numbers, wrong = parse_numbers(values)
    if not values.dtype.is_temporal() and not wrong.any() and numbers.count() and str(values.dtype) != "Boolean":
        different = numbers.n_unique() - int(numbers.null_count() > 0)
        if (numbers.drop_nulls() % 1 != 0).any():
            return "regress", "the target holds numbers with decimals"
        if different > _CLASSES_FROM_INTEGERS:
            return "regress", f"the target holds {different:,} different integers (more than {_CLASSES_FROM_INTEGERS})"
    separator = settings.label_separator
    if _holds_label_sets(values, separator):
        return "labels", f"the target holds several labels separated by {separator!r}"
    _check_classes(table, target, values, distinct)
    among = f" in the first {len(values):,} rows" if len(values) >= _ROWS else ""
    return "classify", f"the target holds {distinct:,} different values{among}"


def _set_aside(table: Table, settings: DataSettings) -> dict[str, str]:
    """Columns that are no inputs whatever they hold, with the reason; naming them in `columns` brings them back."""
    reasons = {part: f"part of the text column {name!r}" for name, parts in table.join.items() for part in parts if part not in table.join}
    if settings.group:
        reasons[settings.group] = "keeps rows together in the split"
    if settings.time:
        reasons[settings.time] = "orders rows in time for the split"
    if settings.columns is not None:
        reasons = {name: reason for name, reason in reasons.items() if name not in settings.columns}
        reasons |= {name: "not among the columns chosen" for name in table.columns if name not in settings.columns}
    return reasons


def _infer(values: pl.Series) -> tuple[ColumnType, str]:
    """Type and reason of one column from its first rows."""
    import polars as pl

    dtype = values.dtype
    present = values.drop_nulls()
    if dtype == pl.String:
        present = present.filter(present.str.strip_chars() != "")
    if not len(present):
        return "ignore", "empty"
    if isinstance(dtype, pl.List):
        if dtype.inner == pl.String:
            return "tokens", "lists of strings"
        return "ignore", f"lists of {dtype.inner}, which are no input"
    if dtype.is_nested() or dtype in (pl.Binary, pl.Object):
        return "ignore", f"{dtype}, which is no input"
    if dtype.is_temporal():
        return "ignore", "dates or times; they can order the split (time)"
    distinct = present.n_unique()
    if distinct == 1 and len(values) > 1 and len(present) == len(values):
        return "ignore", "the same value in every row"
    if dtype == pl.Boolean or dtype in (pl.Categorical, pl.Enum):
        return "category", f"{distinct:,} different values"
    if dtype != pl.String:
        return _infer_number(present, distinct)
    numbers, wrong = parse_numbers(present)
    return _infer_number(numbers.drop_nulls(), distinct) if not wrong.any() and numbers.count() else _infer_string(present, distinct)


def _infer_number(numbers: pl.Series, distinct: int) -> tuple[ColumnType, str]:
    import polars as pl

    whole = not (numbers % 1 != 0).any()
    if whole and distinct == len(numbers) and distinct > 1:
        steps = numbers.cast(pl.Float64).diff().drop_nulls()
        named_so = pl.Series([numbers.name]).str.contains(_IDENTIFIER_NAMES).item()
        if named_so or (steps == 1).all() or len(numbers) >= 1_000:
            return "ignore", "whole numbers that are all different, as identifiers are"
    return "number", "whole numbers" if whole else "numbers"


def _infer_string(present: pl.Series, distinct: int) -> tuple[ColumnType, str]:
    if present.head(1_000).str.contains(_DATE).all():
        return "ignore", "dates or times; they can order the split (time)"
    words = float(present.str.count_matches(r"\S+").mean() or 0.0)  # type: ignore[arg-type]
    longest = int(present.str.len_chars().max() or 0)  # type: ignore[arg-type]
    few = distinct <= min(_CATEGORIES, len(present) // 2 if len(present) < 100 else len(present) // 10)
    if few and words <= _CATEGORY_WORDS and longest <= 100:
        return "category", f"{distinct:,} different short values in {len(present):,} rows"
    if distinct == len(present) > 1 and _like_identifiers(present):
        return "ignore", "single tokens with digits that are all different, as identifiers are"
    return "text", f"{words:.0f} words on average, {distinct:,} different in {len(present):,} rows"


def _like_identifiers(present: pl.Series) -> bool:
    """Single tokens, most with a digit: ticket numbers, hashes, numbered e-mail addresses; not words, names or web addresses."""
    tokens = present.str.contains(r"^[\w@#.:+-]{1,64}$").all() and not present.str.contains(r"[^\x00-\x7f]").any()
    return bool(tokens) and float(present.str.contains(r"\d").mean() or 0.0) > 0.5  # type: ignore[arg-type]


def _with_inputs(columns: list[Column], head: pl.DataFrame, table: Table, settings: DataSettings) -> list[Column]:
    """`columns` with a sequence among them where there can be one, because the network reads sequences.

    Without one, the longest inferred category is read as text, and where there is no input at all, what looks like identifiers.
    """
    import polars as pl

    if any(column.type in {"text", "tokens"} for column in columns):
        return columns
    inferred = [c for c in columns if c.name not in settings.types and head.schema[c.name] == pl.String]
    candidates = [c for c in inferred if c.type == "category"]
    if not candidates and all(column.type == "ignore" for column in columns):
        candidates = [c for c in inferred if c.reason.startswith("single tokens")]
    if candidates:
        longest = max(candidates, key=lambda column: float(head[column.name].str.len_chars().mean() or 0.0))  # type: ignore[arg-type]
        kept = Column(longest.name, "text", f"{head[longest.name].n_unique():,} different values, read as text because no other column is")
        return [kept if column is longest else column for column in columns]
    if any(column.type != "ignore" for column in columns):
        return columns
    found = "; ".join(f"{column.name}: {column.reason}" for column in columns) or "there is no column besides the target"
    raise DataError(
        f"No column of {table.description} is left to learn from ({found}). "
        "Choose one and its type, for example types={'title': 'text'} (--type title=text)."
    )


def _present(table: Table, target: str) -> pl.Series:
    """The target of the first rows where it is there, reading on until there are some."""
    values = _drop_missing(table.head(_ROWS)[target])
    if not len(values):
        for chunk in table.chunks([target]):
            values = _drop_missing(chunk[target])
            if len(values):
                break
    if not len(values):
        raise EmptyData(f"The target {target!r} is missing in every row of {table.description}.")
    return values


def _drop_missing(values: pl.Series) -> pl.Series:
    import polars as pl

    values = values.drop_nulls()
    return values.filter(values.str.strip_chars() != "") if values.dtype == pl.String else values


def _holds_label_sets(values: pl.Series, separator: str) -> bool:
    """Whether strings look like combinations of repeated labels, and not like names with the separator in them.

    Combinations reuse their labels, so that there are fewer labels than strings, or labels that also stand alone.
    """
    import polars as pl

    if values.dtype != pl.String or not separator:
        return False
    several = values.filter(values.str.contains(separator, literal=True)).unique()
    if not len(several):
        return False
    labels = split_labels(several, separator).explode().drop_nulls().unique()
    alone = values.filter(~values.str.contains(separator, literal=True)).unique().str.strip_chars()
    all_labels = pl.concat([labels, alone]).n_unique()
    short = float(labels.str.count_matches(r"\S+").mean() or 0.0) <= _CATEGORY_WORDS  # type: ignore[arg-type]
    reused = labels.is_in(alone.to_list()).mean() or 0.0
    return short and (all_labels < values.n_unique() or float(reused) > 0.5)  # type: ignore[arg-type]


def _require_label_lists(values: pl.Series) -> None:
    import polars as pl

    inner = values.dtype.inner if isinstance(values.dtype, (pl.List, pl.Array)) else values.dtype
    if inner.is_nested():
        example = values.drop_nulls().head(1).to_list()
        raise DataError(
            f"The target {values.name!r} holds {values.dtype}{f' (such as {str(example[0])[:60]})' if example else ''}, which is no label: "
            "a target is one value a row (text, number, true or false) or a list of those. "
            "Make the wanted field a column of its own and choose that as the target."
        )


def _check_classes(table: Table, target: str, values: pl.Series, distinct: int) -> None:
    if distinct == 1 and not _second_class(table, target, values[0]):
        raise DataError(
            f"The target {target!r} holds only one class, {str(values[0])!r}, in {table.description}: there is nothing to tell apart. "
            "Choose another target, or add rows of other classes."
        )
    if len(values) >= 50 and distinct > 0.9 * len(values):
        examples = ", ".join(repr(str(value)[:30]) for value in values.head(3))
        raise DataError(
            f"The target {target!r} has {distinct:,} different values in {len(values):,} rows ({examples}, ...): "
            "nearly every row would be a class of its own. Choose a target whose values repeat."
        )


def _second_class(table: Table, target: str, first: object) -> bool:
    """Whether another class follows after the first rows, as in a file sorted by class."""
    return any((_drop_missing(chunk[target]) != first).any() for chunk in table.chunks([target]))
