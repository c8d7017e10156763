"""A trained model in use: predict, evaluate, save, load, share."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

import recurra
from jobs import ENVIRONMENT, csv, rows, train
from recurra.errors import DataError, EmptyData, MissingColumn, ModelFolderError, OutputExists, RowError, SettingsError

GOLDEN = Path(__file__).parent.parent / "golden"
TASKS = ["classify", "labels", "regress"]


@pytest.mark.parametrize("task", TASKS)
def test_saved_and_loaded_predicts_the_same_bits(task: str, models: dict[str, Any], tmp_path: Path) -> None:
    model = models[task]
    again = recurra.load(model.save(tmp_path / "model"))
    assert again.predict(rows(30, seed=3)).equals(model.predict(rows(30, seed=3)))
    assert again.run == model.run
    assert again.settings == model.settings
    assert repr(again) == repr(model)
    twice = recurra.load(again.save(tmp_path / "again"))
    assert (tmp_path / "again" / "model.json").read_bytes() == (tmp_path / "model" / "model.json").read_bytes()
    assert twice.predict(rows(5)).equals(model.predict(rows(5)))


@pytest.mark.parametrize("task", TASKS)
def test_a_batch_predicts_as_its_single_rows_in_any_order(task: str, models: dict[str, Any]) -> None:
    model, table = models[task], rows(12, seed=3)
    together = outputs(model, table)
    # Other neighbours, other padding: the same sums in another order, some ten rounding errors of float32 times the values' size.
    bound = 1e-6 * max(1.0, float(np.abs(together).max()))
    for row in range(12):
        np.testing.assert_allclose(outputs(model, [table[row]])[0], together[row], rtol=0, atol=bound)
    np.testing.assert_allclose(outputs(model, table[::-1]), together[::-1], rtol=0, atol=bound)


def outputs(model: Any, table: list[dict[str, Any]]) -> np.ndarray:
    frame = model.predict(table, top=None if model.head.task == "regress" else 99)
    if model.head.task == "regress":
        return frame["value"].to_numpy()
    ordered = [[p for _, p in sorted(zip(*row, strict=True))] for row in frame.select("top_labels", "top_probabilities").iter_rows()]
    return np.array(ordered)


def test_chunks_predict_as_one_go_and_keep_the_order(models: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, file = models["labels"], csv(tmp_path / "a.csv", rows(50, seed=4))
    whole = model.predict(file)
    monkeypatch.setattr("recurra.model.model.CHUNK", 7)
    parts = list(model.predict_chunks(file))
    assert [len(part.inputs) for part in parts] == [7] * 7 + [1]
    assert pl.concat([part.inputs for part in parts])["title"].to_list() == [row["title"] for row in rows(50, seed=4)]
    joined = pl.concat([part.outputs for part in parts])
    assert joined["labels"].to_list() == whole["labels"].to_list()
    for one, other in zip(joined["probabilities"], whole["probabilities"], strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-6)


def test_a_stranger_process_predicts_the_same(models: dict[str, Any], folder: Path, tmp_path: Path) -> None:
    """Another process, another working folder, only the folder's files."""
    moved = shutil.copytree(folder, tmp_path / "a copy with blanks")
    program = f"import recurra, json; print(json.dumps(recurra.load({str(moved)!r}).predict(['superb fine', 'dull', '']).to_dicts()))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=tmp_path, env=ENVIRONMENT)
    assert json.loads(done.stdout) == models["classify"].predict(["superb fine", "dull", ""]).to_dicts()


