"""How metrics are called and written: one table, and the formats of numbers, intervals and times."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import isfinite

__all__ = [
    "BASELINES",
    "METRICS",
    "Baseline",
    "Metric",
    "baseline",
    "count",
    "duration",
    "inline",
    "interval",
    "metric",
    "number",
    "per_cent",
    "points",
]


@dataclass(frozen=True)
class Metric:
    """How a metric is shown.

    Attributes:
        label: in the tables.
        share: written in per cent.
        higher: higher is better.
        note: what it says, in a few words.
        places: decimals, where they do not follow the size of the number.
    """

    label: str
    share: bool
    higher: bool
    note: str = ""
    places: int | None = None

    def write(self, value: float) -> str:
        """The value as text."""
        if self.places is not None and isfinite(value):
            return f"{value:.{self.places}f}"
        return per_cent(value) if self.share else number(value)


METRICS: Mapping[str, Metric] = {
    "accuracy": Metric("Accuracy", True, True, "rows whose class is right; of a text, next tokens that are"),
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
    "perplexity": Metric("Perplexity", False, False, "a choice among so many equally probable tokens"),
    "loss": Metric("Loss", False, False, "nats a token", 4),
    "bits_per_character": Metric("Bits per character", False, False, "of the text as it is written", 4),
    "cache_perplexity": Metric("Perplexity with a cache", False, False, "of the last steps"),
    "dynamic_perplexity": Metric("Perplexity, dynamic", False, False, "a copy goes on learning while it is measured"),
    "rmse": Metric("RMSE", False, False, "root mean squared error, in the target’s unit"),
    "mae": Metric("MAE", False, False, "mean absolute error, in the target’s unit"),
    "mse": Metric("MSE", False, False, "mean squared error, in the square of the target’s unit"),
    "mase": Metric(
        "MASE",
        False,
        False,
        "mean absolute error over that of the (seasonal) naive forecast, one season (or step) ahead, on the training part",
    ),
    "smape": Metric("sMAPE", True, False, "2|y − f| / (|y| + |f|), between 0 and 200%"),
    "standard_mse": Metric("Standardised MSE", False, False, "each column by its deviation in training, as in published tables"),
    "standard_mae": Metric("Standardised MAE", False, False, "each column by its deviation in training"),
    "weighted_quantile_loss": Metric(
        "Weighted quantile loss", False, False, "twice the pinball loss over the sum of |y|, mean over the levels"
    ),
    "crps": Metric("CRPS", False, False, "continuous ranked probability score, in the target’s unit"),
    "answer_popularity": Metric("Popularity of the answers", True, True, "mean percentile of the items that came next"),
    "f1": Metric("F1", True, True, "of spans; one is right when start, end and kind are right, as conlleval counts"),
    "answered_f1": Metric("F1 where there is an answer", True, True, "over the questions that have one"),
    "answered_exact_match": Metric("Exact match where there is an answer", True, True, "over the questions that have one"),
    "unanswered_accuracy": Metric("Told that there is none", True, True, "of the questions that have no answer"),
    "precision": Metric("Precision", True, True, "predicted spans that are right"),
    "recall": Metric("Recall", True, True, "true spans that are found"),
    "token_accuracy": Metric("Token accuracy", True, True, "tokens whose tag is right; of a text, known the tokens before them"),
    "unknown_tags": Metric("Tags not in training", False, False, "tokens whose true tag is of a kind that no training row has"),
    "row_accuracy": Metric("Row accuracy", True, True, "rows with every tag right"),
    "in_scope_accuracy": Metric("In-scope accuracy", True, True, "rows of the classes that are given theirs, and not refused"),
    "out_of_scope_recall": Metric("Out-of-scope recall", True, True, "rows of no class that are told to be so"),
    "out_of_scope_precision": Metric("Out-of-scope precision", True, True, "rows told to be of no class that are so"),
    "score": Metric("Score", True, True, "mean over the targets of accuracy, micro F1, span F1 or R²"),
    "all_right": Metric("All right", True, True, "rows in which every target is right"),
    "bleu": Metric("BLEU", False, True, "n-grams shared with the reference, 0 to 100, as sacreBLEU counts them", 2),
    "chrf": Metric("chrF", False, True, "n-grams of characters shared with the reference, 0 to 100", 2),
    "exact_match": Metric(
        "Exact matches", True, True, "texts that equal a reference; of answers, but for case, signs, articles and blanks"
    ),
    "length_ratio": Metric("Length ratio", False, True, "words written over words of the references; 1 is best", 3),
    "r2": Metric("R²", False, True, "share of the variance explained"),
}


METRICS_AT = {
    "recall": ("Recall", "the item that came next is among the first {k}"),
    "mrr": ("MRR", "1 / rank of the item that came next, 0 beyond {k}"),
    "ndcg": ("NDCG", "1 / log2(1 + rank), 0 beyond {k}"),
    "coverage": ("Coverage", "items of the catalogue that anybody was recommended"),
    "recommended_popularity": ("Popularity of the recommended", "mean percentile; above that of the answers, popular items are pushed"),
}
"""Label and note of metrics of the first k of a ranking, written `recall_at_20`."""


@dataclass(frozen=True)
class Baseline:
    """How a baseline is called: in tables, and in a sentence."""

    label: str
    inline: str


BASELINES: Mapping[str, Baseline] = {
    "majority": Baseline("Majority", "the most frequent class"),
    "mean": Baseline("Mean", "the mean"),
    "tfidf_linear": Baseline("TF-IDF linear", "the linear model"),
    "network_alone": Baseline("Network alone", "the network alone"),
    "linear_alone": Baseline("Its linear model alone", "its linear model alone"),
    "naive": Baseline("Naive", "the naive forecast"),
    "seasonal_naive": Baseline("Seasonal naive", "the seasonal naive forecast"),
    "drift": Baseline("Drift", "the drift"),
    "linear": Baseline("Linear", "the linear model"),
    "ets": Baseline("ETS", "exponential smoothing"),
    "frequent_tag": Baseline("Most frequent tag", "the most frequent tag of each word"),
    "window_linear": Baseline("Window linear", "the linear tagger"),
    "ngrams": Baseline("n-grams", "the n-gram model"),
    "unigram": Baseline("Unigram", "the unigram"),
    "copy": Baseline("Copy", "a copy of the source"),
    "nearest": Baseline("Nearest source", "the target of the nearest source"),
    "no_answer": Baseline("No answer", "saying that there is no answer"),
    "sliding_window": Baseline("Sliding window", "the sliding window"),
    "popularity": Baseline("Popularity", "what is popular"),
    "markov": Baseline("Markov chain", "the Markov chain"),
    "item_neighbours": Baseline("Item-kNN", "item-kNN"),
    "session_neighbours": Baseline("Session-kNN", "session-kNN"),
}


def baseline(name: str) -> Baseline:
    """The table's entry, or the name itself for a baseline it does not know."""
    return BASELINES.get(name, Baseline(name, name))


