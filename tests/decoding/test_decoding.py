"""Theorems of decoding, on small random recurrent models."""

from __future__ import annotations

import itertools
import math
from typing import NamedTuple

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from recurra.decoding import Shaping, beam_search, generate, generate_tokens, sequence_log_probabilities

END = 0
ROUNDING = 64 * torch.finfo(torch.float32).eps
"""Sums of at most ten logarithms of about one each, in float32, in another order or of products in another order."""


class Memory(NamedTuple):
    h: Tensor


class Model:
    """A random recurrence over V tokens that tells each row's own context apart."""

    def __init__(self, vocabulary: int, seed: int, hidden: int = 8) -> None:
        numbers = torch.Generator().manual_seed(seed)
        self.vectors = torch.randn(vocabulary, hidden, generator=numbers)
        self.recurrent = torch.randn(hidden, hidden, generator=numbers)
        self.output = 2 * torch.randn(vocabulary, hidden, generator=numbers)
        self.vocabulary = vocabulary

    def __call__(self, tokens: Tensor, state: Memory) -> tuple[Tensor, Memory]:
        h = torch.tanh(self.vectors[tokens] + state.h @ self.recurrent)
        return h @ self.output.T, Memory(h)

    def start(self, rows: int, seed: int = 7) -> tuple[Memory, Tensor]:
        return Memory(torch.randn(rows, 8, generator=torch.Generator().manual_seed(seed))), torch.ones(rows, dtype=torch.int64)


def row(state: Memory, number: int) -> Memory:
    return Memory(state.h[number : number + 1])


models = st.builds(Model, st.integers(2, 9), st.integers(0, 10_000))


@given(models, st.integers(1, 5))
@settings(max_examples=50, deadline=None)
def test_a_beam_of_one_is_greedy(model, rows):
    state, start = model.start(rows)
    greedy = generate(model, state, start, most=8, end=END)
    for number, found in enumerate(beam_search(model, state, start, width=1, end=END, most=8)):
        length = int(greedy.lengths[number])
        assert len(found) == 1
        assert found[0].tokens == greedy.tokens[number, :length].tolist()
        assert found[0].ended == bool((greedy.tokens[number] == END).any())
        torch.testing.assert_close(
            found[0].log_probability, float(greedy.log_probabilities[number].sum()), atol=ROUNDING * 8, rtol=ROUNDING
        )


def every_sequence(vocabulary, most):
    """Token by token: those that have ended, and those of the largest length."""
    others = [token for token in range(vocabulary) if token != END]
    for length in range(most):
        yield from ((list(tokens), True) for tokens in itertools.product(others, repeat=length))
    yield from ((list(tokens), False) for tokens in itertools.product(others, repeat=most))


@given(st.integers(2, 4), st.integers(0, 1_000), st.sampled_from([0.0, 0.6, 1.0]))
@settings(max_examples=25, deadline=None)
def test_a_beam_of_full_width_is_exhaustive_search(vocabulary, seed, length_power):
    model, most = Model(vocabulary, seed), 4
    state, start = model.start(1)
    found = beam_search(model, state, start, width=vocabulary**most, end=END, most=most, length_power=length_power)[0]
    expected = {}
    for tokens, ended in every_sequence(vocabulary, most):
        read = torch.tensor([[*tokens, *([END] if ended else [])]])
        total = float(sequence_log_probabilities(model, state, start, read).double().sum())
        expected[tuple(tokens), ended] = (total, total / read.shape[1] ** length_power)
    assert {(tuple(each.tokens), each.ended) for each in found} == expected.keys()
    for each in found:
        both = (each.log_probability, each.score)
        torch.testing.assert_close(both, expected[tuple(each.tokens), each.ended], atol=ROUNDING * 8, rtol=ROUNDING)
    keys = [(each.ended, each.score) for each in found]
    assert keys == sorted(keys, reverse=True)


@given(models, st.integers(2, 6), st.integers(1, 6))
@settings(max_examples=30, deadline=None)
def test_scores_are_what_teacher_forcing_gives_and_a_batch_is_its_rows_one_by_one(model, rows, width):
    state, start = model.start(rows)
    together = beam_search(model, state, start, width=width, end=END, most=6)
    for number, found in enumerate(together):
        alone = beam_search(model, row(state, number), start[:1], width=width, end=END, most=6)[0]
        assert [each.tokens for each in found] == [each.tokens for each in alone]
        assert len(found) <= width
        for each in found:
            read = torch.tensor([[*each.tokens, *([END] if each.ended else [])]])
            total = float(sequence_log_probabilities(model, row(state, number), start[:1], read).double().sum())
            torch.testing.assert_close(each.log_probability, total, atol=ROUNDING * 8, rtol=ROUNDING)
            assert each.score == each.log_probability / read.shape[1]


