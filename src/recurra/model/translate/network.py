"""The network of text to text: tokens -> encoder -> decoder that attends to it -> probabilities of the next token."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import nn

from recurra.config import Settings
from recurra.data.batch import Batch, Sequence
from recurra.heads.translate import Read, TranslateHead
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
    """

    memory: AttentionMemory
    summary: Float[Tensor, "B F"]


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
        return Encoded(self.read.attention.prepare(steps, source.lengths), self.bridge(self.pooling(steps, source.lengths)))

    # --- the target -----------------------------------------------------------------------------------------------

    def forward(self, batch: Batch) -> Float[Tensor, "B T F"]:
        """What each step of the targets made of the source, the known tokens before it being read; T is one more than the longest target."""
        source, target = _sequence(batch, SOURCE), _sequence(batch, TARGET)
        encoded = self.encode(source)
        if self.training and self.sampling:
            self.batches += 1
        if self.feeding or self.covering or (self.training and self.sampling):
            return self._one_by_one(target, encoded)[0]
        return self._at_once(target, encoded)[0]

    def aligned(self, batch: Batch) -> tuple[Float[Tensor, "B T F"], Float[Tensor, "B T S"]]:
        """As `forward` in evaluation, with the weights of the attention."""
        encoded = self.encode(_sequence(batch, SOURCE))
        run = self._one_by_one if self.feeding or self.covering else self._at_once
        return run(_sequence(batch, TARGET), encoded)

    def _at_once(self, target: Sequence, encoded: Encoded) -> tuple[Tensor, Tensor]:
        inputs = self._vectors(_shifted(target, self.start), encoded.summary)
        steps, _ = self.decoder(inputs, lengths=target.lengths + 1)
        read: tuple[Tensor, Tensor] = self.read(steps, encoded.memory)
        return read

    def _one_by_one(self, target: Sequence, encoded: Encoded) -> tuple[Tensor, Tensor]:
        given = _shifted(target, self.start)
        rate = self.sampling * min(1.0, int(self.batches) / self.sampling_batches) if self.training else 0.0
        state = self.initial_state(encoded)
        # The vectors of all known tokens in one call: one mask of whole tokens for the batch, as without steps.
        vectors = self._vectors(given, encoded.summary)
        found, weights = [], []
        for position in range(given.shape[1]):
            vector = vectors[:, position]
            if rate and position:
                vector = self._sampled(vector, state.read, rate)
            read, weight, state = self._advance(vector, state, encoded)
            found.append(read)
            weights.append(weight)
        return torch.stack(found, 1), torch.stack(weights, 1)

    def _sampled(self, vector: Tensor, read: Tensor, rate: float) -> Tensor:
        """The known token's vector, or with the given probability that of a token drawn from the network's own distribution."""
        with torch.no_grad():
            drawn = self.head.logits(read, self.embedding.weight).softmax(1).multinomial(1)[:, 0] + 1
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
        summary = encoded.summary.repeat_interleave(len(tokens) // len(encoded.summary), 0)
        vector = self._vectors(tokens[:, None], summary)[:, 0]
        read, _, state = self._advance(vector, state, encoded)
        return self.head.scores(read, self.embedding.weight), state

    def _advance(self, vector: Tensor, state: DecoderState, encoded: Encoded) -> tuple[Tensor, Tensor, DecoderState]:
        """(N, F) what is read -> (N, F) what attention made of it, (N, S) its weights, the state after it."""
        inputs = torch.cat([vector, state.read], 1) if self.feeding else vector
        steps, cells = self.decoder(inputs[:, None], state.cells)
        shape = (len(encoded.summary), len(steps) // len(encoded.summary), -1)
        coverage = state.coverage.view(*shape[:2], state.coverage.shape[1]) if self.covering else None
        read, weights = self.read(steps.view(shape), encoded.memory, coverage)
        read, weights = read.flatten(0, 1), weights.flatten(0, 1)
        return read, weights, DecoderState(cells, read, state.coverage + weights if self.covering else state.coverage)

    # --- what is learnt -------------------------------------------------------------------------------------------

    def losses(self, outputs: Float[Tensor, "B T F"], batch: Batch) -> tuple[Float[Tensor, " N"], Bool[Tensor, " N"]]:
        """Minus the log-probability of each token of the targets, their ends included, row after row; and whether it was the most
        probable one.
        """
        real, answers = self._answers(_sequence(batch, TARGET))
        losses, best = self.head.losses(outputs[real], answers, self.embedding.weight)
        return losses, best == answers

    def loss(self, outputs: Float[Tensor, "B T F"], batch: Batch) -> Float[Tensor, ""]:
        """Mean loss of the batch's tokens, in training with label smoothing."""
        real, answers = self._answers(_sequence(batch, TARGET))
        return self.head.loss(outputs[real], answers, self.embedding.weight)

    def _answers(self, target: Sequence) -> tuple[Bool[Tensor, "B T"], Int[Tensor, " N"]]:
        """Where there are tokens of the targets and their ends, and which."""
        lengths = target.lengths[:, None].to(target.values.device)
        answers = nn.functional.pad(target.values, (0, 1)).scatter(1, lengths, self.end)
        real = torch.arange(answers.shape[1], device=answers.device) <= lengths
        return real, answers[real]

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
