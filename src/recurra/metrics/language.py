"""How well a text was predicted: perplexity, bits per character, and how often the most probable token was the right one.

Tokens of one text are not independent, so intervals draw blocks of neighbours.
"""

from __future__ import annotations

import math

import numpy as np

from recurra.metrics.intervals import Intervals, bootstrap
from recurra.shapes import Float, Int

__all__ = ["token_intervals", "token_metrics"]

BLOCK, FEWEST = 200, 20
"""Tokens of a block, longer than what one sentence or line makes alike; and blocks at least, shorter ones where the text is short."""


def token_metrics(
    losses: Float[np.ndarray, " N"], hits: Int[np.ndarray, " N"] | None = None, *, characters: int | None = None
) -> dict[str, float]:
    r"""Figures of N predicted tokens.

    `loss` is the mean of \(-\ln p\) (nats a token), `perplexity` its exponential, `bits_per_character`
    \(\sum -\log_2 p\) over the characters of the text, `accuracy` the share of hits, `tokens` N.

    Args:
        losses: minus the natural log-probability of each token.
        hits: whether it was the most probable one.
        characters: of the text; None leaves bits per character out.

    Raises:
        ValueError: there is no token.
    """
    if not len(losses):
        raise ValueError("There is no token to measure.")
    mean = float(losses.mean())
    found = {"perplexity": math.exp(min(mean, 700.0)), "loss": mean}
    if characters:
        found["bits_per_character"] = float(losses.sum()) / math.log(2) / characters
    if hits is not None:
        found["accuracy"] = float(hits.mean())
    return {**found, "tokens": len(losses)}


def token_intervals(
    losses: Float[np.ndarray, " N"],
    hits: Int[np.ndarray, " N"],
    *,
    characters: int | None = None,
    samples: int = 1_000,
    confidence: float = 0.95,
    seed: int = 0,
) -> Intervals:
    """Bootstrap intervals of these figures: blocks of 200 neighbouring tokens are drawn; see `token_metrics`."""
    starts = np.arange(0, len(losses), max(1, min(BLOCK, len(losses) // FEWEST)))
    sums, right = np.add.reduceat(losses, starts), np.add.reduceat(hits.astype(np.float64), starts)
    sizes = np.diff(np.append(starts, len(losses)))
    per_token = (characters or 0) / len(losses)

    def metric(counts: Float[np.ndarray, "S N"]) -> dict[str, np.ndarray]:
        tokens = counts @ sizes
        mean = counts @ sums / tokens
        found = {"perplexity": np.exp(np.minimum(mean, 700.0)), "loss": mean, "accuracy": counts @ right / tokens}
        return found | ({"bits_per_character": mean / math.log(2) / per_token} if characters else {})

    return bootstrap(metric, len(starts), samples=samples, confidence=confidence, seed=seed)
