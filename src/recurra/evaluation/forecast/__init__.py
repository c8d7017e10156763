"""How good a forecast is beside what costs nothing: seasons, baselines, comparison. Import from the modules.

Inside: `seasons` (the length of a season, by autocorrelation), `baselines` (naive, seasonal naive, drift, linear, ETS), `linear` (ridge regression of
the horizon on the history), `smoothing` (ETS through statsmodels), `measure` (baselines on the windows of a part, and the paired comparison).
Not inside: the metrics (`recurra.metrics.forecast`), the charts (`recurra.evaluation.charts.forecasts`).
"""

from __future__ import annotations

__all__: list[str] = []
