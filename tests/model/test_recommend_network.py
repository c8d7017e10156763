"""The network of a recommendation: streams, carried state, negatives. Tolerances: float32 sums of some hundred numbers of about 1."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from clicks import chosen, clicks, encoded, network
from recurra.cells.state import detach
from recurra.config import Settings
from recurra.data.cases import Cases
from recurra.data.sessions import Sessions
from recurra.data.store import Ragged, offsets_of
from recurra.features.items import ItemVocabulary
from recurra.model.recommend.batch import ClickBatch, Seen, distance_numbers
from recurra.model.recommend.network import Answered, Asked, RecommendNetwork
from recurra.model.recommend.questions import QuestionBatches, rank_cases
from recurra.training.recommend.loaders import StreamLoader
from recurra.training.recommend.negatives import Negatives

CELLS = ["gru", "lstm", "min_gru"]
FULL = {"recommend__negatives": "all"}


def alone(sessions: Sessions, row: int) -> Sessions:
    """One session of several."""
    kept = np.arange(len(sessions)) == row
    return sessions.part(np.zeros(len(sessions), np.int64), np.where(kept, sessions.items.lengths, 0))


def gradients(model: RecommendNetwork, loss: torch.Tensor) -> list[torch.Tensor]:
    model.zero_grad()
    loss.backward()
    found = [torch.zeros_like(p) if p.grad is None else p.grad for p in model.parameters()]
    return [each.to_dense().clone() if each.is_sparse else each.clone() for each in found]


def through(model: RecommendNetwork, loader: StreamLoader, *, cut: bool) -> tuple[torch.Tensor, int]:
    """Sum of the losses of an epoch, the state carried (and cut off from its graph) from batch to batch; and how many answers it has."""
    state: Any = None
    total, answers = torch.zeros(()), 0
    for batch in loader:
        outputs, state = model.carry(batch, state)
        state = detach(state) if cut else state
        total = total + model.loss(outputs, batch) * len(batch)
        answers += len(batch)
    return total, answers


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("tied", [True, False])
def test_streams_with_resets_are_the_sessions_one_by_one(cell: str, tied: bool) -> None:
    sessions, items = encoded()
    settings = chosen(encoder__cell=cell, recommend__tied=tied, recommend__window=200, **FULL)
    model = network(items, settings)
    total, answers = through(model, StreamLoader(sessions, items, settings), cut=True)
    expected = torch.zeros(())
    for row in np.flatnonzero(sessions.items.lengths > 1):
        loader = StreamLoader(alone(sessions, row), items, settings)
        loss, _ = through(model, loader, cut=True)
        expected = expected + loss
    assert answers == int((sessions.items.lengths - 1).sum())
    torch.testing.assert_close(total, expected, rtol=1e-5, atol=1e-4)
    for found, right in zip(gradients(model, total), gradients(model, expected), strict=True):
        torch.testing.assert_close(found, right, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("cell", CELLS)
def test_windows_with_carried_state_give_the_values_of_whole_sessions(cell: str) -> None:
    """Values for any window; gradients too where the state is not cut off, and where one window covers every session."""
    sessions, items = encoded()
    losses, found = [], []
    for window, cut in ((200, True), (200, False), (3, True), (3, False)):
        settings = chosen(encoder__cell=cell, recommend__window=window, **FULL)
        model = network(items, settings)
        total, _ = through(model, StreamLoader(sessions, items, settings), cut=cut)
        losses.append(total.detach())
        found.append(gradients(model, total))
    for loss in losses[1:]:
        torch.testing.assert_close(loss, losses[0], rtol=1e-5, atol=1e-4)
    for full, covered, cut_off, joined in zip(*found, strict=True):
        torch.testing.assert_close(covered, full, rtol=0, atol=0)
        torch.testing.assert_close(joined, full, rtol=1e-4, atol=1e-4)
        assert cut_off.shape == full.shape
    assert any((short - full).abs().max() > 1e-3 for full, _, short, _ in zip(*found, strict=True)), "a short window cuts something off"


def test_what_comes_later_changes_nothing_before() -> None:
    sessions, items = encoded()
    model = network(items, chosen()).eval()
    row = int(np.argmax(sessions.items.lengths))
    first = sessions.items[row].astype(np.int64)
    other = first.copy()
    other[4:] = (other[4:] + 1) % len(items)
    vectors = []
    for values in (first, other):
        cases = Cases.every_step(Ragged(values, offsets_of([len(values)])))
        batch, numbers = QuestionBatches(cases).batch(0)
        assert numbers.tolist() == list(range(len(values) - 1))
        vectors.append(model.scores(model.vectors(batch), batch.seen))
    assert torch.equal(vectors[0][:4], vectors[1][:4])
    assert not torch.equal(vectors[0][4:], vectors[1][4:])


def step(model: RecommendNetwork, batch: ClickBatch) -> tuple[torch.Tensor, list[torch.Tensor]]:
    loss = model.loss(model(batch), batch)
    return loss.detach(), gradients(model, loss)


@pytest.mark.parametrize("loss", ["cross_entropy", "bpr_max", "top1_max"])
@pytest.mark.parametrize("tied", [True, False])
def test_with_all_items_as_negatives_a_sampled_loss_is_the_full_one(loss: str, tied: bool) -> None:
    sessions, items = encoded()
    common = {"recommend__loss": loss, "recommend__tied": tied, "recommend__window": 50}
    full = chosen(**common, **FULL)
    batch = next(iter(StreamLoader(sessions, items, full)))
    assert batch.rows is None
    rows = torch.arange(len(items))
    everything = replace(batch, rows=rows, log_weights=torch.zeros(len(items)) if loss == "cross_entropy" else None)
    right = step(network(items, full), batch)
    found = step(network(items, chosen(**common)), everything)
    torch.testing.assert_close(found[0], right[0], rtol=1e-6, atol=1e-6)
    for gradient, correct in zip(found[1], right[1], strict=True):
        torch.testing.assert_close(gradient, correct, rtol=1e-5, atol=1e-6)


def test_items_that_are_surely_drawn_have_no_correction() -> None:
    counts = np.array([5, 1, 1, 3])
    negatives = Negatives(counts, drawn=10_000, alpha=0.5, logq=1.0)
    rows = negatives.rows(np.array([2]), np.random.default_rng(0))
    assert rows.tolist() == [0, 1, 2, 3]
    assert np.abs(negatives.log_weights(rows, 1)).max() < 1e-6


def test_the_correction_is_one_over_the_probability_of_being_there() -> None:
    """Drawn many times, an item is there as often as its weight says: three standard errors of 4,000 draws of a share."""
    counts = np.array([40, 1, 4, 10])
    negatives = Negatives(counts, drawn=3, alpha=0.5, logq=1.0)
    random = np.random.default_rng(0)
    found = np.zeros(4)
    for _ in range(4_000):
        own = random.choice(4, size=2, p=counts / counts.sum())
        found[negatives.rows(own, random)] += 1 / 4_000
    probability = np.exp(-negatives.log_weights(np.arange(4), clicks=2))
    assert np.abs(found - probability).max() < 3 * 0.5 / np.sqrt(4_000)
    half = Negatives(counts, drawn=3, alpha=0.5, logq=0.5)
    np.testing.assert_allclose(half.log_weights(np.arange(4), 2), 0.5 * negatives.log_weights(np.arange(4), 2), rtol=1e-6)


def test_the_items_of_a_batch_stand_for_all_items() -> None:
    """Weighed by one over their probability they count as many as there are, on average: three standard errors over the batches.

    The clicks are drawn one by one, so that nothing but what is counted as a click of the batch can be wrong.
    """
    random = np.random.default_rng(0)
    names = random.choice(60, size=(4_000, 9), p=np.arange(1, 61) / 1_830).tolist()
    table = [{"who": n, "what": f"i{item}", "when": 9 * n + step} for n, row in enumerate(names) for step, item in enumerate(row)]
    sessions, items = encoded(table)
    loader = StreamLoader(sessions, items, chosen(recommend__negatives=1, recommend__window=8, training__batch_size=7))
    counted = np.array([float(batch.log_weights.exp().sum()) for batch in loader if batch.log_weights is not None])
    assert len(counted) > 560
    assert abs(counted.mean() - 60) < 3 * counted.std() / np.sqrt(len(counted))


def test_only_rows_of_the_batch_have_gradients() -> None:
    sessions, items = encoded(clicks(items=200, sessions=60))
    settings = chosen(recommend__negatives=3)
    model = network(items, settings)
    batch = next(iter(StreamLoader(sessions, items, settings)))
    model.loss(model(batch), batch).backward()
    assert batch.rows is not None
    assert len(batch.rows) < len(items) / 2
    for table in (model.embedding, model.bias):
        assert table is not None
        gradient = table.weight.grad
        assert gradient is not None
        assert gradient.is_sparse
        assert torch.equal(gradient._indices()[0], batch.rows)


def test_earlier_clicks_are_those_of_the_session_up_to_the_question() -> None:
    values = np.array([7, 8, 7, 9, 5, 5])
    seen = Seen.before(np.array([2, 4]), np.array([3, 1]), values)
    assert seen.questions.tolist() == [0, 0, 0, 1]
    assert seen.items.tolist() == [7, 8, 7, 5]
    assert seen.distances.tolist() == [0, 1, 2, 0]
    assert distance_numbers(np.array([1, 2, 3, 4, 5, 8, 9, 64, 500])).tolist() == [0, 1, 2, 2, 3, 3, 4, 6, 7]
    assert Seen.before(np.array([2, 4]), np.array([3, 1]), values, among=np.array([5, 8])).items.tolist() == [8, 5]
    assert Seen.before(np.array([99]), np.array([90]), np.arange(100)).items.tolist() == list(range(99, 35, -1))


@pytest.mark.parametrize("gaps", [False, True])
def test_ranks_do_not_depend_on_the_batches(gaps: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    sessions, items = encoded()
    model = network(items, chosen(recommend__time_gaps=gaps))
    numbers = np.arange(sessions.clicks) % 5 if gaps else None
    cases = Cases.every_step(sessions.items)
    whole = rank_cases(model, cases, gaps=numbers, top=3)
    with monkeypatch.context() as patch:
        patch.setattr("recurra.model.recommend.questions.ROWS", 2)
        patch.setattr("recurra.model.recommend.questions.SCORES", 12)
        pieces = rank_cases(model, cases, gaps=numbers, top=3)
    assert np.array_equal(whole.ranks, pieces.ranks)
    assert np.array_equal(whole.top, pieces.top)
    assert np.array_equal(whole.answers, cases.answers)
    found = [model.eval()(batch) for batch in QuestionBatches(cases, numbers)]
    assert sorted(np.concatenate([each.ranks for each in found if isinstance(each, Answered)])) == sorted(whole.ranks)


def test_clicks_on_unknown_items_are_stepped_over() -> None:
    _, items = encoded()
    model = network(items, chosen())
    known = np.array([3, 1, 2, 4])
    with_others = np.array([-1, 3, 1, -1, 2, -1, 4])
    plain = rank_cases(model, Cases.last_step(Ragged(known, offsets_of([4]))))
    other = rank_cases(model, Cases.last_step(Ragged(with_others, offsets_of([7]))))
    assert plain.ranks == other.ranks
    nothing = rank_cases(model, Cases.last_step(Ragged(np.array([-1, 2]), offsets_of([2]))), top=3)
    assert model.bias is not None
    assert nothing.top[0].tolist() == model.bias.weight[:, 0].argsort(descending=True)[:3].tolist(), "the bias alone decides"
    assert rank_cases(model, Cases.last_step(Ragged(np.array([2, -1]), offsets_of([2])))).ranks[0] == np.inf


def test_attributes_move_the_scores_and_a_batch_without_answers_has_no_loss() -> None:
    sessions, items = encoded(attributes=["kind"])
    assert items.attributes["kind"].values == ["even", "odd"] or items.attributes["kind"].values == ["odd", "even"]
    names = items.names.to_list()
    for name, number in zip(names, items.attributes["kind"].numbers, strict=True):
        assert items.attributes["kind"].values[number - 1] == ("even" if int(name[1:]) % 2 == 0 else "odd")
    settings: Settings = chosen(recommend__attributes=["kind"])
    model = network(items, settings)
    batch = next(iter(StreamLoader(sessions, items, settings)))
    before = model(batch)
    assert isinstance(before, Asked)
    with torch.no_grad():
        model.attributes[0].weight[1] += 1.0  # type: ignore[union-attr, index, operator]
    after = model(batch)
    assert isinstance(after, Asked)
    assert not torch.equal(before.vectors, after.vectors)


def test_a_vocabulary_comes_back_from_its_state() -> None:
    _, items = encoded(attributes=["kind"])
    again = ItemVocabulary.from_state(items.state())
    assert again.state() == items.state()
    assert again.numbers(items.names).tolist() == list(range(len(items)))
