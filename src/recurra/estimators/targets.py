"""What scikit-learn hands over as y, as a column of the table."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import polars as pl
from sklearn.utils import check_array, column_or_1d
from sklearn.utils.multiclass import check_classification_targets

from recurra.data.surrogates import without_surrogates
from recurra.estimators.inputs import is_missing

__all__ = ["Target", "class_target", "label_target", "label_texts", "number_target", "require_target"]


class Target(NamedTuple):
    """The target as a column of that table."""

    values: pl.Series
    task: Literal["classify", "labels", "regress"]


def require_target(y: Any) -> None:
    """Raise ValueError where `y`, or a value of it, is missing."""
    if y is None:
        raise ValueError("This estimator requires y to be passed, but the target y is None.")
    values = np.asarray(y, dtype=object) if not hasattr(y, "toarray") else np.empty(0)
    if values.ndim == 1:
        missing = [row for row, value in enumerate(values.tolist()) if is_missing(value)]
        if missing:
            raise ValueError(f"Input y contains NaN or None, first in row {missing[0]}: every row needs a target.")


def class_target(y: Any) -> tuple[np.ndarray, Target]:
    """Classes, and a target column of them.

    Raises:
        ValueError: they are no classes, or there is only one.
    """
    name, y = _name(y), column_or_1d(y, warn=True)
    check_classification_targets(y)
    classes, numbers = np.unique(y, return_inverse=True)
    if len(classes) < 2:
        raise ValueError(f"y holds one class only, {classes[:1].tolist()}: a classifier needs rows of two classes or more.")
    return classes, Target(_label_column(classes).gather(numbers).alias(name), "classify")


def number_target(y: Any) -> Target:
    """A target column of numbers.

    Raises:
        ValueError: there are no two of them, or one is missing or infinite.
    """
    require_target(y)
    values = column_or_1d(check_array(y, ensure_2d=False, dtype=np.float64, input_name="y"), warn=True)
    if len(values) < 2:
        raise ValueError("Found array with 1 sample(s): a minimum of 2 is required.")
    return Target(pl.Series(_name(y), values), "regress")


def _label_column(classes: np.ndarray) -> pl.Series:
    """The classes as the model's labels: in their own type where a label can have it, else as texts, else numbered."""
    if classes.dtype.kind in "bi" or (classes.dtype.kind == "u" and int(classes.max()) < 2**63):
        return pl.Series(classes.tolist(), dtype=pl.Boolean if classes.dtype.kind == "b" else pl.Int64)
    texts = [without_surrogates(str(value)) for value in classes.tolist()]
    if len({text.strip() for text in texts} - {""}) < len(texts):
        return pl.Series(range(len(texts)), dtype=pl.Int64)
    return pl.Series(texts, dtype=pl.String)


def label_texts(classes: np.ndarray) -> Sequence[str]:
    """How the model's head names each class."""
    texts: Sequence[str] = _label_column(classes).cast(pl.String).str.strip_chars().to_list()
    return texts


def label_target(matrix: Any, names: Iterable[Any]) -> tuple[np.ndarray, Target]:
    """Labels of an indicator matrix, and a target column of lists of them."""
    classes = np.asarray(list(names))
    dense = matrix.toarray() if hasattr(matrix, "toarray") else matrix
    rows = [[str(label) for label in classes[np.flatnonzero(row)]] for row in dense]
    return classes, Target(pl.Series("", rows, dtype=pl.List(pl.String)), "labels")


def _name(y: Any) -> str:
    """The name of a Series; empty where there is none."""
    name = getattr(y, "name", None)
    return name if isinstance(name, str) else ""
