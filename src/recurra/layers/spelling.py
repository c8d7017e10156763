"""How a token is spelt, as a vector: its characters through a small recurrent network or by n-grams, and its shape.

Not inside: how a token becomes numbers (`recurra.features.spelling`).
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import nn

from recurra.cells import LSTMCell
from recurra.layers.embedding import Embedding
from recurra.layers.hashed import TokenNgrams
from recurra.layers.pooling import LastPooling
from recurra.layers.stack import Stack
from recurra.shapes import Float, Int, Tensor

__all__ = ["Spelling"]

LONGEST_NGRAM = 4
"""Of characters."""
NGRAM_BUCKETS = 30_000
"""Vectors that all n-grams of characters share by hash."""
SHAPE_SIZE = 8
"""Features of a shape's vector."""


class Spelling(nn.Module):
    """Shape and character numbers of tokens to vectors, (B, T, 1 + K) to (B, T, F).

    Source: Lample et al. 2016, section 4.1 (the recurrent network over characters); Collobert et al. 2011, section 6.1 (the shape).

    Args:
        characters: numbers of characters, 0 for none there.
        shapes: numbers of shapes; 0 leaves the shape out.
        way: recurrent, ngrams, or none of the characters.
        size: features of a character's vector, and units of each direction (of an n-gram's vector).
    """

    def __init__(self, characters: int, shapes: int, *, way: Literal["recurrent", "ngrams", "none"], size: int) -> None:
        super().__init__()
        self.shape = Embedding(shapes, SHAPE_SIZE) if shapes else None
        self.characters = Embedding(characters, size, init_range=0.1) if way == "recurrent" else None
        self.reader = Stack(LSTMCell, size, size, bidirectional=True) if way == "recurrent" else None
        self.pooling = LastPooling(2 * size, bidirectional=True)
        self.ngrams = TokenNgrams(LONGEST_NGRAM, NGRAM_BUCKETS, size, init_range=0.1) if way == "ngrams" else None
        self._size = {"recurrent": 2 * size, "ngrams": size, "none": 0}[way]
        self.output_size = (SHAPE_SIZE if shapes else 0) + self._size

    def forward(self, spelt: Int[Tensor, "B T K1"]) -> Float[Tensor, "B T F"]:
        """The vectors; zeros come from padding, whose numbers are 0."""
        parts = [self.shape(spelt[..., 0])] if self.shape is not None else []
        if self.reader is not None or self.ngrams is not None:
            rows = spelt[..., 1:].flatten(0, 1)
            parts.append(self._characters(rows).view(*spelt.shape[:2], self._size))
        return torch.cat(parts, dim=-1) if parts else spelt.new_zeros(*spelt.shape[:2], 0, dtype=torch.float32)

    def _characters(self, rows: Int[Tensor, "N K"]) -> Float[Tensor, "N F"]:
        lengths = (rows != 0).sum(1)
        rows = rows[:, : max(1, int(lengths.max())) if len(rows) else 1]
        if self.ngrams is not None:
            summed: Tensor = (self.ngrams(rows) * (rows != 0)[..., None]).sum(1)
            return summed / lengths.clamp(min=1).sqrt()[:, None]
        assert self.characters is not None
        assert self.reader is not None
        steps, _ = self.reader(self.characters(rows), lengths=lengths)
        vectors: Tensor = self.pooling(steps, lengths)
        return vectors
