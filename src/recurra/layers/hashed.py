"""Vectors of n-grams, looked up by hash: of the characters within a token, and of tokens that stand side by side.

They are added to the tokens' own vectors (`recurra.layers.Embedding`). A token that is rare, or was never seen, shares
its n-grams with others; neighbours that mean something together get a vector of their own.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.nn.functional import embedding

from recurra.layers.bags import mean_of_bags
from recurra.shapes import Float, Int, Tensor

__all__ = ["CharacterNgrams", "HashedTable", "TokenNgrams"]

MOST_GRAMS = 36
"""Character n-grams of one token that are used, shortest first: enough for words of 13 characters at lengths 3 to 5."""


class HashedTable(nn.Module):
    """A table whose rows are shared by all n-grams of one hash. Row 0 belongs to none: zeros, and never trained.

    Args:
        buckets: rows.
        size: F, features of a vector.
        init_range: vectors start uniform in plus and minus this.
        sparse: row-sparse gradients.
    """

    def __init__(self, buckets: int, size: int, *, init_range: float = 0.05, sparse: bool = False) -> None:
        super().__init__()
        self.sparse = sparse
        self.weight = nn.Parameter(torch.empty(buckets, size).uniform_(-init_range, init_range))
        with torch.no_grad():
            self.weight[0] = 0.0

    def extra_repr(self) -> str:
        """Sizes, for `print(module)`."""
        return f"{self.weight.shape[0]}, {self.weight.shape[1]}"


class CharacterNgrams(HashedTable):
    """The mean vector of a token's character n-grams, its ends marked: those of `<cat>` of length 3 are `<ca`, `cat`, `at>`.

    Differs from the paper: the mean, not the sum, so that long words are no larger; CRC-32 in place of FNV-1a.

    Source: Bojanowski et al. 2017, section 3.2.

    Args:
        tokens: the vocabulary by number; the first two (padding, unknown) have no n-grams.
        buckets: rows of the table.
        size: F, features of a vector.
        lengths: shortest and longest n-gram, in characters.
        init_range: vectors start uniform in plus and minus this.
        sparse: row-sparse gradients.
    """

    grams: Tensor

    def __init__(
        self,
        tokens: Sequence[str],
        buckets: int,
        size: int,
        *,
        lengths: tuple[int, int] = (3, 5),
        init_range: float = 0.05,
        sparse: bool = False,
    ) -> None:
        super().__init__(buckets, size, init_range=init_range, sparse=sparse)
        rows = [[], [], *(_character_ngrams(token, lengths) for token in tokens[2:])]
        width = max(1, *(len(row) for row in rows))
        table = torch.zeros(len(rows), width, dtype=torch.int64)
        for number, row in enumerate(rows):
            table[number, : len(row)] = torch.tensor([1 + zlib.crc32(gram.encode("utf-8", "replace")) % (buckets - 1) for gram in row])
        # What the vocabulary tells again when a model is loaded need not be saved.
        self.register_buffer("grams", table, persistent=False)

    def forward(self, tokens: Int[Tensor, "B T"]) -> Float[Tensor, "B T F"]:
        """The mean of each token's n-gram vectors; zeros for tokens without."""
        distinct, places = torch.unique(tokens, return_inverse=True)
        return embedding(places, self.means(distinct))

    def means(self, tokens: Int[Tensor, " N"]) -> Float[Tensor, "N F"]:
        """The vectors of single tokens, each worked out anew."""
        return mean_of_bags(self.weight, self.grams[tokens], sparse=self.sparse)


class TokenNgrams(HashedTable):
    """The sum of the vectors of the n-grams of tokens that end at a step: pairs, triples and so on up to the order.

    A model of characters sees syllables this way, one of words fixed phrases. Before a row's first step stands padding.

    Source: Joulin et al. 2017, section 2.1 (bags of hashed n-grams, there without a recurrence).

    Args:
        order: longest n-gram, in tokens; 2 for pairs.
        buckets: rows of the table.
        size: F, features of a vector.
        init_range: vectors start uniform in plus and minus this.
        sparse: row-sparse gradients.
    """

    def __init__(self, order: int, buckets: int, size: int, *, init_range: float = 0.05, sparse: bool = False) -> None:
        super().__init__(buckets, size, init_range=init_range, sparse=sparse)
        self.order = order

    def forward(self, tokens: Int[Tensor, "B T"]) -> Float[Tensor, "B T F"]:
        """The sum of the n-grams' vectors at each step."""
        tokens = tokens.long()
        before = [nn.functional.pad(tokens, (n, 0))[:, : tokens.shape[1]] for n in range(1, self.order)]
        first, *others = (embedding(rows, self.weight, padding_idx=0, sparse=self.sparse) for rows in self.rows(tokens, before))
        for vectors in others:
            first = first + vectors
        return first

    def rows(self, tokens: Any, before: Sequence[Any]) -> list[Any]:
        """Rows of the table, of the pairs that end at each step, the triples and so on.

        Args:
            tokens: whole numbers, 64 bits, a tensor or a numpy array.
            before: what stands one step before each of them, two steps before and so on, of the same shape.
        """
        found, hashes = [], tokens
        for earlier in before:
            hashes = _mixed(hashes, earlier)
            found.append(1 + hashes % (self.weight.shape[0] - 1))
        return found


def _character_ngrams(token: str, lengths: tuple[int, int]) -> list[str]:
    marked = f"<{token}>"
    shortest, longest = lengths
    grams = [marked[start : start + n] for n in range(shortest, longest + 1) for start in range(len(marked) - n + 1)]
    return grams[:MOST_GRAMS]


def _mixed(hashes: Any, tokens: Any) -> Any:
    """A hash of both, non-negative; 32-bit multiplications that cannot overflow 64 bits."""
    mixed = (hashes * 1_000_003 + tokens * 8_191 + 12_345) & 0x7FFFFFFF
    return ((mixed ^ (mixed >> 15)) * 0x2C1B3C6D) & 0x7FFFFFFF
