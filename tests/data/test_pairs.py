"""Pairs of texts: which column is read, and what their tokens are."""

from __future__ import annotations

import polars as pl
import pytest

from recurra.config import TextSettings
from recurra.data.pairs import blank, encode_texts, find_source, fit_codec
from recurra.data.read import read
from recurra.errors import DataError, EmptyData, MissingColumn

SENTENCES = [f"A long enough sentence number {number} about some {word}." for number, word in enumerate(["cats", "dogs", "birds"] * 5)]
KINDS = ["bpe", "word", "character", "whitespace"]


def table(**columns: list[object]) -> object:
    return read(pl.DataFrame(columns))


def test_the_source_is_the_one_other_column_of_text() -> None:
    both = table(en=SENTENCES, de=SENTENCES[::-1])
    assert find_source(both, "de", None)[0] == "en"
    assert find_source(both, "de", "en") == ("en", "set")
    numbers = table(en=SENTENCES, de=SENTENCES[::-1], kind=["a", "b", "c"] * 5, length=list(range(15)))
    assert find_source(numbers, "de", None)[0] == "en"


def test_a_source_that_cannot_be_told_is_asked_for() -> None:
    with pytest.raises(DataError, match="--source"):
        find_source(table(en=SENTENCES, fr=SENTENCES, de=SENTENCES), "de", None)
    with pytest.raises(DataError, match="no other column holds text"):
        find_source(table(de=SENTENCES, number=list(range(15))), "de", None)
    with pytest.raises(DataError, match="as the source and as the target"):
        find_source(table(en=SENTENCES, de=SENTENCES), "de", "de")
    with pytest.raises(MissingColumn, match="eng"):
        find_source(table(en=SENTENCES, de=SENTENCES), "de", "eng")


@pytest.mark.parametrize("kind", KINDS)
def test_tokens_give_the_text_back(kind: str) -> None:
    texts = pl.Series([*SENTENCES, "Zwei Zeilen\nin einem Text."])
    codec = fit_codec([texts], TextSettings(tokenizer=kind, vocabulary_size=400, min_frequency=1, lowercase=False))
    encoded = encode_texts(codec, texts, 1_000)
    assert [codec.decode(encoded[row]) for row in range(len(texts))] == texts.to_list()
    assert [len(codec.parts(text)) for text in texts] == encoded.lengths.tolist()


@pytest.mark.parametrize("kind", KINDS)
def test_rows_are_encoded_each_for_itself(kind: str) -> None:
    texts = pl.Series(["one two", None, "", "  ", "two one"])
    codec = fit_codec([texts], TextSettings(tokenizer=kind, vocabulary_size=300, min_frequency=1))
    encoded = encode_texts(codec, texts, 100)
    assert encoded.lengths[1:4].tolist() == [0, 0, 0]
    for row in (0, 4):
        assert encoded[row].tolist() == encode_texts(codec, texts[row : row + 1], 100)[0].tolist()


def test_long_texts_are_cut_and_counted() -> None:
    texts = pl.Series(["a b c d e", "a b", "b " * 10_000])
    codec = fit_codec([texts], TextSettings(tokenizer="word", min_frequency=1))
    whole, cut = encode_texts(codec, texts, 20_000), encode_texts(codec, texts, 3)
    assert cut.lengths.tolist() == [3, 2, 3]
    assert cut.truncated == 2
    assert all(cut[row].tolist() == whole[row][:3].tolist() for row in range(3))


def test_blank_is_what_has_no_text() -> None:
    assert blank(pl.Series(["a", "", " \t", None])).to_list() == [False, True, True, True]


def test_no_text_at_all_is_an_error() -> None:
    with pytest.raises(EmptyData):
        fit_codec([pl.Series([None, None], dtype=pl.String)], TextSettings())
