"""A linear-chain conditional random field over the tags of a row: exact log-likelihood, best path and marginals.

Everything is computed over the whole batch at once, with one loop over the steps, in logarithms. Not inside: which tags may follow
which (`recurra.data.tags`), and where the scores come from.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import nn

from recurra.data.batch import padding_mask
from recurra.shapes import Bool, Float, Int, Tensor

__all__ = ["LinearChainCRF", "Path", "Transitions"]


class Transitions(NamedTuple):
    """Which tags may begin a row, follow each other, and end a row.

    Attributes:
        first: (C,) true where a row may begin with the tag.
        next: (C, C) true where the tag of the column may follow that of the row.
        last: (C,) true where a row may end with the tag.
    """

    first: Bool[Tensor, " C"]
    next: Bool[Tensor, "C C"]
    last: Bool[Tensor, " C"]


class Path(NamedTuple):
    """The best tags of each row, and how sure they are. What stands beyond a row's length means nothing.

    Attributes:
        tags: (B, T) numbers of the tags of the most probable path.
        marginals: (B, T) probability of that tag at that step, over all paths.
        conditionals: (B, T) probability of that tag given the path's tag at the step before; at the first step the marginal.
            The probability that steps s to e have the path's tags is `marginals[s] * conditionals[s + 1] * ... * conditionals[e]`,
            exactly, because the tags are a Markov chain.
    """

    tags: Int[Tensor, "B T"]
    marginals: Float[Tensor, "B T"]
    conditionals: Float[Tensor, "B T"]


class LinearChainCRF(nn.Module):
    r"""Scores of whole tag sequences: those of the steps, and those of neighbours.

    \[ s(x, y) = a_{y_1} + \sum_t x_{t, y_t} + \sum_{t > 1} A_{y_{t-1}, y_t} + b_{y_T}, \qquad
       p(y \mid x) = e^{s(x, y)} / \sum_{y'} e^{s(x, y')} \]

    A row without steps has one sequence, the empty one, of probability one.

    Source: Lafferty et al. 2001, section 3; the start and end scores as in Lample et al. 2016, section 2.2.

    Args:
        tags: C.
        allowed: which neighbours may be; all others score minus infinity. All may be when not given.
        learn: train the scores of neighbours; false leaves them zero.

    Attributes:
        first: (C,) a.
        next: (C, C) A, from the tag of the row to that of the column.
        last: (C,) b.
    """

    def __init__(self, tags: int, *, allowed: Transitions | None = None, learn: bool = True) -> None:
        super().__init__()
        self.first, self.next, self.last = (
            nn.Parameter(torch.zeros(shape), requires_grad=learn) for shape in ((tags,), (tags, tags), (tags,))
        )
        allowed = allowed or Transitions(
            torch.ones(tags, dtype=torch.bool), torch.ones(tags, tags, dtype=torch.bool), torch.ones(tags, dtype=torch.bool)
        )
        for name, mask in allowed._asdict().items():
            self.register_buffer(f"allowed_{name}", mask.clone(), persistent=False)

    def forward(self, scores: Float[Tensor, "B T C"], tags: Int[Tensor, "B T"], lengths: Int[Tensor, " B"]) -> Float[Tensor, " B"]:
        """Log-probability of each row's tags.

        Args:
            scores: x, of the tags at each step. What stands beyond a row's length, NaN too, changes nothing.
            tags: y.
            lengths: steps of each row, 0 allowed.

        Returns:
            Zero for a row without steps, minus infinity for tags that may not follow each other.
        """
        scores = _cleared(scores, lengths)
        tags = tags.where(padding_mask(lengths, tags.shape[1]), 0)
        return self._score(scores, tags, lengths) - self._log_partition(scores, lengths)

    @torch.no_grad()
    def decode(self, scores: Float[Tensor, "B T C"], lengths: Int[Tensor, " B"]) -> Path:
        """The most probable tags of each row (Viterbi), with their marginals.

        Of paths that score the same, the one whose last differing tag has the smaller number.
        """
        scores = _cleared(scores, lengths)
        tags = self._best(scores, lengths)
        forward, backward, total = self._both_ways(scores, lengths)
        if not scores.shape[1]:
            return Path(tags, scores.new_zeros(tags.shape), scores.new_zeros(tags.shape))
        _, following, _ = self._neighbours()
        at = tags[..., None]
        here, after = scores.gather(2, at)[..., 0], backward.gather(2, at)[..., 0]
        marginals = (forward.gather(2, at)[..., 0] + after - total[:, None]).exp()
        steps = following[tags[:, :-1], tags[:, 1:]] + here[:, 1:] + after[:, 1:] - after[:, :-1]
        conditionals = torch.cat([marginals[:, :1], steps.exp()], 1)
        return Path(tags, marginals.clamp(max=1.0), conditionals.clamp(max=1.0))

    @torch.no_grad()
    def marginals(self, scores: Float[Tensor, "B T C"], lengths: Int[Tensor, " B"]) -> Float[Tensor, "B T C"]:
        """Probability of each tag at each step, over all tag sequences; zero beyond a row's length."""
        forward, backward, total = self._both_ways(_cleared(scores, lengths), lengths)
        probabilities = (forward + backward - total[:, None, None]).exp()
        return probabilities * padding_mask(lengths, scores.shape[1])[..., None]

    def _neighbours(self) -> tuple[Tensor, Tensor, Tensor]:
        """Scores of first, following and last tags, minus infinity where they may not be."""
        found = []
        for name in Transitions._fields:
            mask = self.get_buffer(f"allowed_{name}")
            found.append(self.get_parameter(name).masked_fill(~mask, -torch.inf))
        return found[0], found[1], found[2]

    def _score(self, scores: Tensor, tags: Tensor, lengths: Tensor) -> Tensor:
        """(B,) s(x, y)."""
        if not scores.shape[1]:
            return scores.new_zeros(len(scores))
        first, following, last = self._neighbours()
        mask = padding_mask(lengths, tags.shape[1])
        steps = scores.gather(2, tags[..., None])[..., 0].sum(1)
        moves = following[tags[:, :-1], tags[:, 1:]].where(mask[:, 1:], 0.0).sum(1)
        final = last[tags.gather(1, (lengths - 1).clamp(min=0)[:, None])[:, 0]]
        return (first[tags[:, 0]] + steps + moves + final).where(lengths > 0, 0.0)

    def _log_partition(self, scores: Tensor, lengths: Tensor) -> Tensor:
        """(B,) logarithm of the sum over all sequences."""
        if not scores.shape[1]:
            return scores.new_zeros(len(scores))
        first, following, last = self._neighbours()
        reached = first + scores[:, 0]
        for t in range(1, scores.shape[1]):
            stepped = _log_sum(reached[:, :, None] + following, 1) + scores[:, t]
            reached = stepped.where((t < lengths)[:, None], reached)
        return _log_sum(reached + last, 1).where(lengths > 0, 0.0)

    @torch.no_grad()
    def _both_ways(self, scores: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Log-sums over what comes before a step's tag (with the tag's own score) and after it, (B, T, C) each, and of all, (B,)."""
        first, following, last = self._neighbours()
        forward, backward = torch.empty_like(scores), torch.empty_like(scores)
        steps = scores.shape[1]
        if not steps:
            return forward, backward, scores.new_zeros(len(scores))
        forward[:, 0] = first + scores[:, 0]
        for t in range(1, steps):
            stepped = _log_sum(forward[:, t - 1, :, None] + following, 1) + scores[:, t]
            forward[:, t] = stepped.where((t < lengths)[:, None], forward[:, t - 1])
        backward[:, -1] = last
        for t in range(steps - 2, -1, -1):
            stepped = _log_sum(following + (scores[:, t + 1] + backward[:, t + 1])[:, None, :], 2)
            backward[:, t] = stepped.where((t + 1 < lengths)[:, None], last)
        return forward, backward, _log_sum(forward[:, -1] + last, 1).where(lengths > 0, 0.0)

    @torch.no_grad()
    def _best(self, scores: Tensor, lengths: Tensor) -> Tensor:
        """(B, T) the best path; zeros beyond a row's length."""
        rows, steps, _ = scores.shape
        tags = torch.zeros(rows, steps, dtype=torch.int64, device=scores.device)
        if not steps:
            return tags
        first, following, last = self._neighbours()
        best, origins = first + scores[:, 0], []
        for t in range(1, steps):
            values, before = (best[:, :, None] + following).max(1)
            best = (values + scores[:, t]).where((t < lengths)[:, None], best)
            origins.append(before)
        tag = (best + last).argmax(1)
        for t in range(steps - 1, -1, -1):
            inside = t < lengths
            tags[:, t] = tag.where(inside, 0)
            if t:
                tag = origins[t - 1].gather(1, tag[:, None])[:, 0].where(inside, tag)
        return tags


def _cleared(scores: Tensor, lengths: Tensor) -> Tensor:
    """The scores in at least single precision, zero beyond each row's length."""
    mask = padding_mask(lengths, scores.shape[1])[..., None]
    return (scores if scores.dtype == torch.float64 else scores.float()).where(mask, 0.0)


def _log_sum(values: Tensor, dim: int) -> Tensor:
    """log(sum(exp(values))), with a zero gradient where all are minus infinity (that of `torch.logsumexp` is NaN)."""
    peak = values.detach().amax(dim, keepdim=True)
    peak = peak.where(peak.isfinite(), 0.0)
    total = (values - peak).exp().sum(dim)
    some = total > 0
    return (total.where(some, 1.0).log() + peak.squeeze(dim)).where(some, -torch.inf)
