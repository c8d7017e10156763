"""Rolling origins: how a forecaster would have done on the last stretches of a history, trained once or anew before each.

The last `folds` x `fold_length` origins whose horizon is known are cut into folds, oldest first; the last fold ends with the last step, so no
window is dropped. Before each fold the model is used as it is (`refit="never"`) or trained anew with its own settings on all steps before the
fold's first origin (`refit="each"`). The baselines know the same steps, and are measured on the same windows.

Source: Tashman, "Out-of-sample tests of forecasting accuracy", 2000 (rolling origins, refitting).
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import numpy as np

from recurra.config import Settings
from recurra.config.numbers import require_whole
from recurra.data.read import read
from recurra.data.series import SeriesSet, read_series
from recurra.data.windows import Origins, Windows
from recurra.errors import DataError, ModelFolderError, OutputExists, SettingsError
from recurra.evaluation.forecast.measure import compare_forecasts, strongest_baseline
from recurra.evaluation.forecast.seasons import find_season
from recurra.evaluation.forecast.windows import ForecastWindow, worst_windows
from recurra.evaluation.report import write_report
from recurra.metrics.forecast import ForecastErrors, seasonal_scale
from recurra.metrics.forecast_intervals import forecast_intervals
from recurra.model.folder import write_file
from recurra.model.forecast.forecaster import Forecaster
from recurra.model.load import load
from recurra.model.trained import OnError
from recurra.training.checkpoints import last_path
from recurra.training.forecast.backtest_report import WORST, backtest_report
from recurra.training.forecast.folds import Backtest, Fold, Refit, keep_fold, kept_fold
from recurra.training.forecast.job import ForecastJob
from recurra.training.forecast.prepare import Prepared, part_bounds
from recurra.training.forecast.report import main_metric, shown_windows, time_text
from recurra.training.forecast.results import Measured, fit_on, measure_on
from recurra.training.job import Show
from recurra.training.output import LOCK, WORK, check_at_rest, clear, locked_output

__all__ = ["Backtest", "Fold", "Refit", "backtest"]

RESULT, PAGE, FOLDS, KEY = "backtest.json", "report.html", "folds", "key.json"
"""Files of the output folder, the folder of finished folds in it, and the file there that tells which backtest they are of."""


def backtest(
    model: Forecaster | str | Path,
    data: Any,
    *,
    folds: int = 5,
    fold_length: int | None = None,
    refit: Refit = "never",
    output: str | Path | None = None,
    resume: bool = False,
    overwrite: bool = False,
    on_error: OnError = "fail",
    show: Show | None = None,
) -> Backtest:
    """Forecast the last stretches of a history as if they were not known, and measure.

    Args:
        model: a forecaster, or its folder.
        data: a table with the columns of the training, as long a history as there is.
        folds: stretches, oldest first.
        fold_length: origins of a fold; the horizon when not given.
        refit: `never` uses the model as it is, `each` trains anew with its settings on all steps before each fold.
        output: folder for `backtest.json` and `report.html`; nothing is kept when not given. Finished folds are kept there at once.
        resume: go on with an interrupted backtest in `output`.
        overwrite: replace a backtest that is there.
        on_error: what happens to rows that cannot be read: an error, or left out.
        show: called with lines on the course of the work.

    Returns:
        Figures of each fold and over all of them, beside the baselines.

    Raises:
        SettingsError: the model is no forecaster, a number makes no sense, or `resume` is set without `output` or beside `overwrite`.
        OutputExists: the folder holds something, and neither `resume` nor `overwrite` is set; or another backtest is at work in it.
        DataError: the series are too short for the folds, or the folder cannot be made.
    """
    if resume and overwrite:
        raise SettingsError("resume goes on with a backtest and overwrite begins anew: give one of them.")
    if resume and output is None:
        raise SettingsError("resume goes on with a backtest in an output folder: name it.")
    forecaster = model if isinstance(model, Forecaster) else _loaded(model)
    length = forecaster.horizon if fold_length is None else fold_length
    work = _Work(forecaster, data, folds=folds, fold_length=length, refit=refit, on_error=on_error, show=show)
    if output is None:
        return _measured(work, None)
    folder, key = Path(output), work.key()
    check_at_rest(folder, inside=FOLDS, what="backtest")
    _check(folder, key, resume=resume, overwrite=overwrite)
    with locked_output(folder, inside=FOLDS, what="backtest"):
        _check(folder, key, resume=resume, overwrite=overwrite)  # another backtest may have come to its end in between
        _begin(folder, key, resume=resume)
        return _measured(work, folder)


def _measured(work: _Work, folder: Path | None) -> Backtest:
    """All folds, kept in the output folder where there is one."""
    found: list[Fold] = []
    shown: list[ForecastWindow] = []
    for number in range(work.folds):
        path = None if folder is None else folder / FOLDS / f"{number + 1}.npz"
        fold = kept_fold(path) if path is not None and path.is_file() else None
        if fold is None:
            fold, windows = work.fold(number, None if folder is None else folder / FOLDS / f"{number + 1}")
            shown += windows
            if path is not None:
                keep_fold(path, fold)
        found.append(fold)
        work.tell(number, fold)
    result = work.result(found)
    if folder is not None:
        write_file(folder / RESULT, (json.dumps(result.state(), indent=1) + "\n").encode())
        write_report(folder / PAGE, backtest_report(folder.absolute().name, work.model, work.series, result, shown))
        clear(folder / FOLDS)
        work.say(f"report: {folder / PAGE}")
    return result


class _Work:
    """What all folds share."""

    def __init__(
        self, model: Forecaster, data: Any, *, folds: int, fold_length: int, refit: Refit, on_error: OnError, show: Show | None
    ) -> None:
        if refit not in get_args(Refit):
            raise SettingsError(f"refit={refit!r} is not known: never uses the model as it is, each trains anew before each fold.")
        require_whole("folds", folds, least=1)
        require_whole("fold_length", fold_length, least=1)
        self.model, self.refit, self.show = model, refit, show
        self.folds, self.fold_length = folds, fold_length
        table = read(data, on_error=on_error)
        self.series = read_series([(table, None)], model.roles, forecast=model.settings.forecast, skip=on_error == "skip")
        self.first = self._first_origin()
        self.notes = self._notes()
        for note in self.notes:
            self.say(f"note: {note}")
        self.windows = self._windows(model)
        self._fitted: Prepared | None = None

    def say(self, line: str) -> None:
        if self.show is not None:
            self.show(line)

    def key(self) -> str:
        """What a backtest that goes on must have in common with the one that began."""
        settings = self.model.settings.model_dump(mode="json")
        return json.dumps([self.series.fingerprint, self.folds, self.fold_length, self.refit, settings, self.model.run.get("date")])

    def _first_origin(self) -> int:
        """On one clock for all series."""
        end = max(each.start + (each.known_steps or len(each)) for each in self.series.series)
        first = end - self.model.horizon + 1 - self.folds * self.fold_length
        begin = min(each.start for each in self.series.series)
        least = 2 * self.model.horizon + 1 if self.refit == "each" else 1
        if first - begin < least:
            raise DataError(
                f"{self.folds} folds of {self.fold_length:,} origins with a horizon of {self.model.horizon:,} need {end - begin - first + begin + least:,} "
                f"steps or more, and the longest history has {end - begin:,}: lower the folds or their length, or give more rows."
            )
        return first

    def _notes(self) -> list[str]:
        """Whether the model has seen what it is tested on."""
        ends = self.model.run.get("data", {}).get("ends", {})
        seen = [part for part in ("train", "validation") if ends.get(part) is not None and ends[part] > self.first]
        if self.refit == "each" or not seen:
            return []
        return [
            f"The model's {' and '.join(seen)} part reaches into these folds, so their figures flatter it: take fewer folds, or refit before each."
        ]

    def _windows(self, model: Forecaster) -> Windows:
        return model.windows([model.feature.encode(each, model.roles) for each in self.series.series])

    def fold(self, number: int, work: Path | None) -> tuple[Fold, list[ForecastWindow]]:
        """Train where that is wanted, forecast, measure."""
        started = time.perf_counter()
        first = self.first + number * self.fold_length
        model, windows = self.model, self.windows
        if self.refit == "each":
            self.say(f"fold {number + 1} of {self.folds}: training on the steps before {self.time(first)}")
            model = self._trained(first, work)
            windows = self._windows(model)
        if self._fitted is None or self.refit == "each":
            self._fitted = self._history(model, first)
        history = self._fitted
        prepared = replace(history, series=self.series, windows=windows)
        origins = self._origins(windows, first)
        if not len(origins):
            raise DataError(f"No series has a window in fold {number + 1}, which begins at {self.time(first)}: lower the number of folds.")
        season = history.season.length
        scales = np.stack([seasonal_scale(each.values[: max(0, first - each.start)], season) for each in self.series.series])
        errors = model.measure(self.series.series, windows, origins, scales=scales)
        measured = Measured({"test": errors}, "test", origins, scales)
        if self.model.settings.evaluation.baselines:
            fitted = fit_on(history)
            measured.fitted.append(fitted)
            measured.baselines.update(measure_on(model, prepared, measured, fitted))
        clock, series = measured.clock(prepared)
        worst = worst_windows(errors, clock, series, horizon=model.horizon, count=WORST)
        rival = strongest_baseline(measured.baselines)
        shown = shown_windows(model, prepared, measured, worst, rival=rival, worst=True)
        end = self.time(first + self.fold_length - 1 + model.horizon - 1)
        fold = Fold(self.time(first), end, errors, measured.baselines, clock, series, time.perf_counter() - started)
        return fold, shown

    def _origins(self, windows: Windows, first: int) -> Origins:
        spans = [
            (max(1, first - each.start), max(1, min(len(each), first + self.fold_length - 1 + self.model.horizon - each.start)))
            for each in self.series.series
        ]
        return windows.origins(spans, complete=False)

    def _cut(self, first: int) -> SeriesSet:
        """The steps before a step on the clock."""
        cut = [each.cut(0, first - each.start) for each in self.series.series if first > each.start]
        return replace(self.series, series=cut, fingerprint=f"{self.series.fingerprint}-{first}")

    def _history(self, model: Forecaster, first: int) -> Prepared:
        """What the baselines are fitted on: the steps before a fold, standardised as the model does."""
        before, settings = self._cut(first), _settings(model.settings)
        bounds = part_bounds(before, settings)
        windows = model.windows([model.feature.encode(each, model.roles) for each in before.series])
        parts = [each.values[: bound.train].astype(np.float64) for each, bound in zip(windows.series, bounds, strict=True) if bound.train]
        season = find_season(parts, candidates=before.frequency.seasons)
        return Prepared(before, bounds, model.feature, windows, season, settings)

    def _trained(self, first: int, work: Path | None) -> Forecaster:
        """The model's settings, trained on the steps before a fold; goes on where an interrupted training of it stopped."""
        from tempfile import TemporaryDirectory

        settings = _settings(self.model.settings)
        with TemporaryDirectory(prefix="recurra-") as temporary:
            folder = work or Path(temporary)
            resume = work is not None and last_path(work / WORK).is_file()
            # Its baselines would be measured on the validation part; those of the fold are what counts.
            quick = settings.evaluation.model_copy(update={"baselines": False, "bootstrap_samples": 0})
            job = ForecastJob(self._cut(first), settings.model_copy(update={"evaluation": quick}), folder, show=self.show, keep=False)
            trained = job.run(resume=resume)
        if work is not None:
            shutil.rmtree(work, ignore_errors=True)
        assert isinstance(trained, Forecaster)
        return trained

    def time(self, step: int) -> str:
        """A step on the clock, as text."""
        return time_text(int(self.series.frequency.times(np.array([step]))[0]), self.series.frequency)

    def tell(self, number: int, fold: Fold) -> None:
        metric = main_metric(fold.errors)
        figures = {"network": fold.errors, **fold.baselines}
        text = ", ".join(f"{name} {errors.metrics().get(metric, float('nan')):.4f}" for name, errors in figures.items())
        self.say(f"fold {number + 1} of {self.folds}, {fold.begin} to {fold.end}: {metric} {text}")

    def result(self, folds: Sequence[Fold]) -> Backtest:
        """All folds together."""
        errors = ForecastErrors.join(fold.errors for fold in folds)
        names = [name for name in folds[0].baselines if all(name in fold.baselines for fold in folds)]
        baselines = {name: ForecastErrors.join(fold.baselines[name] for fold in folds) for name in names}
        origins, series = (np.concatenate([getattr(fold, name) for fold in folds]) for name in ("origins", "series"))
        settings = self.model.settings

        def figures(found: ForecastErrors) -> dict[str, float]:
            evaluation = settings.evaluation
            intervals = forecast_intervals(
                found,
                origins,
                horizon=self.model.horizon,
                series=series,
                samples=evaluation.bootstrap_samples,
                confidence=evaluation.confidence,
                seed=settings.training.seed,
            )
            ends = {f"{name}_{end}": value for name, both in intervals.items() for end, value in zip(("low", "high"), both, strict=True)}
            return {**found.metrics(), **ends, "windows": float(found.windows)}

        rival = strongest_baseline(baselines)
        comparison = None
        if rival is not None:
            comparison = compare_forecasts(
                errors, baselines[rival], origins, horizon=self.model.horizon, series=series, rival=rival, settings=settings.evaluation
            )
        return Backtest(
            folds,
            self.refit,
            self.model.horizon,
            main_metric(errors),
            figures(errors),
            {name: figures(found) for name, found in baselines.items()},
            comparison,
            self.notes,
        )


