"""The whole training on clicks: parts, resuming, the command line, and data that cannot be used."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import recurra
from clicks import TINY, clicks, recommender
from jobs import csv
from recurra.cli import main
from recurra.errors import DataError, EmptyData, MissingColumn, SettingsError, TrainingInterrupted
from recurra.training.fitting import Fitting

LEAVE_ONE_OUT = {"recommend.split": "leave_one_out"}


def command(arguments: list[str]) -> None:
    """The command line, which ends the process when it is done."""
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code in (0, None)


def weights(model: Any) -> dict[str, list[float]]:
    return {name: tensor.tolist() for name, tensor in model.network.state_dict().items()}


def test_leave_one_out_measures_one_click_a_user() -> None:
    model = recommender(settings=LEAVE_ONE_OUT)
    found = model.run
    lengths = [len([row for row in clicks() if row["who"] == f"u{n}"]) for n in range(24)]
    measured = sum(length > 2 for length in lengths)
    assert found["data"]["rows"] == {"train": sum(n - 2 if n > 2 else n for n in lengths), "validation": measured, "test": measured}
    assert found["metrics"]["test"]["rows"] == measured
    long = [row for row in clicks() if lengths[int(row["who"][1:])] > 2]
    again = model.evaluate(long)
    assert again == found["metrics"]["test"], "the table of the training gives its test figures"
    assert found["training"]["monitor"] == "ndcg_at_10"
    assert any("one or two clicks" in note for note in found["data"]["notes"])


def test_given_files_are_the_parts() -> None:
    table = clicks()
    found = recommender(table, validation=clicks(6, seed=1), test=clicks(7, seed=2)).run
    assert found["data"]["rows"]["train"] == len(table)
    assert found["metrics"]["validation"]["rows"] == len(clicks(6, seed=1)) - 6
    with pytest.raises(SettingsError, match="give no files of them, or give both"):
        recommender(table, validation=clicks(6, seed=1), settings=LEAVE_ONE_OUT)


def test_a_test_file_that_is_older_than_the_training_is_told() -> None:
    early, late = clicks(30), [{**row, "who": f"late{row['who']}", "when": row["when"] + 1_000_000} for row in clicks(40)]
    notes = recommender(late, test=early).run["data"]["notes"]
    told = [line for line in notes if "no later than the last training click" in line]
    assert len(told) == 1
    asked = sum(len([row for row in early if row["who"] == who]) - 1 for who in {row["who"] for row in early})
    assert told[0].startswith(f"{asked:,} of {asked:,} test answers")
    assert not any("no later than" in line for line in recommender(early, test=late).run["data"]["notes"])


def test_with_nothing_held_out_everything_trains(tmp_path: Path) -> None:
    found = recommender(
        settings={"data.validation_share": 0.0, "data.test_share": 0.0, "training.epochs": 1}, output=tmp_path / "model"
    ).run
    assert found["data"]["rows"] == {"train": len(clicks())}
    assert (found["metrics"], found["training"]["monitor"]) == ({}, "train_loss")
    assert (tmp_path / "model" / "model.json").is_file()


def test_copied_sessions_are_told() -> None:
    lines: list[str] = []
    found = recommender(clicks(), test=clicks()[:8], validation=clicks(6, seed=1), show=lines.append).run
    assert found["data"]["overlap"]["test"] == 1
    assert any("1 test sessions of three clicks or more are training sessions too" in line for line in lines)


@pytest.mark.parametrize("optimizer", ["adamw", "adagrad_momentum"])
def test_a_resumed_training_goes_on_bit_by_bit(optimizer: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Interrupted in the middle of an epoch, with a state that windows of 2 steps carry, negatives and dropout to be drawn."""
    settings = {
        "recommend.window": 2,
        "embedding.dropout": 0.3,
        "head.dropout": 0.2,
        "optimizer.name": optimizer,
        "training.checkpoint_seconds": 1e-6,
    }
    whole = recommender(settings=settings, output=tmp_path / "whole")
    batches = whole.run["training"]["steps"] // 2
    assert batches > 5
    tick = Fitting.on_train_batch_end

    def interrupt(self: Fitting, *arguments: Any) -> None:
        if self.course.step == batches + 3:
            self.interruption.requested = "a test"
        tick(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(Fitting, "on_train_batch_end", interrupt)
        with pytest.raises(TrainingInterrupted):
            recommender(settings=settings, output=tmp_path / "parts")
    state = torch.load(tmp_path / "parts" / "training" / "checkpoints" / "last.pt", weights_only=True)
    assert state["loader"]["position"] > 0
    assert float(state["carried"][0][0].abs().sum()) > 0
    resumed = recommender(settings=settings, output=tmp_path / "parts", resume=True)
    assert weights(resumed) == weights(whole)
    assert not any("carried" in name for name in json.loads((tmp_path / "parts" / "model.json").read_text()))


def test_the_command_line_trains_evaluates_and_recommends(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, model = csv(tmp_path / "clicks.csv", clicks()), tmp_path / "model"
    given = [
        f"--set={name}={value}" for name, value in TINY.items() if not name.startswith(("recommend.s", "recommend.i", "head.task", "data."))
    ]
    command(
        [
            "train",
            str(data),
            "--task",
            "recommend",
            "--session",
            "who",
            "--item",
            "what",
            "--time",
            "when",
            "-o",
            str(model),
            "--json",
            *given,
        ]
    )
    assert 0 <= json.loads(capsys.readouterr().out)["test.recall_at_5"] <= 1
    command(["evaluate", str(model), str(data), "--json"])
    assert json.loads(capsys.readouterr().out)["rows"] == len(clicks()) - 24
    command(["recommend", str(model), "--items", "i1,i2,i2000", "--top", "2", "--json"])
    said = capsys.readouterr()
    assert [json.loads(line)["rank"] for line in said.out.splitlines()] == [1, 2]
    assert "'i2000': it is stepped over" in said.err
    command(["recommend", str(model), str(data), "--top", "1", "-o", str(tmp_path / "next.csv")])
    assert len((tmp_path / "next.csv").read_text().splitlines()) == 25
    for wrong, reason in ((["recommend", str(model)], "Give either"), (["predict", str(model), "a text"], "use `recurra recommend")):
        with pytest.raises(SystemExit):
            main(wrong)
        assert reason in capsys.readouterr().err


def test_a_user_means_leave_one_out(tmp_path: Path) -> None:
    data = csv(tmp_path / "clicks.csv", clicks())
    given = [
        f"--set={name}={value}" for name, value in TINY.items() if not name.startswith(("recommend.s", "recommend.i", "head.task", "data."))
    ]
    command(["train", str(data), "--user", "who", "--item", "what", "--time", "when", "-o", str(tmp_path / "model"), "-q", *given])
    settings = recurra.load(tmp_path / "model").settings
    assert (settings.head.task, settings.recommend.session, settings.recommend.split) == ("recommend", "who", "leave_one_out")


def test_evaluating_on_the_table_of_the_training_gives_its_test_figures() -> None:
    """Sequences of two clicks train whole, so they are not asked about; figures on them would flatter."""
    table = [*clicks(), *({"who": f"short{n}", "what": f"i{n % 5 + step}", "when": 5_000 + step} for n in range(30) for step in range(2))]
    model = recommender(table, settings=LEAVE_ONE_OUT)
    measured = model.run["metrics"]["test"]
    assert model.evaluate(table) == measured
    with pytest.raises(EmptyData, match="No sequence has 3 clicks"):
        model.evaluate(table[-60:])


def test_with_leave_one_out_the_last_click_of_given_files_is_asked_for_too() -> None:
    test = clicks(7, seed=2)
    model = recommender(clicks(), validation=clicks(6, seed=1), test=test, settings=LEAVE_ONE_OUT)
    lengths = [sum(row["who"] == f"u{n}" for row in test) for n in range(7)]
    assert model.run["metrics"]["test"]["rows"] == sum(length >= 3 for length in lengths)
    assert model.evaluate(test) == model.run["metrics"]["test"]


@pytest.mark.parametrize("loss", ["bpr_max", "top1_max"])
def test_a_batch_in_which_nothing_else_was_drawn_has_no_loss(loss: str) -> None:
    """The one item that was drawn is the answer, and read: a softmax over no item at all would be no number."""
    table = [{"who": f"u{n}", "what": "ab"[step % 2] if n % 2 else "a", "when": 10 * n + step} for n in range(30) for step in range(3)]
    settings = {"recommend.loss": loss, "recommend.negatives": 1, "recommend.window": 1, "training.batch_size": 1}
    assert recommender(table, settings=settings).run["metrics"]["test"]["recall_at_5"] == 1.0


ONE = {"who": ["a", "b", "c"], "what": ["x", "y", "x"], "when": [1, 2, 3]}


@pytest.mark.parametrize(
    ("data", "settings", "error", "message"),
    [
        (ONE, {"data.validation_share": 0.0, "data.test_share": 0.0}, EmptyData, "No session has two clicks"),
        (ONE, {}, EmptyData, "No session has two clicks"),
        ({"who": list("aaaa"), "what": list("xxxx"), "when": [1, 2, 3, 4]}, LEAVE_ONE_OUT, DataError, "all of one item, 'x'"),
        ({"who": list("aabb"), "what": list("xyxy"), "when": [1, 1, 1, 1]}, {}, EmptyData, "too many have the same time"),
        ({"who": list("aabb"), "what": list("xyxy"), "when": ["now", "2", "3", "4"]}, {}, DataError, "no time"),
        ({"whoo": list("aabb"), "what": list("xyxy"), "when": [1, 2, 3, 4]}, {}, MissingColumn, "Did you mean 'whoo'"),
        (ONE, {"recommend.item": None}, SettingsError, "recommend.item is not named: say with --item"),
        (ONE, {"encoder.bidirectional": True}, SettingsError, "cannot be known from both ends"),
        (ONE, {"encoder.pooling": "mean"}, SettingsError, "encoder.pooling has no effect"),
        (ONE, {"recommend.loss": "bpr_max", "recommend.logq": 0.5}, SettingsError, "recommend.logq has no effect"),
        (ONE, {"recommend.loss": "top1_max", "head.label_smoothing": 0.1}, SettingsError, r"head\.label_smoothing has no effect"),
    ],
)
def test_what_cannot_be_used_is_told(data: Any, settings: dict[str, Any], error: type[Exception], message: str) -> None:
    if "encoder.bidirectional" in settings:
        data = clicks()
    with pytest.raises(error, match=message):
        recommender(data, settings=settings)


def test_several_processes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"leave training\.devices out"):
        recommender(settings={"training.devices": 2}, output=tmp_path / "model")


def test_settings_of_recommendation_are_refused_elsewhere() -> None:
    with pytest.raises(SettingsError, match=r"recommend\.window has no effect on the task 'classify'"):
        recurra.train([{"a": "x", "b": "y"}], target="b", settings={"head.task": "classify", "recommend.window": 3})
