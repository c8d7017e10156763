"""The batches of a language model: one stream of tokens, cut into rows and read window by window."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch

from recurra.config import Settings
from recurra.data.streams import Streams
from recurra.model.language.batch import TokenBatch
from recurra.shapes import Int

__all__ = ["TokenLoader", "train_loader", "validation_loader"]

FEWEST_ROW_TOKENS = 2_000
"""Tokens of a row of the validation part, so that few are predicted from the nothing that rows begin with."""


class TokenLoader:
    """Windows of a stream, each with the tokens that come next.

    A window depends on the seed, the epoch and its number alone.

    Args:
        tokens: the stream.
        streams: which positions make a window; of all tokens but the last, which has none after it.
        scaled: learning rates go with the lengths of windows.
    """

    def __init__(self, tokens: Int[np.ndarray, " N"], streams: Streams, *, scaled: bool = False) -> None:
        self._tokens = tokens
        self._streams = streams
        self._scaled = scaled
        self._epoch = self._start = self._position = 0

    def __len__(self) -> int:
        return len(self._streams)

    def set_epoch(self, epoch: int) -> None:
        """Go to the start of an epoch, counted from 0."""
        self._epoch, self._start, self._position = epoch, 0, 0
        self._streams.set_epoch(epoch)

    def state_dict(self) -> dict[str, int]:
        """The epoch, and how many of its windows have been handed out."""
        return {"epoch": self._epoch, "position": self._position}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on after the windows that had been handed out."""
        self.set_epoch(int(state["epoch"]))
        self._start = self._position = int(state["position"])

    def __iter__(self) -> Iterator[TokenBatch]:
        self._position, self._start = self._start, 0
        for number in range(self._position, len(self._streams)):
            self._position += 1
            yield self._make(number)

    def _make(self, number: int) -> TokenBatch:
        window = self._streams[number]
        steps = window.positions.shape[1]
        real = np.arange(steps) < window.lengths[:, None]
        answers = np.where(real, self._tokens[window.positions + 1], -1).astype(np.int64)
        return TokenBatch(
            torch.from_numpy(self._tokens[window.positions].astype(np.int64)),
            torch.from_numpy(answers),
            torch.from_numpy(window.lengths),
            torch.from_numpy(window.reset),
            steps / self._streams.window if self._scaled else 1.0,
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
