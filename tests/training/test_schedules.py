from __future__ import annotations

import pytest
import torch
from torch import nn

from recurra.config import ScheduleSettings
from recurra.training.schedules import Schedule


def factors(name, *, steps=100, **options):
    schedule = Schedule(ScheduleSettings(name=name, **options), learning_rate=1.0, steps=steps)
    return [schedule.factor(step) for step in range(steps)]


@pytest.mark.parametrize("name", ["constant", "linear", "cosine", "plateau"])
def test_warm_up_rises_evenly_to_the_full_rate(name):
    found = factors(name, warmup=0.1)
    assert found[:10] == pytest.approx([(step + 1) / 10 for step in range(10)])
    assert max(found) == found[9] == 1.0


def test_shapes_after_the_warm_up():
    assert set(factors("constant", warmup=0.0)) == {1.0}
    linear = factors("linear", warmup=0.0, floor=0.2)
    assert linear[50] == pytest.approx(0.6)
    cosine = factors("cosine", warmup=0.0, floor=0.2)
    assert cosine[50] == pytest.approx(0.6)
    assert cosine[25] > linear[25] > linear[75] > cosine[75]
    for found in (linear, cosine):
        assert found[0] == 1.0
        assert 0.2 < found[-1] < 0.21
        assert found == sorted(found, reverse=True)


def test_steps_beyond_the_end_keep_the_floor():
    schedule = Schedule(ScheduleSettings(name="linear", floor=0.25, warmup=0.0), learning_rate=1.0, steps=4)
    assert schedule.factor(40) == 0.25


def test_one_cycle_moves_momentum_the_other_way():
    schedule = Schedule(ScheduleSettings(name="one_cycle", warmup=0.3), learning_rate=2.0, steps=100)
    optimizer = torch.optim.AdamW([nn.Parameter(torch.zeros(1))], betas=(0.95, 0.99))
    rates, momenta = [], []
    for step in range(100):
        rates.append(schedule.apply(optimizer, step))
        assert optimizer.param_groups[0]["lr"] == rates[-1]
        momenta.append(optimizer.param_groups[0]["betas"][0])
    assert max(rates) == rates[29] == 2.0
    assert rates[0] == pytest.approx(2.0 / 25, rel=0.1)
    assert rates[-1] < 2.0 / 25
    assert min(momenta) == momenta[29] == pytest.approx(0.85)
    assert momenta[-1] == pytest.approx(0.95, abs=1e-3)
    again = torch.optim.AdamW([nn.Parameter(torch.zeros(1))])
    again.load_state_dict(optimizer.state_dict())
    schedule.apply(again, 29)
    assert again.param_groups[0]["betas"][0] == pytest.approx(0.85), "the dip does not add up over a checkpoint"


def test_plateau_divides_by_ten_when_the_metric_stalls():
    schedule = Schedule(ScheduleSettings(name="plateau", patience=2, warmup=0.0), learning_rate=1.0, steps=10)
    found = []
    for improved in (True, False, False, False, True, False, False):
        schedule.end_epoch(improved=improved)
        found.append(schedule.factor(5))
    assert found == pytest.approx([1, 1, 0.1, 0.1, 0.1, 0.1, 0.01])
    other = Schedule(schedule.settings, learning_rate=1.0, steps=10)
    other.load_state_dict(schedule.state_dict())
    assert other.factor(5) == schedule.factor(5)


@pytest.mark.parametrize("name", ["constant", "linear", "cosine", "one_cycle", "slanted_triangular"])
def test_a_metric_that_stalls_in_a_long_warm_up_changes_plateau_alone(name):
    schedule = Schedule(ScheduleSettings(name=name, patience=1, warmup=0.5), learning_rate=1.0, steps=20)
    before = [schedule.factor(step) for step in range(20)]
    schedule.end_epoch(improved=False)
    assert [schedule.factor(step) for step in range(20)] == before
