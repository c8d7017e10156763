"""The batches of a language model: one stream of tokens, cut into rows and read window by window."""

from __future__ import annotations

import numpy as np
import torch

from recurra.config import Settings
from recurra.data.streams import Streams
from recurra.model.language.batch import TokenBatch
from recurra.shapes import Int
from recurra.training.streams import StreamBatches

__all__ = ["TokenLoader", "train_loader", "validation_loader"]

FEWEST_ROW_TOKENS = 2_000
"""Tokens of a row of the validation part, so that few are predicted from the nothing that rows begin with."""


class TokenLoader(StreamBatches[TokenBatch]):
    """Windows of a stream, each with the tokens that come next.

    A window depends on the seed, the epoch and its number alone.

    Args:
        tokens: the stream.
        streams: which positions make a window; of all tokens but the last, which has none after it.
        scaled: learning rates go with the lengths of windows.
    """

    def __init__(self, tokens: Int[np.ndarray, " N"], streams: Streams, *, scaled: bool = False) -> None:
        super().__init__(streams)
        self._tokens = tokens
        self._scaled = scaled

    def make(self, number: int) -> TokenBatch:
        """One batch; see `StreamBatches`."""
        window = self.streams[number]
        steps = window.positions.shape[1]
        real = np.arange(steps) < window.lengths[:, None]
        answers = np.where(real, self._tokens[window.positions + 1], -1).astype(np.int64)
        return TokenBatch(
            torch.from_numpy(self._tokens[window.positions].astype(np.int64)),
            torch.from_numpy(answers),
            torch.from_numpy(window.lengths),
            torch.from_numpy(window.reset),
            steps / self.streams.window if self._scaled else 1.0,
        )


def train_loader(tokens: Int[np.ndarray, " N"], settings: Settings) -> TokenLoader:
    """`training.batch_size` rows of the training part, fewer where they would be shorter than a window."""
    chosen, training = settings.language, settings.training
    rows = max(1, min(training.batch_size, (len(tokens) - 1) // chosen.window))
    streams = Streams(
        [0], [len(tokens) - 1], rows=rows, window=chosen.window, whole=False, random_windows=chosen.random_windows, seed=training.seed
    )
    return TokenLoader(tokens, streams, scaled=chosen.random_windows)


def validation_loader(tokens: Int[np.ndarray, " N"], settings: Settings) -> TokenLoader:
    """Rows of the validation part, long ones; the figures of a finished model come from a single one."""
    rows = max(1, min(settings.training.batch_size, len(tokens) // FEWEST_ROW_TOKENS))
    streams = Streams([0], [len(tokens) - 1], rows=rows, window=settings.language.window, whole=False, shuffle=False)
    return TokenLoader(tokens, streams)
