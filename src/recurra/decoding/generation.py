"""One token after another: the most probable one, or one that is drawn."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch

from recurra.decoding.shaping import Shaping
from recurra.decoding.step import State, Step
from recurra.shapes import Float, Int, Tensor

__all__ = ["Generated", "generate", "generate_tokens"]


class Generated(NamedTuple):
    """Sequences that were generated.

    Attributes:
        tokens: (B, T), the end token where a row has ended.
        lengths: (B,) tokens of each row, the end token not counted.
        log_probabilities: (B, T) of the tokens under the model itself, unshaped; zero after a row's end token.
    """

    tokens: Int[Tensor, "B T"]
    lengths: Int[Tensor, " B"]
    log_probabilities: Float[Tensor, "B T"]


def generate(
    step: Step,
    state: State,
    start: Int[Tensor, " B"],
    *,
    most: int,
    end: int | None = None,
    shaping: Shaping | None = None,
    seeds: Sequence[int] | None = None,
) -> Generated:
    """Sequences, token by token: greedy without seeds, drawn with them.

    A row that is drawn depends on its own seed alone, not on the rows beside it.

    Args:
        step: the model.
        state: of B rows, before `start` is read.
        start: the token that comes before the first.
        most: tokens at most.
        end: token that ends a row; None where rows have no end.
        shaping: of the distributions that tokens are chosen from.
        seeds: one for each row to draw tokens; None takes the most probable ones.

    Raises:
        ValueError: there is not one seed for each row.
    """
    chosen = list(generate_tokens(step, state, start, most=most, end=end, shaping=shaping, seeds=seeds))
    if not chosen:
        return Generated(start.new_zeros(len(start), 0), start.new_zeros(len(start)), torch.zeros(len(start), 0, device=start.device))
    tokens, log_probabilities = (torch.stack(field, 1) for field in zip(*chosen, strict=True))
    ended = tokens.new_zeros(tokens.shape, dtype=torch.bool) if end is None else tokens == end
    return Generated(tokens, tokens.shape[1] - ended.sum(1), log_probabilities)


def generate_tokens(
    step: Step,
    state: State,
    start: Int[Tensor, " B"],
    *,
    most: int,
    end: int | None = None,
    shaping: Shaping | None = None,
    seeds: Sequence[int] | None = None,
) -> Iterator[tuple[Int[Tensor, " B"], Float[Tensor, " B"]]]:
    """The same, as it comes: after each step the (B,) tokens and their log-probabilities; see `generate`.

    A row that has ended goes on with the end token; the iteration stops when all have.

    Raises:
        ValueError: there is not one seed for each row.
    """
    if seeds is not None and len(seeds) != len(start):
        raise ValueError(f"Give one seed for each of the {len(start)} rows; these are {len(seeds)}.")
    drawn = None if seeds is None else [torch.Generator().manual_seed(seed) for seed in seeds]
    before, running = start.new_zeros(len(start), 0), torch.ones_like(start, dtype=torch.bool)
    token = start
    for _ in range(most):
        logits, state = step(token, state)
        shaped = logits if shaping is None else shaping(logits, before)
        token = shaped.argmax(1) if drawn is None else _draw(shaped, drawn)
        log_probability = logits.log_softmax(1).gather(1, token[:, None])[:, 0]
        if end is not None:
            token, log_probability = token.where(running, end), log_probability.where(running, 0.0)
            running = running & (token != end)
        before = torch.cat([before, token[:, None]], 1)
        yield token, log_probability
        if end is not None and not bool(running.any()):
            return


def _draw(logits: Float[Tensor, "B V"], generators: Sequence[torch.Generator]) -> Int[Tensor, " B"]:
    """One token a row with the probabilities of the logits, by one number of the row's own generator: the inverse of the distribution."""
    reached = logits.double().softmax(1).cumsum(1)
    numbers = torch.cat([torch.rand(1, generator=generator, dtype=torch.float64) for generator in generators]).to(logits.device)
    # Never the whole sum: no token that cannot come stands behind the last one that can.
    return torch.searchsorted(reached, (numbers * reached[:, -1])[:, None], right=True)[:, 0].clamp_(max=logits.shape[1] - 1)
