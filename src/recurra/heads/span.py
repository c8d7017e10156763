"""The span of a context that answers a question, or none: one softmax over all spans up to a length and "no answer"."""

from __future__ import annotations

from typing import ClassVar, NamedTuple

import numpy as np
import torch
from torch import nn

from recurra.config import Settings
from recurra.data.batch import padding_mask
from recurra.layers.dropout import StepDropout
from recurra.layers.pooling import MaxMeanPooling
from recurra.shapes import Float, Int, Tensor

__all__ = ["NO_SPAN", "SpanHead", "SpanScores"]

NO_SPAN = -1
"""Start and end of a span that is not there."""


class SpanScores(NamedTuple):
    """What a context's spans score.

    Attributes:
        spans: (B, T, L) of the span that starts at a step and has so many steps more; minus infinity beyond the context.
        nothing: (B,) of there being no answer.
    """

    spans: Float[Tensor, "B T L"]
    nothing: Float[Tensor, " B"]


class SpanHead(nn.Module):
    r"""From the vectors of context and question to scores of spans.

    With m_i of the context's steps and q of the question, after dropout,

        start_i = (W_s q) . m_i + u_s . m_i
        end_j = (W_e q) . m_j + u_e . m_j
        score(i, j) = start_i + end_j + b_{j - i}
        nothing = v . relu(V [q; max m; mean m])

    and the probabilities are one softmax over all spans of at most L steps and `nothing`. The loss is \(-\log\) of the probability
    of all references together, or of `nothing` where there is none. A reference of more than L steps is taught by its first L.

    Source: bilinear pointers, Chen et al. 2017, section 3.2; no-answer score in the same softmax and sum over references, Clark &
    Gardner 2018, sections 3.2 and 3.3. Normalizing over spans in place of starts and ends apart, and b, are ours.

    Args:
        input_size: features of a context's step.
        question_size: features of the question's vector.
        settings: `head.dropout`, `answer.longest_answer`, `answer.lengths`.
    """

    task: ClassVar[str] = "answer"
    monitor: ClassVar[str] = "f1"

    def __init__(self, input_size: int, question_size: int, *, settings: Settings) -> None:
        super().__init__()
        self.longest = settings.answer.longest_answer
        self.dropout = StepDropout(settings.head.dropout)
        self.start = nn.Linear(question_size, input_size)
        self.end = nn.Linear(question_size, input_size)
        self.steps = nn.Linear(input_size, 2, bias=False)
        self.width = nn.Parameter(torch.zeros(self.longest)) if settings.answer.lengths else None
        self.pooling = MaxMeanPooling(input_size)
        hidden = settings.encoder.hidden_size
        self.nothing = nn.Sequential(nn.Linear(question_size + self.pooling.output_size, hidden), nn.ReLU(), nn.Linear(hidden, 1))

    def forward(self, steps: Float[Tensor, "B T D"], question: Float[Tensor, "B Q"], lengths: Int[Tensor, " B"]) -> SpanScores:
        """Scores of a batch.

        Args:
            steps: of the contexts.
            question: a vector of each question.
            lengths: real steps of each context, 0 allowed.
        """
        steps, question = self.dropout(steps), self.dropout(question)
        scores = torch.einsum("btd,bpd->btp", steps, torch.stack([self.start(question), self.end(question)], 1)) + self.steps(steps)
        scores = scores.masked_fill(~padding_mask(lengths, steps.shape[1])[..., None], -torch.inf)
        ends = nn.functional.pad(scores[..., 1], (0, self.longest - 1), value=-torch.inf).unfold(1, self.longest, 1)
        spans = scores[..., 0, None] + ends
        if self.width is not None:
            spans = spans + self.width
        nothing: Tensor = self.nothing(torch.cat([question, self.pooling(steps, lengths)], 1))[:, 0]
        return SpanScores(spans, nothing)

    def loss(self, scores: SpanScores, references: Int[Tensor, "B K 2"]) -> Float[Tensor, ""]:
        """Mean loss of a batch's rows.

        Args:
            scores: of the batch.
            references: first and last step of each answer, `NO_SPAN` where there are no more.
        """
        flat = scores.spans.flatten(1)
        known = references[..., 0] >= 0
        starts, more = references[..., 0].clamp(min=0), (references[..., 1] - references[..., 0]).clamp(0, self.longest - 1)
        right = torch.zeros(len(flat), flat.shape[1] + 1, dtype=torch.bool, device=flat.device)
        right.scatter_(1, torch.where(known, starts * self.longest + more, flat.shape[1]), value=True)  # the last is for those not there
        chosen = flat.masked_fill(~right[:, :-1], -torch.inf)
        some = known.any(1)
        wanted = torch.where(some, torch.where(some[:, None], chosen, 0.0).logsumexp(1), scores.nothing)
        return (self._total(scores) - wanted).mean()

    def _total(self, scores: SpanScores) -> Float[Tensor, " B"]:
        return torch.cat([scores.spans.flatten(1), scores.nothing[:, None]], 1).logsumexp(1)

    def candidates(self, scores: SpanScores, most: int) -> Float[np.ndarray, "B C"]:
        """The best spans of each row, as an array: what predictions are made of.

        Args:
            scores: of a batch.
            most: spans of a row that are kept.

        Returns:
            (B, 1 + 3 * most) the logarithm of the odds that there is any answer, then start, last step and log-odds of each of the
            best spans, best first, against no answer; `NO_SPAN` and minus infinity where there are no more.
        """
        odds = scores.spans.double().flatten(1) - scores.nothing.double()[:, None]
        best = odds.topk(min(most, odds.shape[1]), dim=1)
        starts = best.indices // self.longest
        found = torch.stack([starts.double(), (starts + best.indices % self.longest).double(), best.values], 2)
        found[..., :2] = found[..., :2].masked_fill(best.values.isneginf()[..., None], NO_SPAN)
        empty = found.new_tensor([NO_SPAN, NO_SPAN, -torch.inf]).expand(len(found), most - found.shape[1], 3)
        rows = torch.cat([odds.logsumexp(1)[:, None], torch.cat([found, empty], 1).flatten(1)], 1)
        return np.asarray(rows.cpu())
