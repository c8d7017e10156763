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
    "micro_precision": True,
    "micro_recall": True,
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

_TABLE_METRICS = {
    "classify": (
        *("accuracy", "macro_f1", "weighted_f1", "log_loss", "calibration_error", "top_3_accuracy", "roc_auc"),
        *("in_scope_accuracy", "out_of_scope_recall", "out_of_scope_precision"),
    ),
    "labels": ("micro_f1", "micro_precision", "micro_recall", "macro_f1", "subset_accuracy", "hamming_loss", "log_loss"),
    "regress": ("mae", "rmse", "r2"),
    "tag": ("f1", "precision", "recall", "token_accuracy", "row_accuracy"),
}
_OF_ANY_TABLE = tuple(dict.fromkeys(name for names in _TABLE_METRICS.values() for name in names))
TASK_METRICS: dict[str, tuple[str, ...]] = {
    **_TABLE_METRICS,
    "several": ("score", "all_right", *_OF_ANY_TABLE),
    "auto": ("score", "all_right", *_OF_ANY_TABLE),
    "forecast": ("mse", "mae", "rmse"),
    "recommend": tuple(f"{metric}_at_{k}" for k in (5, 10, 20) for metric in ("recall", "mrr", "ndcg")),
    "language": ("perplexity",),
    "translate": ("bleu", "chrf", "token_accuracy", "perplexity"),
    "answer": ("f1", "exact_match"),
}
"""What the validation of each task may measure beside the losses; auto is a table of which the target is not known yet."""

AUTOMATIC = ("score", "accuracy", "micro_f1", "rmse", "recall_at_20", "loss", "train_loss")


def choose_metric(requested: str, metrics: Mapping[str, float] | None = None, *, task: str | None = None) -> str:
    """The metric to monitor.

    Args:
        requested: a name (of one of several heads, as intent.accuracy), or "auto" for the first of score, accuracy, micro F1, RMSE, recall at 20 and loss that is measured.
        metrics: as measured by this task; None when not known yet, and then only the name is checked.
        task: that is trained, whose metrics are allowed while none is measured; None for those of any task.

    Raises:
        SettingsError: there is no such metric, or this task does not measure it.
    """
    if requested == "auto":
        return next((name for name in AUTOMATIC if metrics is not None and name in metrics), "auto")
    possible = HIGHER_IS_BETTER if task is None else (*TASK_METRICS[task], "loss", "train_loss")
    known = [name for name in possible if metrics is None or name in metrics]
    known += [name for name in metrics or () if name not in HIGHER_IS_BETTER and _own(name) in HIGHER_IS_BETTER]
    headed = metrics is None and task in (None, "auto", "several") and _own(requested) in possible
    if requested not in known and not headed:
        place = " for this task"
        if metrics is None:
            place = {None: "", "auto": " for a table"}.get(task, place)
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
