"""How well texts are written: what comes out beside the references, and how probable the references are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from recurra.config import EvaluationSettings
from recurra.data.batch import Batch
from recurra.data.batch import Sequence as Steps
from recurra.data.store import Ragged
from recurra.metrics.intervals import bootstrap
from recurra.metrics.translation import text_intervals, text_metrics
from recurra.model.translate.network import SOURCE, TARGET, TranslateNetwork
from recurra.model.translate.search import batches_of
from recurra.shapes import Float, Int

__all__ = ["Forced", "MeasuredTexts", "alignments", "force"]

ROWS = 128
"""Pairs that are read at the same time."""


@dataclass(frozen=True, eq=False)
class Forced:
    """The references under the model, each token after the true ones before it.

    Attributes:
        losses: (N,) minus the log-probability of each reference.
        hits: (N,) tokens that were the most probable ones.
        tokens: (N,) of each reference, its end counted.
    """

    losses: Float[np.ndarray, " N"]
    hits: Int[np.ndarray, " N"]
    tokens: Int[np.ndarray, " N"]


@dataclass(frozen=True, eq=False)
class MeasuredTexts:
    """What came out of N sources, beside what should have.

    Attributes:
        sources: as given.
        references: as given.
        texts: that came out.
        scores: mean log-probability of their tokens.
        forced: the references under the model; None of a baseline.
    """

    sources: Sequence[str]
    references: Sequence[str]
    texts: Sequence[str]
    scores: Sequence[float]
    forced: Forced | None = None

    def metrics(self, settings: EvaluationSettings, *, seed: int) -> dict[str, float]:
        """Flat metrics with their intervals; see `Translator.evaluate`."""
        options = {"samples": settings.bootstrap_samples, "seed": seed}
        found = text_metrics(self.texts, self.references)
        intervals = text_intervals(self.texts, self.references, confidence=settings.confidence, **options)
        if self.forced is not None:
            losses, hits, tokens = self.forced.losses, self.forced.hits, self.forced.tokens
            mean = losses.sum() / tokens.sum()
            found |= {
                "token_accuracy": float(hits.sum() / tokens.sum()),
                "perplexity": float(np.exp(min(mean, 700.0))),
                "loss": float(mean),
            }

            def metric(counts: Float[np.ndarray, "S N"]) -> dict[str, np.ndarray]:
                drawn = counts @ tokens
                mean = counts @ losses / drawn
                return {"token_accuracy": counts @ hits / drawn, "perplexity": np.exp(np.minimum(mean, 700.0)), "loss": mean}

            intervals |= bootstrap(metric, len(losses), confidence=settings.confidence, **options)
        ends = {f"{name}_{end}": value for name, pair in intervals.items() for end, value in zip(("low", "high"), pair, strict=True)}
        return {**found, **ends, "rows": len(self.texts)}


@torch.no_grad()
def force(network: TranslateNetwork, sources: Ragged, targets: Ragged) -> Forced:
    """The targets under the network, in evaluation mode."""
    count = len(sources)
    losses, hits, tokens = np.zeros(count), np.zeros(count, np.int64), targets.lengths + 1
    for rows in batches_of(np.maximum(sources.lengths, tokens), ROWS):
        batch = _batch(network, sources.take(rows), targets.take(rows))
        each, right = network.losses(network(batch), batch)
        starts = np.concatenate([[0], np.cumsum(tokens[rows])[:-1]])
        losses[rows] = np.add.reduceat(each.double().cpu().numpy(), starts)
        hits[rows] = np.add.reduceat(right.cpu().numpy().astype(np.int64), starts)
    return Forced(losses, hits, tokens)


@torch.no_grad()
def alignments(network: TranslateNetwork, sources: Ragged, targets: Ragged) -> list[Float[np.ndarray, "T S"]]:
    """What each token of the targets, their ends included, attended to in its source."""
    found: list[np.ndarray] = [np.zeros((0, 0))] * len(sources)
    for rows in batches_of(np.maximum(sources.lengths, targets.lengths + 1), ROWS):
        weights = network(_batch(network, sources.take(rows), targets.take(rows))).weights.float().cpu().numpy()
        for row, each in zip(rows.tolist(), weights, strict=True):
            found[row] = each[: int(targets.lengths[row]) + 1, : int(sources.lengths[row])]
    return found


def _batch(network: TranslateNetwork, sources: Ragged, targets: Ragged) -> Batch:
    inputs = {}
    for name, column in ((SOURCE, sources), (TARGET, targets)):
        values, lengths = column.pad()
        inputs[name] = Steps(torch.from_numpy(values.astype(np.int64)), torch.from_numpy(lengths))
    return Batch(inputs, {}, torch.arange(len(sources))).to(network.device)
