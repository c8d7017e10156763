"""How far a run has come: the plain numbers of a checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

__all__ = ["Course"]


@dataclass
class Course:
    """Counters and records of a run, carried through checkpoints.

    Attributes:
        epoch: in progress, counted from 0.
        batch: batches of it that are done.
        batches: batches it has; 0 before the first one of a run.
        step: optimizer steps of the run.
        loss_sum: sum over the epoch's rows of their batches' mean losses.
        rows: rows of the epoch so far.
        epoch_tokens: real steps in time of the epoch so far.
        epoch_seconds: training time of the epoch so far.
        tokens: real steps in time of the run.
        training_seconds: without validation.
        waiting_seconds: of the training time, spent waiting for batches.
        seconds: with validation, all sessions of a resumed run together.
        learning_rate: at its largest, as set or found.
        learning_rate_curve: of the finder.
        history: one record an epoch.
        gradient_flow: records of the diagnosis.
        stopped: why the run ended; empty while it has not.
    """

    epoch: int = 0
    batch: int = 0
    batches: int = 0
    step: int = 0
    loss_sum: float = 0.0
    rows: int = 0
    epoch_tokens: int = 0
    epoch_seconds: float = 0.0
    tokens: int = 0
    training_seconds: float = 0.0
    waiting_seconds: float = 0.0
    seconds: float = 0.0
    learning_rate: float = 0.0
    learning_rate_curve: list[dict[str, float]] = field(default_factory=list)
    history: list[dict[str, float]] = field(default_factory=list)
    gradient_flow: list[dict[str, Any]] = field(default_factory=list)
    stopped: str = ""

    @property
    def epoch_trained(self) -> bool:
        """True between an epoch's last step and the end of its validation."""
        return 0 < self.batches == self.batch

    def begin_next_epoch(self) -> None:
        """Count the epoch as done."""
        self.epoch += 1
        self.batch = self.batches = self.rows = self.epoch_tokens = 0
        self.loss_sum = self.epoch_seconds = 0.0

    def state_dict(self) -> dict[str, Any]:
        """All fields."""
        return {each.name: getattr(self, each.name) for each in fields(self)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where `state_dict` was taken."""
        for each in fields(self):
            setattr(self, each.name, state[each.name])
