from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recurra.config import AugmentationSettings, TextSettings
from recurra.data.augment import Augmentation, _misspelt, character_noise, swap, word_dropout
from recurra.data.store import Ragged
from recurra.data.tokenize import UNKNOWN, Tokenizer

TEXTS = ["the quick brown fox jumps over the lazy dog", "a", "", "pack my box with five dozen liquor jugs"] * 50


def fitted(kind: str) -> Tokenizer:
    return Tokenizer.fit([TEXTS], TextSettings(tokenizer=kind, min_frequency=1, vocabulary_size=200))


def noise(seed: int = 0) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(seed))


def numbered(rows: int = 200, steps: int = 50) -> Ragged:
    return Ragged(np.arange(2, rows * steps + 2, dtype=np.int32), np.arange(rows + 1) * steps)


def within(count: int, share: float, of: int) -> bool:
    """Within four standard deviations of a binomial count."""
    return abs(count - share * of) < 4 * np.sqrt(of * share * (1 - share))


def test_word_dropout_has_its_share():
    rows = numbered()
    changed = word_dropout(rows, 0.2, noise()).values != rows.values
    assert within(changed.sum(), 0.2, len(changed))
    assert (word_dropout(rows, 0.2, noise()).values[changed] == UNKNOWN).all()


def test_swap_moves_tokens_to_neighbours_within_their_row():
    rows = numbered()
    swapped = swap(rows, 0.1, noise())
    moved = swapped.values - rows.values
    assert set(moved.tolist()) == {-1, 0, 1}
    assert sorted(swapped.values.tolist()) == rows.values.tolist()
    for row in range(len(rows)):
        assert sorted(swapped[row].tolist()) == rows[row].tolist()
    # Of a run of k chosen tokens ceil(k / 2) count; a run of k has share (1 - p) p^k, so p / (1 + p) of the tokens.
    assert within((moved == 1).sum(), 0.1 / 1.1 * 49 / 50, len(moved))


def test_swap_of_all():
    rows = Ragged.from_rows([[2, 3, 4, 5, 6], [], [7], [8, 9]])
    assert swap(rows, 1.0, noise()).values.tolist() == [3, 2, 5, 4, 6, 7, 9, 8]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.lists(st.integers(1, 15), max_size=7), min_size=1, max_size=6), st.integers(0, 99))
def test_any_rows(rows, seed):
    ragged = Ragged.from_rows(rows)
    before = ragged.values.copy()
    for kind in ("word", "character", "bpe"):
        augment = Augmentation(AugmentationSettings(word_dropout=0.3, swap=0.3, character_noise=0.5), TOKENIZERS[kind])
        changed = augment(ragged, noise(seed))
        assert len(changed) == len(rows)
        assert changed.offsets[-1] == len(changed.values)
        assert changed.values.dtype == np.int32
        assert (changed.values >= UNKNOWN).all()
        assert (changed.values < len(TOKENIZERS[kind])).all()
        assert all(len(changed[i]) == 0 for i, row in enumerate(rows) if not row)
    np.testing.assert_array_equal(ragged.values, before)


TOKENIZERS = {kind: fitted(kind) for kind in ("word", "character", "bpe")}


@pytest.mark.parametrize("kind", ["word", "character", "bpe"])
def test_seeded_and_off_at_zero(kind):
    rows = TOKENIZERS[kind].encode(TEXTS)
    augment = Augmentation(AugmentationSettings(word_dropout=0.1, swap=0.1, character_noise=0.1), TOKENIZERS[kind])
    first, again, other = augment(rows, noise()), augment(rows, noise()), augment(rows, noise(1))
    np.testing.assert_array_equal(first.values, again.values)
    np.testing.assert_array_equal(first.offsets, again.offsets)
    assert first.values.tolist() != other.values.tolist()
    off = Augmentation(AugmentationSettings(word_dropout=0.0), TOKENIZERS[kind])(rows, noise())
    assert off.values.tolist() == rows.values.tolist()


def test_character_noise_of_words_gives_unknown_ones():
    tokenizer = TOKENIZERS["word"]
    rows = tokenizer.encode(["quick brown fox jumps"] * 500)
    noisy = character_noise(rows, 0.2, noise(), tokenizer=tokenizer)
    np.testing.assert_array_equal(noisy.offsets, rows.offsets)
    changed = noisy.values != rows.values
    # An edit gives the word itself only when a letter is replaced by itself: at most a quarter of 1 / alphabet.
    assert within(changed.sum(), 0.2, len(changed))
    assert (noisy.values[changed] == UNKNOWN).mean() > 0.9


def test_character_noise_of_pieces_is_a_misspelling():
    tokenizer = TOKENIZERS["bpe"]
    rows = tokenizer.encode(["quick brown fox jumps"] * 200)
    noisy = character_noise(rows, 0.3, noise(), tokenizer=tokenizer)
    texts = {"".join(map(tokenizer.surface, noisy[i])) for i in range(len(noisy))}
    assert len(texts) > 100
    assert all(text.count(" ") == 4 and abs(len(text) - 22) <= 4 for text in texts)
    assert UNKNOWN not in noisy.values
    assert len(noisy.values) > len(rows.values)


def test_character_noise_of_characters_has_every_edit():
    rows = Ragged(np.tile(np.arange(2, 12, dtype=np.int32), 400), np.arange(401) * 10)
    tokenizer = TOKENIZERS["character"]
    noisy = character_noise(rows, 0.1, noise(), tokenizer=tokenizer)
    lengths = noisy.lengths - 10
    assert within((lengths < 0).sum(), 1 - 0.975**10, 400) or (lengths < 0).sum() > 40
    assert (lengths > 0).sum() > 40
    kept = [noisy[i].tolist() for i in np.flatnonzero(lengths == 0)]
    assert any(sorted(row) == list(range(2, 12)) and row != list(range(2, 12)) for row in kept)
    assert any(set(row) - set(range(2, 12)) for row in kept)


@pytest.mark.parametrize(
    ("text", "draw", "expected"),
    [
        (" word", [0.0, 0.0, 0.5], " ord"),
        ("word", [0.3, 0.99, 0.5], "wordd"),
        ("word", [0.5, 0.25, 0.0], "wxrd"),
        ("word", [0.8, 0.99, 0.5], "wodr"),
        ("word", [0.8, 0.0, 0.5], "owrd"),
        ("a", [0.0, 0.0, 0.0], "x"),
        (" a", [0.9, 0.9, 0.0], " x"),
        (" ", [0.0, 0.0, 0.0], " "),
    ],
)
def test_edits(text, draw, expected):
    assert _misspelt(text, draw, ["x", "y"]) == expected


def test_unknown_tokens_stay():
    rows = Ragged.from_rows([[UNKNOWN] * 50])
    for tokenizer in TOKENIZERS.values():
        assert character_noise(rows, 0.9, noise(), tokenizer=tokenizer).values.tolist() == [UNKNOWN] * 50
