"""The whole job: from a table to a model and its folder, interrupted and resumed, with every kind of input and target."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch

import recurra
from jobs import ENVIRONMENT, SMALL, csv, rows, train
from recurra.data.loader import Loader
from recurra.errors import EmptyData, OutputExists, SettingsError, TrainingInterrupted
from recurra.model.load import load
from recurra.training.train import plan

pytestmark = pytest.mark.usefixtures("quiet_report")
INPUTS = {"data.columns": ["title", "text"]}


def weights(model: Any) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in model.network.state_dict().items()}


def assert_same_weights(first: Any, second: Any) -> None:
    one, other = weights(first), weights(second)
    assert one.keys() == other.keys()
    assert [name for name in one if not torch.equal(one[name], other[name])] == []


def test_the_same_rows_from_any_source_make_the_same_model(tmp_path: Path) -> None:
    """A CSV file, a compressed one, several files, JSON lines, Parquet, frames and rows: the same weights bit by bit."""
    table = [{name: row[name] for name in ("title", "text", "label")} for row in rows(40)]
    file = csv(tmp_path / "a.csv", table)
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(file.read_bytes()))
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in table))
    pl.DataFrame(table).write_parquet(tmp_path / "a.parquet")
    csv(tmp_path / "part1.csv", table[:15])
    csv(tmp_path / "part2.csv", table[15:])
    columns = {name: [row[name] for row in table] for name in table[0]}
    sources = [
        table, file, tmp_path / "a.csv.gz", str(tmp_path / "a.jsonl"), tmp_path / "a.parquet", f"{tmp_path}/part*.csv",
        [tmp_path / "part1.csv", tmp_path / "part2.csv"], pl.DataFrame(table), pl.DataFrame(table).to_arrow(), pl.DataFrame(table).to_pandas(), columns,
    ]  # fmt: skip
    models = [train(source, settings=INPUTS) for source in sources]
    for model in models[1:]:
        assert_same_weights(models[0], model)


@pytest.mark.parametrize(("target", "main"), [("label", "accuracy"), ("topics", "micro_f1"), ("stars", "rmse")])
def test_what_a_training_leaves(tmp_path: Path, target: str, main: str) -> None:
    model = train(rows(), target, output=tmp_path / "model", settings={**INPUTS, "evaluation.baselines": True})
    run = json.loads((tmp_path / "model" / "run.json").read_text())
    assert run == model.run
    assert set(run["metrics"]) == {"validation", "test"}
    test = run["metrics"]["test"]
    assert test[f"{main}_low"] <= test[main] <= test[f"{main}_high"]
    assert test["rows"] == run["data"]["rows"]["test"] == 6
    assert run["training"]["monitor"] == main
    assert run["baselines"].keys() == {"mean" if target == "stars" else "majority", "tfidf_linear"}
    assert all(main in values["test"] for values in run["baselines"].values())
    assert run["seed"] == 0
    assert run["timings"].keys() >= {"prepare data", "train", "evaluate", "baselines", "report"}
    present = {path.name for path in (tmp_path / "model").iterdir()}
    assert present == {"README.md", "model.json", "report.html", "run.json", "training", "weights.safetensors"}


def test_the_report_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    train(rows(40), output=tmp_path / "model", settings=INPUTS)
    page = (tmp_path / "model" / "report.html").read_text()
    assert "<svg" in page
    assert "accuracy" in page


def test_several_inputs_of_all_types_are_all_read() -> None:
    table = [{**row, "words": row["text"].split()} for row in rows()]
    columns = ["title", "text", "price", "category", "words"]
    model = train(table, settings={"data.columns": columns})
    assert {feature.name: feature.type for feature in model.features} == {
        "title": "text", "text": "text", "price": "number", "category": "category", "words": "tokens",
    }  # fmt: skip
    row = {name: table[0][name] for name in columns}
    before = model.predict([row])["probability"][0]
    others = {"title": "awful", "text": "weak dull", "price": 49.5, "category": "game", "words": ["weak"]}
    for name in columns:
        assert model.predict([{**row, name: others[name]}])["probability"][0] != before, name
    assert model.predict([{**row, "label": "anything"}])["probability"][0] == before


def test_a_learnable_table_is_learnt(models: dict[str, Any]) -> None:
    assert models["classify"].run["metrics"]["test"]["accuracy"] == 1.0


def test_joined_columns_are_predicted_from_their_parts() -> None:
    model = train(rows(40), settings={"data.join": {"both": ["title", "text"]}, "data.columns": ["both"]})
    assert model.input_columns == ["title", "text"]
    apart = model.predict([{"title": "superb", "text": "fine thing"}])
    assert apart["probability"].to_list() == model.predict("superb fine thing")["probability"].to_list()


def test_a_shared_encoder_has_one_stack() -> None:
    shared, own = (train(rows(40), settings={**INPUTS, "encoder.shared": shared}) for shared in (True, False))
    assert list(shared.network.encoders) == ["shared"]
    assert len(own.network.encoders) == 2
    assert shared.network.parameter_count < own.network.parameter_count


def test_word_vectors_start_the_embedding(tmp_path: Path) -> None:
    file = tmp_path / "vectors.txt"
    file.write_text("superb 1 2 3\nawful -1 0 1\nabsent 0 0 1\n")
    lines: list[str] = []
    frozen = {"text.vectors": str(file), "optimizer.learning_rate": 1e-12, "optimizer.weight_decay": 0.0, "data.columns": ["text"]}
    model = train(rows(40), settings=frozen, show=lines.append)
    feature, module = model.features[0], model.network.embedding_of("text")
    assert model.settings.embedding.size == module.output_size == 3
    vector = module.embedding.weight[feature.tokenizer.tokens.index("superb")]
    torch.testing.assert_close(vector.detach(), torch.tensor([1.0, 2.0, 3.0]), rtol=0, atol=1e-6)  # a rate of 1e-12 moves nothing more
    assert any("word vectors for" in line for line in lines)


@pytest.mark.parametrize("shares", [(0.0, 0.1), (0.1, 0.0), (0.0, 0.0)])
def test_without_validation_or_test_part(shares: tuple[float, float], tmp_path: Path) -> None:
    settings = {**INPUTS, "data.validation_share": shares[0], "data.test_share": shares[1], "evaluation.baselines": True}
    model = train(rows(40), output=tmp_path / "model", settings=settings)
    held_out = {name for name, share in zip(("validation", "test"), shares, strict=True) if share}
    assert model.run["metrics"].keys() == (held_out or {"train"})
    assert model.run["training"]["monitor"] == ("accuracy" if shares[0] else "train_loss")
    assert bool(model.run["baselines"]) == bool(held_out)


def test_a_monitor_that_is_not_measured_is_refused() -> None:
    with pytest.raises(SettingsError, match="needs a validation part"):
        train(rows(40), settings={**INPUTS, "data.validation_share": 0.0, "training.monitor": "accuracy"})
    with pytest.raises(SettingsError, match=r"not a metric for this task. Known for this task: accuracy"):
        train(rows(40), settings={**INPUTS, "training.monitor": "rmse"})


def test_given_validation_and_test_files_are_used(tmp_path: Path) -> None:
    validation, test = csv(tmp_path / "validation.csv", rows(10, seed=1)), csv(tmp_path / "test.csv", rows(14, seed=2))
    model = train(csv(tmp_path / "train.csv", rows(40)), validation=validation, test=test, settings=INPUTS)
    assert model.run["data"]["rows"] == {"train": 40, "validation": 10, "test": 14}
    own = {name: value for name, value in model.evaluate(test).items() if name != "rows"}
    assert {name: model.run["metrics"]["test"][name] for name in own} == own


@pytest.mark.parametrize(
    ("cell", "pooling"),
    [
        *((cell, pooling) for cell in ("elman", "elman_relu", "lstm", "gru") for pooling in ("last", "mean", "max", "attention")),
        *((cell, "max") for cell in ("layernorm_lstm", "layernorm_gru", "gru_reset_before", "peephole_lstm", "slstm")),
    ],
)
def test_every_cell_with_every_pooling(cell: str, pooling: str) -> None:
    model = train(
        rows(24),
        settings={"data.columns": ["text"], "training.epochs": 1, "encoder.cell": cell, "encoder.pooling": pooling, "encoder.layers": 2},
    )
    table = model.predict([row["text"] for row in rows(5)])
    assert table["probability"].is_between(0.5, 1.0).all()
    assert all(parameter.isfinite().all() for parameter in model.network.parameters())


@pytest.mark.parametrize("part", ["validation", "test"])
def test_a_given_part_of_which_nothing_can_be_used_is_refused(part: str, tmp_path: Path) -> None:
    """It would be passed over in silence: another part, or the training loss, would say which weights are kept and how good they are."""
    unlabelled = [{**row, "label": None} for row in rows(4)]
    with pytest.raises(EmptyData, match=f"No row of the given {part} table"):
        train(rows(40), output=tmp_path / "model", **{part: unlabelled})
    unknown = [{**row, "label": "other"} for row in rows(4)]
    with pytest.raises(EmptyData, match=f"No row of the given {part} table"):
        train(rows(40), output=tmp_path / "model", settings={"data.on_error": "skip"}, **{part: unknown})
    assert not (tmp_path / "model").exists()


def test_steps_that_are_few_are_counted_as_they_are_made() -> None:
    said: list[str] = []
    settings = {**SMALL, **INPUTS, "training.accumulate": 100, "training.epochs": 3}
    model = recurra.train(rows(40), target="label", settings=settings, show=said.append)
    assert model.run["training"]["steps"] == 3
    assert any("3 steps in all are few" in line for line in said)


def test_nothing_is_kept_without_an_output(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    model = train(rows(24))
    assert list(tmp_path.iterdir()) == []
    assert model.predict([rows(1)[0]]).height == 1


def test_one_seed_makes_one_model() -> None:
    first, again, other = (train(rows(40), settings={"training.seed": seed}) for seed in (3, 3, 4))
    assert_same_weights(first, again)
    assert any(
        not torch.equal(first.network.state_dict()[name], tensor)
        for name, tensor in weights(other).items()
        if tensor.shape in {t.shape for t in weights(first).values()}
    )


def test_a_plan_says_what_will_happen() -> None:
    lines: list[str] = []
    told = plan(rows(40), settings={**SMALL, **INPUTS, "target": "label"}, show=lines.append)
    model = train(rows(40), settings=INPUTS)
    assert told["parameters"] == model.network.parameter_count
    assert told["rows"] == model.run["data"]["rows"]
    assert told["task"] == "classify"
    assert told["settings"]["encoder"]["hidden_size"] == 4
    assert any("hidden_size: 4" in line for line in lines)


# --- output folders and interruptions ------------------------------------------------------------------------------


class Interrupt:
    """Sends SIGINT to this process when batches have been handed out so many times, in training or validation."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, moment: int) -> None:
        self.left = moment
        original = Loader.__iter__

        def handing_out(loader: Loader) -> Any:
            for batch in original(loader):
                self.left -= 1
                if self.left == 0:
                    os.kill(os.getpid(), signal.SIGINT)
                yield batch

        monkeypatch.setattr(Loader, "__iter__", handing_out)


