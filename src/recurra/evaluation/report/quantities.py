"""How metrics are called and written: one table, and the formats of numbers, intervals and times."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite

__all__ = ["METRICS", "Metric", "count", "duration", "inline", "interval", "metric", "number", "per_cent", "points"]


@dataclass(frozen=True)
class Metric:
    """How a metric is shown.

    Attributes:
        label: in the tables.
        share: written in per cent.
        higher: higher is better.
        note: what it says, in a few words.
    """

    label: str
    share: bool
    higher: bool
    note: str = ""

    def write(self, value: float) -> str:
        """The value as text."""
        return per_cent(value) if self.share else number(value)


METRICS: Mapping[str, Metric] = {
    "accuracy": Metric("Accuracy", True, True, "rows whose class is right"),
    "top_3_accuracy": Metric("Top-3 accuracy", True, True, "rows whose class is among the three most probable"),
    "micro_f1": Metric("Micro F1", True, True, "F1 over all labels of all rows"),
    "macro_f1": Metric("Macro F1", True, True, "mean over the classes, each of the same weight"),
    "weighted_f1": Metric("Weighted F1", True, True, "mean over the classes by their rows"),
    "micro_precision": Metric("Micro precision", True, True, "predicted labels that are right"),
    "micro_recall": Metric("Micro recall", True, True, "true labels that were predicted"),
    "subset_accuracy": Metric("Subset accuracy", True, True, "rows with every label right"),
    "hamming_loss": Metric("Hamming loss", True, False, "wrong cells of the label table"),
    "log_loss": Metric("Log loss", False, False, "in nats; 0 is certain and right"),
    "calibration_error": Metric("Calibration error", True, False, "mean gap of confidence and accuracy"),
    "roc_auc": Metric("ROC area", False, True, "one against the rest; 0.5 is chance"),
    "rmse": Metric("RMSE", False, False, "root mean squared error, in the target’s unit"),
    "mae": Metric("MAE", False, False, "mean absolute error, in the target’s unit"),
    "r2": Metric("R²", False, True, "share of the variance explained"),
}


def metric(name: str) -> Metric:
    """The table's entry, or a plain one for a metric it does not know."""
    return METRICS.get(name, Metric(name.replace("_", " ").capitalize(), False, "loss" not in name and "error" not in name))


def inline(name: str) -> str:
    """The label as it stands inside a sentence: accuracy, micro F1, RMSE."""
    label = metric(name).label
    return label if label[1:2].isupper() or label[1:2] == "²" else label[0].lower() + label[1:]


def per_cent(value: float) -> str:
    """0.9012 as 90.1%."""
    return f"{100 * value:.1f}%" if isfinite(value) else "–"


def points(value: float) -> str:
    """0.0123 as 1.2 points, a difference of two percentages; its sign is left to the sentence."""
    text = f"{abs(100 * value):.1f}"
    return f"{text} point" if text == "1.0" else f"{text} points"


def number(value: float) -> str:
    """Three decimals between 0.001 and 10, else four significant digits."""
    if not isfinite(value):
        return "–"
    size = abs(value)
    if 1e4 <= size < 1e9:
        text = f"{value:,.0f}"
    elif 1e-3 <= size < 10 or size < 1e-5:
        text = f"{value:.3f}"
    else:
        text = f"{value:#.4g}".rstrip(".") if size >= 10 else f"{value:.1g}"
    return "0.000" if text == "-0.000" else text.replace("-", "−")


def interval(name: str, bounds: tuple[float, float]) -> str:
    """Bounds as 89.4–90.8%, or 0.31 to 0.35."""
    low, high = bounds
    if metric(name).share:
        return f"{100 * low:.1f}–{100 * high:.1f}%"
    return f"{number(low)} to {number(high)}"


def count(value: float) -> str:
    """12000 as 12,000."""
    return f"{value:,.0f}"


def duration(seconds: float) -> str:
    """Seconds as 0.4 s, 12 s, 3 min 20 s or 2 h 05 min."""
    if seconds < 0.95:
        return f"{seconds:.2f} s"
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
