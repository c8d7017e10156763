"""The contracts of features and heads over every one of the catalogue."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

import catalogue
from recurra import features, heads
from recurra.data.batch import Sequence
from recurra.data.store import Ragged
from recurra.features import FEATURES, Feature
from recurra.heads import HEADS, Head, OutputLayer, RowHead

HEADINGS = {**catalogue.HEADS, **catalogue.TAGS}
COLUMNS = {**catalogue.FEATURES, **HEADINGS}


def exported(package: Any, base: type) -> set[type]:
    found = [getattr(package, name) for name in package.__all__]
    return {value for value in found if isinstance(value, type) and issubclass(value, base) and value is not base}


def arrays(encoded: Any) -> list[np.ndarray]:
    return [encoded.values, encoded.offsets] if isinstance(encoded, Ragged) else [encoded]


def rows_of(encoded: Any) -> list[list[Any]]:
    return [np.asarray(encoded[row]).tolist() for row in range(len(encoded))]


def test_every_exported_feature_and_head_is_in_the_catalogue() -> None:
    assert exported(features, Feature) == {column.kind for column in catalogue.FEATURES.values()} == set(FEATURES.values())
    assert exported(heads, Head) - {RowHead} == {column.kind for column in HEADINGS.values()} == set(HEADS.values())
    assert all(name == kind.type for name, kind in FEATURES.items())
    assert all(name == kind.task for name, kind in HEADS.items())


@pytest.mark.parametrize("name", COLUMNS)
def test_json_brings_it_back(name: str) -> None:
    column = COLUMNS[name]
    first = column.fit()
    state = json.loads(json.dumps(first.state(), allow_nan=False))
    again = column.kind.from_state("column", state, *([column.chosen().head] if name in HEADINGS else []))
    assert again.state() == first.state()
    assert again.describe() == first.describe() != ""
    for before, after in zip(arrays(first.encode(column.values)), arrays(again.encode(column.values)), strict=True):
        np.testing.assert_array_equal(before, after)


@pytest.mark.parametrize("name", COLUMNS)
def test_a_row_is_encoded_alone_as_among_others(name: str) -> None:
    column = COLUMNS[name]
    fitted = column.fit()
    together = rows_of(fitted.encode(column.values))
    alone = [rows_of(fitted.encode(column.values[row : row + 1]))[0] for row in range(len(column.values))]
    np.testing.assert_equal(alone, together)
    np.testing.assert_equal(rows_of(fitted.encode(column.values[::-1])), together[::-1])
    assert len(fitted.encode(column.values[:0])) == 0


@pytest.mark.parametrize("name", COLUMNS)
def test_fitting_does_not_depend_on_the_chunks(name: str) -> None:
    column = COLUMNS[name]
    whole = column.kind.fit("column", [column.values], column.chosen())
    single = column.kind.fit("column", [column.values[row : row + 1] for row in range(len(column.values))], column.chosen())
    if "mean" in whole.state():  # sums in another order: some rounding errors of float64
        assert single.state() == pytest.approx(whole.state(), rel=1e-12)
    else:
        assert single.state() == whole.state()


@pytest.mark.parametrize("name", COLUMNS)
def test_missing_values_are_no_problem_and_wrong_ones_are_named(name: str) -> None:
    column = COLUMNS[name]
    fitted = column.fit()
    assert fitted.problems(column.values) == {}
    assert fitted.problems(column.values.clear(2)) == {}
    if column.wrong is not None:
        wrong = pl.concat([column.values[:2], pl.Series([column.wrong], dtype=column.values.dtype), column.values.clear(1)])
        found = fitted.problems(wrong)
        assert list(found) == [2]
        assert "'column'" in found[2]
        assert "--on-error skip" in found[2]
        assert len(fitted.encode(wrong)) == 4


@pytest.mark.parametrize("name", catalogue.FEATURES)
def test_the_module_of_a_feature_embeds_its_batches_and_learns(name: str) -> None:
    column = catalogue.FEATURES[name]
    feature = column.fit()
    module = feature.build(column.chosen())
    encoded = feature.encode(column.values)
    if feature.kind == "sequence":
        values, lengths = encoded.pad()
        output = module(Sequence(torch.from_numpy(values).long(), torch.from_numpy(lengths)))
        assert output.shape == (len(column.values), values.shape[1], module.output_size)
    else:
        output = module(torch.from_numpy(encoded))
        assert output.shape == (len(column.values), module.output_size)
    assert output.isfinite().all()
    if list(module.parameters()):
        (output * torch.randn_like(output)).sum().backward()
        assert [name for name, parameter in module.named_parameters() if parameter.grad is None or not parameter.grad.any()] == []


def outputs_and_targets(name: str) -> tuple[Any, np.ndarray, np.ndarray]:
    head = catalogue.HEADS[name].fit()
    targets = head.encode(catalogue.HEADS[name].values)
    return head, np.random.default_rng(0).normal(size=(len(targets), head.output_size)).astype(np.float32), targets


@pytest.mark.parametrize("name", catalogue.HEADS)
def test_the_loss_is_a_mean_that_passes_missing_targets_over(name: str) -> None:
    head, given, encoded = outputs_and_targets(name)
    outputs, targets = torch.from_numpy(given).double().requires_grad_(), torch.from_numpy(encoded)
    loss = head.loss(outputs, targets)
    assert loss.shape == ()
    assert loss.item() > 0
    # The same rows twice are the same mean: sums of twice as many terms, some rounding errors of float64.
    torch.testing.assert_close(head.loss(outputs.repeat(2, 1), torch.cat([targets, targets])), loss, rtol=1e-12, atol=0)
    missing = torch.from_numpy(head.encode(catalogue.HEADS[name].values.clear(3)))
    more = torch.cat([outputs, torch.full((3, head.output_size), 1e3, dtype=torch.float64)])
    assert torch.equal(head.loss(more, torch.cat([targets, missing])), loss)
    assert torch.autograd.gradcheck(lambda values: head.loss(values, targets), outputs)


@pytest.mark.parametrize("name", catalogue.HEADS)
def test_following_the_loss_reaches_the_best_metrics(name: str) -> None:
    head, given, encoded = outputs_and_targets(name)
    outputs, targets = torch.from_numpy(given).requires_grad_(), torch.from_numpy(encoded)
    optimizer = torch.optim.Adam([outputs], lr=0.1)
    for _ in range(200):
        optimizer.zero_grad()
        head.loss(outputs, targets).backward()
        optimizer.step()
    metrics = head.metrics(outputs.detach().numpy(), encoded)
    best = 0.0 if head.monitor == "rmse" else 1.0
    assert metrics[head.monitor] == pytest.approx(best, abs=1e-2)
    predicted = head.predict(outputs.detach().numpy())
    values = catalogue.HEADS[name].values
    if head.task == "classify":
        assert predicted["label"].to_list() == values.to_list()
    elif head.task == "labels":
        assert head.encode(predicted["labels"]).tolist() == encoded.tolist()
    else:
        np.testing.assert_allclose(predicted["value"], values.cast(pl.Float64), atol=0.1)


@pytest.mark.parametrize("name", catalogue.HEADS)
def test_metrics_are_finite_and_lie_in_their_intervals(name: str) -> None:
    head, outputs, targets = outputs_and_targets(name)
    column = catalogue.HEADS[name]
    metrics = head.metrics(outputs, targets)
    assert head.monitor in metrics
    assert all(np.isfinite(value) for value in metrics.values())
    intervals = head.intervals(outputs, targets, column.chosen(evaluation__bootstrap_samples=50))
    assert set(intervals) <= set(metrics)
    assert head.monitor in intervals
    assert all(low <= high for low, high in intervals.values())
    assert head.intervals(outputs, targets, column.chosen(evaluation__bootstrap_samples=0)) == {}


@pytest.mark.parametrize("name", catalogue.HEADS)
def test_predictions_have_a_row_each_also_for_none_and_for_huge_outputs(name: str) -> None:
    head, outputs, _ = outputs_and_targets(name)
    top = None if head.task == "regress" else 2
    table = head.predict(outputs, top=top)
    assert table.height == len(outputs)
    assert head.predict(outputs[:0], top=top).schema == table.schema
    assert np.isfinite(head.probabilities(outputs * 1e6)).all()
    assert len(head.probabilities(outputs)) == len(outputs)


@pytest.mark.parametrize("hidden", [0, 5])
def test_the_output_layer(hidden: int) -> None:
    layer = OutputLayer(3, 2, settings=catalogue.HEADS["classify"].chosen(head__hidden_size=hidden, head__dropout=0.0).head)
    layer(torch.randn(4, 3)).square().sum().backward()
    assert [name for name, parameter in layer.named_parameters() if not parameter.grad.any()] == []
    assert len(list(layer.parameters())) == (4 if hidden else 2)
