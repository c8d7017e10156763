"""One pass over the validation part: the mean loss, and what the head makes of the outputs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn

from recurra.errors import DataError
from recurra.shapes import Tensor
from recurra.training.batches import AnyBatch, BatchLoader
from recurra.training.seeds import random_state, restore_random_state

__all__ = ["Validate", "validation_metrics"]

Validate = Callable[[Iterator[tuple[Any, Any]]], dict[str, float]]
"""Metrics from the pairs (outputs, batch) of the validation part, which come once and in order."""


def validation_metrics(
    network: nn.Module,
    loader: BatchLoader,
    validate: Validate | None,
    *,
    device: torch.device,
    before_batch: Callable[[], None] | None = None,
) -> dict[str, float]:
    """Measure a network in evaluation mode; modes and random numbers are afterwards as they were.

    Args:
        network: on `device`.
        loader: of the validation part.
        validate: makes metrics of float32 outputs and batches; None for the loss alone.
        device: where batches go.
        before_batch: called before each batch; may raise to stop.

    Returns:
        `loss`, the mean over rows, and the metrics.

    Raises:
        DataError: there are no rows.
    """
    state, modes = random_state(), {module: module.training for module in network.modules()}
    network.eval()
    try:
        with torch.no_grad():
            return _metrics(network, loader, validate, device, before_batch)
    finally:
        for module, mode in modes.items():
            module.training = mode
        restore_random_state(state)


def _metrics(
    network: nn.Module, loader: BatchLoader, validate: Validate | None, device: torch.device, before_batch: Callable[[], None] | None
) -> dict[str, float]:
    total, rows, state = 0.0, 0, None

    def predictions() -> Iterator[tuple[Any, AnyBatch]]:
        nonlocal total, rows, state
        loader.set_epoch(0)
        for batch in loader:
            if before_batch is not None:
                before_batch()
            moved = batch.to(device)
            if getattr(moved, "reset", None) is None:
                outputs = network(moved)
            else:  # a window of streams: it goes on where the one before it ended
                outputs, state = network.carry(moved, state)  # type: ignore[operator]  # what such a network has
            total += float(network.loss(outputs, moved)) * len(moved)  # type: ignore[operator]  # what a network must have
            rows += len(moved)
            yield outputs.float() if isinstance(outputs, Tensor) else outputs, moved

    pairs = predictions()
    metrics = {} if validate is None else validate(pairs)
    for _ in pairs:  # what the metrics did not want still counts for the loss
        pass
    if rows == 0:
        raise DataError("The validation part has no rows: give a validation file, or raise data.validation_share.")
    return {"loss": total / rows, **{name: float(value) for name, value in metrics.items()}}
