"""Settings: one home of defaults, nothing accepted that is not there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import get_args

import pytest
import yaml

from recurra.config import Settings, TrainingSettings, load_settings, parse_assignment
from recurra.config.reading import _AS_WRITTEN
from recurra.errors import SettingsError


def test_later_sources_replace_earlier_ones_key_by_key(tmp_path: Path) -> None:
    file = tmp_path / "settings.yaml"
    file.write_text("encoder:\n  cell: gru\n  hidden_size: 32\n")
    settings = load_settings(file, {"encoder.hidden_size": 64}, {"training": {"epochs": 2}}, None)
    assert (settings.encoder.cell, settings.encoder.hidden_size, settings.training.epochs) == ("gru", 64, 2)
    assert settings.encoder.layers == Settings().encoder.layers


def test_a_group_is_a_source_of_what_is_set_in_it() -> None:
    settings = load_settings({"training.epochs": 3}, {"training": TrainingSettings(patience=1)})
    assert (settings.training.epochs, settings.training.patience) == (3, 1)


def test_settings_are_their_own_source() -> None:
    settings = load_settings({"encoder.cell": "gru", "data.types": {"a": "text"}})
    assert load_settings(settings, {"encoder.layers": 2}).encoder.cell == "gru"
    assert load_settings(json.loads(json.dumps(settings.model_dump(mode="json")))) == settings


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"encoder.hiden_size": 3}, "no setting 'encoder.hiden_size'. Did you mean 'encoder.hidden_size'"),
        ({"encodr": {}}, "Did you mean 'encoder'"),
        ({"hidden_size": 3}, "Did you mean 'encoder.hidden_size'"),
        ({"encoder.cell": "lstn"}, "'elman', 'elman_relu', 'lstm', 'gru',.*'rg_lru' or 'indrnn'"),
        ({"encoder.hidden_size": 0}, "greater than or equal to 1"),
        ({"encoder.hidden_size": "many"}, "valid integer"),
        ({"data.test_share": 0.95}, "leave no rows to train on"),
        ({"data": {"group": "a", "time": "b"}}, "cannot both decide the split"),
        ({"embedding": {"start": "cooccurrence"}, "text": {"vectors": "glove.txt"}}, "text.vectors both say what vectors start from"),
        ({"embedding": {"start": "cooccurrence"}, "transfer": {"model": "runs/a"}}, "transfer.model both say what vectors start from"),
        ({"head.class_weights": {"spam": -1}}, "greater than 0"),
        ({"embedding.character_ngrams": [5, 3]}, r"embedding.character_ngrams: .*write the shortest first, \[3, 5\]"),
        ({"embedding.character_ngrams": [0, 3]}, "greater than or equal to 1"),
        ({"training.clip_norm": float("inf")}, "training.clip_norm: Input should be a finite number"),
        ({"encoder.forget_bias": float("nan")}, "encoder.forget_bias: Input should be a finite number, or .*'auto'"),
        (
            {"optimizer.learning_rate": 0},
            "^optimizer.learning_rate: Input should be greater than 0, or input should be 'auto' (given: 0).$",
        ),
        ({"head.class_weights": {"spam": "x"}}, "^head.class_weights.spam: Input should be a valid number"),
        ({"training.epochs": True}, "^training.epochs: Input should be a number (given: true)"),
        ({"optimizer.learning_rate": True}, "^optimizer.learning_rate: Input should be a number (given: true)"),
        ({"training.epochs": 3, "training": {"epochs": 4}}, "'training.epochs' is given twice"),
        ({"target": ["a", "b"], "data": 5}, "^data is a group of settings, as in data.types=...; it has no value of its own (given: 5)"),
        *(
            ({group: value}, f"^{group} is a group of settings, as in {group}.")
            for group in ("head", "transfer", "answer", "training")
            for value in (5, "abc", [1], None)
        ),
    ],
)
def test_wrong_settings_are_refused_with_advice(given: dict[str, object], message: str) -> None:
    with pytest.raises(SettingsError, match="(?m)" + message.replace("(", r"\(").replace(")", r"\)")):
        load_settings(given)


@pytest.mark.parametrize(
    ("text", "key", "value"),
    [
        ("optimizer.learning_rate=1e-3", "optimizer.learning_rate", 0.001),
        ("encoder.bidirectional=false", "encoder.bidirectional", False),
        ("data.ignore_labels=[a, b]", "data.ignore_labels", ["a", "b"]),
        ("target=a=b", "target", "a=b"),
        ("data.ignore_labels=[1, 007, 1.10, True, 2024-01-01]", "data.ignore_labels", ["1", "007", "1.10", "True", "2024-01-01"]),
        ("target=on", "target", "on"),
        ("target=true", "target", "true"),
        ("target=2024-01-01", "target", "2024-01-01"),
        ("target=1e5", "target", "1e5"),
        ("target=null", "target", None),
        ("target=", "target", None),
        ("data.group=no", "data.group", "no"),
        ("data.types.1=number", "data.types.1", "number"),
        ("data.types={2024: number, no: text}", "data.types", {"2024": "number", "no": "text"}),
        ("data.join={1: [2, 3]}", "data.join", {"1": ["2", "3"]}),
        ("head.class_weights={yes: 5, 0: 1e1}", "head.class_weights", {"yes": 5, "0": 10.0}),
        ("encoder.cell=on", "encoder.cell", "on"),
        ("encoder.hidden_size=010", "encoder.hidden_size", 10),
        ("encoder.hidden_size=0x10", "encoder.hidden_size", 16),
        ("encoder.forget_bias=-.inf", "encoder.forget_bias", float("-inf")),
    ],
)
def test_assignments_are_read_as_yaml(text: str, key: str, value: object) -> None:
    assert parse_assignment(text) == (key, value)


def test_names_and_labels_are_the_text_that_was_written(tmp_path: Path) -> None:
    file = tmp_path / "settings.yaml"
    file.write_text(
        "target: 1e5\ndata:\n  group: on\n  columns: &columns [1, 2024-01-01, off, 1.0]\n  ignore_labels: [no, 0x1]\n  types: {1: text}\n"
        "head:\n  class_weights: {yes: 5, 1: 2}\nencoder: {bidirectional: no}\n"
    )
    settings = load_settings(file)
    assert (settings.target, settings.data.group, settings.data.columns) == ("1e5", "on", ["1", "2024-01-01", "off", "1.0"])
    assert (settings.data.ignore_labels, settings.data.types) == (["no", "0x1"], {"1": "text"})
    assert settings.head.class_weights == {"yes": 5.0, "1": 2.0}
    assert settings.encoder.bidirectional is False
    file.write_text(yaml.safe_dump(settings.model_dump(mode="json")))
    assert load_settings(file) == settings


def test_names_that_python_holds_as_numbers_become_text() -> None:
    settings = load_settings({"target": 3, "data.ignore_labels": [1, 2.5, True], "data.types": {7: "text"}, "head.class_weights": {0: 2}})
    assert (settings.target, settings.data.ignore_labels, settings.data.types) == ("3", ["1", "2.5", "true"], {"7": "text"})
    assert settings.head.class_weights == {"0": 2.0}


def test_every_setting_of_free_text_is_read_as_written() -> None:
    def holds_text(annotation: object) -> bool:
        return annotation is str or any(holds_text(part) for part in get_args(annotation))

    groups = {
        name: field.annotation.model_fields for name, field in Settings.model_fields.items() if hasattr(field.annotation, "model_fields")
    }
    named = {f"{group}.{name}" for group, fields in groups.items() for name, field in fields.items() if holds_text(field.annotation)}
    assert named - {"head.class_weights", "several.weights"} | {"target"} == set(_AS_WRITTEN)  # the weights are numbers; all keys are text


@pytest.mark.parametrize(
    "content", ["encoder: {layers: 2}\nencoder: {hidden_size: 4}", "encoder: {layers: 2, layers: 3}", "target: a\n'target': b"]
)
def test_a_key_that_stands_twice_is_refused(content: str, tmp_path: Path) -> None:
    """The settings under the first one would be dropped in silence."""
    (tmp_path / "s.yaml").write_text(content)
    with pytest.raises(SettingsError, match=r"'(encoder|layers|target)' stands there a second time"):
        load_settings(tmp_path / "s.yaml")


def test_aliases_are_met_once() -> None:
    levels = ", ".join(f"&{level} [{', '.join([f'*{chr(ord(level) - 1)}'] * 9)}]" for level in "bcdefghijklmnop")
    key, value = parse_assignment(f"data.columns=[&a [1], {levels}]")  # 9 ** 15 ones, were each followed
    assert (key, value[0], len(value)) == ("data.columns", ["1"], 16)


def test_columns_named_later_are_added_to_those_of_a_file(tmp_path: Path) -> None:
    file = tmp_path / "settings.yaml"
    file.write_text("data:\n  types: {a: text, b: number}\n  join: {all: [a, b]}\nhead:\n  class_weights: {x: 2}\n")
    given = {"data.types": {"b": "category", "c": "ignore"}, "data.join": {"more": ["a"]}, "head.class_weights": {"y": 3}}
    settings = load_settings(file, given)
    assert settings.data.types == {"a": "text", "b": "category", "c": "ignore"}
    assert settings.data.join == {"all": ["a", "b"], "more": ["a"]}
    assert settings.head.class_weights == {"y": 3.0}
    assert given["data.types"] == {"b": "category", "c": "ignore"}


@pytest.mark.parametrize("text", ["encoder.hidden_size", "=3", "a=[1"])
def test_what_is_no_assignment_is_refused(text: str) -> None:
    with pytest.raises(SettingsError):
        parse_assignment(text)


@pytest.mark.parametrize(("content", "message"), [("[1, 2]", "must hold"), ("a: [", "not YAML"), (b"\xff\xfe\x00", "not YAML")])
def test_settings_files_that_are_none(tmp_path: Path, content: str | bytes, message: str) -> None:
    file = tmp_path / "settings.yaml"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(SettingsError, match=message):
        load_settings(file)
    with pytest.raises(SettingsError, match="cannot be read"):
        load_settings(tmp_path / "missing.yaml")


def test_every_setting_is_documented() -> None:
    """The JSON schema that editors get describes each group and each setting."""
    schema = Settings.model_json_schema()
    for group, definition in schema["$defs"].items():
        assert definition.get("description"), group
        for name, field in definition["properties"].items():
            assert field.get("description"), f"{group}.{name}"
