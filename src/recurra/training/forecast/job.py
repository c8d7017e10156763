"""A training on series."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from recurra.data.split import Part
from recurra.data.windows import WindowBatch, WindowLoader
from recurra.errors import SettingsError
from recurra.model.forecast.forecaster import Forecaster, build_network
from recurra.model.forecast.prediction import ForecastNetwork
from recurra.model.forecast.segments import SegmentsNetwork
from recurra.training.devices import choose_device, process_rank
from recurra.training.fit import FitResult, fit
from recurra.training.forecast.linear import fit_linear_part
from recurra.training.forecast.prepare import Prepared, prepare, too_short
from recurra.training.forecast.report import forecast_report
from recurra.training.forecast.results import calibrate, fill_run, measure
from recurra.training.job import Job
from recurra.training.output import WORK
from recurra.training.seeds import seed_everything
from recurra.training.validation import validation_metrics

__all__ = ["ForecastJob"]

VALIDATION_ROWS = 2_048
"""Windows of a validation batch."""
SHOWN = ("mase", "standard_mse", "standard_mae", "rmse", "crps", "coverage_90")
"""Metrics that are shown at the end, where they were measured."""


class ForecastJob(Job[Prepared, ForecastNetwork]):
    """Series: what are their next steps?"""

    def prepare(self) -> Prepared:
        """Read, put on a grid, cut by time, learn the scales."""
        prepared = prepare(self.data, self.settings, validation=self.validation, test=self.test)
        found = prepared.series
        lengths = [len(each) for each in found.series]
        several = (
            f"{len(lengths):,} series of {min(lengths):,} to {max(lengths):,} steps"
            if len(lengths) > 1
            else f"one series of {lengths[0]:,} steps"
        )
        self.say(f"{several} of {found.frequency}, {len(found.roles.targets)} target columns: {', '.join(found.roles.targets[:10])}")
        for line in found.notes():
            self.say(f"note: {line}")
        short = too_short(prepared)
        if short:
            self.say(
                f"note: {len(short):,} series are too short for a training window: {', '.join(short[:5])}{', ...' if len(short) > 5 else ''}"
            )
        self.say(f"season: {f'{prepared.season.length} steps' if prepared.season.length > 1 else 'none'} ({prepared.season.reason})")
        self.say("windows: " + ", ".join(f"{count:,} {part}" for part, count in prepared.counts().items()))
        return prepared

    def fingerprint(self, prepared: Prepared) -> str:
        """Hash of the content of the tables."""
        return prepared.series.fingerprint

    def build(self, prepared: Prepared) -> ForecastNetwork:
        """The network, from the run's seed."""
        seed_everything(self.settings.training.seed)
        network = build_network(prepared.feature, prepared.series.roles, self.settings)
        self.say(f"model: {network.parameter_count:,} parameters; {network.explain_backend()}")
        if isinstance(network, SegmentsNetwork) and network.linear is not None:
            strength = fit_linear_part(network, prepared)
            self.say(f"linear map: ridge of strength {strength:g}" if strength else "linear map: none, for no window has all answers")
        return network

    def fit(self, prepared: Prepared, network: ForecastNetwork, *, resume: bool) -> FitResult:
        """Train on the training windows, selected on the validation windows."""
        training = self.settings.training
        loader = WindowLoader(
            prepared.windows,
            prepared.origins(Part.TRAIN),
            batch_size=training.batch_size,
            shuffle=True,
            seed=training.seed,
            processes=training.devices,
            rank=process_rank(),
        )
        self.warn_of_few_steps(len(loader))
        held_out = prepared.origins(Part.VALIDATION)
        if not len(held_out) and training.monitor not in {"auto", "train_loss"}:
            raise SettingsError(
                f"training.monitor={training.monitor!r} needs a validation part, and there is none: raise data.validation_share, or leave the "
                "setting out, and the training loss selects the model."
            )
        validation = WindowLoader(prepared.windows, held_out, batch_size=VALIDATION_ROWS, shuffle=False) if len(held_out) else None

        def validate(outputs: Iterator[tuple[Any, WindowBatch]]) -> dict[str, float]:
            return _point_errors(network, outputs) if isinstance(network, SegmentsNetwork) else {}

        start = None
        if validation is not None and isinstance(network, SegmentsNetwork) and network.linear is not None:
            device = choose_device(training)
            start = deepcopy(network), validation_metrics(network.to(device), validation, validate, device=device)
        result = fit(
            network,
            loader,
            validation,
            settings=self.settings,
            folder=self.folder / WORK,
            validate=validate,
            resume=resume,
            begin=self.begin,
            progress=self.show is not None,
        )
        return result if start is None else self._not_worse_than(*start, network, result)

    def _not_worse_than(
        self, first: ForecastNetwork, metrics: Mapping[str, float], network: ForecastNetwork, result: FitResult
    ) -> FitResult:
        """The linear map alone is kept where no epoch was better on the validation part: it counts as epoch 0."""
        if result.monitor not in metrics or metrics[result.monitor] > result.best_metric:
            return result
        self.say(f"no epoch was better than the linear map alone ({result.monitor} {metrics[result.monitor]:.4f}), which is kept")
        network.load_state_dict(first.state_dict())
        return replace(result, best_epoch=0, best_metric=metrics[result.monitor])

    def finish(self, prepared: Prepared, network: ForecastNetwork, result: FitResult) -> Forecaster:
        """Calibrate, measure beside the baselines, write the model folder and its report."""
        with self.timings.stage("evaluate"):
            model = Forecaster(self.settings, prepared.feature, prepared.series.roles, network=network.cpu(), season=prepared.season.length)
            model.calibration = calibrate(model, prepared)
            measured = measure(model, prepared)
        fill_run(model, prepared, result, measured, timings=self.timings)
        self._show(model, measured.part)
        self.write(model, lambda: forecast_report(self.folder, model, prepared, result, measured))
        return model

    def _show(self, model: Forecaster, part: str) -> None:
        """The main figures beside those of the baselines."""
        columns = {"network": model.run["metrics"][part], **{name: parts[part] for name, parts in model.run["baselines"].items()}}
        names = [name for name in SHOWN if name in columns["network"]]
        self.say(f"{part:<16}" + "".join(f"{name:>15}" for name in names))
        for who, metrics in columns.items():
            self.say(f"  {who:<14}" + "".join(f"{metrics.get(name, float('nan')):>15.4f}" for name in names))

    def facts(self, prepared: Prepared, network: ForecastNetwork) -> dict[str, Any]:
        """Settings, task, columns, series, windows by part, parameters."""
        return {
            "settings": self.settings.model_dump(mode="json"),
            "task": "forecast",
            "columns": prepared.series.roles.columns,
            "frequency": str(prepared.series.frequency),
            "season": prepared.season.length,
            "series": len(prepared.series.series),
            "rows": prepared.counts(),
            "parameters": network.parameter_count,
        }


def _point_errors(network: SegmentsNetwork, outputs: Iterator[tuple[Any, WindowBatch]]) -> dict[str, float]:
    """Mean squared and absolute error of the points, on the standardised scale."""
    squared = absolute = known = 0.0
    for parameters, batch in outputs:
        errors = (network.head.point(parameters) - batch.answers).double()
        there = errors.isfinite()
        errors = torch.where(there, errors, 0.0)
        squared, absolute, known = squared + float(errors.square().sum()), absolute + float(errors.abs().sum()), known + float(there.sum())
    return {"mse": squared / max(known, 1.0), "mae": absolute / max(known, 1.0), "rmse": float(np.sqrt(squared / max(known, 1.0)))}
