"""n-grams with Kneser-Ney smoothing: a distribution after every context, the same by either way, and what the paper says."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recurra.config import EvaluationSettings
from recurra.evaluation.language.baselines import fit_baselines
from recurra.evaluation.language.details import by_frequency, by_place
from recurra.evaluation.language.ngrams import KneserNey

V = 6
texts = st.lists(st.integers(1, V - 1), min_size=1, max_size=60)


@settings(max_examples=60)
@given(texts, st.integers(1, 5), st.lists(st.integers(1, V - 1), max_size=7))
def test_probabilities_sum_to_one_after_any_context(text: list[int], order: int, context: list[int]) -> None:
    found = KneserNey(np.array(text), V, order=order).probabilities(np.array(context, np.int64))
    # Sums of six float64 numbers through five orders: 1e-12 is far above their rounding.
    assert abs(found.sum() - 1.0) < 1e-12
    assert found[0] == 0.0
    assert (found[1:] > 0).all()


@settings(max_examples=40)
@given(texts, st.integers(1, 4), st.lists(st.integers(1, V - 1), min_size=2, max_size=20))
def test_losses_of_a_text_are_those_of_its_contexts(text: list[int], order: int, measured: list[int]) -> None:
    model, tokens = KneserNey(np.array(text), V, order=order), np.array(measured)
    expected = [-np.log(model.probabilities(tokens[:place])[tokens[place]]) for place in range(1, len(tokens))]
    np.testing.assert_allclose(model.losses(tokens), expected, rtol=1e-10)


def test_counts_of_lower_orders_are_of_different_contexts() -> None:
    """Token 5 is frequent and always comes after 4; token 3 is rarer and comes after many: after a new context it is the likelier one."""
    text = np.array([4, 5] * 40 + [1, 3, 2, 3, 4, 3, 5, 3] * 3)
    after_new = KneserNey(np.append(text, 6), 8, order=2).probabilities(np.array([6]))
    assert (text == 5).sum() > (text == 3).sum()
    assert after_new[3] > after_new[5]


def test_a_small_text_by_hand() -> None:
    """Counts of 3, 1 and 1: no count of two, so half of one is taken from each, and what is taken is spread over the five tokens."""
    found = KneserNey(np.array([1, 1, 1, 2, 3]), V, order=1).probabilities(np.zeros(0, np.int64))
    np.testing.assert_allclose(found, np.array([0, 2.5 + 0.3, 0.5 + 0.3, 0.5 + 0.3, 0.3, 0.3]) / 5, rtol=1e-12)


def test_discounts_are_those_of_the_paper() -> None:
    """Six tokens once, three twice, two three times, one four times: Y = 6 / 12, and D = 1 - 2Y 3/6, 2 - 3Y 2/3, 3 - 4Y 1/2."""
    times = [1] * 6 + [2] * 3 + [3] * 2 + [4]
    text = np.repeat(np.arange(1, 13), times)
    found = KneserNey(text, 13, order=1).probabilities(np.zeros(0, np.int64))
    discounts = np.array([0.0, 0.5, 1.0, 2.0, 2.0])[times]
    np.testing.assert_allclose(found[1:], (np.array(times) - discounts + discounts.sum() / 12) / len(text), rtol=1e-12)


def test_more_context_predicts_a_text_of_patterns_better() -> None:
    draw = np.random.default_rng(0)
    words = [np.array(word) for word in ([1, 2, 3], [4, 2, 5], [5, 2, 1])]
    train, held_out = (np.concatenate([words[n] for n in draw.integers(0, 3, 400)]) for _ in range(2))
    losses = [KneserNey(train, V, order=order).losses(held_out).mean() for order in (1, 2, 3)]
    assert losses[0] > losses[1] > losses[2]


def test_what_cannot_be_counted_is_refused() -> None:
    with pytest.raises(ValueError, match="1 or more"):
        KneserNey(np.zeros(0, np.int64), V, order=2)
    with pytest.raises(ValueError, match="from 1 to 5"):
        KneserNey(np.array([1, 6]), V, order=2)


def test_baselines_have_the_figures_of_the_network() -> None:
    text = np.tile(np.array([1, 2, 3, 4]), 200)
    found = fit_baselines(
        text[:600], text[600:], vocabulary_size=V, order=3, characters=199, settings=EvaluationSettings(bootstrap_samples=50)
    )
    assert set(found) == {"ngrams", "unigram"}
    assert found["ngrams"].metrics["perplexity"] < 1.1 < found["unigram"].metrics["perplexity"]
    for baseline in found.values():
        assert set(baseline.metrics) == {"perplexity", "loss", "bits_per_character", "tokens"}
        low, high = baseline.intervals["perplexity"]
        # Sums in another order.
        assert low * (1 - 1e-9) <= baseline.metrics["perplexity"] <= high * (1 + 1e-9)


def test_groups_of_tokens_have_their_mean_loss() -> None:
    answers = np.repeat([1, 2, 3], [50, 50, 5])
    losses = {"network": np.where(answers == 1, 1.0, 2.0)}
    records = by_frequency(losses, answers, np.array([0, 2_000, 7, 0]))
    assert [(record["group"], record["value"], record["count"]) for record in records] == [("1+", 2.0, 50), ("1,000+", 1.0, 50)]
    places = by_place({"network": np.arange(1_000.0)})
    assert [record["value"] for record in places] == [100 * place + 49.5 for place in range(10)]
