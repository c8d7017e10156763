"""What is done to the logits of a step before a token is chosen: temperature, cuts, penalties, tokens that may not come."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from recurra.shapes import Float, Int, Tensor

__all__ = ["Shaping"]

LEAST_TEMPERATURE = 1e-6
"""Far below it, logits in float32 become infinite, and which token comes is no longer theirs to say."""


@dataclass(frozen=True)
class Shaping:
    """How the next token's distribution is bent, in the order of the attributes.

    Attributes:
        forbidden: sequences of tokens that may not come; a single token is a sequence of one.
        repetition_penalty: logits of tokens that came before are divided by this where positive, multiplied where negative;
            1 for none. Source: Keskar et al. 2019 (CTRL), section 4.1.
        temperature: logits are divided by this: below 1 sharper, above 1 flatter; from 1e-06 on.
        top_k: only the most probable so many can come, and those equal to the last of them; 0 for all.
        top_p: only the most probable can come whose probabilities together reach this. Source: Holtzman et al. 2020, section 3.1.
        min_p: only tokens at least this share as probable as the most probable one can come. Source: Nguyen et al. 2024, section 3.

    Raises:
        ValueError: a number is out of range, or a forbidden sequence is empty.
    """

    forbidden: Sequence[Sequence[int]] = ()
    repetition_penalty: float = 1.0
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0

    def __post_init__(self) -> None:
        for name, good, allowed in (
            ("repetition_penalty", 0 < self.repetition_penalty < math.inf, "above 0"),
            ("temperature", LEAST_TEMPERATURE <= self.temperature < math.inf, f"from {LEAST_TEMPERATURE} on"),
            ("top_k", self.top_k >= 0, "0 or more"),
            ("top_p", 0 < self.top_p <= 1, "above 0 and at most 1"),
            ("min_p", 0 <= self.min_p <= 1, "from 0 to 1"),
        ):
            if not good:
                raise ValueError(f"{name} is {getattr(self, name)}: give a number {allowed}.")
        if not all(self.forbidden):
            raise ValueError("A forbidden sequence is empty: give at least one token each.")

    def __call__(self, logits: Float[Tensor, "N V"], before: Int[Tensor, "N T"]) -> Float[Tensor, "N V"]:
        """The bent logits; minus infinity where a token cannot come.

        Args:
            logits: of the next token.
            before: the tokens so far.

        Raises:
            ValueError: every token of a row is forbidden.
        """
        if self.forbidden:
            logits = self._without_forbidden(logits, before)
        if self.repetition_penalty != 1.0 and before.shape[1]:
            seen = logits.gather(1, before)
            seen = torch.where(seen > 0, seen / self.repetition_penalty, seen * self.repetition_penalty)
            logits = logits.scatter(1, before, seen)
        if self.temperature != 1.0:
            logits = logits / self.temperature
        if 0 < self.top_k < logits.shape[1]:
            least = logits.topk(self.top_k, dim=1).values[:, -1:]
            logits = logits.masked_fill(logits < least, -torch.inf)
        if self.top_p < 1.0:
            logits = _nucleus(logits, self.top_p)
        if self.min_p > 0.0:
            probabilities = logits.softmax(1)
            logits = logits.masked_fill(probabilities < self.min_p * probabilities.amax(1, keepdim=True), -torch.inf)
        return logits

    def _without_forbidden(self, logits: Tensor, before: Tensor) -> Tensor:
        logits = logits.clone()
        for sequence in self.forbidden:
            head, last = before.new_tensor(list(sequence[:-1])), sequence[-1]
            if len(head) <= before.shape[1]:
                begun = (before[:, before.shape[1] - len(head) :] == head).all(1)
                logits[begun, last] = -torch.inf
        if bool((logits == -torch.inf).all(1).any()):
            raise ValueError("Every token is forbidden here: nothing can come next.")
        return logits


def _nucleus(logits: Tensor, share: float) -> Tensor:
    """Only the most probable tokens that together reach the share; the one that reaches it stays."""
    ordered, order = logits.sort(stable=True, dim=1, descending=True)
    probabilities = ordered.softmax(1)
    enough = probabilities.cumsum(1) - probabilities >= share
    enough[:, 0] = False
    return logits.masked_fill(enough.gather(1, order.argsort(1)), -torch.inf)
