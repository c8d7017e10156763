"""Beam search: the best sequences that a bounded number of candidates finds, for all rows of a batch at once."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import torch

from recurra.cells.state import select
from recurra.decoding.phrases import Phrases, choose_with_phrases
from recurra.decoding.shaping import Shaping
from recurra.decoding.step import State, Step
from recurra.shapes import Float, Int, Tensor

__all__ = ["Hypothesis", "beam_search"]


class Hypothesis(NamedTuple):
    """One sequence that was found.

    Attributes:
        tokens: without the end token.
        log_probability: natural logarithm under the model, the end token included where the sequence has ended.
        score: what hypotheses are ordered by.
        ended: False where it was cut off at the largest length.
    """

    tokens: list[int]
    log_probability: float
    score: float
    ended: bool


def beam_search(
    step: Step,
    state: State,
    start: Int[Tensor, " B"],
    *,
    width: int,
    end: int,
    most: int,
    length_power: float = 1.0,
    shaping: Shaping | None = None,
    phrases: Sequence[Sequence[Sequence[int]]] | None = None,
) -> list[list[Hypothesis]]:
    """The best hypotheses of each row, best first, at most `width`.

    A hypothesis of n tokens, its end token counted, scores `log_probability / n ** length_power`: 0 is the plain
    probability, which favours short sequences, 1 the mean over the tokens. A hypothesis that ends keeps its place, and the search
    goes on with the places that are left: a width of 1 is greedy, and one of at least V ** most exhaustive. Each row is searched
    as if it were alone.

    Args:
        step: the model.
        state: of B rows, before `start` is read.
        start: the token that comes before the first.
        width: hypotheses that are followed for each row.
        end: token that ends a sequence.
        most: tokens at most, the end token counted; what has not ended by then comes after all that has.
        length_power: how much length is made up for.
        shaping: of the logits; what it forbids does not come, and the probabilities are those that it leaves.
        phrases: for each row, sequences of tokens that must stand in what is found, in any order. The width is shared between
            hypotheses by how much of them they hold. Source: Post & Vilar 2018, section 3.

    Raises:
        ValueError: the width or the largest length is less than one, or there are not phrases for each row.
    """
    if width < 1 or most < 1:
        raise ValueError(f"width is {width} and most {most}: give 1 or more.")
    if phrases is not None and len(phrases) != len(start):
        raise ValueError(f"Give phrases for each of the {len(start)} rows, an empty list for none; these are {len(phrases)}.")
    search = _Search(len(start), width, end, length_power=length_power, device=start.device)
    wanted = None if phrases is None else [Phrases(each) for each in phrases]
    state = select(state, torch.arange(len(start), device=start.device).repeat_interleave(width))
    token = start.repeat_interleave(width)
    for _ in range(most):
        logits, state = step(token, state)
        if shaping is not None:
            logits = shaping(logits, search.tokens.flatten(0, 1))
        origin, token = search.extend(logits.log_softmax(1).view(len(start), width, -1), wanted)
        if search.finished:
            break
        state = select(state, origin)
    return search.best(wanted)


class _Search:
    """The hypotheses of all rows. A hypothesis that ends keeps its place; those that go on share the others."""

    def __init__(self, rows: int, width: int, end: int, *, length_power: float, device: torch.device) -> None:
        self.width, self.end, self.length_power = width, end, length_power
        self.found: list[list[Hypothesis]] = [[] for _ in range(rows)]
        self.tokens = torch.zeros(rows, width, 0, dtype=torch.int64, device=device)
        # All hypotheses of a row begin alike, so one of them stands for all; minus infinity is a place that nobody holds.
        self.totals = torch.full((rows, width), -torch.inf, dtype=torch.float64, device=device)
        self.totals[:, 0] = 0.0
        self.first = torch.arange(rows, device=device)[:, None] * width

    @property
    def finished(self) -> bool:
        """Whether no hypothesis goes on."""
        return bool((self.totals == -torch.inf).all())

    def extend(self, log_probabilities: Float[Tensor, "B W V"], phrases: list[Phrases] | None) -> tuple[Tensor, Tensor]:
        """Go one token on.

        Returns:
            For each place (B * W) the one whose hypothesis it takes over, and its new token.
        """
        candidates = self.totals[:, :, None] + log_probabilities.double()
        places = self.width - torch.tensor([len(found) for found in self.found], device=candidates.device)
        if phrases is None:
            total, place = candidates.flatten(1).topk(self.width, dim=1)
            total = total.masked_fill(torch.arange(self.width, device=total.device) >= places[:, None], -torch.inf)
            origin, token = place // candidates.shape[2], place % candidates.shape[2]
        else:
            origin, token, total = choose_with_phrases(candidates, self.tokens, phrases, places=places.tolist(), end=self.end)
        before = self.tokens.gather(1, origin[:, :, None].expand(-1, -1, self.tokens.shape[2]))
        self.tokens, self.totals = torch.cat([before, token[:, :, None]], 2), total
        ending = (token == self.end) & (total > -torch.inf)
        self._note(ending, ended=True)
        self.totals = total.masked_fill(ending, -torch.inf)
        return (self.first + origin).flatten(), token.flatten()

    def _note(self, which: Tensor, *, ended: bool) -> None:
        length = self.tokens.shape[2]
        for row, place in which.nonzero().tolist():
            total = float(self.totals[row, place])
            tokens = self.tokens[row, place, : length - ended].tolist()
            self.found[row].append(Hypothesis(tokens, total, total / length**self.length_power, ended))

    def best(self, phrases: list[Phrases] | None) -> list[list[Hypothesis]]:
        """What was found in each row, best first; what was cut off comes after what has ended, and last what lacks most of the phrases."""
        self._note(self.totals > -torch.inf, ended=False)

        def place(row: int, each: Hypothesis) -> tuple[bool, int, float]:
            return not each.ended, 0 if phrases is None else -phrases[row].held(each.tokens), -each.score

        return [sorted(found, key=partial(place, row)) for row, found in enumerate(self.found)]
