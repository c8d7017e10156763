"""The validation metric that selects the weights and ends the training."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from recurra.errors import SettingsError, nearest

__all__ = ["Monitor", "choose_metric"]

HIGHER_IS_BETTER: dict[str, bool] = {
    "score": True,
    "all_right": True,
    "accuracy": True,
    "f1": True,
    "exact_match": True,
    "precision": True,
    "recall": True,
    "token_accuracy": True,
    "row_accuracy": True,
    "bleu": True,
    "chrf": True,
    "micro_f1": True,
    "macro_f1": True,
    "weighted_f1": True,
    "in_scope_accuracy": True,
    "out_of_scope_recall": True,
    "out_of_scope_precision": True,
    "top_3_accuracy": True,
    "subset_accuracy": True,
    "roc_auc": True,
    "r2": True,
    **{f"{metric}_at_{k}": True for k in (5, 10, 20) for metric in ("recall", "mrr", "ndcg")},
    "loss": False,
    "train_loss": False,
    "log_loss": False,
    "perplexity": False,
    "rmse": False,
    "mae": False,
    "mse": False,
    "hamming_loss": False,
    "calibration_error": False,
}
"""Every metric that can select a model, and its direction."""

AUTOMATIC = ("score", "accuracy", "micro_f1", "rmse", "recall_at_20", "loss", "train_loss")


def choose_metric(requested: str, metrics: Mapping[str, float] | None = None) -> str:
    """The metric to monitor.

    Args:
        requested: a name (of one of several heads, as intent.accuracy), or "auto" for the first of score, accuracy, micro F1, RMSE, recall at 20 and loss that is measured.
        metrics: as measured by this task; None when not known yet, and then only the name is checked.

    Raises:
        SettingsError: there is no such metric, or this task does not measure it.
    """
    if requested == "auto":
        return next((name for name in AUTOMATIC if metrics is not None and name in metrics), "auto")
    known = [name for name in HIGHER_IS_BETTER if metrics is None or name in metrics]
    known += [name for name in metrics or () if name not in HIGHER_IS_BETTER and _own(name) in HIGHER_IS_BETTER]
    if requested not in known and (metrics is not None or _own(requested) not in HIGHER_IS_BETTER):
        place = "" if metrics is None else " for this task"
        raise SettingsError(
            f"training.monitor={requested!r} is not a metric{place}.{nearest(requested, known)} Known{place}: {', '.join(known)}."
        )
    return requested


def _own(name: str) -> str:
    """The metric's own name, without that of the head before it."""
    return name.rpartition(".")[2]


class Monitor:
    """Remembers the best value of a metric and how long ago it was.

    Args:
        metric: its name.
        patience: epochs without a better value until `exhausted`; 0 for never.

    Attributes:
        best: best value so far, NaN before the first.
        best_loss: validation loss there, which decides between equal values.
        best_epoch: when it was, 0 before the first.
        stalled: epochs since then.
    """

    def __init__(self, metric: str, *, patience: int) -> None:
        self.metric = metric
        self.patience = patience
        self.best = self.best_loss = math.nan
        self.best_epoch = 0
        self.stalled = 0

    def update(self, epoch: int, value: float, *, loss: float = math.nan) -> bool:
        """Take the value of an epoch (counted from 1); True when it is the best so far, or as good at a lower loss."""
        better = self.best_epoch == 0 or (value > self.best if HIGHER_IS_BETTER[_own(self.metric)] else value < self.best)
        if better or (value == self.best and loss < self.best_loss):
            better = True
            self.best, self.best_loss, self.best_epoch, self.stalled = value, loss, epoch, 0
        else:
            self.stalled += 1
        return better

    @property
    def exhausted(self) -> bool:
        """True when patience has run out."""
        return 0 < self.patience <= self.stalled

    def state_dict(self) -> dict[str, Any]:
        """Metric, best value, its loss and epoch, and the epochs since."""
        return {
            "metric": self.metric,
            "best": self.best,
            "best_loss": self.best_loss,
            "best_epoch": self.best_epoch,
            "stalled": self.stalled,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where `state_dict` was taken."""
        self.metric = state["metric"]
        self.best = state["best"]
        self.best_loss = state["best_loss"]
        self.best_epoch = state["best_epoch"]
        self.stalled = state["stalled"]
