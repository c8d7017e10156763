from __future__ import annotations

import pytest
import torch
from standin import run
from torch import nn

from recurra.training.averaging import WeightAverage, exchanged
from recurra.training.checkpoints import best_path, last_path, read_checkpoint


def test_early_averages_forget_the_start():
    parameter = nn.Parameter(torch.zeros(1))
    average = WeightAverage([parameter], decay=0.999)
    with torch.no_grad():
        parameter.fill_(1.0)
    for _ in range(20):
        average.update()
    # prod of t / (t + 9) for t = 1..20 is 1 / C(29, 9): the start's share is 1e-7
    assert 1 - float(average.averages[0]) < 1e-6


def test_late_averages_have_the_decay():
    parameter = nn.Parameter(torch.ones(1, dtype=torch.float64))
    average = WeightAverage([parameter], decay=0.9)
    for _ in range(200):
        average.update()
    with torch.no_grad():
        parameter.zero_()
    average.update()
    torch.testing.assert_close(average.averages[0], torch.tensor([0.9], dtype=torch.float64))


def test_exchange_is_undone_exactly_and_after_errors():
    parameter = nn.Parameter(torch.randn(5))
    before = parameter.detach().clone()
    other = torch.randn(5)
    with exchanged([parameter], [other]):
        assert torch.equal(parameter, other)
    assert torch.equal(parameter, before)
    with pytest.raises(ZeroDivisionError), exchanged([parameter], [other]):
        _ = 1 / 0
    assert torch.equal(parameter, before)


def test_the_result_holds_the_average_and_training_its_own_weights(tmp_path):
    averaged, result = run(tmp_path / "average", training__average=0.8, training__epochs=2, training__monitor="loss")
    plain, other = run(tmp_path / "plain", training__epochs=2, training__monitor="loss")
    assert [record["train_loss"] for record in result.history] == [record["train_loss"] for record in other.history]
    assert result.best_epoch == other.best_epoch == 2
    last = read_checkpoint(last_path(tmp_path / "average"))["network"]
    best = read_checkpoint(best_path(tmp_path / "average"))["network"]
    for name, value in plain.state_dict().items():
        assert torch.equal(last[name], value), "averaging does not touch the training"
        assert torch.equal(best[name], averaged.state_dict()[name])
    assert not torch.equal(averaged.output.weight, plain.output.weight)


def test_asgd_is_validated_and_saved_with_its_average(tmp_path):
    options = {"optimizer__name": "asgd", "training__monitor": "loss", "training__epochs": 2}
    model, result = run(tmp_path, **options)
    assert result.best_epoch == 2
    last = read_checkpoint(last_path(tmp_path))["network"]
    assert not torch.equal(model.output.weight, last["output.weight"])
