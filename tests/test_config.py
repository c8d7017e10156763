"""Settings: one home of defaults, nothing accepted that is not there."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from recurra.config import Settings, load_settings, parse_assignment
from recurra.errors import SettingsError


def test_later_sources_replace_earlier_ones_key_by_key(tmp_path: Path) -> None:
    file = tmp_path / "settings.yaml"
    file.write_text("encoder:\n  cell: gru\n  hidden_size: 32\n")
    settings = load_settings(file, {"encoder.hidden_size": 64}, {"training": {"epochs": 2}}, None)
    assert (settings.encoder.cell, settings.encoder.hidden_size, settings.training.epochs) == ("gru", 64, 2)
    assert settings.encoder.layers == Settings().encoder.layers


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
        ({"encoder.cell": "lstn"}, "'elman', 'elman_relu', 'lstm' or 'gru'"),
        ({"encoder.hidden_size": 0}, "greater than or equal to 1"),
        ({"encoder.hidden_size": "many"}, "valid integer"),
        ({"data.test_share": 0.95}, "leave no rows to train on"),
        ({"data": {"group": "a", "time": "b"}}, "cannot both decide the split"),
        ({"head.class_weights": {"spam": -1}}, "greater than 0"),
    ],
)
def test_wrong_settings_are_refused_with_advice(given: dict[str, object], message: str) -> None:
    with pytest.raises(SettingsError, match=message.replace("(", r"\(")):
        load_settings(given)


@pytest.mark.parametrize(
    ("text", "key", "value"),
    [
        ("optimizer.learning_rate=1e-3", "optimizer.learning_rate", 0.001),
        ("encoder.bidirectional=false", "encoder.bidirectional", False),
        ("data.ignore_labels=[a, b]", "data.ignore_labels", ["a", "b"]),
        ("target=a=b", "target", "a=b"),
    ],
)
def test_assignments_are_read_as_yaml(text: str, key: str, value: object) -> None:
    assert parse_assignment(text) == (key, value)


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
