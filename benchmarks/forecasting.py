"""`python -m benchmarks forecasting`: epochs beside a plain nn.LSTM forecaster on the same windows, and a new observation in service."""

from __future__ import annotations

import copy
import json
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from rich.console import Console
from rich.table import Table
from torch import nn

import recurra
from benchmarks.kernels.machine import busy_cores, describe_machine
from benchmarks.kernels.options import Effort
from benchmarks.kernels.timing import interleave, pair_ratios
from recurra.config import Settings, load_settings
from recurra.data.split import Part
from recurra.data.windows import WindowBatch, WindowLoader
from recurra.model.forecast.forecaster import Forecaster, build_network
from recurra.training.forecast.prepare import Prepared, prepare
from recurra.training.optimizers import build_optimizer, clip_gradients

__all__ = ["PlainLSTM", "draw_series", "forecasting", "training_steps"]

PLAIN, KERNELS, SEGMENTS = "plain nn.LSTM", "the same LSTM, recurra.accelerate", "recurra, segments"


def forecasting(
    *,
    steps: int = 8_640,
    columns: int = 7,
    input_length: int = 336,
    horizons: tuple[int, ...] = (96,),
    units: int = 128,
    batch_size: int = 256,
    threads: int = 1,
    repeats: int = 7,
    seconds: float = 20.0,
    denormals: bool = False,
    quick: bool = False,
    output: Path = Path("runs/benchmarks"),
) -> None:
    """Epochs a second of training on windows of series, and milliseconds of a new observation in service.

    The series are drawn at random, with as many steps and columns as the training part of ETTh1 has. The plain forecaster is what most tutorials
    show: nn.LSTM over every step of the history, and a linear layer from its last state to the horizon.

    Parameters
    ----------
    steps
        Steps of the series.
    columns
        Series side by side.
    input_length
        Steps of history of a window.
    horizons
        Steps ahead.
    units
        Hidden units of every contender.
    batch_size
        Windows of a minibatch.
    threads
        Threads of every contender.
    repeats
        Samples of each contender.
    seconds
        A case takes no further samples after this many seconds.
    denormals
        Compute with numbers under 1e-38 as torch does by default. The gradient of a fresh LSTM over hundreds of steps is full of them, and a
        processor is ten times slower with them; they are taken for zero when not given, for every contender.
    quick
        One small case: to see that all runs, not for figures.
    output
        Folder for the JSON file.
    """
    if quick:
        steps, columns, input_length, horizons, units, batch_size, repeats, seconds = 120, 2, 24, (4,), 8, 16, 3, 0.5
    torch.set_num_threads(threads)
    torch.set_flush_denormal(not denormals)
    console = Console()
    table = draw_series(steps, columns)
    effort = Effort(repeats, seconds, 0.5)
    found: dict[str, Any] = {
        "machine": describe_machine(),
        "busy_cores_before": busy_cores(),
        "threads": threads,
        "denormals": denormals,
        "training": [],
    }
    for horizon in horizons:
        settings = _settings(input_length, horizon, units, batch_size)
        found["training"].append(_train(prepare(table, settings), settings, effort))
    console.print(_training_table(found["training"]))
    found["service"] = _serve(table, input_length, units, observations=200 if not quick else 10)
    console.print(_service_table(found["service"]))
    found["busy_cores_after"] = busy_cores()
    output.mkdir(parents=True, exist_ok=True)
    (output / "forecasting.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    console.print(f"All samples: {output / 'forecasting.json'}")


def draw_series(steps: int, columns: int, *, seed: int = 0) -> pl.DataFrame:
    """Hours of series with a daily season and a level that drifts."""
    random = np.random.default_rng(seed)
    days = 2 * np.pi * np.arange(steps)[:, None] / 24
    values = np.sin(days + random.normal(size=columns)) + 0.02 * random.normal(size=(steps, columns)).cumsum(axis=0)
    frame = pl.DataFrame({f"column{number}": values[:, number] for number in range(columns)})
    hours = pl.Series("hour", (np.datetime64("2020-01-01T00", "h") + np.arange(steps)).astype("datetime64[us]"))
    return frame.insert_column(0, hours)


class PlainLSTM(nn.Module):
    """nn.LSTM over every step, and a linear layer from its last state to the horizon."""

    def __init__(self, units: int, horizon: int) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.recurrence, self.output = nn.LSTM(1, units, batch_first=True), nn.Linear(units, horizon)

    def forward(self, history: torch.Tensor) -> torch.Tensor:
        """(B, H) of (B, L, 1)."""
        _, (hidden, _) = self.recurrence(history)
        return self.output(hidden[-1])


def training_steps(prepared: Prepared, settings: Settings) -> dict[str, Callable[[], torch.Tensor]]:
    """Functions that train on one minibatch of the same windows and return its loss, by name of the contender."""
    plain = PlainLSTM(settings.encoder.hidden_size, settings.forecast.horizon)
    ours = copy.deepcopy(plain)
    recurra.accelerate(ours)
    torch.manual_seed(0)
    segments = build_network(prepared.feature, prepared.series.roles, settings)
    optimizer = build_optimizer(segments, settings.optimizer, learning_rate=1e-3, steps=1_000_000)
    batches = _batches(prepared, settings)

    def segments_step() -> torch.Tensor:
        batch = next(batches)
        loss = segments.loss(segments(batch), batch)
        loss.backward()
        clip_gradients(segments.parameters(), norm=settings.training.clip_norm)
        optimizer.step()
        optimizer.zero_grad()
        return loss

    return {PLAIN: _plain_step(plain, prepared, settings), KERNELS: _plain_step(ours, prepared, settings), SEGMENTS: segments_step}


def _plain_step(network: PlainLSTM, prepared: Prepared, settings: Settings) -> Callable[[], torch.Tensor]:
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
    batches = _batches(prepared, settings)

    def step() -> torch.Tensor:
        batch = next(batches)
        loss = nn.functional.mse_loss(network(batch.history), batch.answers[..., 0])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss

    return step


def _loader(prepared: Prepared, settings: Settings) -> WindowLoader:
    return WindowLoader(prepared.windows, prepared.origins(Part.TRAIN), batch_size=settings.training.batch_size, shuffle=True)


def _batches(prepared: Prepared, settings: Settings) -> Iterator[WindowBatch]:
    """Without an end; the same ones for every contender."""
    loader, epoch = _loader(prepared, settings), 0
    while True:
        loader.set_epoch(epoch)
        yield from loader
        epoch += 1


def _settings(input_length: int, horizon: int, units: int, batch_size: int) -> Settings:
    return load_settings(
        {
            "data": {"time": "hour", "validation_share": 0.1, "test_share": 0.0},
            "forecast": {
                "targets": ["*"],
                "input_length": input_length,
                "horizon": horizon,
                "output": "point",
                "segment": min(24, horizon),
            },
            "encoder": {"hidden_size": units},
            "training": {"batch_size": batch_size},
        }
    )


def _train(prepared: Prepared, settings: Settings, effort: Effort) -> dict[str, Any]:
    calls = training_steps(prepared, settings)
    losses = {name: call().item() for name, call in calls.items()}
    # The gate before the clock: the same weights on the same windows have the same loss, whatever kernels compute it.
    if abs(losses[PLAIN] - losses[KERNELS]) > 1e-4 * losses[PLAIN]:
        raise SystemExit(f"The two LSTMs disagree: losses {losses[PLAIN]:.6f} and {losses[KERNELS]:.6f}.")
    samples = interleave(calls, effort=effort)
    batches = len(_loader(prepared, settings))
    return {
        "horizon": settings.forecast.horizon,
        "input_length": settings.forecast.input_length,
        "windows": len(prepared.origins(Part.TRAIN)),
        "batches": batches,
        "samples": samples,
        "epochs_per_minute": {name: 60 / (batches * statistics.median(values)) for name, values in samples.items()},
        "ratio": {name: statistics.median(pair_ratios(values, samples[PLAIN])) for name, values in samples.items()},
    }


def _serve(table: pl.DataFrame, input_length: int, units: int, *, observations: int) -> list[dict[str, Any]]:
    """One series that goes on: what a new observation costs with the state carried, and when the history is read again."""
    settings = load_settings(
        {
            "target": table.columns[1],
            "data": {"time": "hour"},
            "forecast": {"input_length": input_length, "horizon": 4, "model": "autoregressive", "output": "gaussian"},
            "encoder": {"cell": "lstm", "hidden_size": units},
        }
    )
    prepared = prepare(table, settings)
    network = build_network(prepared.feature, prepared.series.roles, settings)
    stream = Forecaster(settings, prepared.feature, prepared.series.roles, network=network).stream(table)
    plain = PlainLSTM(units, 4).eval()
    history, value = torch.zeros(1, input_length, 1), torch.zeros(1, 1, 1)
    with torch.inference_mode():
        state = plain.recurrence(history)[1]
        calls: dict[str, Callable[[], object]] = {
            "recurra, ForecastStream.observe": lambda: stream.observe([0.5]),
            "nn.LSTM, one step": lambda: plain.recurrence(value, state),
            f"nn.LSTM, {input_length} steps again": lambda: plain.recurrence(history),
        }
        rows = []
        for name, call in calls.items():
            taken = []
            for _ in range(observations):
                started = time.perf_counter()
                call()
                taken.append(1000 * (time.perf_counter() - started))
            rows.append({"contender": name, "ms": statistics.median(taken), "ms_99": float(np.percentile(taken, 99))})
    return rows


def _training_table(cases: list[dict[str, Any]]) -> Table:
    table = Table("horizon", "windows", "contender", "minibatches/s", "epochs/min", "times plain nn.LSTM", title="Training")
    for case in cases:
        for name, values in case["samples"].items():
            figures = (f"{1 / statistics.median(values):.2f}", f"{case['epochs_per_minute'][name]:.2f}", f"{case['ratio'][name]:.2f}")
            table.add_row(str(case["horizon"]), f"{case['windows']:,}", name, *figures)
    return table


def _service_table(rows: list[dict[str, Any]]) -> Table:
    table = Table("contender", "ms", "99%, ms", title="A new observation of one series")
    for row in rows:
        table.add_row(row["contender"], f"{row['ms']:.3f}", f"{row['ms_99']:.3f}")
    return table