def _settings(settings: Settings) -> Settings:
    """Those of a training on all that lies before a fold: nothing is kept back for a test, and one process has what several had."""
    share = settings.data.validation_share
    if settings.forecast.parts is not None:
        share = settings.forecast.parts[1] / sum(settings.forecast.parts[:2])
    forecast = settings.forecast.model_copy(update={"parts": None})
    data = settings.data.model_copy(update={"test_share": 0.0, "validation_share": share})
    own = settings.training
    training = own.model_copy(update={"devices": 1, "accumulate": own.accumulate * own.devices})
    return settings.model_copy(update={"forecast": forecast, "data": data, "training": training})


def _loaded(path: str | Path) -> Forecaster:
    found = load(path)
    if not isinstance(found, Forecaster):
        raise SettingsError(f"{str(path)!r} holds a model that does not forecast: a backtest needs one trained with --horizon.")
    return found


def _check(folder: Path, key: str, *, resume: bool, overwrite: bool) -> None:
    """Whether the output folder may be used."""
    name, started = repr(str(folder)), folder / FOLDS / KEY
    if resume and not started.is_file():
        raise OutputExists(f"{name} holds no interrupted backtest: leave out --resume.")
    if resume and started.read_text(encoding="utf-8") != key:
        raise OutputExists(f"The backtest in {name} was started with other data, folds or another model: start anew with --overwrite.")
    if resume or not folder.is_dir() or not any(folder.iterdir()):
        return
    complete = (folder / RESULT).is_file()
    if not (complete or started.is_file() or (folder / FOLDS / LOCK).is_file()):
        raise OutputExists(f"{name} holds other things than a backtest: choose another one.")
    if started.is_file() and not overwrite:
        raise OutputExists(f"{name} holds an interrupted backtest: go on with --resume, or start anew with --overwrite.")
    if complete and not overwrite:
        raise OutputExists(f"{name} holds a backtest: choose another one, or replace it with --overwrite.")


def _begin(folder: Path, key: str, *, resume: bool) -> None:
    """Make the output folder ours."""
    try:
        if not resume:
            for name in (RESULT, PAGE):
                (folder / name).unlink(missing_ok=True)
            clear(folder / FOLDS)
        write_file(folder / FOLDS / KEY, key.encode())
    except OSError as error:
        raise ModelFolderError(
            f"The output folder {str(folder)!r} cannot be made: {error.strerror or error}. Choose another one."
        ) from error
