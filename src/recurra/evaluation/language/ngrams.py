"""Interpolated Kneser-Ney models of n-grams, as arrays of sorted numbers.

Not inside: back-off, pruning, classes. Memory is that of the distinct n-grams of every order.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from recurra.shapes import Float, Int

__all__ = ["KneserNey"]


@dataclass(frozen=True, eq=False)
class _Order:
    """The n-grams of one order.

    Attributes:
        codes: (N,) ascending: number of the context (that of an n-gram one shorter) times V plus the token.
        discounted: (N,) count after the discount.
        totals: (M,) sum of the counts behind each context.
        left: (M,) mass that the discounts of each context take, for the order below.
    """

    codes: Int[np.ndarray, " N"]
    discounted: Float[np.ndarray, " N"]
    totals: Float[np.ndarray, " M"]
    left: Float[np.ndarray, " M"]


class KneserNey:
    r"""n-grams with interpolated, modified Kneser-Ney smoothing.

    \(p_n(w|h) = \frac{\max(c(hw) - D(c(hw)), 0)}{c(h)} + \frac{\sum_w D(c(hw))}{c(h)}\, p_{n-1}(w|h')\), where h' is h without its first
    token. c counts n-grams at the highest order and below it the different tokens before them; D is one of three discounts, for
    counts of 1, of 2, and of more; p_0 is the same for all tokens. A context that was never seen says nothing: the shorter one decides.

    Source: Kneser & Ney 1995; Chen & Goodman 1999, section 3 (equations of the discounts).

    Args:
        tokens: (N,) the training text.
        vocabulary_size: V. Number 0 is padding, which no text has and which gets no probability.
        order: tokens of the longest n-gram; 1 counts single tokens, plainly interpolated.

    Raises:
        ValueError: there is no token, the order is below 1, or a number is out of range.
    """

    def __init__(self, tokens: Int[np.ndarray, " N"], vocabulary_size: int, *, order: int) -> None:
        tokens = np.asarray(tokens, np.int64)
        if order < 1 or not len(tokens):
            raise ValueError(f"There are {len(tokens)} tokens and the order is {order}: give 1 or more of each.")
        if tokens.min() < 1 or tokens.max() >= vocabulary_size:
            raise ValueError(f"Tokens must be numbers from 1 to {vocabulary_size - 1}.")
        self.vocabulary_size = vocabulary_size
        self.order = min(order, len(tokens))
        self._orders = self._count(tokens)

    def _count(self, tokens: Int[np.ndarray, " N"]) -> list[_Order]:
        codes, counts = [], []
        suffixes: list[Int[np.ndarray, " N"]] = []
        before = shorter = np.zeros(len(tokens), np.int64)  # number of the context that ends before each token
        for length in range(1, self.order + 1):
            # a context of `length` - 1 tokens stands before all tokens but the first ones
            ends = before[: len(tokens) - length + 1] * self.vocabulary_size + tokens[length - 1 :]
            distinct, first, inside, times = np.unique(ends, return_index=True, return_inverse=True, return_counts=True)
            codes.append(distinct)
            counts.append(times.astype(np.float64))
            # the n-gram one shorter that each of these ends with, by its number
            suffixes.append(shorter[length > 1 :][first])
            shorter = before = inside
        found = []
        for length in range(1, self.order + 1):
            if length < self.order:
                counts[length - 1] = np.bincount(suffixes[length], minlength=len(codes[length - 1])).astype(np.float64)
            contexts = 1 if length == 1 else len(codes[length - 2])
            found.append(_smoothed(codes[length - 1], counts[length - 1], contexts, self.vocabulary_size))
        return found

    def losses(self, tokens: Int[np.ndarray, " N"]) -> Float[np.ndarray, " N-1"]:
        """Minus the natural log-probability of each token but the first, after as many before it as the order reads."""
        tokens = np.asarray(tokens, np.int64)
        probabilities = np.full(len(tokens), 1.0 / (self.vocabulary_size - 1))
        before = np.zeros(len(tokens), np.int64)
        for length, order in enumerate(self._orders, start=1):
            context = before[: len(tokens) - length + 1]
            number, found = _find(order.codes, context * self.vocabulary_size + tokens[length - 1 :], context >= 0)
            known = (context >= 0) & (order.totals[np.maximum(context, 0)] > 0)
            totals = np.where(known, order.totals[np.maximum(context, 0)], 1.0)
            direct = np.where(found, order.discounted[number], 0.0) / totals
            left = np.where(known, order.left[np.maximum(context, 0)] / totals, 1.0)
            probabilities[length - 1 :] = np.where(known, direct, 0.0) + left * probabilities[length - 1 :]
            before = np.where(found, number, -1)
        result: Float[np.ndarray, " N-1"] = -np.log(probabilities[1:])
        return result

    def probabilities(self, context: Int[np.ndarray, " K"]) -> Float[np.ndarray, " V"]:
        """Probabilities of all tokens after a context; that of the padding is zero."""
        context = np.asarray(context, np.int64)[max(0, len(context) - self.order + 1) :]
        tokens = np.arange(1, self.vocabulary_size)
        result = np.full(len(tokens), 1.0 / len(tokens))
        for length, order in enumerate(self._orders[: len(context) + 1], start=1):
            before = self._number(context[len(context) - length + 1 :])
            if before < 0 or not order.totals[before]:
                break
            number, found = _find(order.codes, before * self.vocabulary_size + tokens, np.ones(len(tokens), np.bool_))
            direct = np.where(found, order.discounted[number], 0.0)
            result = (direct + order.left[before] * result) / order.totals[before]
        return np.concatenate([np.zeros(1), result])

    def _number(self, context: Int[np.ndarray, " K"]) -> int:
        """Number of a context; -1 for one that was never seen."""
        number = 0
        for order, token in zip(self._orders, context, strict=False):
            place, found = _find(order.codes, np.array([number * self.vocabulary_size + token]), np.ones(1, np.bool_))
            if not found[0]:
                return -1
            number = int(place[0])
        return number


def _smoothed(codes: Int[np.ndarray, " N"], counts: Float[np.ndarray, " N"], contexts: int, vocabulary_size: int) -> _Order:
    """Counts with the discounts of their order taken away."""
    context = codes // vocabulary_size
    discounts = _discounts(counts)[np.minimum(counts, 3).astype(np.int64)]
    totals = np.bincount(context, weights=counts, minlength=contexts)
    return _Order(codes, counts - discounts, totals, np.bincount(context, weights=discounts, minlength=contexts))


def _discounts(counts: Float[np.ndarray, " N"]) -> Float[np.ndarray, " 4"]:
    """What is taken from counts of 0, 1, 2 and 3 or more (Chen & Goodman 1999, equation 26); half of one where too few were counted."""
    of = [0.0, *(float((counts == size).sum()) for size in range(1, 5))]
    found = np.zeros(4)
    for size in (1, 2, 3):
        share = of[1] / (of[1] + 2 * of[2]) if of[1] and of[2] else 0.0
        value = size - (size + 1) * share * of[size + 1] / of[size] if of[size] else 0.0
        found[size] = value if 0.0 < value < size else 0.5
    return found


def _find(codes: Int[np.ndarray, " N"], wanted: Int[np.ndarray, " M"], possible: np.ndarray) -> tuple[Int[np.ndarray, " M"], np.ndarray]:
    """Places of wanted codes among ascending ones, and whether they are there."""
    place = np.minimum(np.searchsorted(codes, wanted), len(codes) - 1)
    return place, possible & (codes[place] == wanted)
