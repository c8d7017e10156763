"""Rolling origins: which windows a fold has, that nothing later is known, what an interruption leaves, what is refused."""

from __future__ import annotations

import json
from copy import copy
from pathlib import Path

import numpy as np
import polars as pl
import pytest

import recurra
from recurra.cli import main
from recurra.data.read import read
from recurra.data.series import read_series
from recurra.errors import DataError, OutputExists, RowError, SettingsError
from recurra.metrics import seasonal_scale
from recurra.model.forecast.forecaster import Forecaster
from recurra.training.forecast.backtest import FOLDS, Backtest, backtest
from recurra.training.output import LOCK, locked_output

HORIZON, STEPS = 4, 160
SETTINGS = {
    "forecast.horizon": HORIZON,
    "forecast.input_length": 16,
    "forecast.segment": 4,
    "forecast.series": ["store"],
    "data.time": "day",
    "encoder.hidden_size": 8,
    "training.epochs": 1,
    "evaluation.bootstrap_samples": 50,
}


def sales(*, last: float = 0.0) -> pl.DataFrame:
    """Two stores with a week's rhythm; `last` is added to the last 8 days."""
    days = np.arange(STEPS)
    frames = []
    for number, store in enumerate(("north", "south")):
        noise = np.random.default_rng(number).normal(size=STEPS)
        units = 10 + 3 * np.sin(2 * np.pi * days / 7 + number) + 0.5 * noise + np.where(days >= STEPS - 8, last, 0.0)
        dates = np.datetime64("2024-01-01") + days
        frames.append(pl.DataFrame({"store": store, "day": pl.Series(dates).cast(pl.Date), "units": units}))
    return pl.concat(frames)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "sales"
    recurra.train(sales(), target="units", settings=SETTINGS, output=path)
    return path


@pytest.fixture(scope="module")
def model(folder: Path) -> Forecaster:
    found = recurra.load(folder)
    assert isinstance(found, Forecaster)
    return found


def figures(found: Backtest) -> list[dict[str, float]]:
    return [fold.errors.metrics() for fold in found.folds]


def test_the_folds_hold_every_window_up_to_the_last_step(model: Forecaster) -> None:
    found = backtest(model, sales(), folds=3, fold_length=5)
    origins = np.concatenate([fold.origins for fold in found.folds])
    first = np.datetime64("2024-01-01", "D").astype(int)
    wanted = first + STEPS - HORIZON + 1 - 15 + np.arange(15)
    assert sorted(set(origins.tolist())) == wanted.tolist()
    assert [fold.errors.windows for fold in found.folds] == [10, 10, 10]  # five origins of two series
    assert found.folds[-1].end == "2024-06-08"  # the last of 160 days
    assert found.metrics["windows"] == 30
    assert set(found.baselines) >= {"naive", "seasonal_naive", "drift", "linear"}
    assert found.table()["begin"].to_list()[0] == found.folds[0].begin


def test_a_model_as_it_is_is_measured_as_it_forecasts(model: Forecaster) -> None:
    """Each window's point forecast is what `forecast` says from the rows before it."""
    table = sales()
    found = backtest(model, table, folds=1, fold_length=1)
    start = STEPS - HORIZON
    before = pl.concat([part[:start] for part in table.partition_by("store", maintain_order=True)])
    after = pl.concat([part[start:] for part in table.partition_by("store", maintain_order=True)])
    said = model.forecast(before)["units"].to_numpy()
    # Single precision of the network: 1e-6 of numbers about 10, over some hundred operations.
    assert found.metrics["mae"] == pytest.approx(np.abs(said - after["units"].to_numpy()).mean(), rel=1e-4)


def test_folds_together_are_their_windows_measured_at_once(model: Forecaster) -> None:
    found = backtest(model, sales(), folds=3, fold_length=5)
    series = read_series([(read(sales()), None)], model.roles, forecast=model.settings.forecast)
    windows = model.windows([model.feature.encode(each, model.roles) for each in series.series])
    origins = windows.origins([(STEPS - HORIZON + 1 - 15, STEPS)] * 2, complete=False)
    scales = np.stack([seasonal_scale(each.values, 7) for each in series.series])
    whole = model.measure(series.series, windows, origins, scales=scales).metrics()
    for name in ("mae", "rmse", "crps", "coverage_90"):
        assert found.metrics[name] == pytest.approx(whole[name])


