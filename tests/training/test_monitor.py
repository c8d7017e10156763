"""Which epoch is the best."""

from __future__ import annotations

import json
from pathlib import Path
from typing import get_args

import pytest

from jobs import rows, train
from recurra.config import HeadSettings
from recurra.errors import SettingsError
from recurra.training.monitor import HIGHER_IS_BETTER, TASK_METRICS, Monitor, choose_metric

GOLDEN = Path(__file__).parents[1] / "golden"
COURSE = {"epoch", "step", "train_loss", "learning_rate", "seconds", "tokens_per_second", "loss"}


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


@pytest.mark.parametrize("folder", sorted(path.parent.name for path in GOLDEN.glob("*/run.json")))
def test_what_a_task_measures_is_what_it_may_be_selected_by(folder: str) -> None:
    task = json.loads((GOLDEN / folder / "model.json").read_text())["settings"]["head"]["task"]
    measured = json.loads((GOLDEN / folder / "run.json").read_text())["training"]["history"][0].keys() - COURSE
    assert measured
    for name in measured:
        assert choose_metric(name, task=task) == name


@pytest.mark.parametrize(("target", "task"), [("label", "classify"), ("topics", "labels"), ("stars", "regress")])
def test_any_metric_of_the_validation_rows_selects(target: str, task: str) -> None:
    measured = train(rows(60), target=target).run["training"]["history"][0].keys() - COURSE
    assert len(measured) > 2
    for name in measured:
        assert choose_metric(name, task=task) == name


def test_every_task_has_its_metrics_and_every_metric_a_task() -> None:
    assert TASK_METRICS.keys() == set(get_args(HeadSettings.model_fields["task"].annotation))
    assert {name for names in TASK_METRICS.values() for name in names} == HIGHER_IS_BETTER.keys() - {"loss", "train_loss"}


@pytest.mark.parametrize(
    ("task", "known"), [("forecast", "mse, mae, rmse, loss, train_loss"), ("language", "perplexity, loss, train_loss")]
)
@pytest.mark.parametrize("metric", ["mase", "accuracy", "head.mase"])
def test_a_metric_of_another_task_is_refused_with_those_of_the_task(task: str, known: str, metric: str) -> None:
    with pytest.raises(SettingsError) as error:
        choose_metric(metric, task=task)
    assert str(error.value).endswith(f"Known for this task: {known}.")


def test_before_the_target_is_known_the_metrics_are_those_of_tables() -> None:
    with pytest.raises(
        SettingsError, match=r"'mase' is not a metric for a table\. Did you mean 'mae'\? Known for a table: score, all_right, accuracy"
    ):
        choose_metric("mase", task="auto")
    assert choose_metric("rmse", task="auto") == "rmse"
    assert choose_metric("intent.accuracy", task="several") == "intent.accuracy"
