"""Columns of a table as one sparse matrix, for the linear baseline.

Text by TF-IDF of words and word pairs (or of 1 to 4 characters), token lists likewise, categories one-hot, numbers standardised.
All statistics come from the training rows. Not inside: the linear models themselves (`baselines`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import polars as pl

from recurra.config import ColumnType

__all__ = ["has_no_blanks", "linear_features"]

_Blocks = tuple[Any, Any]
"""Sparse matrices of the training and the test rows."""
_LONGEST_TEXT = 20_000
"""Characters of one text that are read: n-grams of a text of many megabytes would fill the memory."""
_MANY_CHARACTER_ROWS, _MANY_WORD_ROWS = 1_000, 50_000
"""Rows from which n-grams seen in one row only are left out; they hardly help and are most of the memory."""
_LONGEST_MEAN_WORD = 15
"""Characters between two blanks, on average: European languages have 5 to 9, German and Finnish with their compounds too."""
_MOST_DEVIATIONS = 10.0
"""Standardised numbers are cut here, so that one wild value does not rule the linear model."""


def linear_features(
    train: pl.DataFrame, test: pl.DataFrame, column_types: Mapping[str, ColumnType], *, character_level: bool = False
) -> _Blocks | None:
    """Sparse features of the training and the test rows, fitted on the training rows.

    Args:
        train: (N, columns) raw values; missing ones are null.
        test: the same columns of the test rows.
        column_types: type of each column to use; those of type "ignore", or that are in neither table, are passed over.
        character_level: TF-IDF over 1 to 4 characters of the text columns instead of words and word pairs.

    Returns:
        Two scipy matrices in compressed rows, (N, K) and (M, K); None where no column holds anything to learn from.
    """
    from scipy.sparse import hstack

    kinds = {name: kind for name, kind in column_types.items() if name in train.columns and name in test.columns}
    encode: dict[str, Callable[[pl.Series, pl.Series], _Blocks | None]] = {
        "tokens": _token_lists,
        "category": _categories,
        "number": _numbers,
    }
    found = [encode[kind](train[name], test[name]) for name, kind in kinds.items() if kind in encode]
    texts = [name for name, kind in kinds.items() if kind == "text"]
    if texts:
        # One bag of words for all text columns: a title's words mean what they mean in the description.
        found.append(_texts(_joined(train, texts), _joined(test, texts), character_level))
    blocks = [block for block in found if block is not None]
    if not blocks:
        return None
    fitted, other = (hstack([block[part] for block in blocks], format="csr") for part in (0, 1))
    return fitted, other


def has_no_blanks(frame: pl.DataFrame, column_types: Mapping[str, ColumnType]) -> bool:
    """Whether the text columns are written without blanks between the words (Chinese, Japanese, Thai), so that words cannot be split."""
    names = [name for name, kind in column_types.items() if kind == "text" and name in frame.columns]
    if not names:
        return False
    texts = _joined(frame.head(1_000), names)
    characters, words = (int(counts.sum() or 0) for counts in (texts.str.count_matches(r"\S"), texts.str.count_matches(r"\S+")))
    return characters > _LONGEST_MEAN_WORD * words


def _texts(train: pl.Series, test: pl.Series, character_level: bool) -> _Blocks | None:
    from sklearn.feature_extraction.text import TfidfVectorizer

    many = len(train) >= (_MANY_CHARACTER_ROWS if character_level else _MANY_WORD_ROWS)
    vectorizer = TfidfVectorizer(
        analyzer="char" if character_level else "word",
        ngram_range=(1, 4) if character_level else (1, 2),
        min_df=2 if many else 1,
        sublinear_tf=True,
        dtype=np.float32,
    )
    return _fit(vectorizer, train, test)


def _token_lists(train: pl.Series, test: pl.Series) -> _Blocks | None:
    from sklearn.feature_extraction.text import TfidfVectorizer

    vectorizer = TfidfVectorizer(
        tokenizer=_tokens, token_pattern=None, lowercase=False, ngram_range=(1, 2), sublinear_tf=True, dtype=np.float32
    )
    return _fit(vectorizer, (row or [] for row in train.to_list()), (row or [] for row in test.to_list()))


def _tokens(row: list[object]) -> list[str]:
    return [str(token) for token in row]


def _fit(vectorizer: Any, train: Iterable[Any], test: Iterable[Any]) -> _Blocks | None:
    try:
        fitted = vectorizer.fit_transform(train)
    except ValueError as error:
        if "vocabulary" in str(error) or "no terms remain" in str(error).lower():
            return None  # not a single term in the whole column
        raise
    return fitted, vectorizer.transform(test)


def _joined(frame: pl.DataFrame, names: list[str]) -> pl.Series:
    columns = [pl.col(name).cast(pl.String).str.slice(0, _LONGEST_TEXT) for name in names]
    return frame.select(pl.concat_str(columns, separator=" ", ignore_nulls=True).fill_null("").alias("text"))["text"]


def _categories(train: pl.Series, test: pl.Series) -> _Blocks | None:
    from sklearn.preprocessing import OneHotEncoder

    # Missing is a category of its own; one that the training rows do not have sets nothing.
    encoder = OneHotEncoder(handle_unknown="ignore", dtype=np.float32)
    values, other = (np.array([["" if value is None else str(value)] for value in column], dtype=object) for column in (train, test))
    return encoder.fit_transform(values), encoder.transform(other)


def _numbers(train: pl.Series, test: pl.Series) -> _Blocks | None:
    from scipy.sparse import csr_matrix

    # No number that means anything is larger, and squares beyond 1e308 are infinite.
    values, other = (np.clip(column.cast(pl.Float64, strict=False).to_numpy(), -1e100, 1e100) for column in (train, test))
    known = values[np.isfinite(values)]
    if not len(known):
        return None
    mean, deviation = known.mean(), known.std() or 1.0

    def scaled(column: np.ndarray) -> Any:
        missing = ~np.isfinite(column)
        standard = np.clip((np.where(missing, mean, column) - mean) / deviation, -_MOST_DEVIATIONS, _MOST_DEVIATIONS)
        return csr_matrix(np.stack([standard, missing], axis=1).astype(np.float32))

    return scaled(values), scaled(other)
