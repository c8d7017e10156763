"""Every setting of a training that begins with a trained model does something."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import recurra
from jobs import SMALL, rows
from recurra.config import TransferSettings

COLUMNS = {"data.columns": ["title", "text"]}
CHANGES: dict[str, Any] = {
    "model": None,
    "columns": ["title"],
    "unfreezing": 0.6,
    "layer_decay": 0.5,
}
TAKEN = ("embedding.size", "embedding.character_ngrams", "embedding.token_ngrams", "encoder.hidden_size")


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Path:
    model = recurra.train(rows(seed=3), settings={**SMALL, "target": "label", "data.columns": ["text"]})
    return model.save(tmp_path_factory.mktemp("first") / "model")


def weights(path: Path, **settings: Any) -> dict[str, Any]:
    taken = {name: value for name, value in SMALL.items() if name not in TAKEN}
    model: Any = recurra.train(rows(), settings={**taken, **COLUMNS, "target": "label", "transfer.model": str(path), **settings})
    return dict(model.network.state_dict())


def test_every_setting_has_an_entry() -> None:
    assert sorted(TransferSettings.model_fields) == sorted(CHANGES)


@pytest.mark.parametrize("name", CHANGES)
def test_every_setting_matters(name: str, first: Path) -> None:
    before, after = weights(first), weights(first, **{f"transfer.{name}": CHANGES[name]})
    shared = before.keys() & after.keys()
    assert any(before[key].shape != after[key].shape or not torch.equal(before[key], after[key]) for key in shared)
