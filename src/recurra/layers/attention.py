"""Attention of a decoder's step over the steps of an encoder: additive or multiplicative, with coverage where wanted."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import nn

from recurra.data.batch import padding_mask
from recurra.errors import SettingsError, nearest
from recurra.shapes import Bool, Float, Int, Tensor

__all__ = ["ATTENTIONS", "Attended", "Attention", "AttentionMemory"]

ATTENTIONS = ("additive", "multiplicative")
"""How a query and a key make a score."""


class AttentionMemory(NamedTuple):
    """What is attended to, made ready once for all steps of a decoder. `recurra.cells.state.select` reorders its rows.

    Attributes:
        keys: (B, S, K) projected.
        values: (B, S, E), zero in the padding.
        real: (B, S) true where a step is real.
    """

    keys: Float[Tensor, "B S K"]
    values: Float[Tensor, "B S E"]
    real: Bool[Tensor, "B S"]


class Attended(NamedTuple):
    """What came of attending.

    Attributes:
        context: (B, E) the weighted mean of the values; zero where a row has none. Of N queries a row, (B, N, E).
        weights: (B, S), of sum one over the real steps. Of N queries a row, (B, N, S).
    """

    context: Float[Tensor, "B *N E"]
    weights: Float[Tensor, "B *N S"]


class Attention(nn.Module):
    """One head of attention from a query to the steps of a sequence.

    A step s scores, for the query q and its value v_s,

        additive        w . tanh(W q + U v_s + b)               (Bahdanau et al. 2015, appendix A.1.2)
        multiplicative  (W q) . (U v_s) / sqrt(K)               (Luong et al. 2015, section 3.1 "general", scaled as Vaswani et al. 2017)

    and with coverage the first has c_s k more inside the tanh, where c_s is the sum of the weights that s has had so far and k is
    learnt. Source of coverage: See et al. 2017, equation 11.

    Args:
        query_size: Q, features of the query.
        value_size: E, features of a step that is attended to.
        size: K, features in which they meet.
        score: one of `ATTENTIONS`.
        coverage: let a score know how much a step was attended to before (additive only).

    Raises:
        SettingsError: there is no such score, or it has no place for coverage.
    """

    def __init__(
        self,
        query_size: int,
        value_size: int,
        size: int,
        *,
        score: str = "additive",
        coverage: bool = False,
    ) -> None:
        super().__init__()
        if score not in ATTENTIONS:
            raise SettingsError(f"There is no attention {score!r}.{nearest(score, ATTENTIONS)}")
        if coverage and score != "additive":
            raise SettingsError("Coverage is a summand of the additive score: use score='additive', or leave coverage out.")
        self.score = score
        self.scale = 1.0 / math.sqrt(size)
        self.query = nn.Linear(query_size, size, bias=score == "additive")
        self.key = nn.Linear(value_size, size, bias=False)
        self.energy = nn.Linear(size, 1, bias=False) if score == "additive" else None
        self.covered = nn.Linear(1, size, bias=False) if coverage else None

    def prepare(self, values: Float[Tensor, "B S E"], lengths: Int[Tensor, " B"]) -> AttentionMemory:
        """The steps to attend to, projected once.

        Args:
            values: the steps; what stands beyond a row's length means nothing.
            lengths: real steps of each row, 0 allowed.
        """
        real = padding_mask(lengths.to(values.device), values.shape[1])
        values = values.masked_fill(~real[..., None], 0.0)
        return AttentionMemory(self.key(values), values, real)

    def forward(self, query: Float[Tensor, "B Q"], memory: AttentionMemory, coverage: Float[Tensor, "B S"] | None = None) -> Attended:
        """Attend once.

        Args:
            query: of each row.
            memory: of `prepare`.
            coverage: sums of the weights so far; none before the first step, and where the layer was made without.

        Raises:
            SettingsError: coverage is given to a layer that was made without.
        """
        attended = self.many(query[:, None], memory, None if coverage is None else coverage[:, None])
        return Attended(attended.context[:, 0], attended.weights[:, 0])

    def many(self, queries: Float[Tensor, "B N Q"], memory: AttentionMemory, coverage: Float[Tensor, "B N S"] | None = None) -> Attended:
        """Attend with several queries a row at once: all steps of a decoder, or all hypotheses of a search. See `forward`."""
        real = memory.real[:, None]
        scores = self._scores(self.query(queries), memory.keys, coverage).masked_fill(~real, -torch.inf)
        nothing = ~real.any(2, keepdim=True)
        weights = scores.masked_fill(nothing, 0.0).softmax(2).masked_fill(~real, 0.0)
        return Attended(torch.bmm(weights, memory.values), weights)

    def _scores(self, query: Tensor, keys: Tensor, coverage: Tensor | None) -> Tensor:
        if coverage is not None and self.covered is None:
            raise SettingsError("This attention was made without coverage: make it with coverage=True.")
        if self.energy is None:
            return torch.bmm(query, keys.transpose(1, 2)) * self.scale
        summed = keys[:, None] + query[:, :, None]
        if self.covered is not None and coverage is not None:
            summed = summed + self.covered(coverage[..., None])
        scores: Tensor = self.energy(summed.tanh())[..., 0]
        return scores
