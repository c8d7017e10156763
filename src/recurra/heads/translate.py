"""The tokens of another text: attention over the source after the decoder, the softmax over the vocabulary, and what is copied."""

from __future__ import annotations

from typing import ClassVar, NamedTuple

import torch
from torch import nn

from recurra.config import Settings
from recurra.layers import Attention, AttentionMemory, StepDropout
from recurra.layers.linear_cross_entropy import linear_cross_entropy
from recurra.shapes import Float, Int, Tensor

__all__ = ["Decoded", "Read", "TranslateHead"]


class Decoded(NamedTuple):
    """What steps of the decoder made of the source.

    Attributes:
        read: (*N, F) the steps with what they attend to.
        weights: (*N, S) of the attention.
    """

    read: Float[Tensor, "*N F"]
    weights: Float[Tensor, "*N S"]


class Read(nn.Module):
    r"""What a step of the decoder makes of the source: \(a_t = \tanh(W [h_t; c_t])\), where c_t is what it attends to.

    Source: Luong et al. 2015, section 3, equation 5.

    Args:
        decoder_size: D, features of a step of the decoder.
        source_size: E, features of a step of the source.
        settings: of the run.
    """

    def __init__(self, decoder_size: int, source_size: int, settings: Settings) -> None:
        super().__init__()
        chosen = settings.translate
        self.attention = Attention(
            decoder_size,
            source_size,
            decoder_size if chosen.attention_size == "auto" else chosen.attention_size,
            score=chosen.attention,
            coverage=chosen.coverage,
        )
        self.combine = nn.Linear(decoder_size + source_size, settings.embedding.size, bias=False)

    def forward(self, steps: Float[Tensor, "B N D"], memory: AttentionMemory, coverage: Float[Tensor, "B N S"] | None = None) -> Decoded:
        """The steps with what they attend to.

        Args:
            steps: of the decoder; N of each source.
            memory: of `attention.prepare`.
            coverage: sums of the weights so far, where the attention takes them.
        """
        attended = self.attention.many(steps, memory, coverage)
        read: Tensor = self.combine(torch.cat([steps, attended.context], 2)).tanh()
        return Decoded(read, attended.weights)


class TranslateHead(nn.Module):
    r"""From what a step of the decoder made of the source to the probabilities of the next token: \(\mathrm{softmax}(V a_t + b)\).

    V holds the vectors that tokens are read by when they are tied. Padding and the token that begins a text have no probability. The
    loss of a batch is the mean cross-entropy of its tokens, with label smoothing (Szegedy et al. 2016, section 7) where it is set.

    With `translate.copying` a token is drawn from that softmax with probability \(g_t\) and else is a token of the source, by the weights of
    the attention: \(P(w) = g_t \, \mathrm{softmax}(V a_t + b)_w + (1 - g_t) \sum_{s: x_s = w} \alpha_{ts}\), where \(g_t = \sigma(u a_t + c)\). Source:
    See et al. 2017, section 2.2, equations 8 and 9; here the two parts know each other's tokens by the joint vocabulary, and \(g_t\) reads \(a_t\).

    Args:
        vocabulary_size: tokens that are written: all but padding and the one that begins a text.
        settings: of the run.

    Attributes:
        copies: whether tokens of the source are copied.
    """

    task: ClassVar[str] = "translate"
    monitor: ClassVar[str] = "bleu"

    def __init__(self, vocabulary_size: int, settings: Settings) -> None:
        super().__init__()
        self.copies = settings.translate.copying
        self.smoothing = settings.head.label_smoothing
        self.dropout = StepDropout(settings.head.dropout)
        self.bias = nn.Parameter(torch.zeros(vocabulary_size))
        self.output = None if settings.translate.tied else nn.Linear(settings.embedding.size, vocabulary_size, bias=False)
        self.gate = nn.Linear(settings.embedding.size, 1) if self.copies else None

    def logits(self, decoded: Decoded, vectors: Float[Tensor, "V F"], source: Int[Tensor, "N S"] | None = None) -> Float[Tensor, "N C"]:
        """Of the tokens 1 to C, in their order; log-probabilities where tokens are copied.

        Args:
            decoded: of `Read`, N steps.
            vectors: that tokens are read by, row 0 the padding and the last one the token that begins a text.
            source: tokens that each step attends to; read where tokens are copied.
        """
        logits: Tensor = nn.functional.linear(self.dropout(decoded.read), self._weight(vectors), self.bias)
        if self.gate is None or source is None:
            return logits
        copied = (1.0 - self.gate(decoded.read).sigmoid()) * decoded.weights
        # An empty source has no weights: all of the probability is the softmax's.
        written = (1.0 - copied.sum(1, keepdim=True)) * logits.softmax(1)
        both = written.scatter_add(1, (source - 1).clamp_min(0), copied.to(written.dtype))
        logarithms: Tensor = both.clamp_min(torch.finfo(both.dtype).tiny).log()
        return logarithms

    def _weight(self, vectors: Tensor) -> Tensor:
        return vectors[1 : len(self.bias) + 1] if self.output is None else self.output.weight

    def scores(self, decoded: Decoded, vectors: Float[Tensor, "V F"], source: Int[Tensor, "N S"] | None = None) -> Float[Tensor, "N C+1"]:
        """`logits` by the number of the token, minus infinity for the padding: what decoding asks for."""
        logits = self.logits(decoded, vectors, source)
        return torch.cat([logits.new_full((len(logits), 1), -torch.inf), logits], 1)

    def losses(
        self, decoded: Decoded, answers: Int[Tensor, " N"], vectors: Float[Tensor, "V F"], source: Int[Tensor, "N S"] | None = None
    ) -> tuple[Float[Tensor, " N"], Int[Tensor, " N"]]:
        """Minus the log-probability of each answer, and the most probable token in its place."""
        logits = self.logits(decoded, vectors, source)
        return nn.functional.cross_entropy(logits, answers - 1, reduction="none"), logits.argmax(1) + 1

    def loss(
        self, decoded: Decoded, answers: Int[Tensor, " N"], vectors: Float[Tensor, "V F"], source: Int[Tensor, "N S"] | None = None
    ) -> Float[Tensor, ""]:
        """The mean, in training with label smoothing; the scores are never in memory as a whole, unless tokens are copied."""
        smoothing = self.smoothing if self.training else 0.0
        if self.copies:
            return nn.functional.cross_entropy(self.logits(decoded, vectors, source), answers - 1, label_smoothing=smoothing)
        return linear_cross_entropy(self.dropout(decoded.read), self._weight(vectors), self.bias, answers - 1, smoothing=smoothing)