@given(models, st.integers(1, 5))
@settings(max_examples=30, deadline=None)
def test_rows_are_drawn_by_their_own_seeds(model, rows):
    state, start = model.start(rows)
    seeds = list(range(40, 40 + rows))
    together = generate(model, state, start, most=7, end=END, seeds=seeds)
    for number, seed in enumerate(seeds):
        alone = generate(model, row(state, number), start[:1], most=7, end=END, seeds=[seed])
        length = alone.tokens.shape[1]
        assert together.tokens[number, :length].tolist() == alone.tokens[0].tolist()
        assert (together.tokens[number, length:] == END).all()
        assert not together.log_probabilities[number, length:].any()


@given(models)
@settings(max_examples=30, deadline=None)
@pytest.mark.parametrize(
    "shaping",
    [Shaping(top_k=1), Shaping(temperature=1e-4), Shaping(top_p=1e-9), Shaping(min_p=1.0)],
    ids=["top_k", "cold", "top_p", "min_p"],
)
def test_drawing_from_one_token_is_greedy(shaping, model):
    state, start = model.start(3)
    greedy = generate(model, state, start, most=6, end=END)
    drawn = generate(model, state, start, most=6, end=END, shaping=shaping, seeds=[1, 2, 3])
    assert drawn.tokens.tolist() == greedy.tokens.tolist()
    assert torch.equal(drawn.log_probabilities, greedy.log_probabilities)


def constant(logits):
    """A model that always says the same."""
    return lambda tokens, state: (logits.expand(len(tokens), -1), state)


def test_tokens_come_as_often_as_they_are_probable():
    """Each count is binomial: more than five standard deviations off happens once in a million draws of the seeds."""
    probabilities = torch.tensor([0.5, 0.3, 0.15, 0.05, 0.0])
    rows = 4_000
    state, start = (torch.zeros(rows, 1),), torch.zeros(rows, dtype=torch.int64)
    drawn = generate(constant(probabilities.log()), state, start, most=1, seeds=range(rows)).tokens
    counts = torch.bincount(drawn.flatten(), minlength=5)
    deviations = (rows * probabilities * (1 - probabilities)).sqrt()
    assert ((counts - rows * probabilities).abs() <= 5 * deviations).all()


@pytest.mark.parametrize(
    ("shaping", "possible"),
    [
        (Shaping(), {0, 1, 2, 3}),
        (Shaping(top_k=2), {0, 1}),
        (Shaping(top_k=9), {0, 1, 2, 3}),
        (Shaping(top_p=0.79), {0, 1}),
        (Shaping(top_p=0.81), {0, 1, 2}),
        (Shaping(min_p=0.25), {0, 1, 2}),
        (Shaping(forbidden=[[0]], top_k=1), {1}),
        (Shaping(forbidden=[[5, 1]]), {0, 1, 2, 3}),
        (Shaping(forbidden=[[2, 1], [3]]), {0, 2}),
        (Shaping(temperature=100.0, min_p=0.9), {0, 1, 2, 3}),
        (Shaping(repetition_penalty=1e6, min_p=1e-3), {0, 1, 3}),
    ],
    ids=str,
)
def test_what_is_left_of_a_distribution(shaping, possible):
    """Probabilities .5 .3 .15 .05 after the tokens 3 and 2, as logits above zero for all but the token of the penalty."""
    logits = torch.tensor([[0.5, 0.3, 0.15, 0.05]]).log() + 1.5
    bent = shaping(logits, torch.tensor([[2, 2]]) if shaping.repetition_penalty != 1 else torch.tensor([[3, 2]]))
    left = set((bent[0] > -torch.inf).nonzero()[:, 0].tolist())
    assert left == possible


def test_the_penalty_lowers_what_has_come_whatever_its_sign():
    logits = torch.tensor([[2.0, -2.0, 1.0]])
    assert Shaping(repetition_penalty=2.0)(logits, torch.tensor([[0, 1]])).tolist() == [[1.0, -4.0, 1.0]]
    assert logits.tolist() == [[2.0, -2.0, 1.0]]