def _metric_at(name: str) -> Metric | None:
    """Such as `recall_at_20`, also with `masked_` before it."""
    quantity, at, k = name.removeprefix("masked_").rpartition("_at_")
    if not at or quantity not in METRICS_AT:
        return None
    label, note = METRICS_AT[quantity]
    where = ", seen items taken out" if name.startswith("masked_") else ""
    return Metric(
        f"{label} at {k}{where}", quantity not in {"mrr", "ndcg"}, True, note.format(k=k), 4 if quantity in {"mrr", "ndcg"} else None
    )


def _metric_of_interval(name: str) -> Metric | None:
    """Such as `coverage_90` and `width_90`, of the interval that should hold 90% of the answers."""
    quantity, _, share = name.partition("_")
    if quantity not in {"coverage", "width"} or not share.replace(".", "").isdigit():
        return None
    if quantity == "coverage":
        return Metric(f"Coverage of the {share}% interval", True, True, f"answers inside; {share}% is right")
    return Metric(f"Width of the {share}% interval", False, False, "mean, in the target’s unit")


def _metric_of_head(name: str) -> Metric | None:
    """Such as `intent.accuracy`, of one of several heads."""
    head, dot, own = name.rpartition(".")
    return replace(METRICS[own], label=f"{METRICS[own].label} of {head}") if dot and own in METRICS else None


def metric(name: str) -> Metric:
    """The table's entry, or a plain one for a metric it does not know."""
    return (
        METRICS.get(name)
        or _metric_at(name)
        or _metric_of_interval(name)
        or _metric_of_head(name)
        or Metric(name.replace("_", " ").capitalize(), False, "loss" not in name and "error" not in name)
    )


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
    return f"{metric(name).write(low)} to {metric(name).write(high)}"


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
