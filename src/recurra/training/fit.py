"""The fitting of a network: signature first (the body follows)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import nn

from recurra.config import Settings
from recurra.data.batch import Batch

__all__ = ["FitResult", "Validate", "fit"]

Validate = Callable[[Iterator[tuple[Any, Batch]]], dict[str, float]]
"""Gets (outputs, batch) for every validation batch, once, in order (averaged weights, eval mode, no gradients, autocast); returns metrics.
Consume the whole iterator. Batches are already on the network's device. `loss` (mean over rows) is added by `fit`; do not return it."""


@dataclass(frozen=True)
class FitResult:
    """What came of a fit; the network itself holds the best weights (averaged ones when averaging)."""

    history: list[dict[str, float]]  # one per epoch: epoch (1-based), step, train_loss, learning_rate, seconds, tokens_per_second, loss, <metrics>
    monitor: str
    best_epoch: int
    best_metric: float
    seconds: float  # of training and validation, all sessions of a resumed run together
    steps: int
    tokens_per_second: float
    waiting_share: float
    stopped: str  # a sentence: why it ended
    learning_rate: float
    gradient_flow: list[dict[str, Any]] = field(default_factory=list)  # {"epoch","layer","norm"} and {"epoch","layer","distance","norm"}
    learning_rate_curve: list[dict[str, float]] = field(default_factory=list)  # {"learning_rate","loss"} when optimizer.learning_rate=auto


def fit(
    network: nn.Module,
    train_loader: Any,
    validation_loader: Any,
    *,
    settings: Settings,
    folder: Path,
    validate: Validate | None = None,
    resume: bool = False,
    progress: bool = True,
) -> FitResult:
    """Train `network`; checkpoints under folder/checkpoints/{last,best}.pt, logs under folder/logs/."""
    raise NotImplementedError
