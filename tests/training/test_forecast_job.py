"""Forecasting from the table to the model: what it reads, what it must not read, resuming, streams, and what is refused."""

from __future__ import annotations

import itertools
import json
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

import recurra
from recurra.data.windows import WindowBatch, WindowLoader
from recurra.errors import DataError, RecurraError, RowError, SettingsError, TrainingInterrupted
from recurra.model.forecast.forecaster import Forecaster

SMALL: dict[str, Any] = {
    "forecast.horizon": 4,
    "forecast.input_length": 16,
    "forecast.segment": 4,
    "forecast.samples": 20,
    "encoder.hidden_size": 8,
    "training.epochs": 1,
    "training.batch_size": 64,
    "training.device": "cpu",
    "evaluation.baselines": False,
    "evaluation.bootstrap_samples": 0,
    "logging.tensorboard": False,
    "data.time": "when",
}
AUTOREGRESSIVE = {"forecast.model": "autoregressive", "forecast.output": "gaussian"}


def hours(count: int) -> list[Any]:
    return list(pl.datetime_range(pl.datetime(2024, 1, 1), pl.datetime(2024, 1, 1) + pl.duration(hours=count - 1), "1h", eager=True))


def wave(count: int = 240, seed: int = 0) -> pl.DataFrame:
    random = np.random.default_rng(seed)
    steps = np.arange(count)
    y = 10 + np.sin(2 * np.pi * steps / 24) + 0.2 * random.standard_normal(count)
    return pl.DataFrame({"when": hours(count), "y": y, "z": 3 * y + 1, "wind": [*"NS" * count][:count], "price": np.cos(steps / 5)})


def train(data: Any, *, target: Any = "y", output: Path | None = None, resume: bool = False, **settings: Any) -> Forecaster:
    chosen = {**SMALL, **{name.replace("__", "."): value for name, value in settings.items()}}
    model = recurra.train(data, target=target, output=output, settings=chosen, resume=resume)
    assert isinstance(model, Forecaster)
    return model


def weights(model: Forecaster) -> dict[str, torch.Tensor]:
    return model.network.state_dict()


def same(first: Forecaster, second: Forecaster) -> bool:
    return all(torch.equal(value, weights(second)[name]) for name, value in weights(first).items())


def test_the_right_step_is_answered() -> None:
    """A series that repeats after as many steps as the horizon has is foreseen exactly: h steps ahead comes what stood H - h steps back.

    The ridge's strength is at least 1e-4 of the inputs' mean square, so that errors of about 1e-4 deviations are to be expected.
    """
    values = np.tile([5.0, -1.0, 7.0, 2.0], 100)
    frame = pl.DataFrame({"y": values})
    model = train(
        frame, data__time=None, forecast__output="point", forecast__scaling="none", training__epochs=1, optimizer__learning_rate=1e-9
    )
    for extra in range(4):
        found = model.forecast(frame.head(300 + extra))["y"].to_numpy()
        np.testing.assert_allclose(found, values[300 + extra : 304 + extra], atol=0.01)


def test_a_series_whose_answer_is_its_last_value() -> None:
    """Steps of a staircase with stairs longer than the horizon: an untrained network with the level taken out answers with the last value, exactly."""
    frame = pl.DataFrame({"y": np.repeat(np.arange(40.0), 8)})
    model = train(frame, data__time=None, forecast__output="point", forecast__linear="none", forecast__scaling="last")
    with torch.no_grad():
        for name in ("weight", "bias"):
            getattr(model.network.output.output, name).zero_()
    for end in (17, 100, 101, 319):
        # float32 of a standardised value: 40 times its rounding, 6e-8, is 2.4e-6
        np.testing.assert_allclose(model.forecast(frame.head(end))["y"], frame["y"][end - 1], atol=1e-5)


@pytest.mark.parametrize("kind", [{}, AUTOREGRESSIVE])
def test_later_rows_change_no_earlier_forecast(kind: dict[str, Any]) -> None:
    """Scales and weights are of the training part; other values after it change neither a weight nor a forecast from before, bit for bit."""
    frame = wave()
    steps = np.arange(len(frame))
    changed = frame.with_columns(pl.when(pl.Series(steps >= 200)).then(pl.col("y") * 50 - 7).otherwise(pl.col("y")).alias("y"))
    parts = {"forecast.parts": [160, 40, 40], "forecast.known": ["price"], **kind}
    first, second = (train(each, **{name.replace(".", "__"): value for name, value in parts.items()}) for each in (frame, changed))
    assert same(first, second)
    assert first.feature.state() == second.feature.state()
    history, future = frame.head(200), frame[200:204].drop("y")
    assert first.forecast(history, future=future).equals(second.forecast(history, future=future))


