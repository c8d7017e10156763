from __future__ import annotations

import json
import sys
import time
import unicodedata

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recurra.config import TextSettings
from recurra.data.tokenize import PADDING, UNKNOWN, Tokenizer
from recurra.errors import DataError, EmptyData, MissingDependency

KINDS = ["word", "character", "bpe", "whitespace", "jieba"]
CORPUS = [
    "The cat sat on the mat, didn't it?",
    "the Cat  sat\n3.14 times",
    None,
    "",
    "naïve Straße a_b \u0939\u093f\u0928\u094d\u0926\u0940",
] * 3


def fitted(kind: str = "word", corpus=CORPUS, **changes) -> Tokenizer:
    return Tokenizer.fit([corpus], TextSettings(tokenizer=kind, **{"min_frequency": 1, **changes}))


def words(tokenizer: Tokenizer, text: str) -> list[str]:
    return [tokenizer.tokens[number] for number in tokenizer.encode([text])[0]]


def test_word_keeps_words_numbers_marks_and_single_signs():
    tokenizer = fitted()
    assert words(tokenizer, "The CAT, didn't sat!") == ["the", "cat", ",", "didn", "'", "t", "sat", "<unk>"]
    assert words(tokenizer, "3.14 a_b \u0939\u093f\u0928\u094d\u0926\u0940") == [
        "3",
        ".",
        "14",
        "a_b",
        "\u0939\u093f\u0928\u094d\u0926\u0940",
    ]


def test_whitespace_cuts_at_blanks_only():
    assert words(fitted("whitespace"), "the\u00a0mat, cat") == ["the", "mat,", "cat"]


def test_character_counts_blanks_and_keeps_the_rare():
    tokenizer = fitted("character", ["ab b"], min_frequency=2)
    assert tokenizer.tokens == ["<pad>", "<unk>", "b", " ", "a"]
    assert tokenizer.encode(["b az"])[0].tolist() == [2, 3, 4, UNKNOWN]


def test_jieba_finds_chinese_words():
    tokenizer = fitted("jieba", ["我来到北京清华大学"])
    assert words(tokenizer, "我 来到清华大学") == ["我", "来到", "清华大学"]


def test_jieba_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "jieba", None)
    with pytest.raises(MissingDependency, match=r"recurra\[chinese\]"):
        fitted("jieba")


def test_bpe_pieces_join_to_the_text():
    tokenizer = fitted("bpe", [" ".join(["lower lowest newer widest"] * 5)])
    numbers = tokenizer.encode(["newest  lower"])[0]
    assert "".join(map(tokenizer.surface, numbers)) == " newest lower"
    assert UNKNOWN not in numbers
    # Frequent words are one piece; the number of the pieces of a word does not depend on what stands around it.
    assert len(tokenizer.encode(["lower"])[0]) == 1
    assert tokenizer.pieces(" newest") == numbers[:-1].tolist()


def test_bpe_cuts_endless_words():
    tokenizer = fitted("bpe", ["a b " * 9])
    with_long = tokenizer.encode(["a b", "a" * 250, "b a"])
    assert with_long.lengths.tolist() == [2, 250, 2]
    assert with_long[2].tolist() == tokenizer.encode(["b a"])[0].tolist()


def test_bpe_same_vocabulary_each_time():
    assert len({fitted("bpe").to_json() for _ in range(3)}) == 1


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("hello world 中", "word"),
        ("我来到北京 ok", "character"),
        ("こんにちは", "character"),
        ("한국어 문장", "character"),
        ("สวัสดี", "character"),
        ("12 34", "word"),
    ],
)
def test_auto_looks_at_the_script(text, kind):
    tokenizer = fitted("auto", [text])
    assert tokenizer.kind == kind
    assert tokenizer.reason.startswith(kind)
    assert "%" in tokenizer.reason


def test_auto_reads_every_chunk_once():
    chunks = [["a b"], [None, ""], ["c"]]
    assert Tokenizer.fit(iter(chunks), TextSettings(min_frequency=1)).tokens[2:] == ["a", "b", "c"]


def test_most_frequent_first_and_limits():
    texts = ["c c c b b a a d"]
    assert fitted("word", texts).tokens[2:] == ["c", "a", "b", "d"]
    assert fitted("word", texts, vocabulary_size=2).tokens[2:] == ["c", "a"]
    assert fitted("word", texts, min_frequency=3).tokens[2:] == ["c"]
    assert len(fitted("bpe", texts, vocabulary_size=6)) <= 6 + 2


