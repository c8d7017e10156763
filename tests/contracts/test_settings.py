"""Every setting does something: each is changed, and the training must show it.

A new setting without an entry in `CHANGES` fails a test.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from pydantic import BaseModel

import recurra
from jobs import SMALL, csv, rows
from recurra.config import Settings
from recurra.errors import RecurraError


class Change(NamedTuple):
    """A setting's other value.

    Attributes:
        value: in place of the base's.
        shows: where the difference must be seen; a key of what `trace` gives.
        base: settings on both sides, where the setting matters only beside others.
    """

    value: Any
    shows: str = "weights"
    base: dict[str, Any] = {}  # noqa: RUF012


LAYERS = {"encoder.layers": 2}
SGD = {"optimizer.name": "sgd", "optimizer.learning_rate": 0.5}
TWO_TEXTS = {"data.columns": ["title", "text"]}
LONG = {"training.epochs": 6, "optimizer.learning_rate": 1e-9, "schedule.name": "plateau", "training.monitor": "accuracy"}

CHANGES: dict[str, Change] = {
    "target": Change("stars", "task"),
    "data.types": Change({"price": "category"}, "features"),
    "data.join": Change({"both": ["title", "text"]}, "features", {"data.columns": None}),
    "data.columns": Change(["text"], "features"),
    "data.group": Change("who", "parts"),
    "data.time": Change("day", "parts"),
    "data.validation_share": Change(0.3, "parts"),
    "data.test_share": Change(0.3, "parts"),
    "data.missing_targets": Change("fail", "error"),
    "data.ignore_labels": Change(["rare"], "parts"),
    "data.label_separator": Change(";", "task", {"target": "topics"}),
    "data.on_error": Change("skip", "error", {"data": "damaged"}),
    "text.tokenizer": Change("character", "features"),
    "text.lowercase": Change(False, "features"),
    "text.normalization": Change("none", "features"),
    "text.strip_accents": Change(True, "features"),
    "text.vocabulary_size": Change(8, "features"),
    "text.min_frequency": Change(4, "features"),
    "text.max_length": Change(2, "weights"),
    "text.vectors": Change("VECTORS", "weights"),
    "embedding.size": Change(5),
    "embedding.init_range": Change(0.5),
    "embedding.start": Change("cooccurrence"),
    "embedding.dropout": Change(0.0),
    "embedding.token_dropout": Change(0.5),
    "embedding.character_ngrams": Change([2, 3]),
    "embedding.token_ngrams": Change(2),
    "embedding.buckets": Change(50, base={"embedding.token_ngrams": 2}),
    "embedding.sparse": Change(True),
    "encoder.cell": Change("gru"),
    "encoder.hidden_size": Change(5),
    "encoder.layers": Change(2),
    "encoder.bidirectional": Change(False),
    "encoder.residual": Change(True, base={**LAYERS, "encoder.hidden_size": 2}),
    "encoder.layer_norm": Change(True),
    "encoder.input_dropout": Change(0.5),
    "encoder.between_dropout": Change(0.5, base=LAYERS),
    "encoder.variational": Change(True, base={**LAYERS, "encoder.between_dropout": 0.5}),
    "encoder.recurrent_dropout": Change(0.5),
    "encoder.weight_dropout": Change(0.5),
    "encoder.zoneout": Change(0.5),
    "encoder.learn_initial_state": Change(True),
    "encoder.forget_bias": Change(3.0),
    "encoder.initialization": Change("torch"),
    "encoder.pooling": Change("mean"),
    "encoder.shared": Change(True, base=TWO_TEXTS),
    "encoder.backend": Change("reference", "shown"),
    "head.task": Change("regress", "task", {"target": "rating"}),
    "head.hidden_size": Change(3),
    "head.dropout": Change(0.0),
    "head.label_smoothing": Change(0.2),
    "head.class_weights": Change("balanced"),
    "head.linear": Change("none", base={"data.columns": ["text"]}),
    "optimizer.name": Change("nadam"),
    "optimizer.learning_rate": Change(0.1),
    "optimizer.weight_decay": Change(0.9),
    "optimizer.embedding_factor": Change(1.0),
    "optimizer.averaging": Change(
        "stalled", base={"optimizer.name": "asgd", "optimizer.learning_rate": 0.5, "training.monitor": "train_loss"}
    ),
    "optimizer.momentum": Change(0.1, base=SGD),
    "optimizer.beta1": Change(0.1),
    "optimizer.beta2": Change(0.5),
    "schedule.name": Change("constant"),
    "schedule.warmup": Change(0.5),
    "schedule.floor": Change(0.9),
    "schedule.patience": Change(1, "rates", {**LONG, "training.patience": 0}),
    "augmentation.word_dropout": Change(0.5),
    "augmentation.swap": Change(0.5),
    "augmentation.character_noise": Change(0.5),
    "training.epochs": Change(1),
    "training.patience": Change(1, "epochs", {**LONG, "training.patience": 0}),
    "training.monitor": Change("loss", "run"),
    "training.batch_size": Change(8),
    "training.batch_tokens": Change(40),
    "training.accumulate": Change(2),
    "training.clip_norm": Change(1e-3, base=SGD),
    "training.clip_value": Change(1e-4, base=SGD),
    "training.average": Change(0.9),
    "training.precision": Change("bfloat16"),
    "training.divergence_factor": Change(1.0001, "error", {**SGD, "optimizer.learning_rate": 9.0, "training.batch_size": 2}),
    "training.checkpoint_seconds": Change(1e-6, "checkpoints"),
    "training.gradient_flow_batches": Change(2, "files"),
    "training.seed": Change(1),
    # Neither can be had on every machine that runs the tests: that they are asked for is seen in the refusal.
    "training.device": Change("mps", "error"),
    "training.devices": Change(2, "error", {"optimizer.learning_rate": "auto"}),
    "evaluation.baselines": Change(True, "baselines"),
    "evaluation.baseline_rows": Change(6, "baselines", {"evaluation.baselines": True}),
    "evaluation.bootstrap_samples": Change(0, "metrics"),
    "evaluation.confidence": Change(0.5, "metrics"),
    "logging.tensorboard": Change(True, "files"),
    # Not installed with the tests; where they are, their runs would need an account or a server.
    "logging.wandb": Change("project", "error"),
    "logging.mlflow": Change("experiment", "error"),
}
OTHERS = ("answer", "forecast", "language", "out_of_scope", "recommend", "semi_supervised", "several", "tag", "transfer", "translate")
"""Groups whose settings have a test of their own, beside this one."""
BASE: dict[str, Any] = {**SMALL, "target": "label", "data.columns": ["text", "price"], "training.device": "cpu"}


def leaves(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from leaves(field.annotation, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"


def table() -> list[dict[str, Any]]:
    """Rows in which every setting finds something to act on: missing targets, rare labels, capitals, accents, ligatures."""
    extra = ["Fine", "fiancé", "ﬁne", "fine", "FINE", "fiance"]
    found = [{**row, "text": f"{row['text']} {extra[n % 6]} {extra[n % 5]}", "rating": n % 4} for n, row in enumerate(rows(48))]
    for number in (4, 18, 33):
        found[number]["label"] = "rare"
    found[7]["label"] = ""
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("settings")
    (path / "vectors.txt").write_text("fine 1 2 3 4\nawful 4 3 2 1\n")
    csv(path / "damaged.csv", table())
    with (path / "damaged.csv").open("a") as file:
        file.write("one,two\n")
    return path


@cache
def trace(folder: Path, chosen: tuple[tuple[str, Any], ...], output: bool) -> dict[str, Any]:
    """What a training shows, as values that can be compared; `chosen` are the settings as texts of Python."""
    settings = {name: eval(value) for name, value in chosen}
    data = folder / "damaged.csv" if settings.pop("data", None) else table()
    lines: list[str] = []
    written: list[str] = []
    path = folder / f"run{len(list(folder.iterdir()))}" if output else None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("recurra.training.results.write_report", lambda path, report: path.write_text(report.title))
        patch.setattr("recurra.training.fitting.write_checkpoint", _counting(written))
        try:
            model = recurra.train(data, settings=settings, output=path, show=lines.append)
        except RecurraError as error:
            return {"error": f"{type(error).__name__}: {error}"}
    run = model.run
    return {
        "error": None,
        "weights": {name: tensor.tolist() for name, tensor in model.network.state_dict().items()},
        "features": [(feature.name, feature.type, feature.state()) for feature in model.features],
        "task": (model.head.task, model.head.name, model.head.state()),
        "parts": (
            run["data"]["rows"],
            run["data"]["left_out"],
            model.head.state(),
            run["metrics"]["test"]["rows"],
            [f.state() for f in model.features],
        ),
        "epochs": run["training"]["epochs"],
        "rates": [record["learning_rate"] for record in run["training"]["history"]],
        "run": {name: run["training"][name] for name in ("monitor", "best_epoch")},
        "metrics": run["metrics"],
        "baselines": run["baselines"],
        "checkpoints": len(written),
        "shown": [line for line in lines if line.startswith("model:")],
        "files": sorted(str(p.relative_to(path)) for p in path.rglob("*") if "tfevents" not in p.name) if path else None,
    }


def _counting(written: list[str]) -> Any:
    from recurra.training.checkpoints import write_checkpoint

    def write(path: Path, state: dict[str, Any]) -> None:
        written.append(path.name)
        write_checkpoint(path, state)

    return write


def run(folder: Path, settings: dict[str, Any], *, output: bool = False) -> dict[str, Any]:
    chosen = {**BASE, **settings}
    if chosen.get("text.vectors"):
        chosen["text.vectors"] = str(folder / "vectors.txt")
    return trace(folder, tuple(sorted((name, repr(value)) for name, value in chosen.items())), output)


def test_every_setting_has_an_entry() -> None:
    assert sorted(name for name in leaves(Settings) if name.partition(".")[0] not in OTHERS) == sorted(CHANGES)


def test_nothing_else_changes_a_training(folder: Path) -> None:
    """The same settings twice show the same, so that a difference comes from the setting."""
    first = run(folder, {})
    trace.cache_clear()
    assert run(folder, {}) == first
    assert first["error"] is None


@pytest.mark.parametrize("name", CHANGES)
def test_every_setting_matters(name: str, folder: Path) -> None:
    change = CHANGES[name]
    output = change.shows == "files"
    before = run(folder, change.base, output=output)
    after = run(folder, {**change.base, name: change.value}, output=output)
    if change.shows != "error":
        assert (before["error"], after["error"]) == (None, None)
    assert before.get(change.shows) != after.get(change.shows)
