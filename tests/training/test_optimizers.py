from __future__ import annotations

import math
from typing import get_args

import pytest
import torch
from standin import TinyLoader, network
from torch import nn
from torch.optim import SGD, Adagrad, Muon, SparseAdam

from recurra.config import OptimizerSettings
from recurra.errors import SettingsError
from recurra.training.adagrad import AdagradMomentum
from recurra.training.optimizers import (
    CombinedOptimizer,
    asgd_average,
    build_optimizer,
    clip_gradients,
    gradient_norms,
    set_learning_rate,
    start_averaging,
)

NAMES = get_args(OptimizerSettings.model_fields["name"].annotation)
SPARSE = ("sgd", "adam", "adamw", "adagrad", "muon", "adagrad_momentum")


def optimizer_settings(name, **options):
    return OptimizerSettings(name=name, **options)


def train(model, chosen, *, steps=8, rate=0.05):
    optimizer = build_optimizer(model, chosen, learning_rate=rate, steps=steps)
    loader = TinyLoader(64)
    losses = []
    for _, batch in zip(range(steps), loader, strict=False):
        loss = model.loss(model.eval()(batch), batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return optimizer, losses


@pytest.mark.parametrize("name", NAMES)
def test_every_optimizer_moves_every_parameter(name):
    model = network()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    train(model, optimizer_settings(name))
    unmoved = [key for key, value in model.state_dict().items() if torch.equal(value, before[key])]
    assert not unmoved
    assert not model.embedding.weight[0].any(), "the padding's vector stays zero"


@pytest.mark.parametrize("name", SPARSE)
def test_sparse_gradients_move_the_rows_of_the_batch_only(name):
    model = network(sparse=True)
    before = model.embedding.weight.detach().clone()
    batch = next(iter(TinyLoader(2, batch_size=2)))
    optimizer = build_optimizer(model, optimizer_settings(name), learning_rate=0.05, steps=2)
    for _ in range(2):
        optimizer.zero_grad()
        model.loss(model(batch), batch).backward()
        clip_gradients(model.parameters(), norm=1.0, value=0.5)
        optimizer.step()
    moved = (model.embedding.weight != before).any(dim=1).nonzero().flatten().tolist()
    assert moved == [token for token in batch.inputs["text"].values.unique().tolist() if token]


@pytest.mark.parametrize("name", sorted(set(NAMES) - set(SPARSE)))
def test_sparse_gradients_are_refused_where_there_is_no_form(name):
    with pytest.raises(SettingsError, match=r"no form for embedding\.sparse=true: use one of sgd, adam"):
        build_optimizer(network(sparse=True), optimizer_settings(name), learning_rate=0.1, steps=1)


def test_sparse_and_dense_families():
    kinds = {
        name: type(build_optimizer(network(sparse=True), optimizer_settings(name), learning_rate=0.1, steps=1).optimizers[-1])
        for name in SPARSE
    }
    adaptive = dict.fromkeys(("adam", "adamw", "muon"), SparseAdam)
    assert kinds == {**adaptive, "sgd": SGD, "adagrad": Adagrad, "adagrad_momentum": AdagradMomentum}


@pytest.mark.parametrize("name", NAMES)
def test_only_matrices_decay(name):
    model = nn.Sequential(nn.Embedding(3, 4), nn.GRU(4, 4), nn.LayerNorm(4), nn.Linear(4, 2))
    optimizer = build_optimizer(model, optimizer_settings(name, weight_decay=0.1), learning_rate=0.1, steps=4)
    decayed = {id(p) for group in optimizer.param_groups if group.get("weight_decay") for p in group["params"]}
    names = {key for key, parameter in model.named_parameters() if id(parameter) in decayed}
    assert names == {"1.weight_ih_l0", "1.weight_hh_l0", "3.weight"}


def test_muon_takes_the_recurrent_matrices():
    model = network()
    optimizer = build_optimizer(model, optimizer_settings("muon"), learning_rate=0.1, steps=4)
    assert isinstance(optimizer, CombinedOptimizer)
    assert isinstance(optimizer.optimizers[0], Muon)
    taken = {id(p) for group in optimizer.optimizers[0].param_groups for p in group["params"]}
    assert {key for key, p in model.named_parameters() if id(p) in taken} == {"layer.weight_ih_l0", "layer.weight_hh_l0"}
    with pytest.raises(SettingsError, match="has none"):
        build_optimizer(nn.Linear(2, 2), optimizer_settings("muon"), learning_rate=0.1, steps=4)


@pytest.mark.parametrize(
    ("name", "option", "value"),
    [
        *((name, "weight_decay", 0.5) for name in NAMES),
        *((name, "momentum", 0.0) for name in ("sgd", "rmsprop", "muon")),
        *((name, option, 0.5) for name in ("adam", "adamw", "nadam", "radam", "muon") for option in ("beta1", "beta2")),
    ],
)
def test_every_coefficient_matters(name, option, value):
    first, second = network(), network()
    train(first, optimizer_settings(name))
    train(second, optimizer_settings(name, **{option: value}))
    assert any(not torch.equal(one, other) for one, other in zip(first.parameters(), second.parameters(), strict=True))


def test_a_rate_set_on_the_combination_reaches_its_parts():
    optimizer = build_optimizer(network(sparse=True), optimizer_settings("muon"), learning_rate=0.1, steps=1)
    for group in optimizer.param_groups:
        group["lr"] = 0.7
    state = optimizer.state_dict()
    assert {group["lr"] for part in optimizer.optimizers for group in part.param_groups} == {0.7}
    other = build_optimizer(network(sparse=True), optimizer_settings("muon"), learning_rate=0.1, steps=1)
    other.load_state_dict(state)
    assert {group["lr"] for group in other.param_groups} == {0.7}
    for group in other.param_groups:
        group["lr"] = 0.3
    assert {group["lr"] for part in other.optimizers for group in part.param_groups} == {0.3}


def test_asgd_averages_the_second_half():
    model = network()
    steps = 8
    optimizer = build_optimizer(model, optimizer_settings("asgd"), learning_rate=0.05, steps=steps)
    seen = []
    for _, batch in zip(range(steps), TinyLoader(64), strict=False):
        optimizer.zero_grad()
        model.loss(model(batch), batch).backward()
        optimizer.step()
        seen.append(model.output.bias.detach().clone())
        parameters, averages = asgd_average(optimizer)
        average = averages[[id(p) for p in parameters].index(id(model.output.bias))]
        if len(seen) <= steps // 2:
            assert torch.equal(average, seen[-1])
    # torch starts the average with the weights of step t0 + 2; a few roundings of float32 in the running mean
    expected = torch.stack(seen[steps // 2 + 1 :]).mean(dim=0)
    torch.testing.assert_close(average, expected, rtol=1e-5, atol=1e-6)
    assert asgd_average(build_optimizer(model, optimizer_settings("sgd"), learning_rate=1, steps=1)) is None


@pytest.mark.parametrize("sparse", [False, True])
def test_clipping(sparse):
    def gradients(**limits):
        model = network(sparse=sparse).eval()
        batch = next(iter(TinyLoader(8)))
        (model.loss(model(batch), batch) * 100).backward()
        total = clip_gradients(model.parameters(), **limits)
        dense = [p.grad.to_dense().flatten() for p in model.parameters()]
        return total, torch.cat(dense), model

    total, whole, model = gradients()
    # float32 sums in another order: 400 numbers, each rounding 6e-8
    assert total == pytest.approx(float(whole.norm()), rel=1e-5)
    norms = gradient_norms(model)
    assert math.hypot(*norms.values()) == pytest.approx(total, rel=1e-5)
    assert set(norms) == {"embedding", "layer", "output"}
    _, clipped, _ = gradients(norm=1.0)
    torch.testing.assert_close(clipped, whole / total)
    _, clipped, _ = gradients(value=0.5)
    torch.testing.assert_close(clipped, whole.clamp(-0.5, 0.5))
    _, clipped, _ = gradients(norm=1.0, value=0.5)
    assert float(clipped.norm()) == pytest.approx(1.0, rel=1e-5)
    assert torch.equal(gradients(norm=1e9)[1], whole)


def test_a_gradient_that_is_no_number_is_reported_and_left():
    parameter = nn.Parameter(torch.zeros(2))
    parameter.grad = torch.tensor([math.nan, 1.0])
    assert math.isnan(clip_gradients([parameter], norm=0.1, value=0.1))
    assert float(parameter.grad[1]) == 1.0


@pytest.mark.parametrize("sparse", [False, True])
def test_embeddings_learn_at_a_multiple_of_the_rate(sparse):
    chosen = optimizer_settings("adamw").model_copy(update={"embedding_factor": 4.0})
    model = network(sparse=sparse)
    optimizer = build_optimizer(model, chosen, learning_rate=0.1, steps=1)
    tables = {id(p) for module in model.modules() if isinstance(module, nn.Embedding) for p in module.parameters()}
    rates = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    assert tables
    assert all(rate == pytest.approx(0.4 if key in tables else 0.1) for key, rate in rates.items())


def test_asgd_takes_a_new_rate_at_once_and_averages_when_told():
    model = nn.Linear(3, 2, bias=False)
    optimizer = build_optimizer(model, optimizer_settings("asgd", averaging="stalled", weight_decay=0.0), learning_rate=0.5, steps=6)
    weight, seen = model.weight, []
    for step, rate in enumerate((0.5, 0.1, 0.3, 0.2, 0.4, 0.1)):
        set_learning_rate(optimizer, rate)
        before = weight.detach().clone()
        weight.grad = torch.ones_like(weight)
        optimizer.step()
        torch.testing.assert_close(before - weight, torch.full_like(weight, rate))
        if step == 1:
            start_averaging(optimizer, step=2)
        elif step > 2:  # torch starts the average with the weights of step t0 + 2
            seen.append(weight.detach().clone())
        parameters, averages = asgd_average(optimizer)
        average = averages[[parameter is weight for parameter in parameters].index(True)]
        torch.testing.assert_close(average, torch.stack(seen).mean(0) if seen else weight.detach())
