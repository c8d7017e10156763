"""What is learnt from rows without a label: smooth and sure predictions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

import recurra
from jobs import SMALL, rows
from recurra.config import SemiSupervisedSettings, load_settings
from recurra.data.batch import Batch, Sequence
from recurra.errors import SettingsError
from recurra.model.smoothness import entropy, virtual_adversarial_loss
from recurra.training.tables.job import TableJob
from recurra.training.tables.loaders import train_rows

MIXED = {"semi_supervised.virtual_adversarial": 1.0, "semi_supervised.entropy": 1.0}
BASE: dict[str, Any] = {**SMALL, "target": "label", "data.columns": ["text"]}
CHANGES: dict[str, tuple[Any, dict[str, Any]]] = {
    "virtual_adversarial": (1.0, {}),
    "perturbation": (1.0, MIXED),
    "entropy": (0.5, {}),
}


def few_labels(count: int = 60, every: int = 3) -> list[dict[str, Any]]:
    return [{**row, "label": row["label"] if number % every == 0 else None} for number, row in enumerate(rows(count))]


def weights(**settings: Any) -> dict[str, Any]:
    model: Any = recurra.train(rows(), settings={**BASE, **settings})
    return dict(model.network.state_dict())


def test_every_setting_has_an_entry() -> None:
    assert sorted(SemiSupervisedSettings.model_fields) == sorted(CHANGES)


@pytest.mark.parametrize("name", CHANGES)
def test_every_setting_matters(name: str) -> None:
    value, base = CHANGES[name]
    before, after = weights(**base), weights(**{**base, f"semi_supervised.{name}": value})
    assert any(not torch.equal(before[key], after[key]) for key in before)


def test_entropy_of_sure_and_of_unsure_predictions() -> None:
    assert float(entropy(torch.zeros(3, 4))) == pytest.approx(np.log(4), abs=1e-6)
    assert float(entropy(torch.tensor([[90.0, 0.0, 0.0]]))) == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize("length", [0.5, 3.0])
def test_worst_shift_of_a_linear_model(length: float) -> None:
    """Of a linear model the worst direction is that of its weights, whatever direction the search begins with.

    With two classes and logits (w.x, 0) the divergence grows with the change of w.x alone, which is length * |w| at most.
    """
    torch.manual_seed(0)
    weight, vectors = torch.randn(2, 3), torch.randn(4, 2, 3)

    def logits(x: torch.Tensor) -> torch.Tensor:
        return torch.stack([(x * weight).sum((1, 2)), torch.zeros(len(x))], 1)

    sequence = Sequence(torch.ones(4, 2, dtype=torch.long), torch.full((4,), 2))
    batch = Batch({"text": sequence}, {}, torch.arange(4))
    found = virtual_adversarial_loss(
        lambda shifts: logits(vectors + shifts["text"]), logits(vectors), batch, sizes={"text": 3}, length=length
    )
    own = logits(vectors).log_softmax(1)
    ends = [logits(vectors + sign * length * weight / weight.norm()).log_softmax(1) for sign in (1, -1)]
    either = torch.stack([(own.exp() * (own - end)).sum(1) for end in ends])
    smallest, largest = either.amin(0).mean(), either.amax(0).mean()
    # The side of the direction is that of the random start; float32 keeps its angle to about 1e-3 at a probe of length 0.1.
    assert float(smallest) * 0.99 <= float(found) <= float(largest) * 1.01


def test_noise_is_shared_and_goes_on() -> None:
    """Without a shift the shifted pass gives the same outputs under dropout, and the random numbers go on afterwards."""
    job = TableJob(rows(), load_settings({**BASE, **MIXED}), Path("nowhere"))
    prepared = job.prepare()
    network = job.build(prepared).train()
    from recurra.model.smoothness import restore_noise
    from recurra.training.tables.loaders import loaders

    batch = next(iter(loaders(prepared)[0]))
    outputs = network(batch)
    restore_noise(network._noise, network.device)
    assert torch.equal(network(batch, {}), outputs)
    assert not torch.equal(network(batch, {}), outputs)
    before = torch.get_rng_state()
    network.loss(network(batch), batch)
    assert not torch.equal(torch.get_rng_state(), before)


def test_gradient_flow_is_that_of_the_rows_as_they_are(tmp_path: Path, quiet_report: None) -> None:
    """Passes over shifted vectors are not watched: in the first step, distances are the same with a weight of next to nothing."""

    def distances(weight: float) -> list[float]:
        settings = {**BASE, "semi_supervised.virtual_adversarial": weight, "training.gradient_flow_batches": 1, "training.epochs": 1}
        recurra.train(rows(), settings=settings, output=tmp_path / str(weight))
        table = pl.read_csv(next((tmp_path / str(weight)).rglob("gradient_flow.csv")))
        return table.filter(pl.col("distance").is_not_null())["norm"].to_list()

    assert distances(1e-20) == pytest.approx(distances(0.0), rel=1e-5)  # float32, and a weight far below its 24 bits


def test_rows_without_a_label_are_trained_on_and_nothing_else() -> None:
    """They are in the batches and in the vocabulary, not among the rows that are measured."""
    table = few_labels()
    table[1]["text"] = "unheard unheard"
    settings = {**BASE, **MIXED, "data.missing_targets": "unlabelled"}
    job = TableJob(table, load_settings(settings), Path("nowhere"))
    prepared = job.prepare()
    assert prepared.facts.rows == {"train": 16, "validation": 2, "test": 2, "unlabelled": 40}
    assert len(train_rows(prepared)) == 56
    assert "unheard" in prepared.features[0].tokenizer.tokens  # type: ignore[attr-defined]
    model = recurra.train(table, settings={**settings, "evaluation.baselines": True})
    assert model.run["metrics"]["test"]["rows"] == 2
    assert recurra.train(table, settings=BASE).run["data"]["left_out"] == {"no target": 40}


def test_interrupted_and_resumed_is_uninterrupted(tmp_path: Path, quiet_report: None) -> None:
    from recurra.training import fitting

    settings = {**BASE, **MIXED, "data.missing_targets": "unlabelled", "head.dropout": 0.5, "embedding.dropout": 0.3}
    whole: Any = recurra.train(few_labels(), settings=settings, output=tmp_path / "whole")
    count = 0

    def interrupted(self: Any) -> bool:
        nonlocal count
        count += 1
        return count == 3

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fitting.Fitting, "_interrupted", interrupted)
        with pytest.raises(recurra.RecurraError):
            recurra.train(few_labels(), settings=settings, output=tmp_path / "cut")
    resumed: Any = recurra.train(few_labels(), settings=settings, output=tmp_path / "cut", resume=True)
    first, second = whole.network.state_dict(), resumed.network.state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"data.missing_targets": "unlabelled"}, "semi_supervised.entropy=1"),
        ({"semi_supervised.perturbation": 2.0}, "has no effect without"),
        ({"semi_supervised.entropy": 1.0, "target": "stars"}, "makes the task 'regress'"),
        ({"semi_supervised.entropy": 1.0, "head.task": "labels"}, "has no effect on the task 'labels'"),
    ],
)
def test_what_would_do_nothing_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        recurra.train(rows(), settings={**BASE, **settings})
