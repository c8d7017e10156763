"""Metrics of tagged spans, as the CoNLL evaluation script `conlleval` counts: a span is right when start, end and kind are right.

Not inside: how tags become spans (`recurra.data.tags`).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from recurra.data.tags import Spans
from recurra.errors import EmptyData
from recurra.metrics.classification import class_figures
from recurra.metrics.intervals import Intervals, bootstrap
from recurra.shapes import Int

__all__ = ["NO_SPAN", "per_kind", "span_confusion", "span_counts", "span_intervals", "span_metrics", "span_statistics", "token_counts"]

NO_SPAN = "no span"
"""What stands for a missing span in the confusion of kinds."""


def right_spans(true: Spans, predicted: Spans) -> np.ndarray:
    """(P,) true where a predicted span is among the true ones."""
    size = 1 + int(max(true.end.max(initial=0), predicted.end.max(initial=0)))
    ends, kinds = np.full(size, -1), np.full(size, -1)
    ends[true.start], kinds[true.start] = true.end, true.kind
    found: np.ndarray = (ends[predicted.start] == predicted.end) & (kinds[predicted.start] == predicted.kind)
    return found


def span_counts(true: Spans, predicted: Spans, offsets: Int[np.ndarray, " N1"]) -> Int[np.ndarray, "N 3"]:
    """Right, predicted and true spans of each row.

    Args:
        true: spans of the truth.
        predicted: spans of the prediction.
        offsets: (N + 1,) the token at which each row begins.
    """
    rows = len(offsets) - 1
    right = predicted.start[right_spans(true, predicted)]
    # A row without tokens begins where the next one does: of equal offsets the last row has the token.
    columns = [
        np.bincount(np.searchsorted(offsets, starts, side="right") - 1, minlength=rows)[:rows]
        for starts in (right, predicted.start, true.start)
    ]
    return np.stack(columns, axis=1)


def token_counts(true: np.ndarray, predicted: np.ndarray, offsets: np.ndarray) -> Int[np.ndarray, "N 2"]:
    """Right and all tokens of each row."""
    ends = np.concatenate([[0], np.cumsum(true == predicted)])
    return np.stack([ends[offsets[1:]] - ends[offsets[:-1]], np.diff(offsets)], axis=1)


def span_metrics(spans: Int[np.ndarray, "N 3"] | None, tokens: Int[np.ndarray, "N 2"]) -> dict[str, float]:
    """All metrics of tagged rows.

    Args:
        spans: of `span_counts`; None where the tags stand for no spans.
        tokens: of `token_counts`.

    Returns:
        `f1`, `precision` and `recall` over all spans (0 where they are not defined, as `conlleval` has it), `token_accuracy`, and
        `row_accuracy`: the share of rows all of whose tokens are right, rows without tokens among them.

    Raises:
        EmptyData: there is no row.
    """
    if not len(tokens):
        raise EmptyData("There is no row to measure: give rows with tags.")
    found = {name: float(values[0]) for name, values in span_statistics(spans, tokens, np.ones((1, len(tokens)))).items()}
    return {name: value if np.isfinite(value) else 0.0 for name, value in found.items()}


def span_intervals(
    spans: Int[np.ndarray, "N 3"] | None, tokens: Int[np.ndarray, "N 2"], *, samples: int = 1_000, confidence: float = 0.95, seed: int = 0
) -> Intervals:
    """Bootstrap intervals of `span_metrics`; whole rows (sentences) are drawn, because the spans of one are no independent witnesses."""
    return bootstrap(lambda counts: span_statistics(spans, tokens, counts), len(tokens), samples=samples, confidence=confidence, seed=seed)


def per_kind(true: Spans, predicted: Spans, names: Sequence[str]) -> dict[str, dict[str, float]]:
    """Precision, recall, F1 and support by kind; see `recurra.metrics.per_class` for what is left out when."""
    size = len(names)
    hits = np.bincount(predicted.kind[right_spans(true, predicted)], minlength=size)
    columns = [hits, np.bincount(predicted.kind, minlength=size), np.bincount(true.kind, minlength=size)]
    return {name: class_figures(*(float(column[number]) for column in columns)) for number, name in enumerate(names)}


def span_confusion(true: Spans, predicted: Spans, kinds: int) -> Int[np.ndarray, "K K"]:
    """Spans by true and predicted kind, those with the same start and end; the last row and column is no span at all.

    Returns:
        (kinds + 1, kinds + 1) counts. A span with a wrong boundary counts twice: as missed, and as one that is not there.
    """
    size = 1 + int(max(true.end.max(initial=0), predicted.end.max(initial=0)))
    true_kind, predicted_kind = (_kind_by_place(spans, size) for spans in (true, predicted))
    pairs = np.array(
        [(true_kind.get(place, kinds), predicted_kind.get(place, kinds)) for place in true_kind.keys() | predicted_kind.keys()]
    )
    counts = np.zeros((kinds + 1, kinds + 1), np.int64)
    np.add.at(counts, tuple(pairs.reshape(-1, 2).T.astype(np.int64)), 1)
    return counts


def _kind_by_place(spans: Spans, size: int) -> dict[int, int]:
    return dict(zip((spans.start * size + spans.end).tolist(), spans.kind.tolist(), strict=True))


def span_statistics(spans: np.ndarray | None, tokens: np.ndarray, counts: np.ndarray) -> dict[str, np.ndarray]:
    """The metrics as a function of how often each row was drawn, for `bootstrap`."""
    values = {}
    with np.errstate(invalid="ignore", divide="ignore"):
        if spans is not None:
            right, predicted, true = (counts @ spans).T
            values = {"f1": 2.0 * right / (predicted + true), "precision": right / predicted, "recall": right / true}
        hits, all_tokens = (counts @ tokens).T
        values["token_accuracy"] = hits / all_tokens
    values["row_accuracy"] = counts @ (tokens[:, 0] == tokens[:, 1]) / counts.sum(axis=1)
    return values
