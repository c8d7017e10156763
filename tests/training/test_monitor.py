"""Which epoch is the best."""

from __future__ import annotations

from recurra.training.monitor import Monitor


def test_equal_values_are_decided_by_the_loss() -> None:
    monitor = Monitor("accuracy", patience=2)
    assert monitor.update(1, 0.9, loss=0.5)
    assert monitor.update(2, 0.9, loss=0.4)
    assert not monitor.update(3, 0.9, loss=0.4)
    assert not monitor.update(4, 0.8, loss=0.1)
    assert (monitor.best_epoch, monitor.best_loss, monitor.exhausted) == (2, 0.4, True)


def test_the_direction_is_that_of_the_metric() -> None:
    monitor = Monitor("rmse", patience=0)
    assert [monitor.update(epoch, value) for epoch, value in enumerate([2.0, 3.0, 1.0], start=1)] == [True, False, True]
    assert not monitor.exhausted


def test_a_monitor_goes_on_where_it_was() -> None:
    first, second = Monitor("accuracy", patience=3), Monitor("auto", patience=3)
    first.update(1, 0.5, loss=1.0)
    first.update(2, 0.4, loss=2.0)
    second.load_state_dict(first.state_dict())
    assert not second.update(3, 0.5, loss=1.5)
    assert second.stalled == 2
