"""From numbered sources to numbered outputs: batches of similar length through the encoder, and a beam search over the decoder."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from recurra.config.numbers import require_number, require_whole
from recurra.data.batch import Sequence as Steps
from recurra.data.store import Ragged
from recurra.data.tokenize import UNKNOWN
from recurra.decoding import Hypothesis, Shaping, beam_search
from recurra.errors import SettingsError
from recurra.model.translate.network import DecoderState, Encoded, TranslateNetwork
from recurra.shapes import Int, Tensor

__all__ = ["Search", "batches_of", "search"]

HYPOTHESES = 320
"""Outputs that are followed at the same time, over all sources of a batch."""
STEPS = 16_384
"""Steps of the sources of a batch, padding included."""


@dataclass(frozen=True)
class Search:
    """How outputs are searched for.

    Attributes:
        beam: outputs that are followed; 1 takes the most probable token at each step.
        n_best: outputs wanted of each source, at most `beam`.
        length_power: what a log-probability is divided by is the length to this power.
        most: tokens of an output at most, its end counted.
        forbidden: sequences of tokens that may not come.
        forced: sequences of tokens that must come, in any order.
        unknown: whether the unknown token may come.

    Raises:
        SettingsError: a number is none or out of range.
    """

    beam: int
    n_best: int = 1
    length_power: float = 1.0
    most: int = 100
    forbidden: Sequence[Sequence[int]] = field(default=())
    forced: Sequence[Sequence[int]] = field(default=())
    unknown: bool = False

    def __post_init__(self) -> None:
        for name in ("beam", "n_best", "most"):
            require_whole(name, getattr(self, name), least=1)
        require_number("length_power", self.length_power)
        if not 0 <= self.length_power < math.inf:
            raise SettingsError(f"length_power is {self.length_power}: give a number of 0 or more.")
        if self.n_best > self.beam:
            raise SettingsError(f"n_best={self.n_best} outputs are wanted and beam={self.beam} followed: give a number from 1 to the beam.")
        if self.forced and self.beam == 1:
            raise SettingsError("Forced words need places in a beam: set beam to 2 or more.")

    def shaping(self) -> Shaping:
        """What is done to the scores of a step."""
        return Shaping(forbidden=(*self.forbidden, *(() if self.unknown else ((UNKNOWN,),))))


@torch.no_grad()
def search(network: TranslateNetwork, sources: Ragged, chosen: Search) -> list[list[Hypothesis]]:
    """The best outputs of each source, best first; those of one source do not depend on the others.

    Args:
        network: in evaluation mode.
        sources: numbered tokens.
        chosen: how they are searched for.
    """
    found: list[list[Hypothesis]] = [[] for _ in range(len(sources))]
    for rows in batches_of(sources.lengths, HYPOTHESES // chosen.beam):
        for row, outputs in zip(rows.tolist(), _search_batch(network, sources.take(rows), chosen), strict=True):
            found[row] = outputs[: chosen.n_best]
    return found


def batches_of(lengths: Int[np.ndarray, " N"], most: int) -> Iterator[Int[np.ndarray, " B"]]:
    """Numbers of rows of similar length, the longest first: at most so many, and of a bounded number of steps."""
    order = np.argsort(-lengths, kind="stable")
    start = 0
    while start < len(order):
        size = max(1, min(most, STEPS // max(1, int(lengths[order[start]]))))
        yield order[start : start + size]
        start += size


def _search_batch(network: TranslateNetwork, sources: Ragged, chosen: Search) -> list[list[Hypothesis]]:
    values, lengths = sources.pad()
    device = network.device
    encoded: Encoded = network.encode(Steps(torch.from_numpy(values.astype(np.int64)).to(device), torch.from_numpy(lengths).to(device)))

    def step(tokens: Tensor, state: tuple[object, ...]) -> tuple[Tensor, tuple[object, ...]]:
        assert isinstance(state, DecoderState)
        return network.step(tokens, state, encoded)

    return beam_search(
        step,
        network.initial_state(encoded),
        torch.full((len(sources),), network.start, device=device),
        width=chosen.beam,
        end=network.end,
        most=chosen.most,
        length_power=chosen.length_power,
        shaping=chosen.shaping(),
        phrases=[chosen.forced] * len(sources) if chosen.forced else None,
    )
