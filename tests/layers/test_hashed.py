"""Vectors of n-grams by hash."""

from __future__ import annotations

import torch
from torch.nn.functional import embedding_bag

from recurra.layers import CharacterNgrams, TokenNgrams
from recurra.layers.bags import mean_of_bags
from recurra.layers.hashed import MOST_GRAMS

TOKENS = ["<pad>", "<unk>", "cat", "cats", "a"]


def test_a_token_is_the_mean_of_its_character_ngrams() -> None:
    table = CharacterNgrams(TOKENS, 1_000, 4, lengths=(3, 4))
    # <cat>: <ca cat at> <cat cat>;  <a>: <a>
    assert [(row > 0).sum().item() for row in table.grams] == [0, 0, 5, 7, 1]
    vectors = table(torch.tensor([[2, 4, 0, 1]]))[0]
    torch.testing.assert_close(vectors[0], table.weight[table.grams[2][:5]].mean(0))
    torch.testing.assert_close(vectors[1], table.weight[table.grams[4][0]])
    assert not vectors[2:].any()


def test_tokens_share_the_ngrams_they_have_in_common() -> None:
    table = CharacterNgrams(TOKENS, 100_000, 4, lengths=(3, 3))
    cat, cats = (set(row[row > 0].tolist()) for row in table.grams[2:4])
    assert len(cat & cats) == 2  # <ca and cat


def test_the_table_is_made_again_from_the_vocabulary() -> None:
    table = CharacterNgrams(TOKENS, 50, 4)
    assert list(table.state_dict()) == ["weight"]
    assert torch.equal(CharacterNgrams(TOKENS, 50, 4).grams, table.grams)


def test_all_ngrams_of_a_word_of_13_characters_are_used() -> None:
    table = CharacterNgrams([*TOKENS, "abcdefghijklm", "abcdefghijklmn"], 1_000, 4, lengths=(3, 5))
    # of `<` + 13 characters + `>`: 13 of length 3, 12 of length 4, 11 of length 5
    assert [(row > 0).sum().item() for row in table.grams[5:]] == [13 + 12 + 11, MOST_GRAMS]


def test_long_tokens_are_cut_not_refused() -> None:
    table = CharacterNgrams([*TOKENS, "x" * 10_000], 50, 4)
    assert table(torch.tensor([[5]])).isfinite().all()


def test_token_ngrams_depend_on_the_neighbours_before_and_their_order() -> None:
    table = TokenNgrams(3, 10_000, 8)
    base = table(torch.tensor([[2, 3, 4, 5]]))[0]
    for tokens, changed in (
        ([9, 3, 4, 5], [True, True, True, False]),
        ([2, 3, 4, 9], [False, False, False, True]),
        ([3, 2, 4, 5], [True] * 4),
    ):
        other = table(torch.tensor([tokens]))[0]
        assert [not torch.equal(a, b) for a, b in zip(base, other, strict=True)] == changed


def test_token_ngrams_of_a_row_do_not_depend_on_its_batch() -> None:
    table = TokenNgrams(4, 10_000, 8)
    rows = torch.randint(1, 50, (3, 7))
    assert torch.equal(table(rows)[1:2], table(rows[1:2]))
    assert torch.equal(table(rows)[:, :4], table(rows[:, :4]))


def test_hashes_spread_over_the_buckets() -> None:
    """Of n pairs thrown at random into b buckets, b (1 - exp(-n / b)) are hit; the deviation of that count is under sqrt(b)."""
    buckets, seen = 1_000, []
    table = TokenNgrams(2, buckets, 1)
    with torch.no_grad():
        table.weight.copy_(torch.arange(buckets, dtype=torch.float32)[:, None])
    pairs = torch.cartesian_prod(torch.arange(2, 47), torch.arange(2, 47))
    seen = table(pairs)[:, 1, 0].unique()
    expected = buckets * (1 - torch.exp(torch.tensor(-len(pairs) / buckets)))
    assert abs(len(seen) - expected) < 4 * buckets**0.5


def test_every_row_that_is_met_learns_and_row_zero_does_not() -> None:
    for table in (TokenNgrams(2, 100, 4), CharacterNgrams(TOKENS, 100, 4)):
        table(torch.tensor([[2, 3, 4, 0]])).sum().backward()
        assert table.weight.grad is not None
        assert table.weight.grad[1:].any()
        assert not table.weight.grad[0].any()


def test_sparse_gradients_are_the_dense_ones() -> None:
    for make in (lambda sparse: TokenNgrams(3, 100, 4, sparse=sparse), lambda sparse: CharacterNgrams(TOKENS, 100, 4, sparse=sparse)):
        dense, sparse = make(False), make(True)
        sparse.load_state_dict(dense.state_dict())
        for table in (dense, sparse):
            table(torch.tensor([[2, 3, 4]])).square().sum().backward()
        assert sparse.weight.grad.is_sparse
        assert torch.allclose(sparse.weight.grad.to_dense(), dense.weight.grad, rtol=1e-6, atol=0)


def test_means_of_bags_and_their_gradients_are_those_of_torch() -> None:
    """Sums of up to nine numbers, of which the order differs: nine roundings each."""
    torch.manual_seed(0)
    for rows in (40, 70_000):  # numbers of 16 bits, and longer ones
        bags = torch.randint(1, 40, (30, 9)) * (torch.rand(30, 9) < 0.7)
        bags[4] = 0
        weight, wanted = torch.randn(rows, 5), torch.randn(30, 5)
        results = []
        for mean in (mean_of_bags, lambda weight, bags: embedding_bag(bags, weight, mode="mean", padding_idx=0)):
            table = weight.clone().requires_grad_()
            means = mean(table, bags)
            results.append((means.detach(), *torch.autograd.grad(means, table, wanted)))
        (ours, gradient), (theirs, expected) = results
        torch.testing.assert_close(ours, theirs, rtol=0, atol=9 * 2.0**-23 * float(weight.abs().max()))
        torch.testing.assert_close(gradient, expected, rtol=0, atol=30 * 2.0**-23 * float(wanted.abs().max()))


def test_means_of_bags_have_derivatives_of_any_order() -> None:
    torch.manual_seed(0)
    bags = torch.tensor([[1, 2, 0], [2, 2, 3], [0, 0, 0]])
    weight = torch.randn(5, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda weight: mean_of_bags(weight, bags), weight)
    assert torch.autograd.gradgradcheck(lambda weight: mean_of_bags(weight, bags).sin(), weight)
