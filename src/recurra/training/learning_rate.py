"""The learning-rate finder: a short exponential sweep on a copy of the network."""

from __future__ import annotations

import copy
import math
from collections.abc import Generator, Mapping
from contextlib import closing
from typing import Any

import numpy as np
from torch import nn
from torch.optim import Optimizer

from recurra.config import Settings
from recurra.errors import TrainingDiverged
from recurra.training.batches import AnyBatch
from recurra.training.devices import autocast, choose_device
from recurra.training.optimizers import build_optimizer, clip_gradients, set_learning_rate
from recurra.training.seeds import random_state, restore_random_state

__all__ = ["find_learning_rate", "steepest_descent"]

STEPS = 100
SMALLEST, LARGEST = 1e-6, 1.0
SMOOTHING = 0.9
EXPLODED = 4.0
SKIPPED_START = 5


def find_learning_rate(
    network: nn.Module, loader: Any, *, settings: Settings, factors: Mapping[str, float] | None = None
) -> tuple[float, list[dict[str, float]]]:
    """Train a copy for at most 100 steps while the rate rises from 1e-6 to 1, and take the rate of the steepest descent.

    The sweep ends early when the smoothed loss is four times its smallest value. The network, the loader's position and
    all random numbers are afterwards as they were.

    Source: Smith 2017 (cyclical learning rates), section 3.3.

    Args:
        network: not changed.
        loader: of the training batches; started again when it has fewer than 100.
        settings: optimizer, clipping, device and precision of the run.
        factors: shares of the rate by the parameters' names; see `build_optimizer`.

    Returns:
        The rate, and the curve as `{"learning_rate", "loss"}` with the smoothed loss.

    Raises:
        TrainingDiverged: the loss is not a number from the start.
    """
    position, state = loader.state_dict(), random_state()
    try:
        curve = _sweep(copy.deepcopy(network), loader, settings, factors)
    finally:
        restore_random_state(state)
        loader.load_state_dict(position)
    return steepest_descent(curve), curve


def _sweep(network: nn.Module, loader: Any, settings: Settings, factors: Mapping[str, float] | None) -> list[dict[str, float]]:
    device = choose_device(settings.training)
    network.to(device).train()
    optimizer = build_optimizer(network, settings.optimizer, learning_rate=SMALLEST, steps=STEPS, factors=factors)
    curve: list[dict[str, float]] = []
    mean, smallest = 0.0, math.inf
    with closing(_endless(loader)) as batches:
        for step in range(STEPS):
            rate = SMALLEST * (LARGEST / SMALLEST) ** (step / (STEPS - 1))
            loss = _step(network, next(batches).to(device), optimizer, rate, settings)
            mean = SMOOTHING * mean + (1 - SMOOTHING) * loss
            smoothed = mean / (1 - SMOOTHING ** (step + 1))
            if not math.isfinite(smoothed) or smoothed > EXPLODED * smallest:
                break
            smallest = min(smallest, smoothed)
            curve.append({"learning_rate": rate, "loss": smoothed})
    return curve


def _step(network: nn.Module, batch: AnyBatch, optimizer: Optimizer, rate: float, settings: Settings) -> float:
    """One optimizer step at a rate; the loss before it."""
    training = settings.training
    set_learning_rate(optimizer, rate)
    with autocast(training, next(network.parameters()).device):
        loss = network.loss(network(batch), batch)  # type: ignore[operator]  # what a network must have
    optimizer.zero_grad()
    loss.backward()
    clip_gradients(network.parameters(), norm=training.clip_norm, value=training.clip_value)
    optimizer.step()
    return float(loss.detach())


def _endless(loader: Any) -> Generator[AnyBatch, None, None]:
    epoch = 0
    while True:
        loader.set_epoch(epoch)
        yield from loader
        epoch += 1


def steepest_descent(curve: list[dict[str, float]]) -> float:
    """The rate at which the loss falls fastest over the logarithm of the rate, before its lowest point.

    Args:
        curve: of the sweep; the first five points, which the smoothing has not settled yet, do not count.

    Raises:
        TrainingDiverged: there are too few points for a slope.
    """
    usable = curve[SKIPPED_START:]
    if len(usable) < 3:
        raise TrainingDiverged(
            "The learning-rate finder saw a loss that is not a number, or explodes, in its first steps, at rates near 1e-6. "
            "Look for NaN or huge values in the number columns and targets, or set optimizer.learning_rate to a number."
        )
    losses = np.array([point["loss"] for point in usable])
    rates = np.array([point["learning_rate"] for point in usable])
    lowest = max(2, int(losses.argmin()))
    slopes = np.gradient(losses[: lowest + 1], np.log(rates[: lowest + 1]))
    return float(rates[int(slopes.argmin())])
