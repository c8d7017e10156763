from __future__ import annotations

import math

import pytest
import torch
from standin import TinyLoader, network, run, settings
from torch import nn

from recurra.errors import TrainingDiverged
from recurra.training.checkpoints import last_path, read_checkpoint
from recurra.training.divergence import DivergenceGuard
from recurra.training.fit import fit


def spoilt_network(factor, moment):
    model = network()
    calls = []

    def loss(outputs, batch):
        calls.append(model.training)
        value = nn.functional.cross_entropy(outputs, batch.targets["label"])
        return value * factor if sum(calls) >= moment and model.training else value

    model.loss = loss
    return model


@pytest.mark.parametrize("factor", [math.nan, math.inf])
def test_a_loss_that_is_no_number_stops_the_training(tmp_path, factor):
    with pytest.raises(TrainingDiverged) as caught:
        run(tmp_path, model=spoilt_network(factor, 9))
    message = str(caught.value)
    assert f"at step 9: the loss is {factor}" in message
    assert "layer" in message
    assert "embedding" in message
    assert "optimizer.learning_rate=0.0" in message
    state = read_checkpoint(last_path(tmp_path))
    assert state["course"]["step"] == 6
    assert all(torch.isfinite(value).all() for value in state["network"].values())


def test_an_exploding_loss_stops_the_training(tmp_path):
    with pytest.raises(TrainingDiverged, match=r"step 13: .* over training\.divergence_factor=50 times the 1\.\d+ of the first steps"):
        run(tmp_path, model=spoilt_network(1000.0, 13), training__divergence_factor=50.0)
    _, result = run(tmp_path / "other", model=spoilt_network(1000.0, 13), training__divergence_factor=1e5)
    assert result.steps == 18


def test_a_huge_rate_diverges_with_advice(tmp_path):
    with pytest.raises(TrainingDiverged, match="clip_norm=1"):
        run(
            tmp_path,
            training__epochs=30,
            training__clip_norm=0.0,
            optimizer__name="sgd",
            optimizer__learning_rate=1e4,
            schedule__name="constant",
        )


def test_a_diverged_run_can_be_resumed_from_before(tmp_path):
    with pytest.raises(TrainingDiverged):
        run(tmp_path, model=spoilt_network(math.nan, 9))
    _, result = run(tmp_path, resume=True)
    assert len(result.history) == 3


@pytest.mark.parametrize("first", [[-2.0] * 10, [-1.0, 1.0] * 5])
def test_a_loss_that_may_be_below_zero_is_told_by_its_size(first):
    """Likelihoods of densities: what is a few times as large as the first losses, on the other side of zero, is no explosion."""
    guard = DivergenceGuard(100.0)
    model = network()
    options = {"norm": 1.0, "learning_rate": 0.1}
    for step, loss in enumerate([*first, 4.0], start=1):
        guard.check(model, step=step, loss=loss, **options)
    with pytest.raises(TrainingDiverged, match="step 12: the loss is 300"):
        guard.check(model, step=12, loss=300.0, **options)


def test_infinite_gradients_are_tolerated_under_a_loss_scaler_for_a_while():
    guard = DivergenceGuard(100.0, scaled=True)
    model = network()
    for step in range(50):
        guard.check(model, step=step, loss=1.0, norm=math.inf, learning_rate=1.0)
    with pytest.raises(TrainingDiverged, match="norm of the gradient is inf"):
        guard.check(model, step=50, loss=1.0, norm=math.inf, learning_rate=1.0)


def test_weights_are_looked_at_before_they_are_saved():
    model = network()
    guard = DivergenceGuard(100.0)
    guard.check_weights(model, step=3, learning_rate=0.1)
    with torch.no_grad():
        model.output.bias[1] = math.nan
    with pytest.raises(TrainingDiverged, match=r"step 3: the weight output\.bias"):
        guard.check_weights(model, step=3, learning_rate=0.1)


def test_a_validation_metric_that_is_no_number(tmp_path):
    with pytest.raises(TrainingDiverged, match="'accuracy' is not a number after epoch 1"):
        fit(
            network(),
            TinyLoader(),
            TinyLoader(8),
            settings=settings(),
            folder=tmp_path,
            validate=lambda pairs: {"accuracy": math.nan * len(list(pairs))},
            progress=False,
        )
