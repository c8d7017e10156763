"""Every setting of forecasting does something: each is changed, and the training must show it; so do the general ones that forecasting reads.

A new setting of the group without an entry in `CHANGES` fails a test.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl
import pytest

import recurra
from recurra.config import ForecastSettings
from recurra.config.tasks import UNUSED_SETTINGS
from recurra.errors import RecurraError, SettingsError


class Change(NamedTuple):
    """A setting's other value, where the difference must be seen (a key of what `trace` gives), and settings on both sides."""

    value: Any
    shows: str = "weights"
    base: dict[str, Any] = {}  # noqa: RUF012


PATHS = {"forecast.model": "autoregressive", "forecast.output": "gaussian"}
POINT = {"forecast.output": "point", "forecast.linear": "none"}

CHANGES: dict[str, Change] = {
    "forecast.horizon": Change(3),
    "forecast.input_length": Change(12),
    "forecast.targets": Change(["y", "z"], "roles", {"target": None, "forecast.targets": ["y"]}),
    "forecast.series": Change(["store"], "roles", {"data.time": None}),
    "forecast.past": Change(["wind"]),
    "forecast.known": Change(["wind"]),
    "forecast.static": Change(["size"]),
    "forecast.frequency": Change("2h", "roles"),
    "forecast.time_zone": Change("Europe/Berlin", "left_out"),
    "forecast.parts": Change((150, 30, 20), "windows"),
    "forecast.stride": Change(2),
    "forecast.calendar": Change("auto"),
    "forecast.model": Change("autoregressive", "weights", {"forecast.output": "gaussian"}),
    "forecast.channels": Change("joint", "weights", {"target": None, "forecast.targets": ["y", "z"]}),
    "forecast.segment": Change(3),
    "forecast.scaling": Change("mean_std"),
    "forecast.identity": Change(False),
    "forecast.linear": Change("none"),
    "forecast.output": Change("gaussian"),
    "forecast.loss": Change("mae", "weights", POINT),
    "forecast.levels": Change([0.1, 0.5]),
    "forecast.calibrate": Change(False, "forecast"),
    "forecast.samples": Change(7, "forecast", PATHS),
    "target": Change("z", "roles"),
    "data.time": Change(None, "roles"),
    "data.validation_share": Change(0.3, "windows"),
    "data.test_share": Change(0.3, "windows"),
    "data.on_error": Change("skip", "error", {"target": "torn"}),
    "head.dropout": Change(0.0),
    "head.hidden_size": Change(4),
    "encoder.cell": Change("lstm"),
    "encoder.hidden_size": Change(5),
    "encoder.layers": Change(2),
    "encoder.bidirectional": Change(True, "error"),
    "encoder.residual": Change(True),
    "encoder.layer_norm": Change(True),
    "encoder.input_dropout": Change(0.5),
    "encoder.between_dropout": Change(0.5, base={"encoder.layers": 2}),
    "encoder.recurrent_dropout": Change(0.5),
    "encoder.weight_dropout": Change(0.5),
    "encoder.zoneout": Change(0.5),
    "encoder.learn_initial_state": Change(True),
    "encoder.initialization": Change("torch"),
    "optimizer.learning_rate": Change(0.01),
    "optimizer.weight_decay": Change(0.9),
    "training.batch_size": Change(16),
    "training.epochs": Change(2),
    "training.average": Change(0.9),
    "training.gradient_flow_batches": Change(2, "flow"),
    "training.monitor": Change("mse", "monitor"),
    "training.seed": Change(1),
    "evaluation.baselines": Change(True, "baselines"),
    "evaluation.baseline_rows": Change(40, "baselines", {"evaluation.baselines": True}),
    "evaluation.bootstrap_samples": Change(50, "metrics", {"data.test_share": 0.3}),
}
BASE: dict[str, Any] = {
    "target": "y",
    "data.time": "when",
    "forecast.horizon": 4,
    "forecast.input_length": 8,
    "forecast.segment": 4,
    "forecast.samples": 5,
    "encoder.hidden_size": 6,
    "training.epochs": 1,
    "training.batch_size": 32,
    "training.device": "cpu",
    "evaluation.baselines": False,
    "evaluation.bootstrap_samples": 0,
    "logging.tensorboard": False,
}