def test_validation_rows_reach_no_scale_and_no_gradient() -> None:
    frame = wave()
    steps = np.arange(len(frame))
    changed = frame.with_columns(pl.when(pl.Series(steps >= 160)).then(pl.col("y") * 50 - 7).otherwise(pl.col("y")).alias("y"))
    first, second = (train(each, forecast__parts=[160, 40, 40], forecast__linear="none") for each in (frame, changed))
    assert same(first, second)
    assert first.feature.state() == second.feature.state()


@pytest.mark.parametrize("settings", [
    {},
    {"forecast.channels": "joint", "forecast.output": "student_t", "forecast.scaling": "mean_std"},
    {**AUTOREGRESSIVE, "forecast.calendar": "auto"},
    {**AUTOREGRESSIVE, "forecast.channels": "joint", "forecast.scaling": "revin"},
])  # fmt: skip
def test_a_saved_model_is_the_same_model(settings: dict[str, Any], tmp_path: Path) -> None:
    named = {name.replace(".", "__"): value for name, value in settings.items()}
    model = train(wave(), target=["y", "z"], output=tmp_path / "model", forecast__past=["wind"], forecast__known=["price"], **named)
    loaded = recurra.load(tmp_path / "model")
    assert isinstance(loaded, Forecaster)
    future = wave(244)[240:].drop("y", "z")
    expected, found = (each.forecast(wave(), future=future) for each in (model, loaded))
    assert expected.equals(found)
    assert expected.columns == [
        "when",
        *(f"{name}{end}" for name in "yz" for end in ["", *(f"_{level:g}" for level in model.settings.forecast.levels)]),
    ]
    assert expected["when"].to_list() == hours(244)[240:]
    quantiles = expected.select(pl.col("^y_.*$")).to_numpy()
    assert (np.diff(quantiles, axis=1) >= 0).all()
    run = json.loads((tmp_path / "model" / "run.json").read_text())
    assert {"date", "versions", "seed", "data", "parameters", "peak_memory_mib", "training", "metrics", "baselines", "timings"} <= set(run)
    assert loaded.evaluate(wave())["windows"] == 240 - 16 - 4 + 1


def _interrupted(
    batches: Callable[[WindowLoader], Iterator[WindowBatch]], *, after: int
) -> Callable[[WindowLoader], Iterator[WindowBatch]]:
    """The batches of a shuffled loader, and Ctrl-C when so many were handed out over all epochs."""
    count = itertools.count()

    def iterate(loader: WindowLoader) -> Iterator[WindowBatch]:
        for batch in batches(loader):
            if loader.shuffle and next(count) == after:
                signal.raise_signal(signal.SIGINT)
            yield batch

    return iterate


