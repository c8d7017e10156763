"""A network over encoded columns: batches in order of length, outputs in order of the rows."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch

from recurra.config import TrainingSettings
from recurra.data.buckets import LengthBuckets
from recurra.data.loader import Loader
from recurra.data.store import Ragged, Rows, join_rows, take_rows
from recurra.features import Encoded
from recurra.model.network import Network

__all__ = ["row_lengths", "run_network"]


def run_network(network: Network, columns: Mapping[str, Encoded], settings: TrainingSettings, rows: np.ndarray | None = None) -> Rows:
    """Results of a network in evaluation mode: what its head's `predict` and `metrics` take, an entry a row.

    Args:
        network: runs where its parameters are.
        columns: encoded inputs by feature name.
        settings: batch_size and batch_tokens; without gradients four times as many rows fit.
        rows: (N,) numbers of the rows wanted, ascending; all when not given.
    """
    lengths = row_lengths(columns)
    chosen = np.arange(len(lengths)) if rows is None else rows
    if not len(chosen):
        return network.head.nothing()
    device = next(network.parameters()).device
    buckets = LengthBuckets(
        lengths[chosen], batch_size=4 * settings.batch_size, batch_tokens=2 * settings.batch_tokens, seed=settings.seed, shuffle=False
    )
    was_training = network.training
    found: list[Rows] = []
    order: list[np.ndarray] = []
    network.eval()
    with torch.inference_mode():
        for batch in Loader(columns, buckets, rows=chosen):
            moved = batch.to(device)
            found.append(network.results(network(moved), moved))
            order.append(batch.rows.numpy())
    network.train(was_training)
    return take_rows(join_rows(found), np.argsort(np.concatenate(order), kind="stable"))


def row_lengths(columns: Mapping[str, Encoded]) -> np.ndarray:
    """(N,) steps that each row costs: those of its longest sequence, 1 where there is none."""
    count = len(next(iter(columns.values())))
    lengths = np.ones(count, np.int64)
    for column in columns.values():
        if isinstance(column, Ragged):
            lengths = np.maximum(lengths, column.lengths)
    return lengths
