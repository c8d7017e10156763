"""How the learning rate moves: a pure function of the step, so that resuming needs no more than the step's number.

Only `plateau` remembers something: how often the monitored metric stalled.
"""

from __future__ import annotations

import math
from typing import Any

from torch.optim import Optimizer

from recurra.config import ScheduleSettings
from recurra.training.optimizers import set_learning_rate

__all__ = ["Schedule"]

PLATEAU_FACTOR = 0.1
ONE_CYCLE_START = 1 / 25
ONE_CYCLE_END = ONE_CYCLE_START / 1e4
ONE_CYCLE_MOMENTUM_DIP = 0.1


class Schedule:
    """The factor on the learning rate at each optimizer step.

    | name | after the warm-up |
    | --- | --- |
    | constant | 1 |
    | linear | straight from 1 to the floor, reached behind the last step |
    | cosine | half a cosine from 1 to the floor, reached behind the last step |
    | one_cycle | rises by a cosine from 1/25 during the warm-up, then falls by a cosine to 4e-6; momentum (or beta1) moves the other way by 0.1 |
    | slanted_triangular | straight from 1 to the floor, after a rise that begins at the floor |
    | plateau | divided by ten each time the monitored metric stalls for `patience` epochs |

    Source: cosine, Loshchilov & Hutter 2017 (SGDR), equation 5, one period; one_cycle, Smith & Topin 2018, section 3,
    with torch's start and end; slanted_triangular, Howard & Ruder 2018, equation 3, whose ratio is 1 / floor.

    Later steps than the last one have the factor that is reached behind it.

    Args:
        settings: shape, warm-up, floor, patience.
        learning_rate: the rate at its largest.
        steps: optimizer steps of the whole run.
    """

    def __init__(self, settings: ScheduleSettings, *, learning_rate: float, steps: int) -> None:
        self.settings = settings
        self.learning_rate = learning_rate
        self.steps = max(1, steps)
        self.warmup = round(settings.warmup * self.steps)
        self._plateau = 1.0
        self._stalled = 0

    def factor(self, step: int) -> float:
        """Share of the learning rate used by step `step`, counted from 0."""
        floor = self.settings.floor
        if step < self.warmup:
            share = (step + 1) / self.warmup
            if self.settings.name == "slanted_triangular":
                return floor + (1.0 - floor) * share
            return _cosine(ONE_CYCLE_START, 1.0, share) if self.settings.name == "one_cycle" else share * self._plateau
        done = min(1.0, (step - self.warmup) / max(1, self.steps - self.warmup))
        match self.settings.name:
            case "constant":
                return 1.0
            case "linear" | "slanted_triangular":
                return 1.0 + (floor - 1.0) * done
            case "cosine":
                return _cosine(1.0, floor, done)
            case "one_cycle":
                return _cosine(1.0, ONE_CYCLE_END, done)
            case "plateau":
                return self._plateau

    def apply(self, optimizer: Optimizer, step: int) -> float:
        """Set the learning rate (and one_cycle's momentum) of every group for step `step`.

        Returns:
            The learning rate.
        """
        factor = self.factor(step)
        rate = self.learning_rate * factor
        set_learning_rate(optimizer, rate)
        for group in optimizer.param_groups:
            if self.settings.name == "one_cycle":
                _lower_momentum(group, ONE_CYCLE_MOMENTUM_DIP * factor)
        return rate

    def end_epoch(self, *, improved: bool) -> None:
        """Tell plateau whether the monitored metric became better in this epoch."""
        if self.settings.name != "plateau":
            return
        self._stalled = 0 if improved else self._stalled + 1
        if self._stalled >= self.settings.patience:
            self._plateau *= PLATEAU_FACTOR
            self._stalled = 0

    def state_dict(self) -> dict[str, Any]:
        """What plateau remembers."""
        return {"plateau": self._plateau, "stalled": self._stalled}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue where `state_dict` was taken."""
        self._plateau = state["plateau"]
        self._stalled = state["stalled"]


def _cosine(start: float, end: float, share: float) -> float:
    return end + (start - end) * 0.5 * (1.0 + math.cos(math.pi * share))


def _lower_momentum(group: dict[str, Any], dip: float) -> None:
    """The group's own momentum less `dip`; the original is kept in the group, and so in checkpoints."""
    if "betas" in group:
        beta1, beta2 = group["betas"]
        top = group.setdefault("top_momentum", beta1)
        group["betas"] = (max(0.0, top - dip), beta2)
    elif "momentum" in group:
        top = group.setdefault("top_momentum", group["momentum"])
        group["momentum"] = max(0.0, top - dip)
