"""The network of answers: question and context -> vectors -> stacks of cells -> attention both ways -> a stack of cells -> spans."""

from __future__ import annotations

from typing import ClassVar

import torch

from recurra.config import Settings
from recurra.data.batch import Batch, Sequence
from recurra.data.tokenize import Tokenizer
from recurra.features.text import TokenEmbedding
from recurra.heads.span import SpanHead, SpanScores
from recurra.layers.matching import AlignedAttention, BidirectionalAttention
from recurra.layers.pooling import AttentionPooling
from recurra.layers.stack import Stack
from recurra.model.answer.windows import FLAGS, HUNDREDTHS
from recurra.model.network import build_stack
from recurra.model.recurrent import RecurrentNetwork
from recurra.shapes import Float, Tensor

__all__ = ["ANSWERS", "AnswerNetwork"]

ANSWERS = "answer"
"""Name of the references in a batch's targets."""


class AnswerNetwork(RecurrentNetwork):
    """The trainable part of a model that answers.

    Question and context share the vectors of tokens and have a stack each. The context's steps are read beside the aligned question
    (`answer.aligned`), both beside what the other text holds of them (`answer.matches`), which the head sees again; with `answer.attention` the stacks' outputs
    attend to each other and a further stack of one layer reads the result. The question's vector is the weighted mean of its steps.

    Source: Chen et al. 2017, section 3.2; Seo et al. 2017, section 2.

    Args:
        tokenizer: of the vocabulary.
        settings: of the run.

    Attributes:
        head: scores of spans, and the metric that selects.
    """

    words: ClassVar[dict[str, str]] = {"reading": "context beside question"}

    def __init__(self, tokenizer: Tokenizer, settings: Settings) -> None:
        super().__init__()
        chosen = settings.answer
        self.matches = chosen.matches
        self.embedding = TokenEmbedding(tokenizer.tokens, tokenizer.kind, settings.embedding)
        size = self.embedding.output_size
        flags = FLAGS if chosen.matches else 0
        self.alignment = AlignedAttention(size) if chosen.aligned else None
        self.question = build_stack(size + flags, settings.encoder)
        self.context = build_stack(size * (2 if chosen.aligned else 1) + flags, settings.encoder)
        width = self.question.output_size
        self.attention = BidirectionalAttention(width) if chosen.attention else None
        self.reading: Stack | None = None
        if self.attention is not None:
            self.reading = build_stack(self.attention.output_size, settings.encoder.model_copy(update={"layers": 1}))
        self.pooling = AttentionPooling(width)
        read = width + flags + (self.reading.output_size if self.reading is not None else 0)
        self.head = SpanHead(read, width, settings=settings)

    def forward(self, batch: Batch) -> SpanScores:
        """Scores of all spans of each window, and of no answer."""
        asked, read = batch.inputs["question"], batch.inputs["context"]
        assert isinstance(asked, Sequence)
        assert isinstance(read, Sequence)
        question, context = (self.embedding(Sequence(each.values[..., 0], each.lengths)) for each in (asked, read))
        parts = [context] if self.alignment is None else [context, self.alignment(context, question, asked.lengths)]
        question_steps = self.question(self._beside([question], asked), lengths=asked.lengths)[0]
        steps = self.context(self._beside(parts, read), lengths=read.lengths)[0]
        if self.attention is not None and self.reading is not None:
            joined = self.attention(steps, question_steps, context_lengths=read.lengths, question_lengths=asked.lengths)
            steps = torch.cat([steps, self.reading(joined, lengths=read.lengths)[0]], 2)
        steps = self._beside([steps], read)
        found: SpanScores = self.head(steps, self.pooling(question_steps, asked.lengths), read.lengths)
        return found

    def _beside(self, parts: list[Tensor], texts: Sequence) -> Float[Tensor, "B T F"]:
        if not self.matches:
            return torch.cat(parts, 2)
        flags = texts.values[..., 1:].to(parts[0].dtype)
        return torch.cat([*parts, flags[..., :-HUNDREDTHS], flags[..., -HUNDREDTHS:] / 100.0], 2)

    def loss(self, outputs: SpanScores, batch: Batch) -> Float[Tensor, ""]:
        """Mean loss of a batch's windows."""
        return self.head.loss(outputs, batch.targets[ANSWERS])
