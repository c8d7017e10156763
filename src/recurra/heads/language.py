"""The next token of a stream: softmax over the vocabulary, full or adaptive, and what regularizes the activations before it."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import nn

from recurra.config import Settings
from recurra.errors import SettingsError
from recurra.layers import VariationalDropout
from recurra.layers.linear_cross_entropy import linear_cross_entropy
from recurra.shapes import Float, Int, Tensor

__all__ = ["LanguageHead"]

PADDING = 0
"""The token that no text has, and that the full softmax gives no probability."""
SHRINKING = 4
"""How much narrower each cluster of the adaptive softmax is than the one before it (torch's default)."""


class LanguageHead(nn.Module):
    r"""From the outputs of the last layer to the probabilities of the next token.

    With h_t after dropout (one mask for all steps): \(p = \mathrm{softmax}(W P h_t + b)\), where W holds the vectors that tokens
    are read by when they are tied, and P is there where their size is not that of h_t. With cutoffs, the adaptive softmax: frequent
    tokens and the clusters of rare ones share a small softmax, and each cluster has its own behind a narrower projection.

    The loss of a batch is the mean of \(-\log p\) over its tokens, and of the activations \(\alpha\,\mathrm{mean}(h_t^2)\) after and
    \(\beta\,\mathrm{mean}((h_{t+1} - h_t)^2)\) before dropout.

    Source: tying, Press & Wolf 2017; adaptive softmax, Grave et al. 2017, section 4 (torch's module); regularization of activations,
    Merity et al. 2017, section 2.

    Args:
        input_size: D, features of an output of the last layer.
        vocabulary_size: V, padding and unknown token included; numbers ascend from the most frequent token.
        settings: of the run.

    Raises:
        SettingsError: a cutoff is not within the vocabulary, or there are too many for the width.
    """

    task: ClassVar[str] = "language"
    monitor: ClassVar[str] = "perplexity"

    def __init__(self, input_size: int, vocabulary_size: int, *, settings: Settings) -> None:
        super().__init__()
        chosen, size = settings.language, settings.embedding.size
        self.vocabulary_size = vocabulary_size
        self.activation, self.temporal = chosen.activation, chosen.temporal
        self.tied = not chosen.cutoffs if chosen.tied == "auto" else chosen.tied
        self.dropout = VariationalDropout(settings.head.dropout)
        self.projection = nn.Linear(input_size, size, bias=False) if self.tied and input_size != size else None
        self.bias: nn.Parameter | None = None
        self.output: nn.Linear | None = None
        self.adaptive: nn.AdaptiveLogSoftmaxWithLoss | None = None
        if chosen.cutoffs:
            if chosen.cutoffs[-1] >= vocabulary_size:
                raise SettingsError(
                    f"language.cutoffs={chosen.cutoffs} must lie within the vocabulary, which has {vocabulary_size:,} tokens: give smaller ones."
                )
            if input_size < SHRINKING ** len(chosen.cutoffs):
                raise SettingsError(
                    f"language.cutoffs={chosen.cutoffs} leaves the rarest tokens no features, for each cluster has a quarter of those before it and "
                    f"the last layer has {input_size}: give fewer cutoffs, or a larger encoder.hidden_size."
                )
            self.adaptive = nn.AdaptiveLogSoftmaxWithLoss(input_size, vocabulary_size, cutoffs=list(chosen.cutoffs))
        elif self.tied:
            self.bias = nn.Parameter(torch.zeros(vocabulary_size))
        else:
            self.output = nn.Linear(input_size, vocabulary_size)

    def log_probabilities(self, steps: Float[Tensor, "N D"], vectors: Float[Tensor, "V F"]) -> Float[Tensor, "N V"]:
        """Natural logarithms of the probabilities of all tokens.

        Args:
            steps: outputs of the last layer, after dropout.
            vectors: that tokens are read by; used where they are tied.
        """
        return self.scores(steps, vectors).log_softmax(1)

    def scores(self, steps: Float[Tensor, "N D"], vectors: Float[Tensor, "V F"]) -> Float[Tensor, "N V"]:
        """What the softmax turns into probabilities: logits, and with cutoffs the log-probabilities themselves."""
        if self.adaptive is not None:
            found: Tensor = self.adaptive.log_prob(steps)
            return found
        return self._logits(steps, vectors)

    def losses(self, steps: Float[Tensor, "N D"], answers: Int[Tensor, " N"], vectors: Float[Tensor, "V F"]) -> Float[Tensor, " N"]:
        """Minus the log-probability of each answer; see `log_probabilities`."""
        if self.adaptive is not None:
            found: Tensor = -self.adaptive(steps, answers).output
            return found
        return nn.functional.cross_entropy(self._logits(steps, vectors), answers, reduction="none")

    def loss(self, steps: Float[Tensor, "N D"], answers: Int[Tensor, " N"], vectors: Float[Tensor, "V F"]) -> Float[Tensor, ""]:
        """The mean of `losses`; a full softmax is never in memory as a whole."""
        if self.adaptive is not None:
            return self.losses(steps, answers, vectors).mean()
        steps, weight, bias = self._linear(steps, vectors)
        never = torch.zeros_like(bias)
        never[PADDING] = -torch.inf
        return linear_cross_entropy(steps, weight, bias + never, answers)

    def _logits(self, steps: Tensor, vectors: Tensor) -> Tensor:
        logits = nn.functional.linear(*self._linear(steps, vectors))
        logits[:, PADDING] = -torch.inf
        return logits

    def _linear(self, steps: Tensor, vectors: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What the full softmax is made of: its input, weights and bias."""
        if self.output is not None:
            return steps, self.output.weight, self.output.bias
        assert self.bias is not None
        return steps if self.projection is None else self.projection(steps), vectors, self.bias

    def regularization(self, raw: Float[Tensor, "B T D"], dropped: Float[Tensor, "B T D"]) -> Float[Tensor, ""]:
        """What is added to the loss in training.

        Args:
            raw: outputs of the last layer.
            dropped: the same after dropout.
        """
        total = raw.new_zeros(())
        if self.activation:
            total = total + self.activation * dropped.square().mean()
        if self.temporal and raw.shape[1] > 1:
            total = total + self.temporal * (raw[:, 1:] - raw[:, :-1]).square().mean()
        return total
