"""The network of text to text: at once as step by step, no future, no neighbours; and what a search finds is what it is scored by."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch

from recurra.config import load_settings
from recurra.data.batch import Batch, Sequence
from recurra.data.store import Ragged
from recurra.errors import SettingsError
from recurra.heads.translate import Decoded
from recurra.model.translate.measuring import alignments, force
from recurra.model.translate.network import SOURCE, TARGET, TranslateNetwork
from recurra.model.translate.search import Search, search

SIZE = 9
"""Tokens of the vocabulary, padding and unknown token included."""
KINDS: dict[str, dict[str, Any]] = {
    "multiplicative": {},
    "additive": {"translate.attention": "additive", "translate.attention_size": 5},
    "coverage": {"translate.attention": "additive", "translate.coverage": True},
    "input feeding": {"translate.input_feeding": True},
    "copying": {"translate.copying": True},
    "copying, step by step": {"translate.copying": True, "translate.input_feeding": True, "translate.tied": False},
    "two layers of GRU, not tied": {"encoder.cell": "gru", "encoder.layers": 2, "translate.decoder_layers": 2, "translate.tied": False},
    "scan cells": {"encoder.cell": "min_gru", "translate.decoder_size": 7},
    "remembering its input": {"encoder.cell": "qrnn", "encoder.pooling": "last"},
}
kinds = pytest.mark.parametrize("kind", KINDS)
CLOSE = {"rtol": 1e-9, "atol": 1e-9}
"""In float64, some hundred operations on numbers of about one: a million times their rounding."""


def network(kind: str = "multiplicative", **settings: Any) -> TranslateNetwork:
    base = {"head.task": "translate", "embedding.size": 6, "encoder.hidden_size": 4, "embedding.init_range": 1.0}
    noise = {"head.dropout": 0.0, "embedding.dropout": 0.0}
    torch.manual_seed(0)
    given = {name.replace("__", "."): value for name, value in settings.items()}
    return TranslateNetwork(SIZE, load_settings({**base, **noise, **KINDS[kind], **given})).double().eval()


def ragged(lengths: list[int], seed: int = 0) -> Ragged:
    draw = np.random.default_rng(seed)
    return Ragged.from_rows([draw.integers(2, SIZE, length) for length in lengths])


def batch(sources: Ragged, targets: Ragged, fill: int = 0) -> Batch:
    inputs = {}
    for name, column in ((SOURCE, sources), (TARGET, targets)):
        values, lengths = column.pad(fill)
        inputs[name] = Sequence(torch.from_numpy(values.astype(np.int64)), torch.from_numpy(lengths))
    return Batch(inputs, {}, torch.arange(len(sources)))


SOURCES, TARGETS = ragged([5, 2, 7, 1]), ragged([3, 6, 0, 4], seed=1)


@kinds
def test_the_whole_target_at_once_is_step_by_step(kind: str) -> None:
    model = network(kind)
    data = batch(SOURCES, TARGETS)
    whole = model(data)
    encoded = model.encode(data.inputs[SOURCE])
    state = model.initial_state(encoded)
    tokens = torch.full((4,), model.start)
    for position in range(7):
        scores, state = model.step(tokens, state, encoded)
        there = TARGETS.lengths >= position
        step = Decoded(whole.read[:, position], whole.weights[:, position])
        expected = model.head.scores(step, model.embedding.weight, data.inputs[SOURCE].values)
        torch.testing.assert_close(scores[there], expected[there], **CLOSE)
        if position < 6:
            tokens = data.inputs[TARGET].values[:, position]


@kinds
def test_later_tokens_of_the_target_change_nothing_before_them(kind: str) -> None:
    model = network(kind)
    changed = Ragged(TARGETS.values.copy(), TARGETS.offsets)
    changed[1][3:] = (changed[1][3:] - 1) % (SIZE - 2) + 2
    first, second = model(batch(SOURCES, TARGETS)).read[1], model(batch(SOURCES, changed)).read[1]
    torch.testing.assert_close(first[:4], second[:4], **CLOSE)
    assert not torch.allclose(first[4:7], second[4:7])


@kinds
def test_rows_and_padding_change_nothing(kind: str) -> None:
    model = network(kind)
    data = batch(SOURCES, TARGETS, fill=SIZE - 1)
    together = model.losses(model(data), data)[0]
    alone = [force(model, SOURCES.take([row]), TARGETS.take([row])) for row in range(4)]
    expected = np.array([each.losses[0] for each in alone])
    found = np.add.reduceat(together.detach().numpy(), np.concatenate([[0], np.cumsum(TARGETS.lengths + 1)[:-1]]))
    np.testing.assert_allclose(found, expected, rtol=1e-9)
    np.testing.assert_allclose(force(model, SOURCES, TARGETS).losses, expected, rtol=1e-9)


@kinds
def test_a_source_of_nothing_has_finite_figures(kind: str) -> None:
    model = network(kind)
    for sources in (ragged([0, 0]), ragged([0, 3])):
        found = force(model, sources, ragged([2, 2]))
        assert np.isfinite(found.losses).all()


@kinds
def test_what_is_found_is_scored_as_teacher_forcing_does(kind: str) -> None:
    model = network(kind)
    found = search(model, SOURCES, Search(4, n_best=4, most=6, length_power=0.7, unknown=True))
    for row, outputs in enumerate(found):
        ended = [each for each in outputs if each.ended]
        assert [each.score for each in ended] == sorted((each.score for each in ended), reverse=True)
        for each in ended:
            forced = force(model, SOURCES.take([row]), Ragged.from_rows([each.tokens]))
            assert each.log_probability == pytest.approx(-forced.losses[0], rel=1e-9)
            assert each.score == pytest.approx(each.log_probability / (len(each.tokens) + 1) ** 0.7)


@kinds
def test_one_source_does_not_depend_on_the_others(kind: str) -> None:
    model = network(kind)
    chosen = Search(3, n_best=3, most=6)
    together = search(model, SOURCES, chosen)
    assert [[each.tokens for each in outputs] for outputs in together] == [
        [each.tokens for each in search(model, SOURCES.take([row]), chosen)[0]] for row in range(4)
    ]


def test_a_full_beam_finds_the_best_of_all() -> None:
    model = network()
    tokens = list(range(1, SIZE))
    every = [list(each) for length in range(3) for each in itertools.product(tokens, repeat=length)]
    one = SOURCES.take([0])
    losses = [force(model, one, Ragged.from_rows([each])).losses[0] for each in every]
    found = search(model, one, Search(SIZE**3, most=3, length_power=0.0, unknown=True))[0][0]
    assert found.tokens == every[int(np.argmin(losses))]


@kinds
def test_attention_is_spread_over_the_source_alone(kind: str) -> None:
    for weights, source, target in zip(alignments(network(kind), SOURCES, TARGETS), SOURCES.lengths, TARGETS.lengths, strict=True):
        assert weights.shape == (target + 1, source)
        np.testing.assert_allclose(weights.sum(1), 1.0, rtol=1e-6)


def test_coverage_is_the_sum_of_the_weights_so_far() -> None:
    model = network("coverage")
    encoded = model.encode(batch(SOURCES, TARGETS).inputs[SOURCE])
    state = model.initial_state(encoded)
    targets = Ragged.from_rows([[3, 4]] * 4)
    weights = model(batch(SOURCES, targets)).weights
    for step, token in enumerate((model.start, 3, 4)):
        torch.testing.assert_close(state.coverage, weights[:, :step].sum(1), **CLOSE)
        _, state = model.step(torch.full((4,), token), state, encoded)


@pytest.mark.parametrize("kind", ["multiplicative", "two layers of GRU, not tied", "copying"])
def test_label_smoothing_moves_probability_to_all_tokens_that_can_come(kind: str) -> None:
    model = network(kind, head__label_smoothing=0.2)
    data = batch(SOURCES, TARGETS)
    plain = model.losses(model(data), data)[0]
    torch.testing.assert_close(model.loss(model(data), data), plain.mean(), **CLOSE)  # not in evaluation
    outputs = model(data)
    model.train()
    real = torch.arange(7) <= torch.from_numpy(TARGETS.lengths)[:, None]
    source = data.inputs[SOURCE].values[real.nonzero()[:, 0]]
    logs = model.head.logits(Decoded(outputs.read[real], outputs.weights[real]), model.embedding.weight, source).log_softmax(1)
    torch.testing.assert_close(model.loss(outputs, data), 0.8 * plain.mean() - 0.2 * logs.mean(), **CLOSE)


@torch.no_grad()
@pytest.mark.parametrize("kind", ["copying", "copying, step by step"])
def test_what_is_copied_is_a_share_of_the_probability(kind: str) -> None:
    """The probabilities of a step are what See et al. 2017 write (equation 9), token by token; they sum to one, also of an empty source."""
    model = network(kind)
    data = batch(ragged([5, 0]), ragged([3, 2], seed=1))
    data.inputs[SOURCE].values[0, 1] = data.inputs[SOURCE].values[0, 3]  # a token that stands there twice
    decoded, source = model(data), data.inputs[SOURCE].values
    for row, position in ((0, 0), (0, 2), (1, 1)):
        one = Decoded(decoded.read[row, position][None], decoded.weights[row, position][None])
        scores = model.head.scores(one, model.embedding.weight, source[row][None])[0].exp()
        softmax = model.head.scores(one, model.embedding.weight)[0].softmax(0)
        gate = model.head.gate(one.read).sigmoid().item() if row == 0 else 1.0
        for token in range(1, SIZE + 1):
            copied = sum(float(one.weights[0, place]) for place in range(source.shape[1]) if source[row, place] == token)
            assert float(scores[token]) == pytest.approx(gate * float(softmax[token]) + (1 - gate) * copied, rel=1e-9)
        assert float(scores.sum()) == pytest.approx(1.0, rel=1e-9)


def test_every_parameter_learns() -> None:
    for kind in KINDS:
        model = network(kind, translate__sampling=0.5, translate__sampling_batches=1).train()
        data = batch(SOURCES, TARGETS)
        model.loss(model(data), data).backward()
        assert all(parameter.grad is not None and bool(parameter.grad.any()) for parameter in model.parameters()), kind


def test_sampling_rises_batch_by_batch() -> None:
    data = batch(SOURCES, TARGETS)
    model = network(translate__sampling=0.9, translate__sampling_batches=4)
    forced = model(data)
    model.train()
    torch.manual_seed(0)
    for number in range(1, 5):
        model(data)
        assert int(model.batches) == number
    assert not torch.allclose(model(data).read, forced.read)
    model.eval()
    torch.testing.assert_close(model(data).read, forced.read, **CLOSE)
    never = network(translate__sampling=0.9, translate__sampling_batches=10**12).train()
    torch.testing.assert_close(never.losses(never(data), data)[0], never.losses(forced, data)[0], **CLOSE)


def test_padding_and_the_beginning_never_come() -> None:
    model = network()
    with torch.no_grad():
        model.embedding.weight[model.start] = 100.0
    found = search(model, SOURCES, Search(5, n_best=5, most=8))
    tokens = {token for outputs in found for each in outputs for token in each.tokens}
    assert tokens <= set(range(2, SIZE))


@pytest.mark.parametrize("wrong", [{"beam": 0}, {"beam": 2, "n_best": 3}, {"beam": 2, "most": 0}, {"beam": 1, "forced": ((2,),)}])
def test_numbers_out_of_range_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(SettingsError):
        Search(**wrong)


def test_the_backend_is_told_and_what_is_slow() -> None:
    assert "step by step" not in network().explain_backend()
    assert "input feeding" in network("input feeding").explain_backend()