def test_what_comes_after_a_fold_changes_nothing_in_it(model: Forecaster) -> None:
    """Trained anew before each: neither the network nor a baseline nor a scale knows the later rows."""
    plain, changed = (backtest(model, sales(last=last), folds=2, fold_length=8, refit="each") for last in (0.0, 500.0))
    assert plain.folds[0].end < "2024-06-05"
    # The first fold's origins reach 3 steps into the changed days: compare the windows that end before.
    early = plain.folds[0].origins + HORIZON <= np.datetime64("2024-01-01", "D").astype(int) + STEPS - 8
    assert early.any()
    for name in ("absolute", "scaled", "pinball_0"):
        assert (plain.folds[0].errors.by_window[name][early] == changed.folds[0].errors.by_window[name][early]).all()
        for rival in plain.baselines:
            first, second = (found.folds[0].baselines[rival].by_window[name][early] for found in (plain, changed))
            assert (first == second).all()
    assert figures(plain)[1]["mae"] != figures(changed)[1]["mae"]


@pytest.mark.parametrize("refit", ["never", "each"])
def test_the_later_steps_of_a_new_series_change_no_earlier_fold(model: Forecaster, refit: Any) -> None:
    """A store that opens in the folds has no scale from training; that of its last days must not reach its first ones."""
    table, new = sales(), sales().filter(pl.col("store") == "north").tail(25).with_columns(store=pl.lit("new"))
    later = new.with_columns(pl.when(pl.int_range(25) >= 22).then(900.0).otherwise("units").alias("units"))
    folds = [backtest(model, pl.concat([table, each]), folds=2, fold_length=7, refit=refit).folds[0] for each in (new, later)]
    assert folds[0].end == folds[1].end
    for first, second in ((folds[0].errors, folds[1].errors), *zip(folds[0].baselines.values(), folds[1].baselines.values(), strict=True)):
        # standardised by other numbers before float32, the same values differ by some 1e-7 of the largest deviation
        np.testing.assert_allclose(first.by_window["absolute"], second.by_window["absolute"], rtol=1e-4, atol=1e-3)


def test_training_anew_is_another_model(model: Forecaster) -> None:
    never, each = (backtest(model, sales(), folds=1, refit=refit) for refit in ("never", "each"))  # type: ignore[arg-type]
    assert figures(never) != figures(each)


def test_a_model_of_several_processes_is_trained_anew_in_one(model: Forecaster) -> None:
    """Each of several processes would run the whole backtest. A step takes as many windows as before."""
    found = []
    for changed in ({"devices": 2}, {"accumulate": 2}, {}):
        other = copy(model)
        training = model.settings.training.model_copy(update={"batch_size": 8, "epochs": 3, **changed})
        other.settings = model.settings.model_copy(update={"training": training})
        found.append(figures(backtest(other, sales(), folds=1, refit="each")))
    assert found[0] == found[1] != found[2]


@pytest.mark.parametrize("refit", ["never", "each"])
def test_an_interrupted_backtest_goes_on(model: Forecaster, tmp_path: Path, refit: str) -> None:
    table = sales()
    whole = backtest(model, table, folds=2, refit=refit, output=tmp_path / "whole")  # type: ignore[arg-type]

    def stop(line: str) -> None:
        if line.startswith("fold 1 of 2, "):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        backtest(model, table, folds=2, refit=refit, output=tmp_path / "cut", show=stop)  # type: ignore[arg-type]
    assert not (tmp_path / "cut" / "backtest.json").exists()
    with pytest.raises(OutputExists, match="--resume"):
        backtest(model, table, folds=2, refit=refit, output=tmp_path / "cut")  # type: ignore[arg-type]
    with pytest.raises(OutputExists, match="other data"):
        backtest(model, table, folds=3, refit=refit, output=tmp_path / "cut", resume=True)  # type: ignore[arg-type]
    lines: list[str] = []
    again = backtest(model, table, folds=2, refit=refit, output=tmp_path / "cut", resume=True, show=lines.append)  # type: ignore[arg-type]
    assert again.metrics == pytest.approx(whole.metrics)
    assert not any(line.startswith("fold 1 of 2: training") for line in lines)
    assert {path.name for path in (tmp_path / "cut").iterdir()} == {"backtest.json", "report.html"}


@pytest.mark.parametrize("options", [{}, {"overwrite": True}, {"resume": True}])
def test_two_backtests_do_not_meet_in_one_folder(model: Forecaster, tmp_path: Path, options: dict[str, bool]) -> None:
    output = tmp_path / "out"
    with locked_output(output, inside=FOLDS, what="backtest"):
        (output / FOLDS / "1.npz").write_bytes(b"of the other one")
        with pytest.raises(OutputExists, match=r"Another backtest is at work in .*out.*choose another --output"):
            backtest(model, sales(), folds=2, fold_length=1, output=output, **options)
        assert (output / FOLDS / "1.npz").read_bytes() == b"of the other one"


