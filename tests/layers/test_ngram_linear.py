"""The linear model on n-grams of tokens: what it counts, against scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.sparse import csr_matrix
from sklearn.feature_extraction.text import TfidfVectorizer

from recurra.layers import NgramLinear
from recurra.shapes import Tensor

VOCABULARY = 50
CLASSES = 3


def rows(seed: int = 0, count: int = 40) -> list[list[int]]:
    """Token numbers, few of them frequent; one row is empty."""
    draw = np.random.default_rng(seed)
    return [[], *(draw.geometric(0.15, draw.integers(1, 12)).clip(1, VOCABULARY - 1).tolist() for _ in range(count - 1))]


def flat(table: list[list[int]]) -> tuple[Tensor, Tensor]:
    numbers = [number for number, row in enumerate(table) for _ in row]
    return torch.tensor([token for row in table for token in row]), torch.tensor(numbers)


def learnt(table: list[list[int]], order: int, *, least: int = 2, most: int = 10_000) -> NgramLinear:
    """With random weights."""
    linear = NgramLinear(0, CLASSES, order=order, vocabulary_size=VOCABULARY)
    linear.learn(*flat(table), len(table), least=least, most=most)
    draw = torch.Generator().manual_seed(1)
    linear.weight = torch.randn(len(linear.keys), CLASSES, generator=draw)
    linear.bias = torch.randn(CLASSES, generator=draw)
    return linear


def padded(table: list[list[int]], filling: int = 0, steps: int = 0) -> tuple[Tensor, Tensor]:
    longest = max(steps, *(len(row) for row in table))
    tokens = torch.tensor([row + [filling] * (longest - len(row)) for row in table])
    return tokens, torch.arange(longest) < torch.tensor([len(row) for row in table])[:, None]


def known(linear: NgramLinear) -> list[str]:
    """The n-grams by number, as scikit-learn writes them."""
    found: list[str] = []
    for key in linear.keys.tolist():
        front, token = divmod(key, VOCABULARY)
        found.append(f"{found[front - 1]} {token}" if front else str(token))
    return found


@pytest.mark.parametrize("order", [1, 2, 4])
@pytest.mark.parametrize("least", [1, 2])
def test_it_counts_as_scikit_learn_does(order: int, least: int) -> None:
    table, others = rows(), rows(seed=1)
    linear = learnt(table, order, least=least)
    vectorizer = TfidfVectorizer(
        analyzer=lambda row: [" ".join(map(str, row[at : at + n])) for n in range(1, order + 1) for at in range(len(row) - n + 1)],
        min_df=least,
        sublinear_tf=True,
    ).fit(table)
    ngrams = known(linear)
    assert sorted(ngrams) == sorted(vectorizer.vocabulary_)
    columns = [vectorizer.vocabulary_[ngram] for ngram in ngrams]
    np.testing.assert_allclose(linear.idf, vectorizer.idf_[columns], rtol=1e-6)
    for part in (table, others):
        wanted = vectorizer.transform(part)[:, columns]
        row, column, value = linear.features(*flat(part))
        found = csr_matrix((value, (row, column)), shape=wanted.shape)
        # A value is a product, a root and a quotient of numbers that are rounded to 24 bits, its square a part of one.
        assert abs(found - wanted).max() < 1e-6
        scores = wanted @ linear.weight.double().numpy() + linear.bias.numpy()
        # x has length 1 and at most `order` x 12 values, so that a score is a sum of so few products of at most |W|.
        np.testing.assert_allclose(linear.scores(*flat(part), len(part)), scores, atol=1e-6 * 12 * order * linear.weight.abs().max().item())


def test_padding_and_neighbours_change_nothing() -> None:
    table = rows()
    linear = learnt(table, 3)
    outputs = torch.randn(len(table), CLASSES)
    linear.scale.fill_(0.25)
    together = linear(outputs, *padded(table))
    assert torch.equal(together, linear(outputs, *padded(table, filling=7, steps=30)))
    one_by_one = [linear(outputs[n : n + 1], *padded([row], steps=1)) for n, row in enumerate(table)]
    assert torch.equal(together, torch.cat(one_by_one))
    torch.testing.assert_close(together, 0.25 * outputs + linear.scores(*flat(table), len(table)))
    assert torch.equal(together[0], 0.25 * outputs[0] + linear.bias)  # the empty row


def test_an_ngram_does_not_reach_over_the_border_of_two_rows() -> None:
    linear = learnt([[2, 3], [2, 3], [4, 2], [4, 2]], 2)
    assert known(linear) == ["2", "3", "4", "2 3", "4 2"]
    row, column, _ = linear.features(*flat([[2], [3]]))
    assert (row.tolist(), column.tolist()) == ([0, 1], [0, 1])


def test_of_too_many_ngrams_the_short_and_frequent_ones_are_kept() -> None:
    table = [[2, 3, 4], [2, 3], [2, 3, 4], [5, 2, 3]]
    assert known(learnt(table, 3, least=1)) == ["2", "3", "4", "5", "2 3", "3 4", "5 2", "2 3 4", "5 2 3"]
    assert known(learnt(table, 3, least=1, most=5)) == ["2", "3", "4", "5", "2 3"]
    assert known(learnt(table, 3, least=1, most=2)) == ["2", "3"]


def test_a_saved_one_is_filled_in_again() -> None:
    linear = learnt(rows(), 2)
    other = NgramLinear(len(linear.keys), CLASSES, order=2, vocabulary_size=VOCABULARY)
    other.load_state_dict(linear.state_dict())
    assert torch.equal(other.scores(*flat(rows(2)), 40), linear.scores(*flat(rows(2)), 40))
    assert list(linear.parameters()) == []
