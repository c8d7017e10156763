"""A guard that stops a training whose loss or gradient is no longer a number, or explodes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from recurra.errors import TrainingDiverged
from recurra.training.optimizers import gradient_norms

__all__ = ["DivergenceGuard"]

FIRST_STEPS = 10
SMALLEST_BASELINE = 1e-3
SKIPPED_STEPS = 50


class DivergenceGuard:
    """Compares the loss of each step with that of the first ten.

    Args:
        factor: a loss this many times the mean size of those of the first ten steps (of at least 0.001, so that a loss that
            starts near zero does not trip it) is an explosion. The likelihood of a density may be below zero: signs do not count.
        scaled: float16 with a loss scaler: single infinite gradients are expected there and the scaler skips the step;
            only 50 in a row stop the training.
    """

    def __init__(self, factor: float, *, scaled: bool = False) -> None:
        self.factor = factor
        self.scaled = scaled
        self._first: list[float] = []
        self._skipped = 0

    def check(self, network: nn.Module, *, step: int, loss: float, norm: float, learning_rate: float) -> None:
        """Look at a step before its update; the gradients are still in the parameters.

        Args:
            network: for the norms of its layers' gradients in the message.
            step: optimizer step, counted from 1.
            loss: mean loss of the step's batches.
            norm: norm of the whole gradient before clipping.
            learning_rate: of this step.

        Raises:
            TrainingDiverged: the loss or the gradient is NaN or infinite, or the loss exploded.
        """
        if not math.isfinite(loss):
            raise _diverged(f"the loss is {loss}", network, step=step, loss=loss, learning_rate=learning_rate)
        self._skipped = 0 if math.isfinite(norm) else self._skipped + 1
        if self._skipped > (SKIPPED_STEPS if self.scaled else 0):
            raise _diverged(f"the norm of the gradient is {norm}", network, step=step, loss=loss, learning_rate=learning_rate)
        if len(self._first) < FIRST_STEPS:
            self._first.append(loss)
            return
        start = sum(abs(loss) for loss in self._first) / len(self._first)
        if loss > self.factor * max(start, SMALLEST_BASELINE):
            reason = f"the loss is {loss:.4g}, over training.divergence_factor={self.factor:g} times the {start:.4g} of the first steps"
            raise _diverged(reason, network, step=step, loss=loss, learning_rate=learning_rate)

    def check_weights(self, network: nn.Module, *, step: int, learning_rate: float) -> None:
        """Look at the weights before they are saved, so that a checkpoint is always one of a healthy network.

        Raises:
            TrainingDiverged: a weight is NaN or infinite.
        """
        for name, parameter in network.named_parameters():
            if not bool(torch.isfinite(parameter.detach().sum())) and not bool(torch.isfinite(parameter.detach()).all()):
                raise TrainingDiverged(
                    f"Training diverged at step {step}: the weight {name} is no longer finite.\n{_advice(learning_rate)}"
                )

    def state_dict(self) -> dict[str, Any]:
        """The first losses and the number of steps skipped last."""
        return {"first": list(self._first), "skipped": self._skipped}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where `state_dict` was taken."""
        self._first = list(state["first"])
        self._skipped = state["skipped"]


def _diverged(reason: str, network: nn.Module, *, step: int, loss: float, learning_rate: float) -> TrainingDiverged:
    norms = gradient_norms(network)
    table = "\n".join(f"  {norm:>10.4g}  {layer}" for layer, norm in norms.items())
    return TrainingDiverged(
        f"Training diverged at step {step}: {reason}.\n"
        f"Loss {loss:.4g}, learning rate {learning_rate:.3g}, gradient norm by layer:\n{table}\n{_advice(learning_rate)}"
    )


def _advice(learning_rate: float) -> str:
    return (
        f"What helps: a lower learning rate (optimizer.learning_rate={learning_rate / 10:.1g}, or auto), clipping (training.clip_norm=1), "
        "a longer warm-up (schedule.warmup=0.1); and look for NaN or huge values in the number columns and targets. "
        "The checkpoints written before this step are kept."
    )
