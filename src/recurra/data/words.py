"""Texts cut into words, whole columns at a time: normalization, cutting, repair of broken Unicode, choice by script.

All of it is done by polars' string functions (one core cuts a few million words a second); only jieba works text by
text. Numbering the words is in `tokenize.py`.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl

from recurra.config import TextSettings
from recurra.data.surrogates import without_surrogates
from recurra.errors import MissingDependency

__all__ = [
    "WORD_START",
    "Kind",
    "Texts",
    "TokenRows",
    "Words",
    "Cut",
    "as_tokens",
    "blocks",
    "cut",
    "cut_tokens",
    "detect",
    "jieba_module",
    "listed",
    "normalize",
    "places",
    "series",
]

Texts = Sequence[str | None] | pl.Series
"""A chunk of texts; a missing text counts as empty."""
TokenRows = Sequence[Sequence[str | None] | None] | pl.Series
"""A chunk of rows that are lists of tokens already; a missing row counts as empty, a missing token as unknown."""
Kind = Literal["word", "character", "bpe", "whitespace", "jieba", "tokens"]

Cut = Literal["whitespace", "word", "character"]
"""How `cut_tokens` cuts: at blanks; runs of letters and every other sign alone; every character that is no blank."""
_CUTS = {"whitespace": r"\S+", "word": r"\w+|[^\w\s]", "character": r"\S"}

WORD_START = "▁"
"""Stands for the blank before a word in byte-pair pieces."""
_PATTERNS = {
    "word": r"\w+|[^\w\s]",
    "whitespace": r"\S+",
    "bpe": rf"{WORD_START}?\w+|{WORD_START}?[^\w{WORD_START}]",
}
_LONGEST = 100
"""Characters of a word that byte-pair merges work on; a longer one is cut, so that no input makes them slow."""
_BOUNDED = rf"{WORD_START}?\w{{1,{_LONGEST}}}|{WORD_START}?[^\w{WORD_START}]"
_WITHOUT_BLANKS = r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Hangul}\p{Thai}]"
_BLOCK = 4_000_000
"""Bytes of text cut at a time: bounds the memory of the cut words, which is about ten times as much."""


class Words(NamedTuple):
    """The words of a chunk of texts, each text read to its largest length.

    Attributes:
        flat: the words of all texts, end to end.
        counts: (N,) words of each text before it was cut off.
    """

    flat: pl.Series
    counts: npt.NDArray[np.int64]


def series(texts: Texts) -> pl.Series:
    """A chunk as a column of strings without missing ones. Lone surrogates become U+FFFD."""
    if isinstance(texts, pl.Series):
        return texts.cast(pl.String).fill_null("")
    try:
        return pl.Series(texts, dtype=pl.String).fill_null("")
    except UnicodeEncodeError:
        return pl.Series([without_surrogates(text or "") for text in texts], dtype=pl.String)


def blocks(chunks: Iterable[pl.Series]) -> Iterator[pl.Series]:
    """The same texts in pieces of bounded size; a longer text is a piece of its own."""
    for chunk in chunks:
        ends = chunk.str.len_bytes().cast(pl.Int64).cum_sum().to_numpy()
        start = 0
        while start < len(chunk):
            before = int(ends[start - 1]) if start else 0
            stop = max(start + 1, int(np.searchsorted(ends, before + _BLOCK, side="right")))
            yield chunk[start:stop]
            start = stop


def normalize(texts: pl.Series, settings: TextSettings) -> pl.Series:
    """Unicode form, accents and case as the settings say."""
    form = settings.normalization
    if settings.strip_accents:
        texts = texts.str.normalize("NFKD" if form == "nfkc" else "NFD").str.replace_all(r"\p{Mn}", "").str.normalize("NFC")
    elif form != "none":
        texts = texts.str.normalize("NFKC" if form == "nfkc" else "NFC")
    return texts.str.to_lowercase() if settings.lowercase else texts


def cut(texts: pl.Series, kind: Kind, settings: TextSettings) -> Words:
    """Texts normalized and cut into words (of byte-pair models: what their pieces never cross)."""
    texts = normalize(texts, settings)
    if kind == "jieba":
        jieba = jieba_module()
        lists = pl.Series([[word for word in jieba.lcut(text) if not word.isspace()] for text in texts], dtype=pl.List(pl.String))
    else:
        if kind == "bpe":
            texts = (pl.Series([WORD_START]) + texts).str.replace_all(rf"[\s{WORD_START}]+", WORD_START)
        lists = texts.str.extract_all(_PATTERNS[kind])
        if kind == "bpe" and (lists.explode().str.len_chars().max() or 0) > _LONGEST + 1:  # type: ignore[operator]
            lists = texts.str.extract_all(_BOUNDED)  # ten times slower than the pattern without a bound
    return _words(lists, settings)


def listed(rows: TokenRows, settings: TextSettings) -> Words:
    """Rows that are lists of tokens already; every token is normalized by itself."""
    kind = pl.List(pl.String)
    if isinstance(rows, pl.Series):
        lists = rows.cast(kind)
    else:
        try:
            lists = pl.Series(rows, dtype=kind)
        except UnicodeEncodeError:
            lists = pl.Series(without_surrogates(rows), dtype=kind)
    words = _words(lists, settings)
    return Words(normalize(words.flat.fill_null(""), settings), words.counts)


def cut_tokens(texts: pl.Series, kind: Cut) -> pl.Series:
    """Lists of the tokens of texts as they stand there, nothing normalized; `places` finds them again. A missing text stays missing."""
    return texts.cast(pl.String).str.extract_all(_CUTS[kind])


def as_tokens(values: pl.Series, kind: Cut = "whitespace") -> pl.Series:
    """A column as lists of tokens: lists as they are, strings cut."""
    if isinstance(values.dtype, (pl.List, pl.Array)):
        return values.cast(pl.List(pl.String))
    return cut_tokens(values, kind)


def places(text: str, tokens: Iterable[str]) -> list[tuple[int, int]]:
    """Where the tokens of `cut_tokens` stand in their text: `text[start:end]` is the token.

    Between two tokens there are only blanks, which no token holds, so the next place where the token's letters stand is its own.
    """
    found, position = [], 0
    for token in tokens:
        start = text.index(token, position)
        position = start + len(token)
        found.append((start, position))
    return found


def _words(lists: pl.Series, settings: TextSettings) -> Words:
    counts = lists.list.len().fill_null(0).to_numpy().astype(np.int64)
    flat = lists.drop_nulls().list.head(settings.max_length).explode(empty_as_null=False)
    return Words(flat, counts)


def detect(chunks: Sequence[pl.Series]) -> tuple[Kind, str]:
    """Words or characters by the script of most letters, and the reason in words."""
    letters = sum(int(chunk.str.count_matches(r"\p{L}").sum()) for chunk in chunks)
    without = sum(int(chunk.str.count_matches(_WITHOUT_BLANKS).sum()) for chunk in chunks)
    share = min(without / letters, 1.0) if letters else 0.0
    kind: Kind = "character" if share > 0.5 else "word"
    return kind, f"{kind}: {share:.0%} of the letters are Chinese, Japanese, Korean or Thai"


def jieba_module() -> Any:
    """The optional package jieba, told to be quiet.

    Raises:
        MissingDependency: it is not installed.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the system's setuptools, whose old pkg_resources it looks for first
            import jieba
    except ImportError as error:
        raise MissingDependency(
            "The tokenizer jieba is not installed. Run: pip install 'recurra[chinese]', or set text.tokenizer=character."
        ) from error
    jieba.setLogLevel(60)  # it reports the building of its dictionary on standard error
    return jieba
