"""What scikit-learn hands over as X, as a table of columns."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal, NamedTuple

import numpy as np
import polars as pl

from recurra.data.read import read
from recurra.data.surrogates import without_surrogates

__all__ = ["Inputs", "Kind", "column_types", "is_missing", "mixed_columns", "plain", "sequences"]

Kind = Literal["texts", "token lists", "numbers", "columns of several types"]


class Inputs(NamedTuple):
    """What scikit-learn handed over, as a table."""

    kind: Kind
    frame: pl.DataFrame


def sequences(X: Any, expected: Kind | None) -> Inputs | None:
    """Texts or token lists as a frame of one column; None where X is neither. `expected` decides where no row has anything in it.

    Raises:
        ValueError: X is one text.
        TypeError: some rows are texts or token lists, and others are not.
    """
    if isinstance(X, str):
        raise ValueError(f"X is one text, {X[:60]!r}: give a list of texts.")  # noqa: TRY004 - as scikit-learn does for one row
    if hasattr(X, "columns") or len(getattr(X, "shape", (0,))) != 1 or not hasattr(X, "__len__"):
        return None
    if not isinstance(X, (list, tuple)):
        X = X.to_list() if hasattr(X, "to_list") else X.tolist() if hasattr(X, "tolist") else X
    rows = [None if is_missing(row) else row for row in X]
    first: Any = next((row for row in rows if row is not None and not (_is_list(row) and not len(row))), None)
    nothing = first is None and bool(rows)
    if isinstance(first, str) or (nothing and expected == "texts"):
        wrong = next((i for i, row in enumerate(rows) if not (row is None or isinstance(row, str))), None)
        if wrong is not None:
            raise TypeError(f"X holds texts, but row {wrong} is of type {type(rows[wrong]).__name__}: every row must be a text or None.")
        texts = [None if row is None else without_surrogates(str(row)) for row in rows]
        return Inputs("texts", pl.DataFrame({"text": pl.Series(texts, dtype=pl.String)}))
    if (_is_list(first) and any(isinstance(token, str) for token in first)) or (nothing and expected == "token lists"):
        return Inputs("token lists", pl.DataFrame({"tokens": pl.Series(list(_token_rows(rows)), dtype=pl.List(pl.String))}))
    return None


def _token_rows(rows: Iterable[Any]) -> Iterable[list[str] | None]:
    for number, row in enumerate(rows):
        if row is not None and not (_is_list(row) and all(isinstance(token, str) for token in row)):
            raise TypeError(f"X holds token lists, but row {number} is no list of strings: {str(row)[:60]!r}.")
        yield None if row is None else [without_surrogates(str(token)) for token in row]


def _is_list(value: Any) -> bool:
    return isinstance(value, (list, tuple)) or (isinstance(value, np.ndarray) and value.ndim == 1)


def is_missing(value: Any) -> bool:
    """None, NaN, or pandas' NA."""
    return value is None or (isinstance(value, float) and np.isnan(value)) or type(value).__name__ == "NAType"


def mixed_columns(X: Any) -> pl.DataFrame | None:
    """A frame, or a two-dimensional array with texts in it, as a polars frame; None where X is neither.

    Raises:
        ValueError: several columns have one name.
        TypeError: a cell of an array is neither text nor a number.
    """
    if hasattr(X, "columns"):
        if not len(X) or not len(X.columns):
            return None
        names = [str(name) for name in (X.column_names if hasattr(X, "column_names") else X.columns)]
        if len(set(names)) < len(names):
            raise ValueError(f"X has several columns of one name: {', '.join(names)}. Rename them.")
        return pl.concat(list(read(X).chunks()))
    if len(getattr(X, "shape", ())) != 2 or getattr(X.dtype, "kind", "") not in "OUT":
        return None
    values = np.asarray(X, dtype=object)
    if not values.size or not any(isinstance(cell, str) for cell in values.flat):
        return None
    wrong = next((cell for cell in values.flat if not (is_missing(cell) or isinstance(cell, (str, bool, int, float, np.generic)))), None)
    if wrong is not None:
        raise TypeError(f"A cell of X must be a string or a number, not {type(wrong).__name__}.")
    columns = {f"x{i}": [None if is_missing(cell) else plain(cell) for cell in values[:, i]] for i in range(values.shape[1])}
    return pl.concat(list(read(columns).chunks()))


def column_types(inputs: Inputs) -> dict[str, str]:
    """Types of the columns, where they are not left to be inferred."""
    if inputs.kind == "texts":
        return {"text": "text"}
    if inputs.kind == "token lists":
        return {"tokens": "tokens"}
    numbers = [column for column in inputs.frame if column.dtype.is_numeric()]
    return {column.name: "ignore" if column.fill_nan(None).is_null().all() else "number" for column in numbers}


def plain(value: Any) -> Any:
    """A numpy scalar, as parameter grids hold them, as a Python value."""
    return value.item() if isinstance(value, np.generic) else value