def test_what_can_be_predicted(models: dict[str, Any], tmp_path: Path) -> None:
    model = models["classify"]
    expected = model.predict("superb fine")["probability"][0]
    file = tmp_path / "a.jsonl"
    file.write_text('{"text": "superb fine"}\n')
    frame = pl.DataFrame({"text": ["superb fine"]})
    for data in (
        ["superb fine"],
        ("superb fine",),
        np.array(["superb fine"]),
        pl.Series(["superb fine"]),
        frame.to_pandas()["text"],
        {"text": "superb fine"},
        [{"text": "superb fine", "other": 3}],
        frame,
        frame.lazy(),
        frame.to_pandas(),
        str(file),
        file,
        [str(file)],
    ):
        assert model.predict(data)["probability"].to_list() == [expected]
    assert model.predict(["superb fine", "dull"])["label"].to_list() == ["pos", "neg"]
    missing = model.predict({"text": [None, "dull"]})
    for texts in (
        [None, "dull"],
        pl.Series([None, "dull"]),
        pl.Series([None, "dull"]).to_pandas(),
        np.array([np.nan, "dull"], dtype=object),
    ):
        assert model.predict(texts).equals(missing)
    top = model.predict("superb", top=2)
    assert top["top_labels"].to_list() == [["pos", "neg"]]
    assert sum(top["top_probabilities"][0]) == pytest.approx(1.0, rel=1e-12)


@pytest.mark.parametrize(
    "text",
    ["", " ", "\x00", "🙂", "\ud800", "superb\nfine", "a" * 3_000, "see http://a.b/c.csv now", "x.csv y", "?", "word " * 5_000, "[a-z"],
)
def test_any_text_can_be_predicted(text: str, models: dict[str, Any]) -> None:
    assert models["classify"].predict(text)["probability"].is_between(0.5, 1.0).all()


def test_a_text_of_ten_megabytes(models: dict[str, Any]) -> None:
    table = models["classify"].predict(["superb " * 1_400_000, "x" * 10_000_000, "fine"])
    assert table["label"].to_list()[::2] == ["pos", "pos"]


def test_missing_values_and_unseen_categories_are_no_problem(models: dict[str, Any]) -> None:
    row = {"title": None, "text": None, "price": None, "category": "opera"}
    assert models["labels"].predict([row]).height == 1
    assert models["regress"].predict([row])["value"].is_finite().all()