def test_counts_add_up_over_chunks():
    tokenizer = Tokenizer.fit([["a b"], ["b c"], pl.Series(["c c", None])], TextSettings(tokenizer="word", min_frequency=2))
    assert tokenizer.tokens[2:] == ["c", "b"]


def test_normalization():
    text = "\ufb01n e\u0301 \u212b"  # fi ligature, combining acute, Angstrom sign
    assert fitted("whitespace", [text]).tokens[2:] == sorted(["fin", "\u00e9", "\u00e5"], key=str.encode)
    assert fitted("whitespace", [text], normalization="nfc", lowercase=False).tokens[2:] == sorted(
        ["\ufb01n", "\u00e9", "\u00c5"], key=str.encode
    )
    assert set(fitted("whitespace", [text], normalization="none", lowercase=False).tokens[2:]) == set(text.split())
    assert set(fitted("whitespace", [text], strip_accents=True).tokens[2:]) == {"fin", "e", "a"}
    assert fitted("whitespace", ["\uac01"], strip_accents=True).tokens[2:] == ["\uac01"]  # Hangul stays one syllable


@pytest.mark.parametrize("kind", KINDS)
def test_json_round_trip_is_exact(kind):
    tokenizer = fitted(kind, [*CORPUS, "a\x00\u2028b 我来到"], max_length=7, lowercase=False)
    again = Tokenizer.from_json(tokenizer.to_json())
    assert again.to_json() == tokenizer.to_json()
    assert again.settings == tokenizer.settings
    for kept in ("values", "offsets", "truncated"):
        np.testing.assert_array_equal(getattr(again.encode(CORPUS), kept), getattr(tokenizer.encode(CORPUS), kept))


@pytest.mark.parametrize(
    "text", ["", "{}", "[]", "{", json.dumps({"format": 99}), json.dumps({"format": 1, "settings": {"max_length": 0}})]
)
def test_json_of_something_else(text):
    with pytest.raises(DataError, match="not a saved tokenizer"):
        Tokenizer.from_json(text)


def test_settings_of_another_version_are_left_out():
    content = json.loads(fitted().to_json())
    content["settings"]["no_longer_there"] = 1
    assert len(Tokenizer.from_json(json.dumps(content))) == len(fitted())


@pytest.mark.parametrize("kind", KINDS)
def test_odd_texts(kind):
    tokenizer = fitted(kind)
    texts = ["", None, " \t\n\u00a0", "\x00", "a\ud800b", "\ud83d\ude00", "<pad> <unk>", "\U0010ffff qqq\ue000"]
    rows = tokenizer.encode(texts)
    assert len(rows) == len(texts)
    assert rows.values.dtype == np.int32
    assert rows.offsets.dtype == np.int64
    assert rows.offsets[-1] == len(rows.values)
    assert len(rows[0]) == len(rows[1]) == 0
    assert PADDING not in rows.values
    assert len(rows[3]) >= 1  # NUL is a sign like any other
    assert rows.truncated == 0


def test_only_unknown_words():
    assert fitted().encode(["xyzzy plugh"]).values.tolist() == [UNKNOWN, UNKNOWN]


def test_special_names_in_the_text_are_never_padding():
    tokenizer = fitted("whitespace", ["<pad> <unk> a <pad>"])
    assert tokenizer.tokens == ["<pad>", "<unk>", "a"]
    assert tokenizer.encode(["<pad> <unk> a"])[0].tolist() == [UNKNOWN, UNKNOWN, 2]


def test_fitting_with_surrogates_and_nul():
    tokenizer = fitted("whitespace", ["a\ud800 b\x00", "\ud83d\ude00"])
    assert set(tokenizer.tokens[2:]) == {"a\ufffd", "b\x00", "\U0001f600"}


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("word", "word and more, " * 700_000),
        ("bpe", "word and more, " * 700_000),
        ("character", "word and more, " * 700_000),
        ("bpe", "a" * 10_000_000),
        ("whitespace", "a" * 10_000_000),
        ("word", "\x00" * 10_000_000),
    ],
)
def test_ten_megabytes_in_one_text(kind, text):
    tokenizer = fitted(kind)
    rows = tokenizer.encode([text, "the cat"])
    assert len(rows[0]) == 1 or (len(rows[0]) == tokenizer.settings.max_length and rows.truncated == 1)
    assert rows[1].tolist() == tokenizer.encode(["the cat"])[0].tolist()


