"""Every setting of recommendation does something: each is changed, and the training must show it."""

from __future__ import annotations

from typing import Any

import pytest

from clicks import clicks, recommender
from recurra.config import RecommendSettings
from recurra.errors import RecurraError

CHANGES: dict[str, tuple[Any, str, dict[str, Any]]] = {
    "session": ("kind", "rows", {}),
    "item": ("kind", "items", {}),
    "split": ("leave_one_out", "rows", {}),
    "window": (2, "weights", {}),
    "loss": ("top1_max", "weights", {}),
    "negatives": (3, "weights", {}),
    "alpha": (0.0, "weights", {}),
    "logq": (0.0, "weights", {}),
    "regularization": (0.0, "weights", {"recommend.loss": "bpr_max"}),
    "elu": (0.0, "weights", {"recommend.loss": "bpr_max"}),
    "tied": (False, "weights", {}),
    "bias": (False, "weights", {}),
    "repeats": (False, "weights", {}),
    "time_gaps": (True, "weights", {}),
    "attributes": (["kind"], "weights", {}),
}
"""Another value, where it must be seen, and settings on both sides where it matters only beside others."""
SHARED: dict[str, tuple[Any, dict[str, Any]]] = {
    "embedding.size": (5, {}),
    "embedding.init_range": (0.5, {}),
    "embedding.dropout": (0.5, {}),
    "embedding.token_dropout": (0.5, {}),
    "encoder.hidden_size": (5, {}),
    "encoder.layers": (2, {}),
    "head.dropout": (0.5, {}),
    "head.label_smoothing": (0.2, {}),
    "optimizer.momentum": (0.5, {"optimizer.name": "adagrad_momentum", "optimizer.momentum": 0.0}),
    "training.batch_size": (2, {}),
    "training.accumulate": (2, {}),
    "training.seed": (1, {}),
    "data.time": (None, {}),
    "data.validation_share": (0.3, {}),
    "data.test_share": (0.3, {}),
}
"""Settings that tasks share and that mean something of their own here."""


def trace(settings: dict[str, Any]) -> dict[str, Any]:
    try:
        model = recommender(clicks()[::-1], settings=settings)
    except RecurraError as error:
        return {"error": str(error)}
    return {
        "error": None,
        "weights": {name: tensor.tolist() for name, tensor in model.network.state_dict().items()},
        "items": model.items.state(),
        "rows": model.run["data"]["rows"],
    }


def test_every_setting_has_an_entry() -> None:
    assert sorted(RecommendSettings.model_fields) == sorted(CHANGES)


def test_nothing_else_changes_a_training() -> None:
    assert trace({}) == trace({})


@pytest.mark.parametrize("name", CHANGES)
def test_every_setting_matters(name: str) -> None:
    value, shows, base = CHANGES[name]
    before, after = trace(base), trace({**base, f"recommend.{name}": value})
    assert (before["error"], after["error"]) == (None, None)
    assert before[shows] != after[shows]


@pytest.mark.parametrize("name", SHARED)
def test_shared_settings_matter_too(name: str) -> None:
    value, base = SHARED[name]
    before, after = trace(base), trace({**base, name: value})
    assert (before["error"], after["error"]) == (None, None)
    assert before["weights"] != after["weights"]