NOISY = {
    "data.columns": ["text", "price"],
    "training.epochs": 3,
    "encoder.zoneout": 0.1,
    "augmentation.word_dropout": 0.1,
    "training.average": 0.5,
    "training.gradient_flow_batches": 1,
}
"""Settings with all kinds of randomness and state in the course of the training."""


@pytest.mark.parametrize("moment", [1, 4, 9])
def test_interrupted_and_resumed_equals_uninterrupted(moment: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three training batches and a validation batch an epoch: moments in the first epoch, at its end, and in the third."""
    file = csv(tmp_path / "a.csv", rows(50))
    whole = train(file, settings=NOISY)
    with monkeypatch.context() as patch:
        Interrupt(patch, moment)
        with pytest.raises(TrainingInterrupted, match=r"--resume"):
            train(file, output=tmp_path / "model", settings=NOISY)
    assert not (tmp_path / "model" / "model.json").exists()
    with pytest.raises(OutputExists, match="interrupted training: go on with --resume, or start anew with --overwrite"):
        train(file, output=tmp_path / "model", settings=NOISY)
    resumed = train(file, output=tmp_path / "model", settings=NOISY, resume=True)
    assert_same_weights(whole, resumed)
    assert whole.run["metrics"] == resumed.run["metrics"]
    assert_same_weights(recurra.load(tmp_path / "model"), resumed)


def test_resuming_with_other_data_or_settings_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        Interrupt(patch, 2)
        with pytest.raises(TrainingInterrupted):
            train(rows(40), output=tmp_path / "model")
    with pytest.raises(OutputExists, match="started on other data: give the same data, or start anew with --overwrite"):
        train(rows(42), output=tmp_path / "model", resume=True)
    with pytest.raises(SettingsError, match=r"encoder\.cell \(was 'lstm', is 'gru'\)"):
        train(rows(40), output=tmp_path / "model", settings={"encoder.cell": "gru"}, resume=True)
    for option in ("resume", "overwrite"):
        with pytest.raises(SettingsError, match=f"{option} .* an output folder: name it"):
            train(rows(40), **{option: True})
    train(rows(42), output=tmp_path / "model", overwrite=True)
    assert recurra.load(tmp_path / "model").run["data"]["rows"]["train"] == 34


def test_a_model_is_replaced_only_when_told(tmp_path: Path) -> None:
    output = tmp_path / "model"
    train(rows(24), output=output)
    with pytest.raises(OutputExists, match=r"holds a model already.*--overwrite"):
        train(rows(24), output=output)
    with pytest.raises(OutputExists, match="nothing to go on with"):
        train(rows(24), output=output, resume=True)
    train(rows(26), output=output, overwrite=True)
    assert recurra.load(output).run["data"]["rows"]["train"] == 20


def test_wrong_data_leave_the_old_model_alone(tmp_path: Path) -> None:
    output = tmp_path / "model"
    train(rows(24), output=output)
    before = {path.name: path.read_bytes() for path in output.iterdir() if path.is_file()}
    with pytest.raises(recurra.RecurraError, match="lable"):
        train(rows(24), "lable", output=output, overwrite=True)
    assert {path.name: path.read_bytes() for path in output.iterdir() if path.is_file()} == before


def test_outputs_that_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "things").mkdir()
    (tmp_path / "things" / "thesis.txt").write_text("x")
    for output, message in (("file", "is a file"), ("file/model", "is a file"), ("things", "holds other things")):
        with pytest.raises(OutputExists, match=message):
            train(rows(24), output=tmp_path / output)
    with pytest.raises(OutputExists, match="no interrupted training"):
        train(rows(24), output=tmp_path / "nothing", resume=True)
    assert not (tmp_path / "nothing").exists()


def test_a_training_that_never_began_blocks_nothing(tmp_path: Path) -> None:
    with pytest.raises(SettingsError):
        train(rows(24), output=tmp_path / "model", settings={**INPUTS, "data.validation_share": 0.0, "training.monitor": "accuracy"})
    train(rows(24), output=tmp_path / "model")
    assert (tmp_path / "model" / "model.json").is_file()


def test_an_interrupted_command_resumes_to_the_same_weights(tmp_path: Path) -> None:
    """Ctrl-C in another process, in the middle of an epoch."""
    file = csv(tmp_path / "a.csv", rows(50))
    settings = {**SMALL, **NOISY, "training.epochs": 400, "training.patience": 0}
    (tmp_path / "settings.yaml").write_text(json.dumps({"target": "label", **settings}))
    arguments = [
        sys.executable,
        "-m",
        "recurra",
        "train",
        str(file),
        "--settings",
        str(tmp_path / "settings.yaml"),
        "--output",
        str(tmp_path / "model"),
    ]
    with subprocess.Popen(arguments, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if line.startswith("epoch   2"):
                process.send_signal(signal.SIGINT)
                break
        rest = process.stderr.read()
    assert process.returncode == 130, rest
    assert "interrupted: Training was stopped by SIGINT after step" in rest
    assert "--resume" in rest
    state = torch.load(tmp_path / "model" / "training" / "checkpoints" / "last.pt", weights_only=True)
    epochs = state["course"]["epoch"] + 2
    # The schedule depends on the number of epochs, which is why both runs get the same and patience ends them.
    short = {**settings, "training.patience": epochs}
    resumed = recurra.train(file, target="label", output=tmp_path / "model", settings=short, resume=True)
    assert resumed.run["training"]["epochs"] >= epochs
    assert_same_weights(recurra.train(file, target="label", settings=short), resumed)


def test_a_full_disk_is_told(tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    mount = shutil.which("mount")
    if (
        mount is None
        or os.geteuid() != 0
        or subprocess.run([mount, "-t", "tmpfs", "-o", "size=64k", "tmpfs", small], capture_output=True, check=False).returncode
    ):
        pytest.skip("mounting a small tmpfs needs the command mount and the rights of root")
    try:
        with pytest.raises(recurra.RecurraError, match=r"(?i)the disk is full.*small|no space left.*small|small.*no space left"):
            train(rows(40), output=small / "model", settings={"embedding.size": 256})
        assert not (small / "model" / "model.json").exists()
    finally:
        subprocess.run(["umount", small], check=True)


def test_a_test_file_without_the_training_files_own_columns(tmp_path: Path) -> None:
    """Only target and inputs are needed in every table; the report too must ask for nothing else."""
    training = [{"id": f"i{n}", **row} for n, row in enumerate(rows(40))]
    other = [{name: value for name, value in row.items() if name != "id"} for row in rows(16)]
    model = train(training, test=other, output=tmp_path / "model", settings={**INPUTS, "data.types": {"id": "ignore"}})
    assert model.run["metrics"]["test"]["rows"] == 16
    assert (tmp_path / "model" / "report.html").is_file()


def test_a_folder_with_a_training_folder_of_its_own_is_not_ours(tmp_path: Path) -> None:
    (tmp_path / "training").mkdir()
    (tmp_path / "training" / "train.csv").write_text("text,label\na,b\n")
    (tmp_path / "README.md").write_text("mine")
    for overwrite in (False, True):
        with pytest.raises(OutputExists, match="other things than a model"):
            train(rows(40), output=tmp_path, settings=INPUTS, overwrite=overwrite)
    assert (tmp_path / "README.md").read_text() == "mine"
    assert (tmp_path / "training" / "train.csv").is_file()


def test_the_group_column_is_asked_of_the_split_table_only(tmp_path: Path) -> None:
    grouped = [{"customer": f"c{n % 8}", **row} for n, row in enumerate(rows(48))]
    model = train(grouped, test=rows(16), settings={**INPUTS, "data.group": "customer", "data.validation_share": 0.25})
    assert model.run["data"]["rows"]["test"] == 16


def test_training_and_loading_leave_the_callers_random_numbers_alone(tmp_path: Path) -> None:
    torch.manual_seed(0)
    expected = [torch.rand(1), torch.rand(1), torch.rand(1)]
    torch.manual_seed(0)
    got = [torch.rand(1)]
    train(rows(40), output=tmp_path / "model", settings=INPUTS)
    got.append(torch.rand(1))
    load(tmp_path / "model")
    got.append(torch.rand(1))
    assert got == expected


def test_several_processes_need_an_output_folder() -> None:
    with pytest.raises(SettingsError, match="name it"):
        train(rows(40), settings={**INPUTS, "training.devices": 2})
