"""The network of text to text: tokens -> encoder -> decoder that attends to it -> probabilities of the next token."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import nn

from recurra.config import Settings
from recurra.data.batch import Batch, Sequence
from recurra.heads.translate import Decoded, Read, TranslateHead
from recurra.layers import AttentionMemory, Embedding, build_pooling
from recurra.model.network import build_stack
from recurra.model.recurrent import RecurrentNetwork
from recurra.shapes import Bool, Float, Int, Tensor

__all__ = ["DecoderState", "Encoded", "TranslateNetwork"]

SOURCE, TARGET = "source", "target"
"""Names of the sequences in a batch."""


class Encoded(NamedTuple):
    """What the encoder made of the sources.

    Attributes:
        memory: what the decoder attends to.
        summary: (B, F) what the decoder reads beside the token that begins a text.
        tokens: (B, S) of the sources, which may be copied.
    """

    memory: AttentionMemory
    summary: Float[Tensor, "B F"]
    tokens: Int[Tensor, "B S"]


class DecoderState(NamedTuple):
    """Where a decoder stands, of N outputs.

    Attributes:
        cells: state of its stack.
        read: (N, F) what attention made of the step before.
        coverage: (N, S) sum of the weights so far.
    """

    cells: tuple[Any, ...]
    read: Float[Tensor, "N F"]
    coverage: Float[Tensor, "N S"]


class TranslateNetwork(RecurrentNetwork):
    r"""The trainable part of a model of text to text.

    The encoder reads the source. The decoder begins with the vector of the beginning plus a linear map of the pooled source, and reads
    the target token by token; each of its steps attends to the source afterwards (Luong et al. 2015), so that the whole target goes
    through the stack in one call. With input feeding, coverage or sampling a step needs the one before, and they go one by one.

    Args:
        codec_size: tokens of the vocabulary, padding and unknown token included; two more are the end and the beginning of a text.
        settings: of the run.

    Attributes:
        end: number of the token that ends a target.
        start: number of the token that begins it.
        embedding: (V, F) what is read; also what writes where both are tied.
        encoder: the stack that reads the source.
        decoder: the stack that writes the target.
        batches: training batches so far, which the share of sampled tokens rises with.
    """

    batches: Tensor

    def __init__(self, codec_size: int, settings: Settings) -> None:
        super().__init__()
        chosen, size = settings.translate, settings.embedding.size
        self.end, self.start = codec_size, codec_size + 1
        self.feeding, self.covering = chosen.input_feeding, chosen.coverage
        self.sampling, self.sampling_batches = chosen.sampling, chosen.sampling_batches
        self.embedding = Embedding(
            codec_size + 2,
            size,
            init_range=settings.embedding.init_range,
            dropout=settings.embedding.dropout,
            token_dropout=settings.embedding.token_dropout,
        )
        self.encoder = build_stack(size, settings.encoder)
        width = self.encoder.output_size
        self.pooling = build_pooling(settings.encoder.pooling, width, bidirectional=settings.encoder.bidirectional)
        self.bridge = nn.Linear(self.pooling.output_size, size)
        decoder = settings.encoder.model_copy(
            update={
                "bidirectional": False,
                "layers": chosen.decoder_layers,
                "hidden_size": width if chosen.decoder_size == "auto" else chosen.decoder_size,
                "between_dropout": settings.encoder.between_dropout if chosen.decoder_layers > 1 else 0.0,
                "variational": settings.encoder.variational and chosen.decoder_layers > 1,
            }
        )
        self.decoder = build_stack(size * (1 + self.feeding), decoder)
        self.read = Read(self.decoder.output_size, width, settings)
        self.head = TranslateHead(codec_size, settings)
        self.register_buffer("batches", torch.zeros((), dtype=torch.int64), persistent=self.sampling > 0)

    # --- the source -----------------------------------------------------------------------------------------------

    def encode(self, source: Sequence) -> Encoded:
        """Read the sources."""
        steps, _ = self.encoder(self.embedding(source.values), lengths=source.lengths)
        memory = self.read.attention.prepare(steps, source.lengths)
        return Encoded(memory, self.bridge(self.pooling(steps, source.lengths)), source.values)

    # --- the target -----------------------------------------------------------------------------------------------

    def forward(self, batch: Batch) -> Decoded:
        """What each step of the targets made of the source, the known tokens before it being read.

        Returns:
            `read` (B, T, F) and `weights` (B, T, S), where T is one more than the longest target.
        """
        source, target = _sequence(batch, SOURCE), _sequence(batch, TARGET)
        encoded = self.encode(source)
        if self.training and self.sampling:
            self.batches += 1
        if self.feeding or self.covering or (self.training and self.sampling):
            return self._one_by_one(target, encoded)
        inputs = self._vectors(_shifted(target, self.start), encoded.summary)
        steps, _ = self.decoder(inputs, lengths=target.lengths + 1)
        decoded: Decoded = self.read(steps, encoded.memory)
        return decoded

    def _one_by_one(self, target: Sequence, encoded: Encoded) -> Decoded:
        given = _shifted(target, self.start)
        rate = self.sampling * min(1.0, int(self.batches) / self.sampling_batches) if self.training else 0.0
        state = self.initial_state(encoded)
        # The vectors of all known tokens in one call: one mask of whole tokens for the batch, as without steps.
        vectors = self._vectors(given, encoded.summary)
        found: list[Decoded] = []
        for position in range(given.shape[1]):
            vector = vectors[:, position]
            if rate and position:
                vector = self._sampled(vector, found[-1], encoded.tokens, rate)
            decoded, state = self._advance(vector, state, encoded)
            found.append(decoded)
        return Decoded(torch.stack([each.read for each in found], 1), torch.stack([each.weights for each in found], 1))

    def _sampled(self, vector: Tensor, before: Decoded, source: Tensor, rate: float) -> Tensor:
        """The known token's vector, or with the given probability that of a token drawn from the network's own distribution."""
        with torch.no_grad():
            drawn = self.head.logits(before, self.embedding.weight, source).softmax(1).multinomial(1)[:, 0] + 1
            chosen = torch.rand(len(drawn), 1, device=drawn.device) < rate
        return torch.where(chosen, self.embedding(drawn), vector)

    def _vectors(self, tokens: Int[Tensor, "N T"], summary: Float[Tensor, "N F"]) -> Float[Tensor, "N T F"]:
        """What the decoder reads: the tokens' vectors, at the beginning with the summary of the source."""
        vectors: Tensor = self.embedding(tokens) + summary[:, None] * (tokens == self.start)[..., None]
        return vectors

    # --- one step -------------------------------------------------------------------------------------------------

    def initial_state(self, encoded: Encoded) -> DecoderState:
        """Before the first token of one output for each source."""
        rows, positions = encoded.memory.real.shape
        empty = encoded.summary.new_zeros
        return DecoderState(self.decoder.initial_state(rows), empty(rows, self.embedding.size), empty(rows, positions))

    def step(self, tokens: Int[Tensor, " N"], state: DecoderState, encoded: Encoded) -> tuple[Float[Tensor, "N C"], DecoderState]:
        """Read one token of each output; the scores of the next one, by number.

        Args:
            tokens: of N outputs, as many for each source as for any other, those of one source side by side.
            state: of the N outputs.
            encoded: of the sources.
        """
        times = len(tokens) // len(encoded.summary)
        vector = self._vectors(tokens[:, None], encoded.summary.repeat_interleave(times, 0))[:, 0]
        decoded, state = self._advance(vector, state, encoded)
        source = encoded.tokens.repeat_interleave(times, 0) if self.head.copies else None
        return self.head.scores(decoded, self.embedding.weight, source), state

    def _advance(self, vector: Tensor, state: DecoderState, encoded: Encoded) -> tuple[Decoded, DecoderState]:
        """(N, F) what is read -> what attention made of it, and the state after it."""
        inputs = torch.cat([vector, state.read], 1) if self.feeding else vector
        steps, cells = self.decoder(inputs[:, None], state.cells)
        shape = (len(encoded.summary), len(steps) // len(encoded.summary), -1)
        coverage = state.coverage.view(*shape[:2], state.coverage.shape[1]) if self.covering else None
        read, weights = self.read(steps.view(shape), encoded.memory, coverage)
        decoded = Decoded(read.flatten(0, 1), weights.flatten(0, 1))
        return decoded, DecoderState(cells, decoded.read, state.coverage + decoded.weights if self.covering else state.coverage)

    # --- what is learnt -------------------------------------------------------------------------------------------

    def losses(self, outputs: Decoded, batch: Batch) -> tuple[Float[Tensor, " N"], Bool[Tensor, " N"]]:
        """Minus the log-probability of each token of the targets, their ends included, row after row; and whether it was the most
        probable one.
        """
        decoded, answers, source = self._answers(outputs, batch)
        losses, best = self.head.losses(decoded, answers, self.embedding.weight, source)
        return losses, best == answers

    def loss(self, outputs: Decoded, batch: Batch) -> Float[Tensor, ""]:
        """Mean loss of the batch's tokens, in training with label smoothing."""
        decoded, answers, source = self._answers(outputs, batch)
        return self.head.loss(decoded, answers, self.embedding.weight, source)

    def _answers(self, outputs: Decoded, batch: Batch) -> tuple[Decoded, Int[Tensor, " N"], Int[Tensor, "N S"] | None]:
        """The steps that have a token of the targets or an end after them, which it is, and where tokens are copied those of the source."""
        target = _sequence(batch, TARGET)
        lengths = target.lengths[:, None].to(target.values.device)
        answers = nn.functional.pad(target.values, (0, 1)).scatter(1, lengths, self.end)
        real = torch.arange(answers.shape[1], device=answers.device) <= lengths
        source = _sequence(batch, SOURCE).values[real.nonzero()[:, 0]] if self.head.copies else None
        return Decoded(outputs.read[real], outputs.weights[real]), answers[real], source

    def explain_backend(self) -> str:
        """What computes the recurrences, and why."""
        lines = {"encoder": self.encoder.explain_backend(), "decoder": self.decoder.explain_backend()}
        told = "\n".join(f"{name} {line}" for name, text in lines.items() for line in text.splitlines())
        reasons = {"input feeding": self.feeding, "coverage": self.covering, "sampling": self.sampling > 0}
        slow = [name for name, there in reasons.items() if there]
        return told + (f"\ndecoder step by step, because of {', '.join(slow)}" if slow else "")


def _sequence(batch: Batch, name: str) -> Sequence:
    found = batch.inputs[name]
    assert isinstance(found, Sequence)
    return found


def _shifted(target: Sequence, start: int) -> Int[Tensor, "B T+1"]:
    """What is read: the token that begins a text, and then the target."""
    return nn.functional.pad(target.values, (1, 0), value=start)
