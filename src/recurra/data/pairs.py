"""Pairs of texts in the rows of a table: which column is read, which rows can be used, and both as numbered tokens of one vocabulary."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import polars as pl

from recurra.config import DataSettings, TextSettings
from recurra.data.codec import LINE_END, TextCodec
from recurra.data.columns import infer_columns
from recurra.data.store import Ragged, offsets_of
from recurra.data.table import Table, require_columns
from recurra.errors import DataError

__all__ = ["blank", "encode_texts", "find_source", "fit_codec"]

ROWS = 10_000
"""Rows whose texts are joined into one piece for the vocabulary."""


def find_source(table: Table, target: str, named: str | None) -> tuple[str, str]:
    """The column of the text that is read, and why it is that one.

    Args:
        table: the training table.
        target: the column of the text that is written.
        named: by the user.

    Raises:
        MissingColumn: a named column is not there.
        DataError: source and target are the same, or no column or several could be the source.
    """
    require_columns(table, [target, *([named] if named is not None else [])])
    if named == target:
        raise DataError(f"{target!r} is named as the source and as the target: a text is written from another one, name two columns.")
    if named is not None:
        return named, "set"
    strings = [name for name, dtype in table.schema.items() if dtype == pl.String and name != target]
    if len(strings) == 1:
        return strings[0], "the only other column of strings"
    columns = infer_columns(table, target=target, settings=DataSettings()) if strings else []
    texts = [column.name for column in columns if column.type == "text"]
    if len(texts) == 1:
        return texts[0], "the only other column of text"
    what = f"{', '.join(map(repr, texts))} all hold text" if texts else "no other column holds text"
    raise DataError(f"Which column is read to write {target!r} cannot be told: {what}. Name it with --source (translate.source).")


def blank(texts: pl.Series) -> pl.Series:
    """True where there is no text: missing, or nothing but white space."""
    return texts.is_null() | (texts.cast(pl.String).str.strip_chars() == "").fill_null(value=False)


def fit_codec(texts: Iterable[pl.Series], settings: TextSettings) -> TextCodec:
    """One vocabulary of sources and targets.

    Raises:
        EmptyData: there is no text.
        SettingsError: the tokenizer cannot write text.
    """

    def pieces() -> Iterator[str]:
        for series in texts:
            present = series.cast(pl.String).drop_nulls()
            for start in range(0, len(present), ROWS):
                yield "".join(text + LINE_END for text in present[start : start + ROWS])

    return TextCodec.fit(pieces(), settings)


def encode_texts(codec: TextCodec, texts: pl.Series, longest: int) -> Ragged:
    """Numbered tokens; what is longer than `longest` tokens is cut there, and counted in `truncated`."""
    # Line ends and blanks around a text are the file's, not the text's.
    whole = codec.encode_rows(texts.cast(pl.String).str.strip_chars())
    lengths = whole.lengths
    cut = int((lengths > longest).sum())
    if not cut:
        return whole
    kept = np.arange(len(whole.values)) - np.repeat(whole.offsets[:-1], lengths) < longest
    return Ragged(whole.values[kept], offsets_of(np.minimum(lengths, longest)), cut)
