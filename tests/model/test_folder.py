"""The model folder: complete or refused, with a reason."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from recurra.errors import ModelFolderError
from recurra.model.folder import FORMAT, Contents, read_folder, write_file, write_folder

CONTENTS = Contents(
    {"a": torch.arange(6.0).reshape(2, 3).T, "b": torch.tensor([1])}, {"settings": {}, "features": ["é"]}, {"seed": 3}, "# card\n"
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_folder(tmp_path / "model", CONTENTS)
    return tmp_path / "model"


def test_what_is_written_is_read(folder: Path) -> None:
    read = read_folder(folder)
    assert read.weights.keys() == CONTENTS.weights.keys()
    assert all(torch.equal(read.weights[name], tensor) for name, tensor in CONTENTS.weights.items())
    assert read.model["features"] == ["é"]
    assert read.run == {"seed": 3}
    assert read.card == "# card\n"
    assert sorted(path.name for path in folder.iterdir()) == ["README.md", "model.json", "run.json", "weights.safetensors"]


def test_a_second_model_replaces_the_first(folder: Path) -> None:
    write_folder(folder, Contents({"c": torch.ones(1)}, {"settings": {}}, {}, ""))
    assert list(read_folder(folder).weights) == ["c"]


@pytest.mark.parametrize("name", ["model.json", "weights.safetensors"])
@pytest.mark.parametrize("damage", ["truncated", "one byte", "missing"])
def test_damage_is_noticed(folder: Path, name: str, damage: str) -> None:
    path = folder / name
    content = bytearray(path.read_bytes())
    if damage == "missing":
        path.unlink()
    elif damage == "truncated":
        path.write_bytes(content[: len(content) // 2])
    else:
        content[-20] ^= 1
        path.write_bytes(content)
    with pytest.raises(ModelFolderError, match=name.split(".", maxsplit=1)[0]):
        read_folder(folder)


def test_an_altered_setting_is_noticed(folder: Path) -> None:
    model = json.loads((folder / "model.json").read_text())
    model["features"] = ["other"]
    (folder / "model.json").write_text(json.dumps(model))
    with pytest.raises(ModelFolderError, match="altered"):
        read_folder(folder)


def test_a_newer_format_is_refused_with_the_way_out(folder: Path) -> None:
    model = json.loads((folder / "model.json").read_text())
    (folder / "model.json").write_text(json.dumps({**model, "format": FORMAT + 1}))
    with pytest.raises(ModelFolderError, match="pip install --upgrade recurra"):
        read_folder(folder)


def test_what_is_no_model_folder(tmp_path: Path) -> None:
    with pytest.raises(ModelFolderError, match="no model folder"):
        read_folder(tmp_path / "nothing")
    with pytest.raises(ModelFolderError, match="not a model folder"):
        read_folder(tmp_path)
    (tmp_path / "training").mkdir()
    with pytest.raises(ModelFolderError, match="--resume"):
        read_folder(tmp_path)


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_file(path, b"old")
    with pytest.raises(TypeError):
        write_file(path, "text")  # type: ignore[arg-type]
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]