def table() -> pl.DataFrame:
    steps = np.arange(200)
    y = np.sin(steps / 4) + 0.3 * np.random.default_rng(0).standard_normal(200)
    frame = pl.DataFrame(
        {
            "when": pl.datetime_range(pl.datetime(2024, 3, 28), pl.datetime(2024, 3, 28) + pl.duration(hours=199), "1h", eager=True),
            "y": y,
            "z": y**2,
            "wind": np.cos(steps / 3),
            "size": np.full(200, 2.0),
            "store": ["a"] * 100 + ["b"] * 100,
            "torn": [None if step == 50 else "x" if step == 51 else str(value) for step, value in enumerate(y)],
        }
    )
    return frame.filter(pl.col("when") != pl.datetime(2024, 3, 31, 2))  # the hour that Berlin's clocks skipped


@cache
def trace(chosen: tuple[tuple[str, str], ...]) -> dict[str, Any]:
    """What a training shows, as values that can be compared; `chosen` are the settings as texts of Python."""
    settings = {name: eval(value) for name, value in chosen}
    data = table()
    flow: list[Any] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("recurra.training.forecast.job.fit", _keeping(flow))
        try:
            model = recurra.train(data, settings=settings)
        except RecurraError as error:
            return {"error": f"{type(error).__name__}: {error}"}
    data = data.with_columns(torn="y")
    known = [each.name for each in model.roles.known]
    future = data.with_columns(pl.col("when") + pl.duration(hours=200)).select("when", "store", *known) if known else None
    found = model.forecast(data, future=future)
    return {
        "error": None,
        "weights": {name: tensor.tolist() for name, tensor in model.network.state_dict().items()},
        "roles": model.roles.state(),
        "windows": model.run["data"]["rows"],
        "forecast": found.drop("when", "step", "store", strict=False).to_dicts(),
        "left_out": model.run["data"]["left_out"],
        "metrics": model.run["metrics"],
        "baselines": model.run["baselines"],
        "monitor": model.run["training"]["monitor"],
        "flow": len(flow[0].gradient_flow),
    }


def _keeping(results: list[Any]) -> Any:
    from recurra.training.fit import fit

    def keep(*given: Any, **named: Any) -> Any:
        results.append(fit(*given, **named))
        return results[-1]

    return keep


def run(settings: dict[str, Any]) -> dict[str, Any]:
    chosen = {name: value for name, value in {**BASE, **settings}.items() if not (name == "target" and value is None)}
    return trace(tuple(sorted((name, repr(value)) for name, value in chosen.items())))


def test_every_setting_of_the_group_has_an_entry() -> None:
    assert {f"forecast.{name}" for name in ForecastSettings.model_fields} <= set(CHANGES)


def test_nothing_else_changes_a_training() -> None:
    first = run({})
    trace.cache_clear()
    assert run({}) == first
    assert first["error"] is None


@pytest.mark.parametrize("name", CHANGES)
def test_every_setting_matters(name: str) -> None:
    change = CHANGES[name]
    before, after = run(change.base), run({**change.base, name: change.value})
    if change.shows != "error":
        assert (before["error"], after["error"]) == (None, None)
    assert before.get(change.shows) != after.get(change.shows)


@pytest.mark.parametrize("name", [name for name in UNUSED_SETTINGS["forecast"] if "." in name])
def test_what_forecasting_does_not_read_is_refused(name: str) -> None:
    others = {"data.types": {"y": "number"}, "data.join": {"a": ["y"]}, "data.columns": ["y"], "data.group": "store", "data.missing_targets": "fail",
              "data.ignore_labels": ["x"], "data.label_separator": ";", "encoder.pooling": "last", "encoder.shared": True,
              "head.label_smoothing": 0.1, "head.class_weights": "balanced", "head.linear": "none", "training.batch_tokens": 7}  # fmt: skip
    with pytest.raises(SettingsError, match="has no effect on the task 'forecast'"):
        recurra.train(table(), settings={**BASE, name: others[name]})


def test_a_saved_report_and_folder_are_whole(tmp_path: Path) -> None:
    recurra.train(table(), settings=BASE, output=tmp_path / "model")
    assert {path.name for path in (tmp_path / "model").iterdir()} >= {
        "model.json",
        "weights.safetensors",
        "run.json",
        "README.md",
        "report.html",
    }