def test_resuming_is_bit_exact(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stopped in the middle of the second epoch, it ends with the weights of the run that was not."""
    whole = train(wave(), output=tmp_path / "whole", training__epochs=3, training__batch_size=32)
    with monkeypatch.context() as patch:
        patch.setattr("recurra.training.forecast.job.WindowLoader.__iter__", _interrupted(WindowLoader.__iter__, after=7))
        with pytest.raises(TrainingInterrupted):
            train(wave(), output=tmp_path / "cut", training__epochs=3, training__batch_size=32)
    assert same(whole, train(wave(), output=tmp_path / "cut", resume=True, training__epochs=3, training__batch_size=32))


@pytest.mark.parametrize("channels", ["independent", "joint"])
def test_a_carried_state_is_history_read_again(channels: str) -> None:
    """A stream begun with 40 steps that takes 30 more forecasts what one forecasts that began with all 70; both keep the scale they began with,
    so the scale is none. Steps and whole sequences differ by float32 rounding (6e-8) over 70 steps: 1e-5 of a deviation.
    """
    frame = wave(70)
    model = train(wave(), target=["y", "z"], forecast__channels=channels, forecast__known=["price"], forecast__scaling="none",
                  forecast__input_length=70, **{name.replace(".", "__"): value for name, value in AUTOREGRESSIVE.items()})  # fmt: skip
    everything = wave(74)
    known = everything["price"].to_numpy()
    stream = model.stream(frame.head(40), future=everything[40:44].drop("y", "z"))
    for step in range(40, 70):
        stream.observe({"y": [frame["y"][step]], "z": [frame["z"][step]]}, future=[[known[step + 4]]])
    again = model.stream(frame, future=everything[70:74].drop("y", "z"))
    found, expected = stream.forecast(), again.forecast()
    assert found["when"].to_list() == expected["when"].to_list()
    np.testing.assert_allclose(found.drop("when").to_numpy(), expected.drop("when").to_numpy(), rtol=2e-3, atol=2e-3)
    # and what the model itself says of the same history
    whole = model.forecast(frame, future=everything[70:74].drop("y", "z"))
    np.testing.assert_allclose(again.forecast().drop("when").to_numpy(), whole.drop("when").to_numpy(), rtol=2e-3, atol=2e-3)


def test_a_stream_takes_what_a_table_has() -> None:
    """Texts that help are given as texts; a carried state is history read again with them, too (bounds as above)."""
    settings = {"forecast__past": ["wind"], "forecast__known": ["price"], "forecast__calendar": "auto", "forecast__scaling": "none"}
    model = train(
        wave(), forecast__input_length=70, **settings, **{name.replace(".", "__"): value for name, value in AUTOREGRESSIVE.items()}
    )
    table = wave(74).with_columns(wind=pl.Series([*"NSS" * 30][:74]))
    stream = model.stream(table.head(40), future=table[40:44].drop("y"))
    for step in range(40, 70):
        stream.observe([table["y"][step]], past=[[table["wind"][step]]], future=[[table["price"][step + 4]]])
    expected = model.stream(table.head(70), future=table[70:74].drop("y")).forecast()
    np.testing.assert_allclose(stream.forecast().drop("when").to_numpy(), expected.drop("when").to_numpy(), rtol=2e-3, atol=2e-3)
    before = stream.forecast()
    for values, past, error, message in (
        (["much"], [["N"]], DataError, "'much' in column 'y' is not a number"),
        ([1.0], [["N"], ["S"]], SettingsError, r"`past` needs a row for each of the 1 series .*, with the 1 columns wind"),
        ([1.0], None, SettingsError, "with the 1 columns wind"),
    ):
        with pytest.raises(error, match=message):
            stream.observe(values, past=past, future=[[0.0]])
    assert stream.forecast().equals(before)  # nothing was read
    for samples in (0, -1, 2.5):
        with pytest.raises(SettingsError, match="samples is"):
            stream.paths(samples=samples)  # type: ignore[arg-type]


def test_a_missing_observation_is_no_observation() -> None:
    model = train(wave(), **{name.replace(".", "__"): value for name, value in AUTOREGRESSIVE.items()})
    stream, other = model.stream(wave()), model.stream(wave())
    stream.observe([None])
    other.observe([float("nan")])
    assert stream.forecast().equals(other.forecast())
    assert stream.forecast().select(pl.col("y").is_finite().all()).item()


def test_only_a_model_of_steps_streams() -> None:
    with pytest.raises(SettingsError, match=r"segments model reads its window as a whole"):
        train(wave()).stream(wave())


def test_series_of_a_long_table_are_forecast_each() -> None:
    long = pl.concat(
        [
            wave(240, seed=number).with_columns(pl.lit(name).alias("store"), pl.lit(len(name)).alias("size"))
            for number, name in enumerate(["a", "bb", "ccc"])
        ]
    )
    model = train(long, forecast__series=["store"], forecast__static=["size"])
    found = model.forecast(long)
    assert found["store"].to_list() == [name for name in ("a", "bb", "ccc") for _ in range(4)]
    one = model.forecast(long.filter(pl.col("store") == "bb"))
    np.testing.assert_allclose(one["y"], found.filter(pl.col("store") == "bb")["y"], rtol=1e-5)
    new = long.filter(pl.col("store") == "a").with_columns(pl.lit("new").alias("store"))
    assert model.forecast(new)["y"].is_finite().all()


def test_a_forecast_names_its_series_as_the_table_does() -> None:
    """Whole numbers stay numbers, and a sign inside a name is no border: the forecast can be joined with the table."""
    names = ((1, "a|b"), (1, "a|c"), (2, "a"))
    long = pl.concat(
        [wave(240, seed=number).with_columns(store=pl.lit(store), part=pl.lit(part)) for number, (store, part) in enumerate(names)]
    )
    model = train(long, forecast__series=["store", "part"])
    found = model.forecast(long)
    assert found.select("store", "part").rows() == [name for name in names for _ in range(4)]
    assert found.join(long, on=["store", "part"], how="semi").height == 12
    floats = model.forecast(long.with_columns(pl.col("store").cast(pl.Float64)))
    np.testing.assert_array_equal(floats["y"], found["y"])


@pytest.mark.parametrize("unit", [1e-20, 1e-10, 1e12])
def test_the_unit_of_a_column_changes_nothing(unit: float) -> None:
    """What is learnt is standardised: a forecast in another unit is the same, to the rounding of values that are no powers of two.

    Rounding in float64 moves the standardised values by some 1e-16 before they are made float32, so the last bit of some of them (6e-8 of a
    deviation) changes, and what a short training makes of that is far below a thousandth.
    """
    frame = wave()
    scaled = frame.with_columns(pl.col("y", "price") * unit)
    known = {"forecast__known": ["price"], "evaluation__baselines": True}
    first, second = train(frame, **known), train(scaled, **known)
    ahead = wave(244)[240:].drop("y")
    forecasts = [
        model.forecast(data, future=future)["y"]
        for model, data, future in ((first, frame, ahead), (second, scaled, ahead.with_columns(pl.col("price") * unit)))
    ]
    np.testing.assert_allclose(forecasts[1] / unit, forecasts[0], rtol=1e-3)
    for name in ("mase", "standard_mse", "smape", "coverage_90"):
        assert second.run["metrics"]["test"][name] == pytest.approx(first.run["metrics"]["test"][name], rel=1e-2)
    assert second.run["baselines"]["linear"]["test"]["mase"] == pytest.approx(first.run["baselines"]["linear"]["test"]["mase"], rel=1e-3)


@pytest.mark.parametrize("channels", ["independent", "joint"])
def test_a_series_that_training_did_not_see_is_measured_as_it_is_forecast(channels: str) -> None:
    """Its scale is that of what came before each forecast; what comes later tells nothing.

    The measured forecasts come from values standardised twice in float32, so they differ by some 1e-7 of their size.
    """
    model = train(
        wave(240).with_columns(store=pl.lit("a")),
        target=None,
        forecast__targets=["y", "z"],
        forecast__series=["store"],
        forecast__channels=channels,
    )
    new = wave(60, seed=3).with_columns(pl.col("y", "z") * 100 + 5_000, store=pl.lit("new"))
    measured = model.evaluate(new)
    errors = [
        (model.forecast(new.head(origin)).select("y", "z") - new.slice(origin, 4).select("y", "z")).to_numpy() for origin in range(16, 57)
    ]
    assert measured["windows"] == len(errors)
    assert measured["mae"] == pytest.approx(np.abs(errors).mean(), rel=1e-5)
    assert measured["mse"] == pytest.approx(np.square(errors).mean(), rel=1e-5)


def test_a_future_without_times_follows_the_history() -> None:
    frame = wave(250).select("y", "price")
    model = train(frame.head(240), data__time=None, forecast__known=["price"])
    known = frame.with_columns(pl.when(pl.int_range(250) < 240).then("y").alias("y"))
    expected = model.forecast(known)
    assert model.forecast(frame.head(240), future=frame.slice(240, 4)).equals(expected)
    assert not model.forecast(frame.head(240), future=frame.slice(241, 4)).equals(expected)
    with pytest.raises(DataError, match=r"1 of the 4 steps have none, the first at 243:"):
        model.forecast(frame.head(240), future=frame.slice(240, 3))


def test_times_of_another_kind_than_in_training_are_refused() -> None:
    frame = wave()
    numbered = frame.with_columns(when=pl.int_range(len(frame)))
    with pytest.raises(DataError, match=r"'when' holds whole numbers, and that of the training held dates \(a step is 1h\)"):
        train(frame).forecast(numbered)
    with pytest.raises(DataError, match=r"'when' holds dates, and that of the training held whole numbers"):
        train(numbered).forecast(frame)


def test_a_forecast_tells_what_it_met() -> None:
    frame = wave().with_columns(store=pl.lit("a"))
    model = train(frame, forecast__series=["store"])
    lines: list[str] = []
    late = frame.with_columns(pl.col("when") + pl.duration(minutes=10))
    model.forecast(late.filter(pl.int_range(len(late)) != 200).with_columns(store=pl.lit("b")), show=lines.append)
    assert lines == [
        "1 steps have no row: put in with missing values",
        "239 rows lie between the steps and count for the nearest one",
        "1 target values are missing",
        "1 of 1 series were not there in training, and are read on a scale of their own: b",
    ]
    lines.clear()
    model.forecast(frame, show=lines.append)
    assert lines == []


def test_a_value_of_the_future_that_is_missing_is_told() -> None:
    frame = wave(244).with_columns(sale=pl.int_range(244) % 3)
    model = train(frame.head(240), forecast__known=["price", "sale"])
    future = frame.slice(240).drop("y").with_columns(pl.when(pl.int_range(4) < 2).then("sale").alias("sale"))
    lines: list[str] = []
    model.forecast(frame.head(240), future=future, show=lines.append)
    assert [line.partition(":")[0] for line in lines] == ["2 values of columns that are known for the horizon are missing there"]


def test_rows_that_tell_the_future_take_no_part_in_the_split() -> None:
    """The table that a forecast is made from can be trained on, too: steps behind the last value are not held out."""
    frame = wave(240)
    planned = pl.concat([frame, wave(300).slice(240).with_columns(y=pl.lit(None, pl.Float64), z=pl.lit(None, pl.Float64))])
    first, second = (train(table, forecast__known=["price"]) for table in (frame, planned))
    assert second.run["data"]["rows"] == first.run["data"]["rows"]
    assert second.run["metrics"] == first.run["metrics"]
    assert recurra.backtest(second, planned, folds=2).metrics == recurra.backtest(second, frame, folds=2).metrics


def test_rows_to_train_on_that_are_later_than_those_to_measure_on_are_refused() -> None:
    frame = wave(240)
    later = pl.concat([frame.head(150), frame.tail(50)])
    for part in ("validation", "test"):
        with pytest.raises(DataError, match="50 rows to train on are later than the first row that was given"):
            recurra.train(later, target="y", settings=SMALL, **{part: frame.slice(150, 40)})


def test_a_text_of_the_future_may_be_new() -> None:
    """It is none of those that training had, and yet known."""
    frame = wave(244)
    model = train(frame.head(240), forecast__known=["wind"])
    future = frame.slice(240).drop("y")
    new = future.with_columns(wind=pl.when(pl.int_range(4) == 2).then(pl.lit("W")).otherwise("wind"))
    assert model.forecast(frame.head(240), future=new).shape == model.forecast(frame.head(240), future=future).shape
    with pytest.raises(DataError, match="1 of the 4 steps have none"):
        model.forecast(frame.head(240), future=new.with_columns(pl.col("wind").replace("W", None)))


def test_columns_that_a_forecast_would_have_twice_are_refused_before_the_training() -> None:
    for columns, name in ((["step", "y"], "step"), (["y", "y_0.5"], "y_0.5")):
        with pytest.raises(SettingsError, match=f"A forecast would have two columns '{name}'"):
            train(pl.DataFrame(dict.fromkeys(columns, [1.0, 2.0] * 40)), target=columns, data__time=None)


def test_a_level_that_is_asked_for_twice_comes_once() -> None:
    frame = wave()
    assert train(frame).forecast(frame, quantiles=[0.9, 0.5, 0.9]).columns == ["when", "y", "y_0.5", "y_0.9"]


def test_rows_that_cannot_be_read_are_left_out_of_a_forecast() -> None:
    frame = wave()
    model = train(frame)
    text = frame.with_columns(pl.when(pl.int_range(240) == 7).then(pl.lit("?!")).otherwise(pl.col("y").cast(pl.String)).alias("y"))
    with pytest.raises(RowError, match="on_error='skip'"):
        model.forecast(text)
    assert model.forecast(text, on_error="skip").equals(model.forecast(frame.filter(pl.int_range(240) != 7)))


def test_gaps_and_missing_values_are_learnt_around() -> None:
    frame = wave(400).with_columns(pl.when(pl.int_range(400) % 7 == 3).then(None).otherwise(pl.col("y")).alias("y"))
    frame = frame.filter(~pl.int_range(pl.len()).is_between(100, 130))
    model = train(frame)
    assert model.run["data"]["left_out"]["inserted"] == 31
    assert model.feature.masked
    assert np.isfinite(model.run["metrics"]["test"]["mse"])


def test_a_constant_series_is_forecast_by_its_constant() -> None:
    model = train(pl.DataFrame({"y": [3.0] * 200}), data__time=None)
    np.testing.assert_allclose(model.forecast({"y": [3.0] * 20})["y"], 3.0, atol=0.5)
    assert model.forecast({"y": [3.0]})["y"].is_finite().all()


def test_rows_behind_the_last_value_tell_the_future() -> None:
    model = train(wave(), forecast__known=["price"])
    with_future = wave(244).with_columns(pl.when(pl.int_range(244) < 240).then(pl.col("y")).alias("y"))
    assert model.forecast(with_future).equals(model.forecast(wave(), future=wave(244)[240:].drop("y")))


@pytest.mark.parametrize(
    ("data", "settings", "error", "message"),
    [
        (wave(8), {}, DataError, r"has 8 steps, and the held-out parts with a horizon of 4 take all"),
        (wave(12), {}, DataError, r"no window to train on|has 12 steps, and the held-out parts"),
        (wave().with_columns(pl.lit(None).cast(pl.Float64).alias("y")), {}, DataError, "holds no number in the training part"),
        (wave(), {"forecast.parts": [200, 50, 10]}, DataError, "forecast.parts"),
        (wave(), {"encoder.bidirectional": True}, SettingsError, "forward only"),
        (wave(), {"forecast.output": "negative_binomial", "forecast.scaling": "mean"}, DataError, "for counts"),
        (wave(), {"forecast.output": "negative_binomial"}, SettingsError, r"set forecast\.scaling=mean"),
        (wave(), {"forecast.model": "autoregressive"}, SettingsError, "draws paths"),
        (wave(), {"text.lowercase": False}, SettingsError, "has no effect on the task 'forecast'"),
        (wave(), {"forecast.levels": [0.9, 0.5]}, SettingsError, "ascending"),
        (wave(), {"forecast.known": ["prise"]}, RecurraError, "Did you mean 'price'"),
    ],
)
def test_what_cannot_be_forecast_is_told(data: Any, settings: dict[str, Any], error: type[RecurraError], message: str) -> None:
    with pytest.raises(error, match=message):
        train(data, **{name.replace(".", "__"): value for name, value in settings.items()})


def test_what_a_forecast_lacks_is_told() -> None:
    model = train(wave(), forecast__known=["price"])
    with pytest.raises(DataError, match=r"4 of the 4 steps have none, the first at 2024-01-11 00:00:00:"):
        model.forecast(wave())
    with pytest.raises(DataError, match=r"1 of the 4 steps have none, the first at 2024-01-11 03:00:00:"):
        model.forecast(wave(), future=wave(243)[240:].drop("y"))
    with pytest.raises(DataError, match="has no value in y"):
        model.forecast(wave().with_columns(pl.lit(None).cast(pl.Float64).alias("y")))
    with pytest.raises(SettingsError, match=r"levels from 0\.05 to 0\.95"):
        model.forecast(wave(), quantiles=[0.99])
    with pytest.raises(DataError, match="longer than the horizon"):
        model.evaluate(wave(4))


def test_calibrated_intervals_cover_their_share_of_the_validation_part() -> None:
    """Each level is shifted to its share of the validation windows at each step; a share of n = 77 windows is met to 1 / n, twice a pair."""
    model = train(wave(800), forecast__output="gaussian", training__epochs=1)
    assert model.run["metrics"]["validation"]["coverage_90"] == pytest.approx(0.9, abs=2 / 77)


def test_files_of_the_parts_are_used_as_given(tmp_path: Path) -> None:
    frame = wave()
    for name, rows in (("train", frame[:150]), ("validation", frame[150:200]), ("test", frame[200:])):
        rows.write_csv(tmp_path / f"{name}.csv")
    model = recurra.train(
        tmp_path / "train.csv", target="y", validation=tmp_path / "validation.csv", test=tmp_path / "test.csv", settings=SMALL
    )
    assert model.run["data"]["rows"] == {"train": 150 - 16 - 4 + 1, "validation": 50 - 4 + 1, "test": 40 - 4 + 1}
