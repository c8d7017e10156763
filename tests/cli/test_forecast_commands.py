"""`recurra train --horizon`, `forecast` and `evaluate`, called in this process."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest

import recurra
from recurra.cli import main
from recurra.cli.backtest import _print
from recurra.config import Settings
from recurra.data.roles import Roles
from recurra.model.forecast.card import forecast_card
from recurra.training.forecast.folds import Backtest

QUICK = [f"--set={each}" for each in (
    "forecast.input_length=12", "forecast.segment=4", "encoder.hidden_size=6", "training.epochs=1", "training.device=cpu",
    "evaluation.baselines=false", "evaluation.bootstrap_samples=0", "logging.tensorboard=false",
)]  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a table of two stores and a model of it."""
    path = tmp_path_factory.mktemp("forecast")
    days = pl.date_range(pl.date(2023, 1, 1), pl.date(2023, 5, 30), "1d", eager=True)
    steps = np.arange(len(days))
    stores = [
        pl.DataFrame(
            {"store": [name] * len(days), "day": days, "units": 20 * place + 5 * np.sin(2 * np.pi * steps / 7), "price": steps % 7}
        )
        for place, name in enumerate(("Oslo", "Rom"), 1)
    ]
    pl.concat(stores).write_csv(path / "sales.csv")
    call(
        "train",
        str(path / "sales.csv"),
        "--target",
        "units",
        "--time",
        "day",
        "--series",
        "store",
        "--horizon",
        "7",
        "-o",
        str(path / "model"),
        "-q",
        *QUICK,
    )
    return path


def call(*arguments: str, code: int = 0) -> None:
    with pytest.raises(SystemExit) as end:
        main(list(arguments))
    assert (end.value.code or 0) == code


def test_a_table_becomes_a_model_and_the_model_a_table(folder: Path) -> None:
    call("forecast", str(folder / "model"), str(folder / "sales.csv"), "--output", str(folder / "next.csv"))
    found = pl.read_csv(folder / "next.csv")
    assert found.columns[:3] == ["store", "day", "units"]
    assert found["store"].to_list() == ["Oslo"] * 7 + ["Rom"] * 7
    assert found["day"].to_list() == ["2023-05-31", *(f"2023-06-0{day}" for day in range(1, 7))] * 2
    assert bool((found["units_0.05"] <= found["units_0.95"]).all())


