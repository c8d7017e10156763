"""Forecasting networks: whose future they read, scales, carried state beside history read again."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from recurra.cells import CELLS
from recurra.config import Settings, load_settings
from recurra.data.windows import WindowBatch
from recurra.heads.forecast import OUTPUTS
from recurra.model.forecast.prediction import NETWORKS, ForecastNetwork
from recurra.model.forecast.scaling import WindowScale
from recurra.model.forecast.segments import Sizes

L, H, B = 7, 5, 6
OUTPUT = {"segments": ["point", "quantiles", "gaussian"], "autoregressive": ["point", "gaussian", "student_t"]}
BOTH = [(model, output) for model, outputs in OUTPUT.items() for output in outputs]


def chosen(**changes: Any) -> Settings:
    given = {"horizon": H, "input_length": L, "segment": 3, "samples": 3, **changes}
    return load_settings({"encoder.hidden_size": 8, "head.dropout": 0.0, **{f"forecast.{name}": value for name, value in given.items()}})


def build(settings: Settings, *, channels: int = 1, masked: bool = True) -> ForecastNetwork:
    torch.manual_seed(0)
    sizes = Sizes(
        channels=channels, past=2, known=3, static=1, identities=4, masked=masked, counts=settings.forecast.output == "negative_binomial"
    )
    network = NETWORKS[settings.forecast.model](sizes, OUTPUTS[settings.forecast.output](settings.forecast), settings).eval()
    if getattr(network, "linear", None) is not None:
        torch.nn.init.normal_(network.linear.weight)
        torch.nn.init.normal_(network.output.output.weight)
    return network


def batch(channels: int = 1, length: int = L, seed: int = 0) -> WindowBatch:
    random = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=random)

    history = draw(B, length, channels)
    history[1, 2:4] = float("nan")
    history[2, :3] = float("nan")
    history[3, -2:] = float("nan")
    identity = torch.tensor([0, 1, 2, 3, -1, 0])
    return WindowBatch(history, draw(B, H, channels), draw(B, length, 2), draw(B, length + H, 3), draw(B, 1), identity, torch.arange(B))


@pytest.mark.parametrize(("model", "output"), BOTH)
@pytest.mark.parametrize("channels", [1, 2])
def test_a_forecast_does_not_know_the_answers(model: str, output: str, channels: int) -> None:
    """Other answers change no bit of a forecast."""
    network, one = build(chosen(model=model, output=output), channels=channels), batch(channels)
    other = replace(one, answers=torch.full_like(one.answers, float("nan")))
    if model == "segments":
        assert torch.equal(network(one), network(other))
    else:
        first, second = (network.paths(each, samples=3, generator=np.random.default_rng(0)) for each in (one, other))
        assert torch.equal(first, second)


@pytest.mark.parametrize("scaling", ["last", "mean", "mean_std", "revin", "none"])
def test_a_step_is_foreseen_from_the_steps_before_alone(scaling: str) -> None:
    """Teacher forcing: the parameters of step t of the horizon change with no value from t on, bit for bit."""
    network, one = build(chosen(model="autoregressive", output="gaussian", scaling=scaling)), batch()
    expected = network(one)
    for step in range(H):
        changed = one.answers.clone()
        changed[:, step:] += 1.0
        found = network(replace(one, answers=changed))
        assert torch.equal(found[:, : L + step + 1], expected[:, : L + step + 1])
        if step + 1 < H:
            assert not torch.equal(found[:, L + step + 1 :], expected[:, L + step + 1 :])


@pytest.mark.parametrize(("model", "output"), BOTH)
def test_a_missing_value_is_nothing_but_missing(model: str, output: str) -> None:
    """No parameter is NaN, and neighbours in the batch do not matter."""
    network, one = build(chosen(model=model, output=output)), batch()
    found = network(one)
    assert bool(found.isfinite().all())
    alone = WindowBatch(*(getattr(one, name)[2:3] for name in ("history", "answers", "past", "known", "static", "identity", "rows")))
    # float32 sums in another order; errors of some ulp (6e-8) grow by a handful of layers
    torch.testing.assert_close(network(alone), found[2:3], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("model", "output"), BOTH)
@pytest.mark.parametrize("scaling", ["last", "mean_std", "revin"])
def test_a_shift_of_the_level_shifts_the_forecast(model: str, output: str, scaling: str) -> None:
    """With the level taken out, f(x + c) = f(x) + c; in float64, to the rounding of sums of terms of about 100: 1e-9."""
    network = build(chosen(model=model, output=output, scaling=scaling)).double()
    one = batch()
    one = replace(one, **{name: getattr(one, name).double() for name in ("history", "answers", "past", "known", "static")})
    moved = replace(one, history=one.history + 100.0, answers=one.answers + 100.0)
    torch.testing.assert_close(network.head.point(network(moved)), network.head.point(network(one)) + 100.0, rtol=0, atol=1e-9)


def test_windows_of_one_value_throughout_have_finite_forecasts() -> None:
    for scaling in ("last", "mean", "mean_std", "revin", "none"):
        network, one = build(chosen(scaling=scaling)), batch()
        for value in (0.0, 7.0, float("nan")):
            found = network(replace(one, history=torch.full_like(one.history, value)))
            assert bool(found.isfinite().all())


def test_a_missing_value_stands_for_the_one_before() -> None:
    scale = WindowScale("none", identities=1, channels=1, counts=False)
    history = torch.tensor([[float("nan"), 2.0, float("nan"), float("nan"), 5.0, float("nan")]])[..., None]
    found = scale(history, torch.zeros(1, dtype=torch.long))
    assert found.values[0, :, 0].tolist() == [0.0, 2.0, 2.0, 2.0, 5.0, 5.0]
    assert found.known[0, :, 0].tolist() == [False, True, False, False, True, False]
    assert WindowScale("last", identities=1, channels=1, counts=False)(history, torch.zeros(1, dtype=torch.long)).center.item() == 5.0


@pytest.mark.parametrize("cell", sorted(CELLS))
@pytest.mark.parametrize("model", NETWORKS)
def test_every_cell_forecasts_and_learns(cell: str, model: str) -> None:
    settings = load_settings({"forecast.horizon": H, "forecast.input_length": L, "forecast.segment": 3, "forecast.model": model,
                              "forecast.output": "gaussian", "encoder.cell": cell, "encoder.hidden_size": 8})  # fmt: skip
    network = build(settings).train()
    one = batch()
    network.loss(network(one), one).backward()
    for name, parameter in network.named_parameters():
        assert not parameter.requires_grad or (parameter.grad is not None and bool(parameter.grad.isfinite().all())), name


def test_paths_carry_the_state_that_reading_again_gives() -> None:
    """A path whose steps are read again as history leads on to the same distributions: paths = teacher forcing on themselves."""
    network, one = build(chosen(model="autoregressive", output="gaussian")), batch()
    paths = network.paths(one, samples=1, generator=np.random.default_rng(1))[:, 0]
    again = network(replace(one, answers=paths))[:, L:]
    drawn = network.head.sample(again[:, :1], np.random.default_rng(1))
    # the first step is drawn from the same numbers; float32 rounding as above
    torch.testing.assert_close(drawn, paths[:, :1], rtol=1e-4, atol=1e-5)
    mean, deviation = again.unbind(-1)
    noise = np.random.default_rng(1)
    for step in range(H):
        expected = mean[:, step : step + 1] + deviation[:, step : step + 1] * torch.from_numpy(
            noise.standard_normal((B, 1, 1), dtype=np.float32)
        )
        torch.testing.assert_close(expected, paths[:, step : step + 1], rtol=1e-3, atol=1e-4)
