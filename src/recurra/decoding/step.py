"""The step function that all decoding is a function of, and the probabilities of given sequences under it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from recurra.shapes import Float, Int, Tensor

__all__ = ["State", "Step", "sequence_log_probabilities"]

State = tuple[Any, ...]
"""NamedTuples of batch-first tensors, nested as one likes: `recurra.cells.state` selects their rows."""
Step = Callable[[Tensor, State], tuple[Tensor, State]]
"""`step(tokens (N,), state) -> (logits (N, V), state)`: reads one token a row. The state it is given is not changed."""


def sequence_log_probabilities(
    step: Step, state: State, start: Int[Tensor, " N"], tokens: Int[Tensor, "N T"], lengths: Int[Tensor, " N"] | None = None
) -> Float[Tensor, "N T"]:
    """Natural logarithm of the probability of each token after those before it: what teacher forcing sees.

    Args:
        step: the model.
        state: of N rows, before `start` is read.
        start: the token before the first.
        tokens: the sequences.
        lengths: of each; whole when not given. What stands beyond gets zero.
    """
    read, found = start, []
    for position in range(tokens.shape[1]):
        logits, state = step(read, state)
        read = tokens[:, position]
        found.append(logits.log_softmax(1).gather(1, read[:, None])[:, 0])
    if not found:
        return torch.zeros(tokens.shape, device=tokens.device)
    log_probabilities = torch.stack(found, 1)
    if lengths is None:
        return log_probabilities
    real = torch.arange(tokens.shape[1], device=tokens.device) < lengths[:, None]
    return log_probabilities.where(real, 0.0)