WRONG: dict[str, tuple[str, Any, dict[str, Any], type[Exception], str]] = {
    "a missing file": ("classify", "nothing.csv", {}, DataError, "no file 'nothing.csv'"),
    "a text for several columns": ("labels", "superb", {}, MissingColumn, "reads the columns title, text, category, price"),
    "a missing column": ("labels", [{"title": "a", "txt": "b", "price": 1, "category": "film"}], {}, MissingColumn, "no column 'text'.*Did you mean 'txt'"),
    "a word as a number": ("labels", [{"title": "a", "text": "b", "price": "many", "category": "film"}], {}, RowError, "'many' in column 'price'.*--on-error skip"),
    "top of a number": ("regress", rows(1), {"top": 2}, SettingsError, "predicts a number"),
    "top of nothing": ("classify", "a", {"top": 0}, SettingsError, "1 or more"),
    "top of a part": ("classify", "a", {"top": 1.5}, SettingsError, "a whole number"),
    "no rows": ("classify", [], {}, EmptyData, "empty"),
    "a number": ("classify", 3, {}, DataError, "cannot be made of int"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_what_cannot_be_predicted_is_refused_with_advice(name: str, models: dict[str, Any]) -> None:
    task, data, options, error, message = WRONG[name]
    with pytest.raises(error, match=f"(?s){message}"):
        models[task].predict(data, **options)


def test_bad_rows_are_told_once_each_and_the_others_predicted(
    models: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("recurra.model.model.CHUNK", 4)
    file = csv(tmp_path / "a.csv", rows(10), ["title", "text", "price", "category"])
    lines = file.read_text().splitlines()
    lines[3] = "a,b,many,film"
    lines.insert(7, "only,two")
    lines.append("caf,\udce9,1,film")
    file.write_bytes("\n".join(lines).encode(errors="surrogateescape"))
    with pytest.raises(RowError, match=r"a\.csv:8: the row has 2 fields"):
        models["labels"].predict(file)
    parts = list(models["labels"].predict_chunks(file, on_error="skip"))
    assert sum(len(part.outputs) for part in parts) == 9
    assert sorted((bad.line, Path(bad.source).name) for part in parts for bad in part.bad_rows) == [
        (4, "a.csv"),
        (8, "a.csv"),
        (13, "a.csv"),
    ]
    assert models["labels"].predict(file, on_error="skip").height == 9


def test_finding_lines_of_bad_rows_does_not_take_over(models: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each line found means reading the file up to there: only the first are, the others are told by number of row."""
    from recurra.data.table import Table

    looked_up: list[int] = []
    original = Table.place
    monkeypatch.setattr(Table, "place", lambda table, row: looked_up.append(row) or original(table, row))
    table = [{**row, "price": "many"} for row in rows(60)]
    file = csv(tmp_path / "a.csv", table, ["title", "text", "price", "category"])
    parts = list(models["labels"].predict_chunks(file, on_error="skip"))
    bad = [bad for part in parts for bad in part.bad_rows]
    assert len(bad) == 60
    assert len(looked_up) == 20
    assert (bad[0].source, bad[0].line) == (str(file), 2)
    assert (bad[59].source, bad[59].line) == (f"{file}, row", 60)


def test_numbers_beyond_use_are_refused_and_large_ones_are_not(models: dict[str, Any]) -> None:
    row = {"title": "a", "text": "b", "category": "film"}
    assert models["regress"].predict([{**row, "price": 1e29}])["value"].is_finite().all()
    for price in (1e31, float("inf"), -1e300):
        with pytest.raises(RowError, match="is not a number between -1e30 and 1e30"):
            models["regress"].predict([{**row, "price": price}])


# --- evaluation ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("task", "main"), [("classify", "accuracy"), ("labels", "micro_f1"), ("regress", "rmse")])
def test_evaluation_is_flat_with_intervals(task: str, main: str, models: dict[str, Any]) -> None:
    metrics = models[task].evaluate(rows(30, seed=5))
    assert metrics[f"{main}_low"] <= metrics[main] <= metrics[f"{main}_high"]
    assert metrics["rows"] == 30
    assert all(isinstance(value, (int, float)) for value in metrics.values())
    assert json.loads(json.dumps(metrics, allow_nan=False)) == metrics


def test_evaluation_agrees_with_prediction(models: dict[str, Any]) -> None:
    table = [{**row, "label": "neg" if number % 3 == 0 else row["label"]} for number, row in enumerate(rows(30, seed=5))]
    right = models["classify"].predict(table)["label"] == pl.Series([row["label"] for row in table])
    assert models["classify"].evaluate(table)["accuracy"] == pytest.approx(right.mean(), rel=1e-12)


@pytest.mark.parametrize("data", ["superb", ["superb", "dull"], ("superb",)])
def test_texts_have_no_target_to_measure(data: Any, models: dict[str, Any]) -> None:
    with pytest.raises(DataError, match="There is no file 'superb'"):
        models["classify"].evaluate(data)


def test_rows_without_target_and_unknown_labels(models: dict[str, Any], tmp_path: Path) -> None:
    table = [{**row, "label": {3: "", 5: "poss", 6: "other"}.get(number, row["label"])} for number, row in enumerate(rows(12))]
    file = csv(tmp_path / "a.csv", table, ["text", "label"])
    with pytest.raises(
        RowError, match=r"a\.csv:7: 'poss' in column 'label' is none of the 2 labels.*Did you mean 'pos'.*--on-error skip"
    ) as error:
        models["classify"].evaluate(file)
    assert (error.value.source, error.value.line) == (str(file), 7)
    metrics = models["classify"].evaluate(file, on_error="skip")
    assert (metrics["rows"], metrics["rows_without_target"], metrics["rows_left_out"]) == (9, 1, 2)
    with pytest.raises(EmptyData, match="nothing to measure"):
        models["classify"].evaluate([{"text": "a", "label": None}])
    with pytest.raises(MissingColumn, match="no column 'label'"):
        models["classify"].evaluate([{"text": "a"}])


# --- folders -------------------------------------------------------------------------------------------------------


def test_saving_over_something_needs_to_be_told(models: dict[str, Any], folder: Path, tmp_path: Path) -> None:
    with pytest.raises(OutputExists, match="choose another folder or set overwrite"):
        models["classify"].save(folder)
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputExists):
        models["classify"].save(tmp_path / "file")
    (tmp_path / "empty").mkdir()
    assert models["classify"].save(tmp_path / "empty") == tmp_path / "empty"


def test_a_folder_is_enough_without_report_run_and_card(models: dict[str, Any], folder: Path, tmp_path: Path) -> None:
    bare = shutil.copytree(folder, tmp_path / "bare")
    (bare / "run.json").unlink()
    (bare / "README.md").unlink()
    (bare / "README.md").write_bytes(b"our notes, in an old caf\xe9")
    model = recurra.load(bare)
    assert model.run == {}
    assert model.flat_metrics() == {}
    assert model.predict(rows(3)).equals(models["classify"].predict(rows(3)))


def test_the_card_says_how_to_use_the_model(folder: Path) -> None:
    card = (folder / "README.md").read_text()
    assert card.startswith("---\nlibrary_name: recurra\n")
    assert "| text | text |" in card
    assert "recurra.load(" in card
    assert "| accuracy |" in card


def edit(name: str, change: Any) -> Any:
    return lambda path: (path / name).write_bytes(change((path / name).read_bytes()))


DAMAGE = {
    "truncated weights": (edit("weights.safetensors", lambda b: b[:300]), "truncated or was altered"),
    "no weights": (lambda path: (path / "weights.safetensors").unlink(), "incomplete: copy it again"),
    "truncated model": (edit("model.json", lambda b: b[:300]), "not JSON"),
    "an altered setting": (edit("model.json", lambda b: b.replace(b'"lstm"', b'"gru"')), "altered after it was written"),
    "a newer format": (edit("model.json", lambda b: b.replace(b'"format": 1', b'"format": 2')), "pip install --upgrade recurra"),
    "a format that is no number": (edit("model.json", lambda b: b.replace(b'"format": 1', b'"format": "x"')), "format 'x'"),
    "no model": (lambda path: (path / "model.json").unlink(), "not a model folder"),
    "a list": (edit("model.json", lambda _: b"[]"), "must hold a JSON object"),
    "bytes": (edit("model.json", lambda _: b"\xff\x00"), "not JSON"),
    "empty weights": (edit("weights.safetensors", lambda _: b""), "0 bytes"),
    "damaged run": (edit("run.json", lambda b: b[:10]), "not JSON"),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_damaged_folders_are_refused(name: str, folder: Path, tmp_path: Path) -> None:
    damage, message = DAMAGE[name]
    path = shutil.copytree(folder, tmp_path / "model")
    damage(path)
    with pytest.raises(ModelFolderError, match=message) as error:
        recurra.load(path)
    assert str(path) in str(error.value)


def test_no_folder_at_all(tmp_path: Path) -> None:
    with pytest.raises(ModelFolderError, match=r"There is no model folder.*recurra train"):
        recurra.load(tmp_path / "nothing")


def test_settings_of_another_kind_are_refused(folder: Path, tmp_path: Path) -> None:
    """A folder whose hashes fit and whose content this version does not know, as a later version of format 1 might write."""
    from recurra.model.folder import Contents, read_folder, write_folder

    contents = read_folder(folder)
    unknown = {**contents.model, "settings": {**contents.model["settings"], "encoder": {"cell": "mogrifier"}}}
    write_folder(tmp_path / "a", Contents(contents.weights, unknown, {}, ""))
    with pytest.raises(ModelFolderError, match=r"cannot be understood.*mogrifier"):
        recurra.load(tmp_path / "a")
    write_folder(tmp_path / "b", Contents({**contents.weights, "more": torch.ones(1)}, contents.model, {}, ""))
    with pytest.raises(ModelFolderError, match="do not fit its settings"):
        recurra.load(tmp_path / "b")


GOLDEN_FOLDERS = sorted(path.parent for path in GOLDEN.glob("*/expected.json"))


def test_there_is_a_golden_folder_of_each_task_and_format() -> None:
    """Labels and numbers are written by the model that classes are written by, which may have a linear model beside it."""
    from recurra.model.folder import FORMAT
    from recurra.model.load import MODELS

    tasks = MODELS.keys() - {"labels", "regress"} | {"linear"}
    wanted = {f"{task}-{number}" for task in tasks for number in range(1, FORMAT + 1)}
    assert {path.name for path in GOLDEN_FOLDERS} == wanted


@pytest.mark.parametrize("path", GOLDEN_FOLDERS, ids=lambda path: path.name)
def test_old_folders_predict_and_measure_as_they_did(path: Path) -> None:
    """Written by `tests/golden/make.py` when the format was new, and never again.

    Other versions of torch may add in another order: 1e-5 is far below any change of the format.
    """
    model = recurra.load(path)
    expected = json.loads((path / "expected.json").read_text())
    if "metrics" in expected:
        found = model.evaluate(expected["data"])
        assert found == pytest.approx(expected["metrics"], rel=1e-5, abs=1e-5, nan_ok=True)
        return
    found = model.predict(expected["rows"])  # type: ignore[attr-defined]
    assert found["label"].to_list() == expected["labels"]
    np.testing.assert_allclose(found["probability"], expected["probabilities"], rtol=0, atol=1e-5)
    assert model.run["metrics"]["test"]["accuracy"] == expected["accuracy"]


# --- the hub -------------------------------------------------------------------------------------------------------


class Hub:
    """Stands in for the Hugging Face hub: a folder on disk behind the functions of huggingface_hub that are used."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.calls: list[tuple[str, Any]] = []

    def api(self, token: str | None = None) -> Any:
        self.calls.append(("token", token))
        return SimpleNamespace(create_repo=self.create_repo, upload_folder=self.upload_folder)

    def create_repo(self, repository: str, *, private: bool, exist_ok: bool) -> None:
        self.calls.append(("create", (repository, private, exist_ok)))

    def upload_folder(self, *, repo_id: str, folder_path: str, commit_message: str) -> Any:
        assert commit_message
        shutil.copytree(folder_path, self.root / repo_id)
        return SimpleNamespace(commit_url=f"https://huggingface.co/{repo_id}/commit/1")

    def snapshot_download(self, repository: str) -> str:
        if not (self.root / repository).exists():
            raise OSError(f"404: {repository}\nmore lines")
        return str(self.root / repository)


def test_push_and_pull(models: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub = Hub(tmp_path)
    monkeypatch.setattr("huggingface_hub.HfApi", hub.api)
    monkeypatch.setattr("huggingface_hub.snapshot_download", hub.snapshot_download)
    address = models["classify"].push_to_hub("me/reviews", private=True, token="secret")
    assert address == "https://huggingface.co/me/reviews/commit/1"
    assert hub.calls == [("token", "secret"), ("create", ("me/reviews", True, True))]
    assert recurra.load("hf://me/reviews").predict(rows(3)).equals(models["classify"].predict(rows(3)))
    with pytest.raises(ModelFolderError, match=r"hf://me/other cannot be fetched.*download the folder and give its path"):
        recurra.load("hf://me/other")


def test_a_model_without_any_text(tmp_path: Path) -> None:
    model = train(rows(40), settings={"data.columns": ["price", "category"]}, output=None)
    model.save(tmp_path / "model")
    again = recurra.load(tmp_path / "model")
    assert again.predict(rows(5)).equals(model.predict(rows(5)))
    with pytest.raises(MissingColumn, match="give rows with these"):
        model.predict("superb")
