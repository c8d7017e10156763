"""Vectors of tokens from how often they stand near each other in the training texts.

Counts of pairs within a window, their positive pointwise mutual information, its leading singular vectors. Not inside: vectors of a
file (`vectors`).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from recurra.data.store import Ragged
from recurra.data.tokenize import UNKNOWN
from recurra.data.vectors import WordVectors
from recurra.shapes import Float

__all__ = ["cooccurrence_vectors"]

WINDOW = 5
"""Tokens on either side that are counted; one at a distance of d counts 1/d (Pennington et al. 2014, section 4.2)."""
SMOOTHING = 0.75
"""Power of the frequencies of the tokens on the side (Levy et al. 2015, section 3.2)."""
SPREAD = 0.3
"""Standard deviation of the vectors' numbers."""
BLOCK = 1_000_000
"""Tokens that are counted at a time, so that memory stays bounded."""
DENSE = 500
"""Tokens of a vocabulary up to which the decomposition is the dense one, which finds all singular vectors."""


def cooccurrence_vectors(texts: Ragged, *, vocabulary: int, size: int) -> WordVectors:
    """Vectors for a vocabulary, learnt without labels.

    With n_ij the weighted number of times that j stands near i, M_ij = max(0, log(n_ij n / (n_i n_j'))) where the n_j' are the n_j to the power
    of 3/4, scaled to the same sum, and U S V' its singular value decomposition cut to F values: vectors U S^(1/2), scaled to one spread.

    Source: Levy et al. 2015, sections 2.2, 2.3 and 3 (context distribution smoothing, eigenvalue weighting of 1/2).

    Args:
        texts: numbers of tokens, or (S, 1 + K) with more beside each; padding and the unknown token are not counted.
        vocabulary: V, tokens of the vocabulary.
        size: F, features of a vector; features beyond the rank of M are zero.

    Returns:
        The vectors; tokens that no known token stands near have none.
    """
    matrix = _information(_counts(texts, vocabulary))
    found = np.diff(matrix.indptr) > 0
    vectors = np.zeros((vocabulary, size), np.float32)
    if found.any():
        left, values = _leading(matrix, min(size, vocabulary - 1))
        vectors[:, : len(values)] = left * np.sqrt(values)
        vectors *= SPREAD / vectors[found].std()
    return WordVectors(vectors, found)


def _counts(texts: Ragged, vocabulary: int) -> Any:
    """(V, V) sparse and symmetric, how often two tokens stand near each other."""
    from scipy.sparse import csr_matrix

    counts = csr_matrix((vocabulary, vocabulary))
    for some in np.array_split(np.arange(len(texts)), 1 + len(texts.values) // BLOCK):
        part = texts.take(some)
        row = np.repeat(np.arange(len(some)), part.lengths)
        tokens = part.values if part.values.ndim == 1 else part.values[:, 0]
        for distance in range(1, WINDOW + 1):
            first, second = tokens[:-distance], tokens[distance:]
            near = (row[:-distance] == row[distance:]) & (first > UNKNOWN) & (second > UNKNOWN)
            weights = np.full(int(near.sum()), 1.0 / distance)
            counts = counts + csr_matrix((weights, (first[near], second[near])), shape=counts.shape)
    return counts + counts.T


def _information(counts: Any) -> Any:
    """(V, V) sparse, the positive pointwise mutual information of counts."""
    from scipy.sparse import csr_matrix

    frequencies = np.asarray(counts.sum(axis=1)).ravel()
    beside = frequencies**SMOOTHING
    beside /= max(beside.sum(), 1.0)
    pairs = counts.tocoo()
    information = np.log(pairs.data / (frequencies[pairs.row] * beside[pairs.col]))
    kept = information > 0.0
    return csr_matrix((information[kept], (pairs.row[kept], pairs.col[kept])), shape=counts.shape)


def _leading(matrix: Any, size: int) -> tuple[Float[np.ndarray, "V K"], Float[np.ndarray, " K"]]:
    """The leading left singular vectors and their values, the largest first."""
    from scipy.sparse.linalg import svds

    if matrix.shape[0] <= DENSE:
        left, values, _ = np.linalg.svd(matrix.toarray())
        return left[:, :size], values[:size]
    start = np.random.default_rng(0).standard_normal(matrix.shape[0])  # the same vectors in every run
    left, values, _ = svds(matrix, k=size, v0=start)
    order = np.argsort(-values)
    return left[:, order], values[order]