@given(models, st.lists(st.lists(st.integers(1, 1), min_size=1, max_size=2), min_size=1, max_size=2))
@settings(max_examples=20, deadline=None)
def test_what_is_forbidden_never_comes(model, sequences):
    shaping = Shaping(forbidden=sequences)
    state, start = model.start(2)
    if len(sequences[0]) == 1 and model.vocabulary == 1:
        return
    texts = [
        hypothesis.tokens for found in beam_search(model, state, start, width=4, end=END, most=6, shaping=shaping) for hypothesis in found
    ]
    texts += generate(model, state, start, most=6, end=END, shaping=shaping, seeds=[0, 1]).tokens.tolist()
    for tokens, sequence in itertools.product(texts, sequences):
        assert all(tokens[at : at + len(sequence)] != sequence for at in range(len(tokens)))


def holds(tokens, phrase):
    return any(tokens[at : at + len(phrase)] == phrase for at in range(len(tokens)))


@given(st.integers(4, 9), st.integers(0, 1_000), st.data(), st.integers(1, 8))
@settings(max_examples=60, deadline=None)
def test_phrases_stand_in_what_is_found(vocabulary, seed, data, width):
    """Also with fewer places than tokens of phrases: those that hold most come first."""
    model = Model(vocabulary, seed)
    phrase = st.lists(st.integers(1, vocabulary - 1), min_size=1, max_size=3)
    phrases = [data.draw(st.lists(phrase, max_size=2)) for _ in range(2)]
    state, start = model.start(2)
    for wanted, found in zip(phrases, beam_search(model, state, start, width=width, end=END, most=12, phrases=phrases), strict=True):
        assert all(holds(each.tokens, phrase) for each in found if each.ended for phrase in wanted)
        assert all(holds(found[0].tokens, phrase) for phrase in wanted)


def test_no_phrases_are_a_plain_search():
    model = Model(7, 3)
    state, start = model.start(3)
    plain = beam_search(model, state, start, width=5, end=END, most=7)
    assert beam_search(model, state, start, width=5, end=END, most=7, phrases=[[], [], []]) == plain


def test_rows_without_an_end_are_of_one_length():
    model = Model(5, 1)
    state, start = model.start(2)
    found = generate(model, state, start, most=9)
    assert found.tokens.shape == (2, 9)
    assert found.lengths.tolist() == [9, 9]
    assert generate(model, state, start, most=0).tokens.shape == (2, 0)
    first = next(generate_tokens(model, state, start, most=9))
    assert torch.equal(first[0], found.tokens[:, 0])


def test_what_stands_beyond_a_length_has_no_probability():
    model = Model(5, 1)
    state, start = model.start(2)
    tokens, lengths = torch.tensor([[1, 2, 3], [4, 3, 2]]), torch.tensor([3, 1])
    found = sequence_log_probabilities(model, state, start, tokens, lengths)
    whole = sequence_log_probabilities(model, state, start, tokens)
    assert torch.equal(found[0], whole[0])
    assert torch.equal(found[1, :1], whole[1, :1])
    assert not found[1, 1:].any()
    assert sequence_log_probabilities(model, state, start, tokens[:, :0]).shape == (2, 0)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda model, state, start: beam_search(model, state, start, width=0, end=END, most=3), "width is 0"),
        (lambda model, state, start: beam_search(model, state, start, width=2, end=END, most=0), "most 0"),
        (lambda model, state, start: beam_search(model, state, start, width=2, end=END, most=3, phrases=[[]]), "each of the 2 rows"),
        (lambda model, state, start: beam_search(model, state, start, width=2, end=END, most=3, phrases=[[[]], []]), "phrase is empty"),
        (lambda model, state, start: generate(model, state, start, most=3, seeds=[1]), "one seed for each of the 2 rows"),
        (
            lambda model, state, start: generate(model, state, start, most=3, shaping=Shaping(forbidden=[[0], [1], [2], [3], [4]])),
            "forbidden here",
        ),
        (lambda *_: Shaping(temperature=0.0), "temperature is 0.0"),
        (lambda *_: Shaping(temperature=1e-40), "temperature is 1e-40"),
        (lambda *_: Shaping(temperature=math.inf), "temperature is inf"),
        (lambda *_: Shaping(repetition_penalty=math.inf), "repetition_penalty is inf"),
        (lambda *_: Shaping(top_p=0.0), "top_p is 0.0"),
        (lambda *_: Shaping(top_k=-1), "top_k is -1"),
        (lambda *_: Shaping(min_p=2.0), "min_p is 2.0"),
        (lambda *_: Shaping(repetition_penalty=0.0), "repetition_penalty is 0.0"),
        (lambda *_: Shaping(forbidden=[[]]), "forbidden sequence is empty"),
    ],
)
def test_what_cannot_be_done_is_refused(call, message):
    model = Model(5, 1)
    with pytest.raises(ValueError, match=message):
        call(model, *model.start(2))
