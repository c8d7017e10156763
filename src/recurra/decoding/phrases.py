"""Phrases that must stand in what a beam search finds: how much of them a hypothesis holds, and whom the places go to."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from recurra.shapes import Float, Int, Tensor

__all__ = ["Phrases", "choose_with_phrases"]


class Phrases:
    """The phrases of one row.

    Args:
        phrases: sequences of tokens.

    Raises:
        ValueError: a phrase is empty.
    """

    def __init__(self, phrases: Sequence[Sequence[int]]) -> None:
        self._phrases = [list(phrase) for phrase in phrases]
        if not all(self._phrases):
            raise ValueError("A phrase is empty: give at least one token each.")
        self.size = sum(len(phrase) for phrase in self._phrases)

    def held(self, tokens: list[int]) -> int:
        """Tokens of the phrases that a hypothesis holds: all of a phrase that stands in it, of another what its end has begun."""
        return sum(_begun(phrase, tokens) for phrase in self._phrases)

    def next_tokens(self, tokens: list[int]) -> list[int]:
        """Tokens that bring a hypothesis further, one for each phrase that it does not hold yet."""
        begun = [(phrase, _begun(phrase, tokens)) for phrase in self._phrases]
        return [phrase[count] for phrase, count in begun if count < len(phrase)]


def _begun(phrase: list[int], tokens: list[int]) -> int:
    """How many tokens of the phrase are there: all of them anywhere, or as many as the hypothesis ends with."""
    count = len(phrase)
    if any(tokens[at : at + count] == phrase for at in range(len(tokens) - count + 1)):
        return count
    return next((size for size in range(min(count - 1, len(tokens)), 0, -1) if tokens[-size:] == phrase[:size]), 0)


def choose_with_phrases(
    candidates: Float[Tensor, "B W V"], tokens: Int[Tensor, "B W T"], phrases: Sequence[Phrases], *, places: Sequence[int], end: int
) -> tuple[Tensor, Tensor, Tensor]:
    """The candidates that are followed: the best of those that hold most of the phrases, of those that hold one token less, and so on in turn.

    So those that hold least are not crowded out, and those that hold most, which are less probable, neither.

    Args:
        candidates: log-probability of each hypothesis with each token after it.
        tokens: of the hypotheses.
        phrases: of each row.
        places: that are left in each row.
        end: the token that ends a sequence; not before it holds all phrases.

    Returns:
        (B, W) hypothesis, token and log-probability, minus infinity for places that nobody takes.
    """
    rows, width, _ = candidates.shape
    origin, token = (torch.zeros(rows, width, dtype=torch.int64, device=candidates.device) for _ in range(2))
    total = torch.full((rows, width), -torch.inf, dtype=candidates.dtype, device=candidates.device)
    for row in range(rows):
        for place, (log_probability, hypothesis, chosen) in enumerate(_turns(candidates[row], tokens[row], phrases[row], places[row], end)):
            origin[row, place], token[row, place], total[row, place] = hypothesis, chosen, log_probability
    return origin, token, total


def _turns(candidates: Tensor, tokens: Tensor, phrases: Phrases, places: int, end: int) -> list[tuple[float, int, int]]:
    """The candidates of one row that get a place."""
    width, vocabulary = candidates.shape
    histories = tokens.tolist()
    held = [phrases.held(history) for history in histories]
    allowed = candidates.clone()
    allowed[torch.tensor(held, device=allowed.device) < phrases.size, end] = -torch.inf
    proposed = {divmod(place, vocabulary) for place in allowed.flatten().topk(min(width, allowed.numel())).indices.tolist()}
    for hypothesis, history in enumerate(histories):
        proposed |= {(hypothesis, token) for token in phrases.next_tokens(history)}
        proposed.add((hypothesis, int(allowed[hypothesis].argmax())))
    banks: dict[int, list[tuple[float, int, int]]] = {}
    for hypothesis, token in proposed:
        log_probability = float(allowed[hypothesis, token])
        if log_probability > -torch.inf:
            bank = held[hypothesis] if token == end else phrases.held([*histories[hypothesis], token])
            banks.setdefault(bank, []).append((log_probability, hypothesis, token))
    ordered = [sorted(banks[bank], reverse=True) for bank in sorted(banks, reverse=True)]
    taken: list[tuple[float, int, int]] = []
    while len(taken) < places and any(ordered):
        taken += [bank.pop(0) for bank in ordered if bank][: places - len(taken)]
    return sorted(taken, reverse=True)
