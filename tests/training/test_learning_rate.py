from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from standin import TinyLoader, network, run, settings

from recurra.errors import SettingsError, TrainingDiverged
from recurra.training.learning_rate import LARGEST, SMALLEST, STEPS, find_learning_rate, steepest_descent
from recurra.training.seeds import random_state


def curve(losses):
    return [{"learning_rate": 10.0**index, "loss": loss} for index, loss in enumerate(losses, start=-8)]


def test_the_steepest_descent_before_the_lowest_point():
    # the first five points do not count; the steepest fall after the lowest point does not either
    assert steepest_descent(curve([9, 1, 1, 1, 1, 1.0, 0.99, 0.7, 0.4, 0.38, 5, 0.5])) == pytest.approx(10.0**-1)


def test_too_few_points():
    with pytest.raises(TrainingDiverged, match=r"set optimizer\.learning_rate to a number"):
        steepest_descent(curve([1.0] * 7))


def test_everything_is_as_before():
    model, loader = network(), TinyLoader()
    loader.load_state_dict({"epoch": 3, "position": 2})
    before = {name: value.clone() for name, value in model.state_dict().items()}
    state = random_state()
    rate, points = find_learning_rate(model, loader, settings=settings())
    assert SMALLEST < rate < LARGEST
    assert 8 < len(points) <= STEPS
    assert loader.handed_out <= STEPS
    assert loader.state_dict() == {"epoch": 3, "position": 2}
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    after = random_state()
    assert torch.equal(state["torch"], after["torch"])
    assert state["python"] == after["python"]
    assert torch.equal(state["numpy"][1], after["numpy"][1])
    rates = np.array([point["learning_rate"] for point in points])
    assert np.diff(np.log(rates)) == pytest.approx(math.log(LARGEST / SMALLEST) / (STEPS - 1))


def test_auto_trains_with_the_rate_found(tmp_path):
    _, result = run(tmp_path, optimizer__learning_rate="auto", schedule__name="constant", schedule__warmup=0.0)
    assert result.learning_rate == steepest_descent(result.learning_rate_curve)
    assert result.history[0]["learning_rate"] == result.learning_rate
    with pytest.raises(SettingsError, match="one device"):
        run(tmp_path, optimizer__learning_rate="auto", training__devices=2, training__device="cpu")


def test_a_loss_that_is_no_number():
    model = network()
    with torch.no_grad():
        model.output.bias.fill_(math.nan)
    with pytest.raises(TrainingDiverged, match="first steps"):
        find_learning_rate(model, TinyLoader(), settings=settings())
