"""The network over windows: batches in order of length, candidates in order of the windows."""

from __future__ import annotations

import numpy as np
import torch

from recurra.config import TrainingSettings
from recurra.data.buckets import LengthBuckets
from recurra.data.loader import Loader
from recurra.model.answer.network import AnswerNetwork
from recurra.model.answer.windows import Windows
from recurra.shapes import Float

__all__ = ["CANDIDATES", "run_windows", "window_buckets"]

CANDIDATES = 20
"""Spans of a window that are kept to choose from."""


def window_buckets(windows: Windows, settings: TrainingSettings) -> LengthBuckets:
    """Batches of windows in order of length, for evaluation: without gradients four times as many fit."""
    return LengthBuckets(
        windows.inputs["context"].lengths, batch_size=4 * settings.batch_size, batch_tokens=2 * settings.batch_tokens, shuffle=False
    )


def run_windows(network: AnswerNetwork, windows: Windows, settings: TrainingSettings) -> Float[np.ndarray, "N C"]:
    """Candidates of each window; see `SpanHead.candidates`.

    Args:
        network: runs where its parameters are.
        windows: to read.
        settings: batch_size and batch_tokens.
    """
    found = np.zeros((len(windows), 1 + 3 * CANDIDATES))
    if not len(windows):
        return found
    device = next(network.parameters()).device
    was_training = network.training
    network.eval()
    with torch.inference_mode():
        for batch in Loader(windows.inputs, window_buckets(windows, settings)):
            found[batch.rows.numpy()] = network.head.candidates(network(batch.to(device)), CANDIDATES)
    network.train(was_training)
    return found
