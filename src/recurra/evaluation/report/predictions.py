"""How a held-out part was predicted, for the page: numbers against their targets; classes, labels and spans with their confusion and calibration."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from recurra.evaluation import charts
from recurra.evaluation.report import prose
from recurra.evaluation.report.content import ClassResults, LabelResults, NumberResults, Report, TagResults
from recurra.evaluation.report.quantities import count, per_cent
from recurra.metrics.classification import per_class
from recurra.metrics.spans import NO_SPAN

__all__ = ["prediction_view"]

_FEW_CLASSES = 30


def prediction_view(report: Report) -> dict[str, Any]:
    """What the template shows of predictions; parts that this task does not have are empty."""
    results = report.results
    drawn = dict.fromkeys(("confusion", "pairs", "calibration", "roc", "predicted", "residuals"), "")
    view: dict[str, Any] = {
        "noun": "Class",
        "class_rows": [],
        "weakest": [],
        "calibration": "",
        "confusion_text": "",
        "numbered": False,
        "charts": drawn,
    }
    figures: Mapping[str, Mapping[str, float]] = {}
    if isinstance(results, NumberResults):
        shape = {"target": report.target, "unit": results.unit}
        drawn["predicted"] = charts.predicted_against_true(results.predictions, results.targets, **shape)
        drawn["residuals"] = charts.residuals(results.predictions, results.targets, **shape)
    elif isinstance(results, ClassResults):
        figures = per_class(np.asarray(results.confusion), results.classes)
        drawn |= _confusion(results)
        drawn["roc"] = charts.roc(results.roc)
        view |= {"numbered": len(results.classes) <= 12, "confusion_text": _confusion_text(results)}
    elif isinstance(results, LabelResults):
        figures, view["noun"] = results.per_label, "Label"
    elif isinstance(results, TagResults):
        figures, view["noun"] = results.per_kind, "Kind"
        drawn |= _span_confusion(results)
        view |= {"numbered": len(results.kinds) <= 11, "confusion_text": _span_confusion_text(results)}
    if isinstance(results, (ClassResults, LabelResults)):
        drawn["calibration"] = charts.calibration(results.reliability)
        view["calibration"] = prose.calibration_sentence(results.reliability)
    view["class_rows"] = [_class_row(name, values) for name, values in figures.items()]
    view["weakest"] = _weakest(figures)
    return view


def _weakest(figures: Mapping[str, Mapping[str, float]]) -> list[dict[str, Any]]:
    if len(figures) <= _FEW_CLASSES:
        return []
    present = {name: values for name, values in figures.items() if "f1" in values}
    return [_class_row(name, present[name]) for name in sorted(present, key=lambda name: present[name]["f1"])[:15]]


def _span_confusion(results: TagResults) -> dict[str, str]:
    names, counts = [*results.kinds, NO_SPAN], np.asarray(results.confusion)
    pairs = charts.confused_pairs(counts, names) if len(names) > 4 and counts.any() else ""
    return {"confusion": charts.confusion_matrix(counts, names), "pairs": pairs}


def _span_confusion_text(results: TagResults) -> str:
    counts = np.asarray(results.confusion)
    if not counts.any():
        return ""
    missed, spurious = int(counts[:-1, -1].sum()), int(counts[-1, :-1].sum())
    taken = int(counts[:-1, :-1].sum() - counts[:-1, :-1].trace())
    return (
        f"{count(missed)} spans are missed and {count(spurious)} found where there are none (a wrong boundary is one of each); "
        f"{count(taken)} have the right place and the wrong kind."
    )


def _confusion(results: ClassResults) -> dict[str, str]:
    counts = np.asarray(results.confusion)
    pairs = charts.confused_pairs(counts, results.classes) if len(results.classes) > 4 else ""
    return {"confusion": charts.confusion_matrix(counts, results.classes), "pairs": pairs}


def _confusion_text(results: ClassResults) -> str:
    counts = np.array(results.confusion)
    total, wrong = counts.sum(), counts.sum() - counts.trace()
    if not wrong:
        return f"All {count(total)} rows are right."
    np.fill_diagonal(counts, 0)
    true, predicted = np.unravel_index(counts.argmax(), counts.shape)
    largest = counts[true, predicted]
    return (
        f"{count(wrong)} of {count(total)} rows are wrong; most often “{results.classes[int(true)]}” is taken for "
        f"“{results.classes[int(predicted)]}” ({count(largest)} {'row' if largest == 1 else 'rows'})."
    )


def _class_row(name: str, values: Mapping[str, float]) -> dict[str, Any]:
    figures = {key: per_cent(values[key]) if key in values else "–" for key in ("precision", "recall", "f1")}
    counts = {key: count(values.get(key, 0)) for key in ("support", "predicted")}
    return {"name": name, "width": round(100 * values.get("f1", 0.0), 1), **figures, **counts}
