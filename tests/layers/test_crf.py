"""A linear-chain conditional random field against the sum over every tag sequence."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recurra.layers import LinearChainCRF, Transitions

ROUNDING = 1e-12
"""float64: sums of some hundred terms of size ten at most, each rounded to 2**-53, and one logarithm: below 1e-12."""


def field(tags: int, *, forbid: bool, seed: int) -> LinearChainCRF:
    generator = torch.Generator().manual_seed(seed)
    allowed = None
    if forbid:
        following = torch.rand(tags, tags, generator=generator) < 0.6
        following[torch.arange(tags), torch.arange(tags)] = True  # some path is left at any length
        ends = torch.rand(2, tags, generator=generator) < 0.7
        ends[:, 0] = True
        allowed = Transitions(ends[0], following, ends[1])
    crf = LinearChainCRF(tags, allowed=allowed).double()
    with torch.no_grad():
        for parameter in crf.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    return crf


def every_path(crf: LinearChainCRF, scores: torch.Tensor) -> dict[tuple[int, ...], float]:
    """Score of every tag sequence of one row, from the definition."""
    found = {}
    first, following, last = (parameter.tolist() for parameter in (crf.first, crf.next, crf.last))
    for path in itertools.product(range(scores.shape[1]), repeat=len(scores)):
        score = sum(float(scores[t, tag]) for t, tag in enumerate(path))
        moves = list(itertools.pairwise(path))
        legal = all(bool(crf.allowed_next[a, b]) for a, b in moves)
        if path:
            score += first[path[0]] + last[path[-1]] + sum(following[a][b] for a, b in moves)
            legal = legal and bool(crf.allowed_first[path[0]]) and bool(crf.allowed_last[path[-1]])
        found[path] = score if legal else -float("inf")
    return found


@settings(deadline=None, max_examples=60)
@given(tags=st.integers(1, 3), lengths=st.lists(st.integers(0, 4), min_size=1, max_size=3), forbid=st.booleans(), seed=st.integers(0, 999))
def test_likelihood_best_path_and_marginals_are_those_of_all_paths(tags: int, lengths: list[int], forbid: bool, seed: int) -> None:
    crf = field(tags, forbid=forbid, seed=seed)
    steps = max(lengths) + 1  # one step of padding at least
    scores = torch.randn(len(lengths), steps, tags, dtype=torch.float64, generator=torch.Generator().manual_seed(seed + 1))
    for row, length in enumerate(lengths):
        scores[row, length:] = float("nan")
    sizes = torch.tensor(lengths)
    path, marginals = crf.decode(scores, sizes), crf.marginals(scores, sizes)
    for row, length in enumerate(lengths):
        found = every_path(crf, scores[row, :length])
        total = torch.logsumexp(torch.tensor(list(found.values()), dtype=torch.float64), 0)
        best = tuple(path.tags[row, :length].tolist())
        assert found[best] >= max(found.values()) - ROUNDING
        for some in list(found)[:: max(1, len(found) // 5)]:
            tagged = torch.zeros(1, steps, dtype=torch.int64)
            tagged[0, :length] = torch.tensor(some, dtype=torch.int64)
            likelihood = crf(scores[row : row + 1], tagged, sizes[row : row + 1])
            torch.testing.assert_close(likelihood[0], torch.tensor(found[some], dtype=torch.float64) - total, atol=ROUNDING, rtol=ROUNDING)
        probabilities = {each: float(torch.exp(score - total)) for each, score in found.items()}
        for t in range(length):
            for tag in range(tags):
                expected = sum(p for each, p in probabilities.items() if each[t] == tag)
                assert float(marginals[row, t, tag]) == pytest.approx(expected, abs=ROUNDING)
            assert float(path.marginals[row, t]) == pytest.approx(float(marginals[row, t, best[t]]), abs=ROUNDING)
        for start, end in itertools.combinations(range(length + 1), 2):
            together = sum(p for each, p in probabilities.items() if each[start:end] == best[start:end])
            product = path.marginals[row, start] * path.conditionals[row, start + 1 : end].prod()
            assert float(product) == pytest.approx(together, abs=ROUNDING)
        assert (marginals[row, length:] == 0).all()


def test_gradients_are_right_and_padding_gets_none() -> None:
    crf = field(3, forbid=True, seed=4)
    scores = torch.randn(3, 4, 3, dtype=torch.float64, requires_grad=True, generator=torch.Generator().manual_seed(0))
    lengths = torch.tensor([4, 2, 0])
    tags = crf.decode(scores.detach(), lengths).tags
    assert torch.autograd.gradcheck(lambda x, *_: crf(x, tags, lengths), (scores, *crf.parameters()))
    crf(scores, tags, lengths).sum().backward()
    assert (scores.grad[1, 2:] == 0).all()
    assert (scores.grad[2] == 0).all()
    poisoned = scores.detach().clone()
    poisoned[1, 2:], poisoned[2] = float("nan"), float("inf")
    poisoned.requires_grad_()
    crf.zero_grad()
    crf(poisoned, tags, lengths).sum().backward()
    assert all(parameter.grad.isfinite().all() for parameter in crf.parameters())
    torch.testing.assert_close(poisoned.grad, scores.grad, atol=0, rtol=0)


def test_a_batch_is_its_rows_and_the_width_of_the_padding_does_not_matter() -> None:
    crf = field(4, forbid=True, seed=1)
    lengths = torch.tensor([5, 0, 3, 1])
    scores = torch.randn(4, 7, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    path = crf.decode(scores, lengths)
    likelihood = crf(scores, path.tags, lengths)
    for row, length in enumerate(lengths.tolist()):
        alone = crf.decode(scores[row : row + 1, :length], lengths[row : row + 1])
        for whole, single in zip(path, alone, strict=True):
            torch.testing.assert_close(whole[row, :length], single[0], atol=ROUNDING, rtol=0)
        single = crf(scores[row : row + 1, :length], alone.tags, lengths[row : row + 1])
        torch.testing.assert_close(likelihood[row], single[0], atol=ROUNDING, rtol=0)


def test_what_may_not_be_is_never_decoded_and_has_no_likelihood() -> None:
    crf = LinearChainCRF(
        2, allowed=Transitions(torch.tensor([True, False]), torch.tensor([[True, False], [True, True]]), torch.tensor([True, True]))
    )
    scores = torch.tensor([[[0.0, 50.0], [0.0, 50.0]]])
    lengths = torch.tensor([2])
    assert crf.decode(scores, lengths).tags.tolist() == [[0, 0]]
    assert crf(scores, torch.tensor([[0, 1]]), lengths).item() == -float("inf")
    assert crf.decode(scores, lengths).marginals.tolist() == [[1.0, 1.0]]


def test_single_precision_stays_close_over_a_long_row() -> None:
    """Each of the 2,000 steps rounds a log-sum of size S to S * 2**-24; S grows to 2,000 * 4, so the sum of errors stays below 2,000 * 8,000 / 2**24 < 1."""
    crf = field(5, forbid=True, seed=2)
    scores = 3 * torch.randn(1, 2000, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(5))
    lengths = torch.tensor([2000])
    tags = crf.decode(scores, lengths).tags
    exact = crf(scores, tags, lengths).detach()
    rounded = crf.float()(scores.float(), tags, lengths).detach()
    assert rounded.isfinite().all()
    assert abs(float(rounded) - float(exact)) < 1.0


def test_scores_of_neighbours_are_not_trained_where_not_wanted() -> None:
    assert not any(parameter.requires_grad for parameter in LinearChainCRF(3, learn=False).parameters())
    assert all(parameter.requires_grad for parameter in LinearChainCRF(3).parameters())