@pytest.mark.parametrize("kind", ["auto", *KINDS])
def test_all_empty(kind):
    with pytest.raises(EmptyData, match=r"All texts .* empty.*ignore"):
        fitted(kind, ["", None, "  ", "\n"][: 2 if kind == "character" else 4])
    with pytest.raises(EmptyData):
        Tokenizer.fit([], TextSettings(tokenizer=kind))


def test_all_too_rare():
    with pytest.raises(EmptyData, match=r"min_frequency=1"):
        fitted("word", ["a b c"], min_frequency=2)


@pytest.mark.parametrize("kind", KINDS)
def test_truncation_is_counted_and_a_prefix(kind):
    long, short = fitted(kind, max_length=1000), fitted(kind, max_length=5)
    short = Tokenizer(kind, long.tokens, short.settings, long.merges, "")
    whole, cut = long.encode(CORPUS), short.encode(CORPUS)
    assert cut.truncated == (whole.lengths > 5).sum()
    assert whole.truncated == 0
    for row in range(len(CORPUS)):
        assert cut[row].tolist() == whole[row][:5].tolist()


def test_fitting_reads_no_further_than_max_length():
    assert fitted("word", ["a b c"], max_length=2).tokens[2:] == ["a", "b"]
    assert fitted("character", ["abc"], max_length=2).tokens[2:] == ["a", "b"]


def test_chunks_of_any_size_encode_alike(monkeypatch):
    from recurra.data import words as module

    texts = [f"w{i % 7} " * (i % 5) for i in range(50)]
    for kind in ("word", "character", "bpe"):
        tokenizer = fitted(kind, texts)
        whole = tokenizer.encode(texts)
        with monkeypatch.context() as patch:
            patch.setattr(module, "_BLOCK", 16)
            pieces = tokenizer.encode(texts)
            assert fitted(kind, texts).to_json() == tokenizer.to_json()
        np.testing.assert_array_equal(whole.values, pieces.values)
        np.testing.assert_array_equal(whole.offsets, pieces.offsets)


def test_lists_of_tokens():
    rows = [["New York", "a"], None, [], ["A", None], ["\ud800"]]
    tokenizer = Tokenizer.fit_tokens([rows], TextSettings(min_frequency=1, max_length=2))
    assert tokenizer.tokens[2:] == ["a", "new york", "\ufffd"]
    encoded = tokenizer.encode_tokens([*rows, ["a"] * 3])
    assert [encoded[i].tolist() for i in range(6)] == [[3, 2], [], [], [2, UNKNOWN], [4], [2, 2]]
    assert encoded.truncated == 1
    series = pl.Series([["a"], None, ["b"]])
    assert tokenizer.encode_tokens(series).values.tolist() == [2, UNKNOWN]
    assert len(tokenizer.encode_tokens([])) == 0
    with pytest.raises(TypeError, match="encode_tokens"):
        tokenizer.encode(["a"])
    with pytest.raises(EmptyData):
        Tokenizer.fit_tokens([[[], None]], TextSettings())


def test_not_texts():
    with pytest.raises(TypeError):
        fitted().encode([1, 2])


def test_no_rows():
    assert len(fitted().encode([])) == 0


CHARACTERS = fitted("character", lowercase=False, normalization="nfc")
FITTED = {kind: fitted(kind) for kind in ("word", "bpe", "whitespace")}


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text(max_size=20), max_size=5))
def test_characters_are_python_characters(texts):
    tokenizer = CHARACTERS
    rows = tokenizer.encode(texts)
    for row, text in enumerate(texts):
        expected = [tokenizer.tokens.index(c) if c in tokenizer.tokens[2:] else UNKNOWN for c in unicodedata.normalize("NFC", text)]
        assert rows[row].tolist() == expected


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text(max_size=20), max_size=5), st.sampled_from(["word", "bpe", "whitespace"]))
def test_a_text_is_encoded_alike_in_any_company(texts, kind):
    tokenizer = FITTED[kind]
    rows = tokenizer.encode(texts)
    for row, text in enumerate(texts):
        assert rows[row].tolist() == tokenizer.encode([text])[0].tolist()
        assert PADDING not in rows[row]


def test_quick_enough_for_large_files():
    """A floor twenty times under what one core does (about two million tokens a second), so that load does not matter."""
    texts = [" ".join(f"word{(i * j) % 5000}" for j in range(40)) for i in range(2_000)]
    tokenizer = fitted("word", texts)
    begun = time.perf_counter()
    rows = tokenizer.encode(texts)
    assert len(rows.values) / (time.perf_counter() - begun) > 100_000
