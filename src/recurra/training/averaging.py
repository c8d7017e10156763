"""A running average of the weights, and the exchange of weights with an average.

Not here: the average that ASGD keeps itself (see `optimizers.asgd_average`); it is exchanged by the same function.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from recurra.shapes import Tensor

__all__ = ["WeightAverage", "exchanged"]


class WeightAverage:
    """Exponential running average of parameters.

    After update t (counted from 1) the average is a + (1 - d_t) (w - a) with d_t = min(decay, t / (t + 9)). The rising
    d_t lets the first epochs forget the random start, which a fixed decay of 0.999 would remember for a thousand steps;
    at t = 1 the average is nine tenths of the weights of the first step.

    Source: Tarvainen & Valpola 2017 (mean teachers), section 3, with the ramp of TensorFlow's
    `ExponentialMovingAverage(num_updates)`.

    Args:
        parameters: what is averaged; the order is kept.
        decay: largest d_t.
    """

    def __init__(self, parameters: Sequence[nn.Parameter], *, decay: float) -> None:
        self.parameters = list(parameters)
        self.decay = decay
        self.updates = 0
        self.averages = [parameter.detach().clone() for parameter in self.parameters]

    @torch.no_grad()
    def update(self) -> None:
        """Move the average towards the present weights; once after every optimizer step."""
        self.updates += 1
        decay = min(self.decay, self.updates / (self.updates + 9))
        torch._foreach_lerp_(self.averages, [parameter.detach() for parameter in self.parameters], 1.0 - decay)

    def state_dict(self) -> dict[str, Any]:
        """Averages and the number of updates."""
        return {"updates": self.updates, "averages": self.averages}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue where `state_dict` was taken."""
        self.updates = state["updates"]
        for average, saved in zip(self.averages, state["averages"], strict=True):
            average.copy_(saved)


@contextmanager
def exchanged(parameters: Sequence[nn.Parameter], averages: Sequence[Tensor]) -> Iterator[None]:
    """Inside, `parameters` hold the values of `averages`; afterwards their own again, bit by bit."""
    with torch.no_grad():
        own = [parameter.detach().clone() for parameter in parameters]
        for parameter, average in zip(parameters, averages, strict=True):
            parameter.copy_(average)
    try:
        yield
    finally:
        with torch.no_grad():
            for parameter, value in zip(parameters, own, strict=True):
                parameter.copy_(value)
