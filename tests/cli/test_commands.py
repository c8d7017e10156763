"""Each command's work, called in this process."""

from __future__ import annotations

import io
import json
import re
import tomllib
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml

import recurra
from jobs import SMALL, csv, rows
from recurra.cells import GRUCell, SLSTMCell
from recurra.cli import main
from recurra.cli.doctor import EXTRAS
from recurra.config import Settings
from recurra.testing import selftest

Shown = tuple[str, str]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """Runs a command in an empty folder; gives standard output, standard error, and checks the exit code."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("recurra.training.results.write_report", lambda path, report: path.write_text(report.title))

    def command(*arguments: str, code: int = 0) -> Shown:
        ended: object = 0
        try:
            main(list(arguments))
        except SystemExit as end:
            ended = end.code or 0
        shown = capsys.readouterr()
        assert ended == code, shown.err
        return shown.out, shown.err

    return command


@pytest.fixture
def table(tmp_path: Path) -> str:
    return csv(tmp_path / "reviews.csv", rows(40)).name


def small(**changes: Any) -> list[str]:
    return [part for name, value in {**SMALL, **changes}.items() for part in ("--set", f"{name}={json.dumps(value)}")]


def test_train_shows_what_it_does_on_standard_error(run: Any, table: str) -> None:
    out, err = run("train", table, "--target", "label", "--type", "topics=ignore", "--type", "stars=ignore", *small())
    assert out == ""
    for expected in (
        "columns:",
        "  price     number",
        "target: label, classify",
        "rows: 32 train, 4 validation, 4 test",
        "epoch   2",
        "test accuracy:",
        "model folder: runs/reviews",
    ):
        assert expected in err
    assert recurra.load("runs/reviews").head.name == "label"


def test_train_json_is_one_flat_object_and_nothing_else(run: Any, table: str) -> None:
    out, err = run("train", table, "--target", "label", "--output", "model", "--json", *small())
    assert err == ""
    metrics = json.loads(out)
    assert out.count("\n") == 1
    assert metrics["test.rows"] == 4
    assert all(isinstance(value, (int, float)) for value in metrics.values())
    assert metrics == recurra.load("model").flat_metrics()


def test_quiet_is_quiet(run: Any, table: str) -> None:
    assert run("train", table, "-t", "label", "-o", "model", "--quiet", *small()) == ("", "")


def test_options_are_settings(run: Any, table: str, tmp_path: Path) -> None:
    (tmp_path / "settings.yaml").write_text("encoder:\n  cell: gru\n  hidden_size: 9\ntraining:\n  seed: 5\n")
    arguments = [
        "--settings",
        "settings.yaml",
        "--join",
        "both=title+text",
        "--type",
        "price=category",
        "--group",
        "who",
        "--seed",
        "7",
        "--on-error",
        "skip",
    ]
    run("train", table, "-t", "label", "-o", "model", "-q", *arguments, *small())
    settings = recurra.load("model").settings
    assert (settings.encoder.cell, settings.encoder.hidden_size, settings.training.seed) == ("gru", 4, 7)
    assert settings.data.join == {"both": ["title", "text"]}
    assert (settings.data.types, settings.data.group, settings.data.on_error) == ({"price": "category"}, "who", "skip")


def test_several_files_and_given_parts(run: Any, tmp_path: Path) -> None:
    for number in range(3):
        csv(tmp_path / f"part{number}.csv", rows(12, seed=number))
    shown = ["-t", "label", "-q", "--type", "text=text", *small()]
    run("train", "part0.csv", "part1.csv", "--validation", "part2.csv", "--test", "part2.csv", "-o", "a", *shown)
    assert recurra.load("a").run["data"]["rows"] == {"train": 24, "validation": 12, "test": 12}
    run("train", "part*.csv", "-o", "b", *shown)
    assert sum(recurra.load("b").run["data"]["rows"].values()) == 36


def test_dry_run_shows_and_writes_nothing(run: Any, table: str, tmp_path: Path) -> None:
    out, err = run("train", table, "-t", "label", "--dry-run", *small())
    assert out == ""
    assert "hidden_size: 4" in err
    assert "parameters" in err
    out, err = run("train", table, "-t", "label", "--dry-run", "--json", *small())
    plan = json.loads(out)
    assert err == ""
    assert plan["settings"]["encoder"]["hidden_size"] == 4
    assert plan["rows"] == {"train": 32, "validation": 4, "test": 4}
    assert plan["parameters"] > 0
    assert [column["name"] for column in plan["columns"]][:2] == ["title", "text"]
    assert [path.name for path in tmp_path.iterdir()] == [table]


WRONG = {
    "missing file": (["train", "reviws.csv", "-t", "label"], "There is no file 'reviws.csv'. Did you mean 'reviews.csv'?"),
    "misspelt target": (
        ["train", "reviews.csv", "-t", "lable"],
        "There is no column 'lable' in reviews.csv. Did you mean 'label'? Its columns: title",
    ),
    "no target": (["train", "reviews.csv"], "say which column to predict with --target"),
    "unknown setting": (["train", "reviews.csv", "--set", "encoder.hiden_size=3"], "Did you mean 'encoder.hidden_size'"),
    "no setting": (["train", "reviews.csv", "--set", "hidden"], "write it as group.name=value"),
    "wrong type": (
        ["train", "reviews.csv", "-t", "label", "--type", "text=txt"],
        "'text', 'tokens', 'category', 'number' or 'ignore' (given: \"txt\")",
    ),
    "type without =": (["train", "reviews.csv", "--type", "text"], "'text' cannot be read: write --type title=text."),
    "join without =": (["train", "reviews.csv", "--join", "title+text"], "write --join text=title+description."),
    "settings file": (["train", "reviews.csv", "-s", "no.yaml"], "'no.yaml' cannot be read: No such file"),
    "output is a file": (["train", "reviews.csv", "-t", "label", "-o", "reviews.csv"], "is a file"),
    "resume and begin anew": (["train", "reviews.csv", "-t", "label", "--resume", "--overwrite"], "give one of them"),
    "resume nothing": (["train", "reviews.csv", "-t", "label", "--resume"], "holds no interrupted training: leave out --resume"),
    "no vectors": (["train", "reviews.csv", "-t", "label", "--set", "text.vectors=v.txt"], "'v.txt' cannot be read"),
    "no model": (["predict", "modl", "a"], "There is no model folder 'modl'"),
    "evaluate nothing": (["evaluate", "MODEL", "nothing.csv"], "There is no file 'nothing.csv'"),
    "evaluate without target": (["evaluate", "MODEL", "texts.csv"], "There is no column 'label' in texts.csv"),
    "predict to a sheet": (["predict", "MODEL", "a", "-o", "a.xlsx"], "written as .csv, .tsv or .jsonl, not as '.xlsx'"),
    "predict to nowhere": (["predict", "MODEL", "a", "-o", "reviews.csv/a.csv"], "cannot be written to 'reviews.csv/a.csv'"),
    "predict a missing file": (["predict", "MODEL", "nothing.csv"], "There is no file 'nothing.csv'"),
    "a misspelt option for a text": (["predict", "MODEL", "--otput", "a.csv"], "There is no option '--otput'"),
    "standard input and texts": (["predict", "MODEL", "-", "a"], "'-' reads texts from standard input, and stands alone"),
    "evaluate a text": (["evaluate", "MODEL", "text"], "There is no file 'text'"),
    "no top": (["predict", "MODEL", "a", "--top", "0"], "1 or more"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_input_ends_with_1_and_advice(name: str, run: Any, table: str, folder: Path, tmp_path: Path) -> None:
    arguments, message = WRONG[name]
    (tmp_path / "texts.csv").write_text("text\na\n")
    out, err = run(*(str(folder) if argument == "MODEL" else argument for argument in arguments), code=1)
    assert out == ""
    assert err.startswith("error: ")
    assert message in err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["reviews.csv", "texts.csv"]


def test_evaluate_shows_a_table_or_json_and_writes_a_file(run: Any, table: str, folder: Path) -> None:
    out, err = run("evaluate", str(folder), table)
    assert err == ""
    assert "accuracy" in out
    assert " to " in out
    out, _ = run("evaluate", str(folder), table, "--json", "--output", "metrics.json")
    assert json.loads(out) == json.loads(Path("metrics.json").read_text()) == recurra.load(folder).evaluate(table)
    out, _ = run("evaluate", str(folder), table, table, "--json")
    assert json.loads(out)["rows"] == 80


def test_evaluate_writes_where_it_can_and_says_where_it_cannot(run: Any, table: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out, _ = run("evaluate", str(folder), table, "--json", "--output", "new/folder/metrics.json")
    assert json.loads(out) == json.loads(Path("new/folder/metrics.json").read_text())
    out, err = run("evaluate", str(folder), table, "--output", "new", code=1)
    assert (out, err) == ("", "error: 'new' is a folder: give the name of a file.\n")
    out, err = run("evaluate", str(folder), table, "--output", f"{table}/metrics.json", code=1)
    assert out == ""
    assert err.startswith(f"error: '{table}/metrics.json' cannot be written")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("recurra.model.folder.write_file", full)
    out, err = run("evaluate", str(folder), table, "--json", "--output", "metrics.json", code=1)
    assert json.loads(out)["rows"] == 40  # measured, and not lost
    assert err.startswith("error: The metrics cannot be written to 'metrics.json': No space left on device.")


def test_dialogues_say_where_they_cannot_be_written(run: Any, table: str) -> None:
    _, err = run("dialogues", "chatterbot", "--output", f"{table}/pairs.csv", code=1)
    assert err.startswith(f"error: '{table}/pairs.csv' cannot be written")


def test_evaluate_skips_what_it_is_told_to(run: Any, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("text,label\nsuperb,pos\ndull,other\nweak,\n")
    _, err = run("evaluate", str(folder), "a.csv", code=1)
    assert err.startswith("error: a.csv:3: 'other' in column 'label'")
    out, _ = run("evaluate", str(folder), "a.csv", "--on-error", "skip", "--json")
    metrics = json.loads(out)
    assert (metrics["rows"], metrics["rows_left_out"], metrics["rows_without_target"]) == (1, 1, 1)


def test_predict_texts(run: Any, folder: Path) -> None:
    out, err = run("predict", str(folder), "superb fine", "dull, weak")
    assert err == ""
    frame = pl.read_csv(io.StringIO(out))
    assert frame.columns == ["text", "label", "probability"]
    assert frame["text"].to_list() == ["superb fine", "dull, weak"]
    assert frame["label"].to_list() == ["pos", "neg"]
    out, _ = run("predict", str(folder), "-5 degrees", "--json")
    assert json.loads(out)["text"] == "-5 degrees"
    out, _ = run("predict", str(folder), "superb", "--json", "--top", "2")
    line = json.loads(out)
    assert line["label"] == "pos"
    assert line["top_labels"] == ["pos", "neg"]


@pytest.mark.parametrize("suffix", ["csv", "tsv", "jsonl"])
def test_predict_to_a_file(suffix: str, run: Any, table: str, folder: Path) -> None:
    assert run("predict", str(folder), table, "--output", f"out/predictions.{suffix}", "-k", "1") == ("", "")
    path = Path(f"out/predictions.{suffix}")
    frame = pl.read_ndjson(path) if suffix == "jsonl" else pl.read_csv(path, separator="\t" if suffix == "tsv" else ",")
    assert frame["title"].to_list() == [row["title"] for row in rows(40)]
    assert frame.columns[-4:] == ["label", "probability", "top_labels", "top_probabilities"]
    assert "input.label" in frame.columns
    expected = recurra.load(folder).predict(table)
    assert frame["label"].to_list() == expected["label"].to_list()
    assert frame["probability"].to_list() == pytest.approx(expected["probability"].to_list(), rel=5e-6)  # six digits are written
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_what_csv_and_json_cannot_hold_is_written_as_they_can(run: Any, folder: Path) -> None:
    frame = pl.DataFrame({"text": ["superb", "dull"], "picture": [b"\xff\x00", None], "far": [float("inf"), 2.5]})
    frame.write_parquet("rows.parquet")
    out, _ = run("predict", str(folder), "rows.parquet")
    assert pl.read_csv(io.StringIO(out)).select("picture", "far").rows() == [("/wA=", float("inf")), (None, 2.5)]
    out, _ = run("predict", str(folder), "rows.parquet", "--json")
    found = [json.loads(line, parse_constant=lambda name: pytest.fail(f"{name} is no JSON")) for line in out.splitlines()]
    assert [(row["picture"], row["far"], row["label"]) for row in found] == [("/wA=", None, "pos"), (None, 2.5, "neg")]


def test_predictions_can_be_predicted_for_again(run: Any, table: str, folder: Path) -> None:
    run("predict", str(folder), table, "-o", "1.csv")
    run("predict", str(folder), "1.csv", "-o", "2.csv")
    first, second = pl.read_csv("1.csv"), pl.read_csv("2.csv")
    assert first["input.label"].to_list() == second["input.label"].to_list() == [row["label"] for row in rows(40)]
    assert first["label"].to_list() == second["label"].to_list() == second["input.input.label"].to_list()


def test_predict_from_standard_input(run: Any, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("superb\n\ndull\n"))
    out, _ = run("predict", str(folder), "-", "--json")
    assert [json.loads(line)["text"] for line in out.splitlines()] == ["superb", "", "dull"]
    for given in (["dull.csv"], ["dull.csv", "superb.json"]):  # a text a line, even where all look like names of tables
        monkeypatch.setattr("sys.stdin", io.StringIO("\n".join(given)))
        out, _ = run("predict", str(folder), "-", "--json")
        assert [json.loads(line)["text"] for line in out.splitlines()] == given
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    _, err = run("predict", str(folder), "-", code=1)
    assert "standard input" in err


def test_predict_reports_rows_left_out(run: Any, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"text,label\nsuperb,pos\ncaf\xe9,neg\na,b,c\ndull,neg\n")
    _, err = run("predict", str(folder), "a.csv", "-o", "out.csv", code=1)
    assert err.startswith("error: a.csv:3: the byte 0xe9 is not valid UTF-8")
    assert not Path("out.csv").exists()
    out, err = run("predict", str(folder), "a.csv", "--on-error", "skip")
    assert pl.read_csv(io.StringIO(out))["text"].to_list() == ["superb", "dull"]
    assert "left out: a.csv:3: the byte" in err
    assert "left out: a.csv:4: the row has 3 fields" in err
    assert "2 rows were left out." in err


def test_predict_several_labels_to_csv(run: Any, models: dict[str, Any], tmp_path: Path, table: str) -> None:
    models["labels"].save(tmp_path / "model")
    out, _ = run("predict", "model", table)
    frame = pl.read_csv(io.StringIO(out))
    expected = models["labels"].predict(table)
    assert [json.loads(labels) for labels in frame["labels"]] == expected["labels"].to_list()


def test_settings_are_printed_checked_and_described(run: Any, tmp_path: Path) -> None:
    out, err = run("settings")
    assert err == ""
    assert Settings.model_validate(yaml.safe_load(out)) == Settings()
    (tmp_path / "s.yaml").write_text("encoder: {cell: gru}\n")
    out, _ = run("settings", "s.yaml", "--set", "training.epochs=3")
    assert yaml.safe_load(out)["encoder"]["cell"] == "gru"
    assert yaml.safe_load(out)["training"]["epochs"] == 3
    out, _ = run("settings", "--schema")
    schema = json.loads(out)
    assert schema["properties"].keys() == Settings.model_fields.keys()
    assert schema["additionalProperties"] is False
    for idle in (["s.yaml"], ["--set", "training.epochs=3"]):
        _, err = run("settings", *idle, "--schema", code=1)
        assert "the same for all settings" in err
    _, err = run("settings", "--set", "encoder.cel=gru", code=1)
    assert "Did you mean 'encoder.cell'" in err


def test_doctor_tells_the_installation(run: Any) -> None:
    out, _ = run("doctor")
    assert "torch" in out
    facts = json.loads(run("doctor", "--json")[0])
    assert {"recurra", "python", "torch", "threads", "cuda", "backends", "cache", "lightning", "jieba", "mlflow"} <= facts.keys()
    assert facts["recurra"] == recurra.__version__
    assert all(isinstance(value, (str, int, bool)) for value in facts.values())


def test_doctor_tells_every_optional_package() -> None:
    extras = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    packages = [package for extra in ("demo", "chinese", "search", "triton", "ets", "wandb", "mlflow") for package in extras[extra]]
    names = {re.split(r"[>=]", package)[0].replace("chatterbot-corpus", "chatterbot_corpus") for package in packages}
    assert set(EXTRAS) == names
    assert set(extras) == {"demo", "chinese", "search", "triton", "ets", "wandb", "mlflow", "benchmark", "docs", "test", "develop"}


def test_doctor_cuts_nothing_off(run: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    folder = tmp_path / ("long" * 30) / "end"
    monkeypatch.setenv("RECURRA_CACHE", str(folder))
    out, _ = run("doctor")
    assert str(folder) in re.sub(r"\s", "", out)


def test_doctor_tests_the_kernels(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selftest, "SUBJECTS", {"gru": GRUCell, "slstm": SLSTMCell})
    out, _ = run("doctor", "--selftest")
    assert re.search(r"gru +aten +lengths, initial state", out)
    assert "OUT OF BOUNDS" not in out
    rows = json.loads(run("doctor", "--selftest", "--json")[0])["selftest"]
    assert [row["cell"] for row in rows if row["backend"] == "aten"] == ["gru"]
    assert {row["cell"] for row in rows} == {"gru", "slstm"}
    assert all(row["within"] for row in rows)
    monkeypatch.setattr(
        "recurra.kernels.gru.operator.gru_aten", lambda x, state, *_, **__: (x.new_zeros(*x.shape[:2], len(state.h.T)), state)
    )
    out, _ = run("doctor", "--selftest", code=1)
    assert "OUT OF BOUNDS" in out
    rows = json.loads(run("doctor", "--selftest", "--json", code=1)[0])["selftest"]
    assert [row["backend"] for row in rows if not row["within"]] == ["aten"]
