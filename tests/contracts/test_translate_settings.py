"""Every setting of text to text does something: each is changed, and the training or what is written must show it."""

from __future__ import annotations

from typing import Any

import pytest

import recurra
from recurra.config import TranslateSettings

WHO = {"a man": "ein Mann", "a cat": "eine Katze", "two dogs": "zwei Hunde"}
DOES = {"sees": "sieht", "has": "hat", "likes": "mag"}
ROWS = [
    {
        "en": f"{who} {does} it. Number {number} zebra{number}",
        "other": f"{does} {who}",
        "de": f"{WHO[who]} {DOES[does]} es. Nummer {number}",
    }
    for number, (who, does) in enumerate([(who, does) for who in WHO for does in DOES] * 4)
]
BASE: dict[str, Any] = {
    "target": "de",
    "translate.source": "en",
    "text.tokenizer": "word",
    "embedding.size": 8,
    "embedding.init_range": 1.0,
    "encoder.hidden_size": 8,
    "training.epochs": 2,
    "training.batch_size": 8,
    "evaluation.bootstrap_samples": 0,
    "evaluation.baselines": False,
    "logging.tensorboard": False,
}
ADDITIVE = {"translate.attention": "additive"}
CHANGES: dict[str, tuple[Any, str, dict[str, Any]]] = {
    "source": ("other", "weights", {}),
    "decoder_layers": (2, "weights", {}),
    "decoder_size": (5, "weights", {}),
    "attention": ("additive", "weights", {}),
    "attention_size": (5, "weights", {}),
    "coverage": (True, "weights", ADDITIVE),
    "copying": (True, "weights", {}),
    "input_feeding": (True, "weights", {}),
    "sampling": (0.9, "weights", {"translate.sampling_batches": 2}),
    "sampling_batches": (3, "weights", {"translate.sampling": 0.9}),
    "tied": (False, "weights", {}),
    "beam": (1, "scores", {}),
    "length_power": (0.0, "scores", {}),
    "most": (2, "written", {}),
    "replace_unknown": (False, "written", {"text.min_frequency": 9, "training.epochs": 30, "optimizer.learning_rate": 0.02}),
    "validation_rows": (0, "history", {}),
}
ELSEWHERE: dict[str, tuple[Any, str, dict[str, Any]]] = {
    "text.tokenizer": ("character", "weights", {}),
    "text.lowercase": (True, "codec", {}),
    "text.min_frequency": (9, "codec", {}),
    "text.vocabulary_size": (9, "codec", {}),
    "text.max_length": (3, "weights", {}),
    "data.validation_share": (0.3, "parts", {}),
    "data.test_share": (0.0, "parts", {}),
    "data.group": ("other", "weights", {}),
    "head.dropout": (0.6, "weights", {}),
    "head.label_smoothing": (0.4, "weights", {}),
    "embedding.dropout": (0.5, "weights", {}),
    "embedding.token_dropout": (0.5, "weights", {}),
    "encoder.cell": ("gru", "weights", {}),
    "encoder.layers": (2, "weights", {}),
    "encoder.bidirectional": (False, "weights", {}),
    "encoder.pooling": ("last", "weights", {}),
    "encoder.input_dropout": (0.5, "weights", {}),
    "optimizer.embedding_factor": (3.0, "weights", {}),
    "training.batch_size": (4, "weights", {}),
    "training.batch_tokens": (20, "weights", {}),
    "training.monitor": ("loss", "monitor", {}),
    "training.gradient_flow_batches": (2, "flow", {}),
    "evaluation.baselines": (True, "baselines", {}),
    "evaluation.bootstrap_samples": (20, "metrics", {}),
}


def trace(settings: dict[str, Any]) -> dict[str, Any]:
    from recurra.training.fit import FitResult
    from recurra.training.translate import job

    found: dict[str, Any] = {}

    def fit(*arguments: Any, **options: Any) -> FitResult:
        found["result"] = original(*arguments, **options)
        return found["result"]  # type: ignore[no-any-return]

    original = job.fit
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(job, "fit", fit)
        model: Any = recurra.train(ROWS, settings={**BASE, **settings})
    written = model.translate([row[model.source] for row in ROWS[:6]])
    return {
        "weights": {name: tensor.tolist() for name, tensor in model.network.state_dict().items()},
        "metrics": model.run["metrics"],
        "baselines": model.run["baselines"],
        "parts": model.run["data"]["rows"],
        "codec": model.codec.to_json().replace(model.codec.settings.model_dump_json(), ""),
        "flow": found["result"].gradient_flow,
        "history": [sorted(record) for record in found["result"].history],
        "monitor": found["result"].monitor,
        "written": [each.text for each in written],
        "scores": [each.score for each in written],
    }


def test_every_setting_of_the_group_has_an_entry() -> None:
    assert sorted(CHANGES) == sorted(TranslateSettings.model_fields)


@pytest.mark.parametrize("name", [*(f"translate.{name}" for name in CHANGES), *ELSEWHERE])
def test_every_setting_matters(name: str) -> None:
    value, shows, base = CHANGES.get(name.removeprefix("translate.")) or ELSEWHERE[name]
    # The share of sampled tokens is changed where it has batches to rise over, which mean nothing without it.
    before = base if name != "translate.sampling" else {}
    assert trace(before)[shows] != trace({**base, name: value})[shows]


def test_nothing_else_changes_a_training() -> None:
    assert trace({}) == trace({})
