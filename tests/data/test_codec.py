"""Text to tokens and back, for models that write."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recurra.config import load_settings
from recurra.data.codec import TextCodec
from recurra.data.tokenize import UNKNOWN
from recurra.errors import DataError, EmptyData, SettingsError

TEXT = 'the cat sat.\nthe dog said: "don\'t (sit) here", twice\n\n\tand  so on\n'


def codec(text: str = TEXT, **settings: object) -> TextCodec:
    chosen = load_settings(
        {"head.task": "language", "text.min_frequency": 1, **{f"text.{name}": value for name, value in settings.items()}}
    )
    return TextCodec.fit([text], chosen.text)


any_text = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)
BPE = codec(tokenizer="bpe", vocabulary_size=300)


@given(any_text)
def test_characters_give_the_text_back(text: str) -> None:
    made = codec(text, vocabulary_size=100_000)
    assert made.decode(made.encode(text)) == text
    assert len(made.encode(text)) == len(text)


@given(any_text)
def test_byte_pair_pieces_give_any_text_back(text: str) -> None:
    numbers = BPE.encode(text)
    assert BPE.decode(numbers) == text
    assert UNKNOWN not in numbers
    assert BPE.unknown(text) == []


@given(any_text)
def test_characters_that_are_over_with_a_token_are_counted(text: str) -> None:
    made = codec("abc\n")
    assert made.whole_characters(int(made.encode(text)[0])) == 1  # known or not
    first = int(BPE.encode(text)[0])
    count, covered = BPE.whole_characters(first), len(BPE.piece_bytes[first - 2])
    assert len(text[:count].encode()) <= covered
    assert count == len(text) or covered < len(text[: count + 1].encode())


@given(st.lists(any_text, max_size=4))
def test_pieces_that_end_with_lines_are_encoded_as_the_whole(lines: list[str]) -> None:
    pieces = [f"{line}\n" for line in lines]
    for made in (BPE, codec(), codec(tokenizer="word"), codec(tokenizer="whitespace")):
        parts = [number for piece in pieces for number in made.encode(piece).tolist()]
        assert parts == made.encode("".join(pieces)).tolist()


@pytest.mark.parametrize("kind", ["character", "word", "whitespace", "bpe"])
def test_a_saved_codec_is_the_same(kind: str) -> None:
    made = codec(tokenizer=kind, vocabulary_size=400)
    again = TextCodec.from_json(made.to_json())
    assert again.encode(TEXT).tolist() == made.encode(TEXT).tolist()
    assert [again.surface(number) for number in range(len(again))] == [made.surface(number) for number in range(len(made))]
    assert (len(again), again.reason, again.describe()) == (len(made), made.reason, made.describe())


def test_words_and_line_ends_are_tokens() -> None:
    made = codec(tokenizer="word")
    assert [made.surface(number) for number in made.encode("the cat.\n\nhere\n")] == ["the", "cat", ".", "\n", "\n", "here", "\n"]
    assert made.decode(made.encode('said: "don\'t (sit)", twice.\nhere')).splitlines()[1] == "here"
    assert made.decode(made.encode("the dog, (here).\n")) == "the dog, (here).\n"


def test_whitespace_tokens_are_joined_by_one_blank() -> None:
    made = codec(tokenizer="whitespace")
    assert made.decode(made.encode("the  cat\nsat.")) == "the cat\nsat."


def test_capitals_accents_and_ligatures_are_kept_unless_told_otherwise() -> None:
    text = "Él fué ﬁne"
    assert codec(text).decode(codec(text).encode(text)) == text
    folded = codec(text, lowercase=True, strip_accents=True, normalization="nfkc")
    assert folded.decode(folded.encode(text)) == "el fue fine"


def test_what_is_not_in_the_vocabulary_is_told_once() -> None:
    made = codec()
    assert made.unknown("thé xé") == ["é", "x"]
    assert made.decode(made.encode("é")) == "\N{REPLACEMENT CHARACTER}"
    assert codec(tokenizer="word").unknown("the zebra zebra") == ["zebra"]


def test_a_character_cut_in_the_middle_waits_for_its_end() -> None:
    made, decoder = BPE, BPE.decoder()
    numbers = made.encode("é").tolist()
    assert len(numbers) == 2
    assert [decoder.text(number) for number in numbers] == ["", "é"]
    assert decoder.text(numbers[0]) + decoder.end() == "\N{REPLACEMENT CHARACTER}"


def test_half_characters_are_replaced() -> None:
    assert codec().encode("a\ud800").tolist() == [codec().encode("a")[0], UNKNOWN]
    assert BPE.decode(BPE.encode("a\ud800")) == "a\N{REPLACEMENT CHARACTER}"


def test_auto_goes_by_the_script() -> None:
    assert codec("天地玄黄宇宙洪荒", tokenizer="auto").kind == "character"
    assert codec(tokenizer="auto").kind == "word"


def test_what_cannot_be_is_refused_with_the_reason() -> None:
    with pytest.raises(EmptyData, match="empty"):
        codec("")
    with pytest.raises(SettingsError, match="jieba"):
        codec(tokenizer="jieba")
    with pytest.raises(SettingsError, match="258"):
        codec(tokenizer="bpe", vocabulary_size=100)
    with pytest.raises(DataError, match="saved vocabulary"):
        TextCodec.from_json("{}")


def test_a_vocabulary_that_goes_on_says_of_which_kind_it_is() -> None:
    found = codec("a cat ran\n", tokenizer="word").continuing(codec("a dog ran\n", tokenizer="word"))
    assert found.reason == "word: set; the vocabulary of the model that it begins with, and 1 new tokens"
