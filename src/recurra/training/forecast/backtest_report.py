"""The page of a backtest."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import yaml

from recurra.data.series import SeriesSet
from recurra.evaluation.forecast.measure import strongest_baseline
from recurra.evaluation.forecast.windows import ForecastWindow
from recurra.evaluation.report import ForecastResults, Report, Result
from recurra.metrics.forecast import ForecastErrors
from recurra.metrics.forecast_intervals import forecast_draws
from recurra.model.forecast.forecaster import Forecaster
from recurra.training.forecast.folds import Backtest
from recurra.training.forecast.report import coverage_pairs, main_metric, step_name
from recurra.training.results import split_intervals

__all__ = ["WORST", "backtest_report"]

WORST = 4
"""Windows that the report shows."""


def backtest_report(title: str, model: Forecaster, series: SeriesSet, result: Backtest, shown: Sequence[ForecastWindow]) -> Report:
    """The page: like a training's, with the folds one by one.

    Args:
        title: of the page.
        model: the forecaster.
        series: the history.
        result: all folds.
        shown: windows to choose the worst from.
    """
    folds = result.folds
    every = {"network": ForecastErrors.join(fold.errors for fold in folds)}
    every |= {name: ForecastErrors.join(fold.baselines[name] for fold in folds) for name in result.baselines}
    metric = main_metric(every["network"])
    rival = strongest_baseline({name: errors for name, errors in every.items() if name != "network"})
    draws = forecast_draws(
        np.concatenate([fold.origins for fold in folds]), horizon=result.horizon, series=np.concatenate([fold.series for fold in folds])
    )
    targets = series.roles.targets
    results = ForecastResults(
        horizon=result.horizon,
        step=step_name(series.frequency),
        windows=every["network"].windows,
        metric=metric,
        by_step={name: errors.by_horizon()[metric] for name, errors in every.items()},
        coverage={name: coverage_pairs(every[name]) for name in ("network", rival) if name is not None},
        members={f"{number}: {fold.begin} to {fold.end}": fold.errors.metrics() for number, fold in enumerate(folds, 1)},
        kind="fold",
        worst=sorted(shown, key=lambda window: -window.error)[:WORST],
        drawn=draws.unit if draws is not None else "origin",
    )
    refit = "trained anew before each fold" if result.refit == "each" else "trained once"
    return Report(
        title=title,
        task="forecast",
        target=targets[0] if len(targets) == 1 else f"{len(targets)} columns",
        model=Result("network", f"{refit}; {len(folds)} folds", *split_intervals(result.metrics)),
        part="test",
        baselines=[Result(name, "", *split_intervals(metrics)) for name, metrics in result.baselines.items()],
        comparison=result.comparison,
        confidence=model.settings.evaluation.confidence,
        results=results,
        settings=yaml.safe_dump(model.settings.model_dump(mode="json"), sort_keys=False, allow_unicode=True),
        timings={f"fold {number}": fold.seconds for number, fold in enumerate(folds, 1)},
        facts={"data": series.description, **{f"note {number}": note for number, note in enumerate(result.notes, 1)}},
        summary=f"backtest of {len(folds)} folds, {refit}",
    )
