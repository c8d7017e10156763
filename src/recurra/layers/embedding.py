"""Token numbers as vectors, and the noise that belongs to them."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.functional import embedding

from recurra.cells.noise import check_rate, drop
from recurra.shapes import Float, Int, Tensor

__all__ = ["Embedding"]


class Embedding(nn.Module):
    """A vector for each token. Row 0 is the padding: zeros, and never trained.

    Args:
        vocabulary_size: V, padding and unknown token included.
        size: F, features of a vector.
        init_range: vectors start uniform in plus and minus this.
        dropout: share of the features of a step set to zero in training, drawn anew at each step.
        token_dropout: share of the vocabulary whose vectors are zero in a call: a token is dropped wherever it stands
            (Gal & Ghahramani 2016, section 4.2).
        sparse: row-sparse gradients, for an optimizer that takes them.
        vectors: (V, F) start of the vectors; rows that are NaN keep their random start.

    Attributes:
        weight: (V, F).
        size: F.
        output_size: F.

    Raises:
        SettingsError: a share is out of range.
        ValueError: the vectors are of another shape.
    """

    def __init__(
        self,
        vocabulary_size: int,
        size: int,
        *,
        init_range: float = 0.05,
        dropout: float = 0.0,
        token_dropout: float = 0.0,
        sparse: bool = False,
        vectors: Float[Tensor, "V F"] | None = None,
    ) -> None:
        super().__init__()
        check_rate("dropout", dropout)
        check_rate("token_dropout", token_dropout)
        self.size = self.output_size = size
        self.dropout = dropout
        self.token_dropout = token_dropout
        self.sparse = sparse
        self.weight = nn.Parameter(torch.empty(vocabulary_size, size).uniform_(-init_range, init_range))
        with torch.no_grad():
            if vectors is not None:
                if vectors.shape != self.weight.shape:
                    raise ValueError(f"The vectors must be of shape {tuple(self.weight.shape)}, not {tuple(vectors.shape)}.")
                self.weight.copy_(torch.where(vectors.isnan(), self.weight, vectors))
            self.weight[0] = 0.0

    def forward(self, tokens: Int[Tensor, "..."]) -> Float[Tensor, "... F"]:
        """The tokens' vectors; zeros where the padding's number 0 stands."""
        x = embedding(tokens, self.weight, padding_idx=0, sparse=self.sparse)
        if not self.training:
            return x
        if self.token_dropout:
            kept = drop(x.new_ones(len(self.weight)), self.token_dropout)
            x = x * kept[tokens][..., None]
        return drop(x, self.dropout) if self.dropout else x

    def extra_repr(self) -> str:
        """Sizes, for `print(module)`."""
        return f"{len(self.weight)}, {self.size}"
