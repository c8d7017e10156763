"""Linear scores of a row of tokens from the TF-IDF of its n-grams: what stands beside a network and is not trained with it.

Not inside: how the weights are fitted, and how much the scores count beside the network (`recurra.training.tables.linear`).
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.functional import embedding_bag

from recurra.shapes import Bool, Float, Int, Tensor

__all__ = ["NgramLinear"]


class NgramLinear(nn.Module):
    r"""Scores \(W x + b\) of rows of tokens, and the sum of these and of a network's outputs.

    \(x_k\) is \((1 + \ln n_k) \, \mathrm{idf}_k\) for the k-th n-gram, of which the row holds \(n_k\), and 0 where it holds none; \(x\) is scaled to length
    1. N-grams that are not known count for nothing, in the length neither. All tensors are buffers: they are saved, and no optimizer sees them.

    An n-gram is found by a key that is exact, whatever its length: a token's number, and for a longer one \((1 + i)V + t\), where i is the
    number of the n-gram without its last token t. The front of every known n-gram is known.

    Source: Salton & Buckley 1988, Term-weighting approaches in automatic text retrieval; `TfidfVectorizer(sublinear_tf=True)` of scikit-learn.

    Args:
        ngrams: K, known n-grams; 0 for a module that is to `learn` them.
        outputs: C, scores.
        order: longest n-gram, in tokens.
        vocabulary_size: V, numbers that a token can have.

    Attributes:
        keys: (K,) of the known n-grams, ascending.
        idf: (K,) inverse document frequency.
        weight: (K, C) W, transposed.
        bias: (C,) b.
        scale: what a network's outputs are multiplied by.
    """

    keys: Tensor
    idf: Tensor
    weight: Tensor
    bias: Tensor
    scale: Tensor

    def __init__(self, ngrams: int, outputs: int, *, order: int, vocabulary_size: int) -> None:
        super().__init__()
        self.order = order
        self.vocabulary_size = vocabulary_size
        self.register_buffer("keys", torch.zeros(ngrams, dtype=torch.int64))
        self.register_buffer("idf", torch.ones(ngrams))
        self.register_buffer("weight", torch.zeros(ngrams, outputs))
        self.register_buffer("bias", torch.zeros(outputs))
        self.register_buffer("scale", torch.ones(()))

    def extra_repr(self) -> str:
        """Sizes, for `print(module)`."""
        return f"{len(self.keys)} n-grams of up to {self.order} tokens, {len(self.bias)} outputs"

    def forward(self, outputs: Float[Tensor, "B C"], tokens: Int[Tensor, "B T"], mask: Bool[Tensor, "B T"]) -> Float[Tensor, "B C"]:
        """The outputs of a network, times `scale`, and the scores beside them.

        Args:
            outputs: of the network.
            tokens: of the rows; what stands in the padding means nothing.
            mask: True where a step is real.
        """
        rows = torch.arange(len(tokens), device=tokens.device)[:, None].expand_as(tokens)
        return self.scale * outputs + self.scores(tokens[mask].long(), rows[mask], len(tokens))

    def scores(self, tokens: Int[Tensor, " S"], rows: Int[Tensor, " S"], count: int) -> Float[Tensor, "B C"]:
        """The scores of rows that lie end to end.

        Args:
            tokens: of all rows.
            rows: the row of each, ascending.
            count: B, rows; one without tokens scores the bias.
        """
        row, column, value = self.features(tokens, rows)
        starts = torch.searchsorted(row, torch.arange(count, device=row.device))
        summed: Tensor = embedding_bag(column, self.weight, starts, mode="sum", per_sample_weights=value)
        return summed + self.bias

    def features(self, tokens: Int[Tensor, " S"], rows: Int[Tensor, " S"]) -> tuple[Tensor, Tensor, Tensor]:
        """Row, column and value of whatever is not zero in the (B, K) matrix of the x, by row and column; see `scores`."""
        held, place = [], None
        for _ in range(self.order):
            place = self._places(self._wanted(tokens, rows, place))
            held.append((rows * len(self.keys) + place)[place >= 0])
        distinct, times = torch.unique(torch.cat(held), return_counts=True)
        row, column = distinct // len(self.keys), distinct % len(self.keys)
        value = (1.0 + times.to(self.idf).log()) * self.idf[column]
        squares = value.new_zeros(int(row[-1]) + 1 if len(row) else 0).index_add_(0, row, value.square())
        return row, column, value / squares.sqrt()[row]

    def learn(self, tokens: Int[Tensor, " S"], rows: Int[Tensor, " S"], count: int, *, least: int, most: int) -> None:
        """Take over the n-grams of some rows and their inverse document frequency, with weights of zero; see `scores`.

        Args:
            tokens: of all rows.
            rows: the row of each, ascending.
            count: N, rows.
            least: rows that an n-gram must stand in.
            most: n-grams. Shorter ones go before longer ones, and of one length those that stand in most rows.
        """
        self.keys, frequencies, place = self.keys[:0], [], None
        for _ in range(self.order):
            wanted = self._wanted(tokens, rows, place)
            keys, found = _frequent(wanted, rows, least=least, most=most - len(self.keys))
            self.keys = torch.cat([self.keys, keys])
            frequencies.append(found)
            place = self._places(wanted)
        self.idf = ((1.0 + count) / (1.0 + torch.cat(frequencies))).log().add(1.0).to(self.idf)
        self.weight = self.weight.new_zeros(len(self.keys), len(self.bias))

    def _wanted(self, tokens: Int[Tensor, " S"], rows: Int[Tensor, " S"], front: Int[Tensor, " S"] | None) -> Int[Tensor, " S"]:
        """Keys of the n-grams that end at each token and are one longer than those of `front`; -1 where their own front is not known."""
        if front is None:
            return tokens
        before = torch.where(rows == rows.roll(1), front.roll(1), -1)
        before[:1] = -1
        return torch.where(before >= 0, (before + 1) * self.vocabulary_size + tokens, -1)

    def _places(self, wanted: Int[Tensor, " S"]) -> Int[Tensor, " S"]:
        """Numbers of n-grams by their keys, -1 for those that are not known."""
        if not len(self.keys):
            return torch.full_like(wanted, -1)
        place = torch.searchsorted(self.keys, wanted).clamp_(max=len(self.keys) - 1)
        return torch.where(self.keys[place] == wanted, place, -1)


def _frequent(wanted: Int[Tensor, " S"], rows: Int[Tensor, " S"], *, least: int, most: int) -> tuple[Tensor, Tensor]:
    """The keys, ascending, that stand in `least` rows or more, and in how many; -1 is none."""
    there = wanted >= 0
    keys, number = torch.unique(wanted[there], return_inverse=True)
    pairs = torch.unique(rows[there] * len(keys) + number)
    frequency = torch.bincount(pairs % max(len(keys), 1), minlength=len(keys))
    chosen = torch.nonzero(frequency >= least).squeeze(1)
    if len(chosen) > most:
        chosen = chosen[frequency[chosen].argsort(descending=True, stable=True)[:most]].sort().values
    return keys[chosen], frequency[chosen]
