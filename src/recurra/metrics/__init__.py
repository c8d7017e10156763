"""What is measured: pure functions of numpy arrays.

Inside: metrics of one class (`classification`), of several labels (`labels`), of numbers (`regression`) and the
bootstrap intervals of all three (`intervals`); of tagged spans (`spans`), of forecasts (`forecast`, `forecast_intervals`). Not inside: models, files, charts.

Every metric function returns a flat dictionary of plain floats, fit for JSON. A value that is not defined for the
given rows (R2 of a constant target, ROC of a class nobody belongs to) is left out: it is never NaN.
"""

from __future__ import annotations

from recurra.metrics.classification import (
    classification_metrics,
    confusion,
    per_class,
    prediction_metrics,
    reliability,
    roc_curves,
)
from recurra.metrics.forecast import (
    ForecastErrors,
    crps_of_quantiles,
    crps_of_samples,
    forecast_errors,
    forecast_metrics,
    pinball_loss,
    seasonal_scale,
)
from recurra.metrics.forecast_intervals import forecast_intervals
from recurra.metrics.intervals import (
    bootstrap,
    classification_intervals,
    label_intervals,
    prediction_intervals,
    regression_intervals,
)
from recurra.metrics.labels import label_metrics, per_label
from recurra.metrics.regression import regression_metrics
from recurra.metrics.spans import per_kind, span_confusion, span_counts, span_intervals, span_metrics, token_counts

__all__ = [
    "ForecastErrors",
    "bootstrap",
    "classification_intervals",
    "classification_metrics",
    "confusion",
    "crps_of_quantiles",
    "crps_of_samples",
    "forecast_errors",
    "forecast_intervals",
    "forecast_metrics",
    "label_intervals",
    "label_metrics",
    "per_class",
    "per_kind",
    "per_label",
    "pinball_loss",
    "prediction_intervals",
    "prediction_metrics",
    "reliability",
    "regression_intervals",
    "regression_metrics",
    "roc_curves",
    "seasonal_scale",
    "span_confusion",
    "span_counts",
    "span_intervals",
    "span_metrics",
    "token_counts",
]
