"""The network of a language model: tokens -> vectors -> stack of cells -> probabilities of the next token."""

from __future__ import annotations

from typing import Any, NamedTuple

from recurra.config import Settings
from recurra.errors import SettingsError
from recurra.heads.language import LanguageHead
from recurra.layers import Embedding
from recurra.model.language.batch import TokenBatch
from recurra.model.network import build_stack
from recurra.model.recurrent import RecurrentNetwork
from recurra.shapes import Float, Tensor

__all__ = ["LanguageNetwork", "Outputs"]


class Outputs(NamedTuple):
    """Outputs of the last layer.

    Attributes:
        raw: (B, T, D).
        dropped: (B, T, D) after dropout; the same in evaluation.
    """

    raw: Float[Tensor, "B T D"]
    dropped: Float[Tensor, "B T D"]


class LanguageNetwork(RecurrentNetwork):
    """The trainable part of a language model.

    Args:
        vocabulary_size: V, padding and unknown token included.
        settings: of the run.

    Attributes:
        embedding: (V, F) what is read; also what predicts where both are tied.
        encoder: the stack of cells.
        head: the softmax, and the metric that selects.

    Raises:
        SettingsError: the encoder reads both ways, or a cutoff is not within the vocabulary.
    """

    def __init__(self, vocabulary_size: int, settings: Settings) -> None:
        super().__init__()
        if settings.encoder.bidirectional:
            raise SettingsError("The next token cannot be read from both ends: leave encoder.bidirectional out, or set it to false.")
        chosen = settings.embedding
        self.embedding = Embedding(
            vocabulary_size, chosen.size, init_range=chosen.init_range, dropout=chosen.dropout, token_dropout=chosen.token_dropout
        )
        self.encoder = build_stack(chosen.size, settings.encoder)
        self.head = LanguageHead(self.encoder.output_size, vocabulary_size, settings=settings)

    def initial_state(self, rows: int) -> tuple[Any, ...]:
        """The state before a stream's first token."""
        return self.encoder.initial_state(rows)

    def carry(self, batch: TokenBatch, state: tuple[Any, ...] | None) -> tuple[Outputs, tuple[Any, ...]]:
        """The outputs of a window that goes on where another one ended, and the state after it.

        Args:
            batch: its resets say where streams begin.
            state: after the window before; None for the first.
        """
        reset = batch.reset if bool(batch.reset.any()) else None
        raw, after = self.encoder(self.embedding(batch.tokens), state, lengths=batch.lengths, reset=reset)
        return Outputs(raw, self.head.dropout(raw)), after

    def forward(self, batch: TokenBatch) -> Outputs:
        """The outputs of a window that goes on from nothing; see `carry`."""
        return self.carry(batch, None)[0]

    def losses(self, outputs: Outputs, batch: TokenBatch) -> Float[Tensor, " N"]:
        """Minus the log-probability of each answer, row after row."""
        real = batch.answers >= 0
        return self.head.losses(outputs.dropped[real], batch.answers[real], self.embedding.weight)

    def loss(self, outputs: Outputs, batch: TokenBatch) -> Float[Tensor, ""]:
        """Mean loss of the window's tokens, in training with the regularization of activations."""
        real = batch.answers >= 0
        mean = self.head.loss(outputs.dropped[real], batch.answers[real], self.embedding.weight)
        return mean + self.head.regularization(outputs.raw, outputs.dropped) if self.training else mean

    def log_probabilities(self, steps: Float[Tensor, "N D"]) -> Float[Tensor, "N V"]:
        """Natural logarithms of the probabilities of all tokens after each step."""
        return self.head.log_probabilities(steps, self.embedding.weight)