def test_quantiles_are_those_that_were_asked_for(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    call("forecast", str(folder / "model"), str(folder / "sales.csv"), "--quantile", "0.5", "-q", "0.8", "--json")
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(rows) == 14
    assert set(rows[0]) == {"store", "day", "units", "units_0.5", "units_0.8"}


def test_the_model_is_measured(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    call("evaluate", str(folder / "model"), str(folder / "sales.csv"), "--json")
    metrics = json.loads(capsys.readouterr().out)
    assert metrics["windows"] == 2 * (150 - 12 - 7 + 1)
    assert {"mse", "mase", "standard_mse", "coverage_90"} <= set(metrics)


def test_several_targets_and_a_dry_run(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    call(
        "train",
        str(folder / "sales.csv"),
        "-t",
        "units",
        "-t",
        "price",
        "--time",
        "day",
        "--series",
        "store",
        "--horizon",
        "3",
        "--dry-run",
        "--json",
        *QUICK,
    )
    plan = json.loads(capsys.readouterr().out)
    assert plan["task"] == "forecast"
    assert plan["columns"] == ["day", "store", "units", "price"]
    assert (plan["series"], plan["frequency"]) == (2, "1d")


def test_commands_for_another_task_name_the_right_one(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    call("predict", str(folder / "model"), "some text", code=1)
    assert "use `recurra forecast" in capsys.readouterr().err
    call("forecast", str(folder / "model"), str(folder / "sales.csv"), "--future", str(folder / "sales.csv"), code=1)
    assert "leave out the table of the future" in capsys.readouterr().err


def test_a_high_level_keeps_its_digits(folder: Path, tmp_path: Path) -> None:
    """Six digits of 1,000,020.4 would leave no forecast: of a series far from zero as many are written as its movement has."""
    pl.read_csv(folder / "sales.csv").with_columns(pl.col("units") + 1e6).write_csv(tmp_path / "high.csv")
    options = ["--time", "day", "--series", "store", "--horizon", "7", "-q", *QUICK]
    call("train", str(tmp_path / "high.csv"), "--target", "units", "-o", str(tmp_path / "model"), *options)
    call("forecast", str(tmp_path / "model"), str(tmp_path / "high.csv"), "-o", str(tmp_path / "next.csv"))
    written = pl.read_csv(tmp_path / "next.csv")["units"]
    exact = recurra.load(tmp_path / "model").forecast(tmp_path / "high.csv")["units"]
    np.testing.assert_allclose(written, exact, rtol=0, atol=5e-3)  # half of the last of four digits of a deviation of 3.5
    assert written.n_unique() == 14


def test_numbers_of_rows_keep_their_digits_too(tmp_path: Path) -> None:
    steps = np.arange(200)
    pl.DataFrame({"x": np.sin(steps), "price": 5e6 + np.sin(steps)}).write_csv(tmp_path / "prices.csv")
    call(
        "train",
        str(tmp_path / "prices.csv"),
        "--target",
        "price",
        "-o",
        str(tmp_path / "model"),
        "-q",
        "--set=training.epochs=1",
        "--set=evaluation.baselines=false",
    )
    call("predict", str(tmp_path / "model"), str(tmp_path / "prices.csv"), "-o", str(tmp_path / "found.csv"))
    written = pl.read_csv(tmp_path / "found.csv")["value"]
    exact = recurra.load(tmp_path / "model").predict(tmp_path / "prices.csv")["value"]
    np.testing.assert_allclose(written, exact, rtol=0, atol=5e-4)
    assert written.n_unique() > 10  # six digits leave one


def test_what_was_met_is_told_beside_the_forecast(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = (folder / "sales.csv").read_text().splitlines()
    (tmp_path / "new.csv").write_text(
        "\n".join([rows[0], *(row.replace("Oslo", "Bergen") for row in rows[1:60]), "Bergen,2023-04-01,?!,1"]) + "\n"
    )
    call("forecast", str(folder / "model"), str(tmp_path / "new.csv"), code=1)
    assert "--on-error skip" in capsys.readouterr().err
    call("forecast", str(folder / "model"), str(tmp_path / "new.csv"), "--on-error", "skip")
    shown = capsys.readouterr()
    assert "note: 1 rows could not be used and were left out" in shown.err
    assert "note: 1 of 1 series were not there in training, and are read on a scale of their own: Bergen" in shown.err
    assert shown.out.count("Bergen") == 7


def test_the_titles_of_a_backtest_are_whole_on_eighty_columns(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    metrics = {"mase": 0.483, "mae": 20.28, "rmse": 30.43, "coverage_90": 0.857}
    baselines = dict.fromkeys(("naive", "seasonal_naive", "drift", "linear", "ets"), metrics)
    _print(Backtest([], "each", 28, "mase", metrics, baselines))
    shown = capsys.readouterr().out
    assert "…" not in shown
    assert {"Naive", "Seasonal", "naive", "Drift", "Linear", "ETS", "RMSE", "inside"} <= set(shown.split())


def test_the_card_has_baselines_only_where_they_were_measured() -> None:
    measured = {"mase": 0.5, "mse": 4.0}
    run = {"metrics": {"validation": measured, "test": measured}, "baselines": {"naive": {"test": {"mase": 1.25, "mse": 9.0}}}}
    lines = forecast_card(Settings(), Roles("day", (), ("units",)), run).splitlines()
    assert lines[lines.index("| validation | model |") + 1 :][:3] == ["| --- | --- |", "| mase | 0.5000 |", "| mse | 4.0000 |"]
    assert lines[lines.index("| test | model | naive |") + 1 :][:2] == ["| --- | --- | --- |", "| mase | 0.5000 | 1.2500 |"]
    assert any("`mase` has no unit" in line for line in lines)