def test_a_backtest_that_was_killed_at_its_start_is_no_obstacle(model: Forecaster, tmp_path: Path) -> None:
    output = tmp_path / "out"
    (output / FOLDS).mkdir(parents=True)
    (output / FOLDS / LOCK).touch()
    backtest(model, sales(), folds=2, fold_length=1, output=output)
    assert sorted(path.name for path in output.iterdir()) == ["backtest.json", "report.html"]


def test_the_folder_holds_the_figures_and_a_page(model: Forecaster, tmp_path: Path) -> None:
    found = backtest(model, sales(), folds=2, output=tmp_path / "b")
    kept = json.loads((tmp_path / "b" / "backtest.json").read_text())
    assert kept == json.loads(json.dumps(found.state()))
    assert [fold["windows"] for fold in kept["folds"]] == [8, 8]
    page = (tmp_path / "b" / "report.html").read_text()
    for section in ("horizon", "members", "worst"):
        assert f'<section id="{section}">' in page
    assert "By fold" in page
    with pytest.raises(OutputExists, match="--overwrite"):
        backtest(model, sales(), folds=2, output=tmp_path / "b")
    again = backtest(model, sales(), folds=2, output=tmp_path / "b", overwrite=True)
    assert again.metrics == found.metrics
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("x")
    with pytest.raises(OutputExists, match="other things"):
        backtest(model, sales(), folds=2, output=tmp_path / "mine", overwrite=True)
    assert (tmp_path / "mine" / "notes.txt").read_text() == "x"


def test_it_is_told_when_the_model_has_seen_the_folds(model: Forecaster) -> None:
    lines: list[str] = []
    late = backtest(model, sales(), folds=1, show=lines.append)
    assert late.notes == []
    early = backtest(model, sales(), folds=8, fold_length=10, show=lines.append)
    assert "flatter" in early.notes[0]
    assert any("flatter" in line for line in lines)
    assert backtest(model, sales(), folds=2, fold_length=30, refit="each").notes == []


def test_what_is_refused(model: Forecaster, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="lower the folds"):
        backtest(model, sales(), folds=50)
    for numbers in ({"folds": 0}, {"folds": "3"}, {"folds": 2, "fold_length": 0}):
        with pytest.raises(SettingsError, match="a whole number, 1 or more"):
            backtest(model, sales(), **numbers)
    with pytest.raises(SettingsError, match="refit='always' is not known"):
        backtest(model, sales(), refit="always")  # type: ignore[arg-type]
    with pytest.raises(SettingsError, match="output folder: name it"):
        backtest(model, sales(), resume=True)
    with pytest.raises(SettingsError, match="give one of them"):
        backtest(model, sales(), output=tmp_path / "none", resume=True, overwrite=True)
    table = pl.DataFrame({"text": ["good", "bad"] * 40, "label": ["a", "b"] * 40})
    recurra.train(table, target="label", output=tmp_path / "texts", settings={"training.epochs": 1, "evaluation.baselines": False})
    with pytest.raises(SettingsError, match="does not forecast"):
        backtest(tmp_path / "texts", sales())
    with pytest.raises(OutputExists, match="no interrupted backtest"):
        backtest(model, sales(), output=tmp_path / "none", resume=True)


def test_rows_that_cannot_be_read_are_left_out(model: Forecaster) -> None:
    table = sales()
    wrong = pl.int_range(len(table)) == 3
    text = table.with_columns(pl.when(wrong).then(pl.lit("?!")).otherwise(pl.col("units").cast(pl.String)).alias("units"))
    with pytest.raises(RowError, match="on_error='skip'"):
        backtest(model, text, folds=1)
    assert backtest(model, text, folds=1, on_error="skip").metrics == backtest(model, table.filter(~wrong), folds=1).metrics


def test_the_command(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = tmp_path / "sales.csv"
    sales().write_csv(table)
    with pytest.raises(SystemExit) as ended:
        main(["backtest", str(folder), str(table), "--folds", "2", "--json"])
    assert ended.value.code in (0, None)
    printed = json.loads(capsys.readouterr().out)
    assert len(printed["folds"]) == 2
    assert printed["metrics"]["mae"] > 0
    with pytest.raises(SystemExit):
        main(["backtest", str(folder), str(table), "--folds", "2", "--quiet"])
    shown = capsys.readouterr()
    assert "Naive" in shown.out
    assert "all" in shown.out
    assert shown.err == ""
