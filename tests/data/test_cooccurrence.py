"""Vectors from counts: against the definition written out, and what a user would notice of them."""

from __future__ import annotations

import numpy as np
import pytest

from recurra.data import cooccurrence
from recurra.data.cooccurrence import SPREAD, WINDOW, cooccurrence_vectors
from recurra.data.store import Ragged

VOCABULARY = 12


def texts(seed: int = 0, count: int = 40, vocabulary: int = VOCABULARY) -> Ragged:
    draw = np.random.default_rng(seed)
    return Ragged.from_rows([draw.integers(0, vocabulary, draw.integers(0, 15)) for _ in range(count)])


def information(rows: Ragged, vocabulary: int) -> np.ndarray:
    """The positive pointwise mutual information, pair by pair."""
    counts = np.zeros((vocabulary, vocabulary))
    for number in range(len(rows)):
        row = rows[number].tolist()
        for place, token in enumerate(row):
            for other in range(max(place - WINDOW, 0), min(place + WINDOW + 1, len(row))):
                if other != place and token > 1 and row[other] > 1:
                    counts[token, row[other]] += 1.0 / abs(other - place)
    found = np.zeros_like(counts)
    beside = counts.sum(0) ** 0.75
    beside *= counts.sum() / beside.sum()
    for token, other in zip(*counts.nonzero(), strict=True):
        found[token, other] = max(np.log(counts[token, other] * counts.sum() / (counts[token].sum() * beside[other])), 0.0)
    return found


def gram(vectors: np.ndarray) -> np.ndarray:
    """Products of all pairs, which the signs of singular vectors do not change; scaled to one length."""
    products = vectors.astype(np.float64) @ vectors.T
    return products / np.linalg.norm(products)


def test_vectors_are_those_of_the_definition() -> None:
    rows = texts()
    found = cooccurrence_vectors(rows, vocabulary=VOCABULARY, size=VOCABULARY)
    matrix = information(rows, VOCABULARY)
    values, vectors = np.linalg.eigh(matrix @ matrix.T)  # U S^2 U', whose root is the products of the rows of U S^(1/2)
    root = (vectors * np.sqrt(np.maximum(values, 0.0))) @ vectors.T
    # Vectors are rounded to float32, 6e-8 of numbers under 1; the root of an eigenvalue of 0 is 1e-8.
    np.testing.assert_allclose(gram(found.matrix), root / np.linalg.norm(root), rtol=0, atol=1e-6)
    assert found.found.tolist() == [False, False] + [True] * (VOCABULARY - 2)
    assert found.matrix[found.found].std() == pytest.approx(SPREAD, rel=1e-5)  # float32
    assert not found.matrix[:, -1].any(), "features beyond the rank are zero"


def test_neither_blocks_nor_the_sparse_decomposition_change_anything(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = texts(count=400, vocabulary=60)
    whole = cooccurrence_vectors(rows, vocabulary=60, size=8).matrix
    monkeypatch.setattr(cooccurrence, "BLOCK", 100)
    monkeypatch.setattr(cooccurrence, "DENSE", 0)
    blocks = cooccurrence_vectors(rows, vocabulary=60, size=8).matrix
    np.testing.assert_allclose(gram(blocks), gram(whole), rtol=0, atol=1e-6)  # float32
    assert np.array_equal(blocks, cooccurrence_vectors(rows, vocabulary=60, size=8).matrix), "the same in every run"


def test_words_of_the_same_surroundings_are_alike() -> None:
    draw = np.random.default_rng(1)
    food, sound = [2, 3], [4, 5]  # beside 6 to 9, and beside 10 to 13
    rows = [[draw.choice(group), *draw.integers(beside, beside + 4, 3)] for group, beside in ((food, 6), (sound, 10)) for _ in range(60)]
    vectors = cooccurrence_vectors(Ragged.from_rows(rows), vocabulary=14, size=4).matrix
    vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)
    assert vectors[2] @ vectors[3] > 0.8
    assert vectors[4] @ vectors[5] > 0.8
    assert vectors[2] @ vectors[4] < 0.2


def test_what_stands_beside_a_token_is_not_counted() -> None:
    rows = texts()
    spelt = Ragged(np.stack([rows.values, np.full_like(rows.values, 7)], 1), rows.offsets)
    both = [cooccurrence_vectors(each, vocabulary=VOCABULARY, size=4).matrix for each in (rows, spelt)]
    assert np.array_equal(both[0], both[1])


def test_texts_of_unknown_tokens_have_no_vectors() -> None:
    found = cooccurrence_vectors(Ragged.from_rows([[1, 1, 2], [], [3]]), vocabulary=4, size=3)
    assert not found.found.any()
    assert not found.matrix.any()
