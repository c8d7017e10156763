"""Every setting of a language model does something: each is changed, and the training must show it."""

from __future__ import annotations

from typing import Any

import pytest

import recurra
from recurra.config import LanguageSettings

TEXT = "".join(f"The {a} saw a {b}, and the {b} ran.\n" for _ in range(6) for a in ("cat", "dog", "owl") for b in ("mouse", "bird", "fox"))
ROWS = [{"one": line, "two": line[::-1]} for line in TEXT.splitlines()]
BASE: dict[str, Any] = {
    "head.task": "language",
    "language.text": "one",
    "embedding.size": 8,
    "encoder.hidden_size": 16,
    "training.epochs": 1,
    "training.batch_size": 4,
    "language.window": 16,
    "evaluation.bootstrap_samples": 0,
    "logging.tensorboard": False,
}
CACHE = {"language.cache": 50}
DYNAMIC = {"language.dynamic_rate": 0.1}
CHANGES: dict[str, tuple[Any, str, dict[str, Any]]] = {
    "text": ("two", "weights", {}),
    "window": (9, "weights", {}),
    "random_windows": (True, "weights", {}),
    "tied": (False, "weights", {}),
    "cutoffs": ([10], "weights", {}),
    "activation": (2.0, "weights", {}),
    "temporal": (1.0, "weights", {}),
    "cache": (50, "metrics", {}),
    "cache_weight": (0.5, "metrics", CACHE),
    "cache_flatness": (1.5, "metrics", CACHE),
    "dynamic_rate": (0.1, "metrics", {}),
    "dynamic_decay": (0.5, "metrics", DYNAMIC),
    "dynamic_window": (5, "metrics", DYNAMIC),
    "order": (2, "baselines", {}),
}
ELSEWHERE: dict[str, tuple[Any, str, dict[str, Any]]] = {
    "text.tokenizer": ("word", "weights", {}),
    "text.lowercase": (True, "codec", {}),
    "text.min_frequency": (40, "codec", {"text.tokenizer": "word"}),
    "text.vocabulary_size": (9, "codec", {}),
    "data.validation_share": (0.3, "parts", {}),
    "data.test_share": (0.0, "parts", {}),
    "head.dropout": (0.6, "weights", {}),
    "embedding.dropout": (0.5, "weights", {}),
    "embedding.token_dropout": (0.5, "weights", {}),
    "embedding.init_range": (0.5, "weights", {}),
    "encoder.input_dropout": (0.5, "weights", {}),
    "encoder.weight_dropout": (0.5, "weights", {}),
    "optimizer.embedding_factor": (3.0, "weights", {}),
    "optimizer.name": ("asgd", "weights", {}),
    "training.batch_size": (2, "weights", {}),
    "training.accumulate": (2, "weights", {}),
    "evaluation.baselines": (False, "baselines", {}),
    "evaluation.bootstrap_samples": (20, "metrics", {}),
    "training.gradient_flow_batches": (2, "shown", {}),
}


def trace(settings: dict[str, Any]) -> dict[str, Any]:
    from recurra.training.fit import FitResult
    from recurra.training.language import job

    found: dict[str, Any] = {}

    def fit(*arguments: Any, **options: Any) -> FitResult:
        found["result"] = original(*arguments, **options)
        return found["result"]  # type: ignore[no-any-return]

    original = job.fit
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(job, "fit", fit)
        model: Any = recurra.train(ROWS, settings={**BASE, **settings})
    return {
        "weights": {name: tensor.tolist() for name, tensor in model.network.state_dict().items()},
        "metrics": model.run["metrics"],
        "baselines": model.run["baselines"],
        "parts": model.run["data"]["rows"],
        "codec": model.codec.to_json().replace(model.codec.settings.model_dump_json(), ""),
        "shown": found["result"].gradient_flow,
    }


def test_every_setting_of_the_group_has_an_entry() -> None:
    assert sorted(CHANGES) == sorted(LanguageSettings.model_fields)


@pytest.mark.parametrize("name", [*(f"language.{name}" for name in CHANGES), *ELSEWHERE])
def test_every_setting_matters(name: str) -> None:
    value, shows, base = CHANGES.get(name.removeprefix("language.")) or ELSEWHERE[name]
    assert trace(base)[shows] != trace({**base, name: value})[shows]


def test_nothing_else_changes_a_training() -> None:
    assert trace({}) == trace({})
