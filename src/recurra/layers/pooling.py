"""The steps of a sequence as one vector. Rows of length zero become zeros; padding changes nothing."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from recurra.data.batch import padding_mask
from recurra.errors import SettingsError, nearest
from recurra.kernels.transforms import is_traced
from recurra.shapes import Float, Int, Tensor

__all__ = ["POOLINGS", "AttentionPooling", "LastPooling", "MaxMeanPooling", "MaxPooling", "MeanPooling", "Pooling", "build_pooling"]


class Pooling(nn.Module):
    """The steps of a sequence as one vector. Abstract.

    Args:
        size: D, features of a step.
        bidirectional: the second half of the features was read backwards.

    Attributes:
        size: D.
        output_size: features of the vector; D where a pooling does not say otherwise.
    """

    def __init__(self, size: int, *, bidirectional: bool = False) -> None:
        super().__init__()
        if bidirectional and size % 2:
            raise ValueError(f"A bidirectional layer's output has an even size, not {size}.")
        self.size = self.output_size = size
        self.bidirectional = bidirectional

    def forward(self, x: Float[Tensor, "B T D"], lengths: Int[Tensor, " B"]) -> Float[Tensor, "B E"]:
        """One vector a row.

        Args:
            x: the steps; what stands beyond a row's length means nothing.
            lengths: real steps of each row, 0 allowed.
        """
        raise NotImplementedError


class LastPooling(Pooling):
    """The output at the end of the reading: the last real step, and the first of features that were read backwards."""

    def forward(self, x: Float[Tensor, "B T D"], lengths: Int[Tensor, " B"]) -> Float[Tensor, "B D"]:
        """See `Pooling.forward`."""
        if not x.shape[1]:
            return x.new_zeros(x.shape[0], x.shape[2])
        lengths = lengths.to(x.device)
        last = x[torch.arange(x.shape[0], device=x.device), (lengths - 1).clamp_min(0)]
        if self.bidirectional:
            half = x.shape[2] // 2
            last = torch.cat([last[:, :half], x[:, 0, half:]], 1)
        return last.masked_fill((lengths == 0)[:, None], 0.0)


class MeanPooling(Pooling):
    """The mean of the real steps."""

    def forward(self, x: Float[Tensor, "B T D"], lengths: Int[Tensor, " B"]) -> Float[Tensor, "B D"]:
        """See `Pooling.forward`."""
        return _largest_and_mean(x, lengths)[1]


class MaxPooling(Pooling):
    """The largest value of each feature over the real steps; steps that share it share its gradient."""

    def forward(self, x: Float[Tensor, "B T D"], lengths: Int[Tensor, " B"]) -> Float[Tensor, "B D"]:
        """See `Pooling.forward`."""
        return _largest_and_mean(x, lengths)[0]


class MaxMeanPooling(Pooling):
    """The largest value and the mean of each feature, side by side: 2 D features.

    Source: Howard & Ruder 2018, section 3.3 (concat pooling, there with the last step as well).
    """

    def __init__(self, size: int, *, bidirectional: bool = False) -> None:
        super().__init__(size, bidirectional=bidirectional)
        self.output_size = 2 * size

    def forward(self, x: Float[Tensor, "B T D"], lengths: Int[Tensor, " B"]) -> Float[Tensor, "B E"]:
        """See `Pooling.forward`."""
        return torch.cat(_largest_and_mean(x, lengths), 1)


class AttentionPooling(Pooling):
    """The mean of the real steps, weighted by a learned score of each.

        score_t = v . tanh(W x_t + b);    weight = softmax of the scores over the row's real steps

    Source: Yang et al. 2016, equations 5 to 7 (u_w is v).
    """

    def __init__(self, size: int, *, bidirectional: bool = False) -> None:
        super().__init__(size, bidirectional=bidirectional)
        self.key = nn.Linear(size, size)
        self.query = nn.Linear(size, 1, bias=False)

    def forward(self, x: Float[Tensor, "B T D"], lengths: Int[Tensor, " B"]) -> Float[Tensor, "B D"]:
        """See `Pooling.forward`."""
        padding = ~padding_mask(lengths.to(x.device), x.shape[1])
        x = x.masked_fill(padding[..., None], 0.0)
        scores = self.query(self.key(x).tanh())[..., 0]
        # The most negative finite number, because a row of nothing but -inf would be NaN; its steps are zeros anyway.
        weights = scores.masked_fill(padding, torch.finfo(scores.dtype).min).softmax(1)
        return torch.einsum("bt,btd->bd", weights, x)


POOLINGS: dict[str, type[Pooling]] = {
    "last": LastPooling,
    "mean": MeanPooling,
    "max": MaxPooling,
    "max_mean": MaxMeanPooling,
    "attention": AttentionPooling,
}
"""The poolings by the names that settings use."""


def build_pooling(name: str, size: int, *, bidirectional: bool = False) -> Pooling:
    """A pooling by name.

    Args:
        name: one of `POOLINGS`.
        size: D, features of a step.
        bidirectional: the second half of the features was read backwards.

    Raises:
        SettingsError: there is no pooling of this name.
    """
    if name not in POOLINGS:
        raise SettingsError(f"There is no pooling {name!r}: use {', '.join(POOLINGS)}.{nearest(name, POOLINGS)}")
    return POOLINGS[name](size, bidirectional=bidirectional)


def _largest_and_mean(x: Float[Tensor, "B T D"], lengths: Int[Tensor, " B"]) -> tuple[Tensor, Tensor]:
    """The largest value and the mean of each feature over the real steps, (B, D) each."""
    if not x.shape[1]:
        return x.new_zeros(x.shape[0], x.shape[2]), x.new_zeros(x.shape[0], x.shape[2])
    lengths = lengths.to(x.device)
    padding = ~padding_mask(lengths, x.shape[1])
    if x.device.type == "cpu" and not is_traced():
        largest, total = _LargestAndSum.apply(x, padding.flatten().nonzero()[:, 0])  # type: ignore[no-untyped-call]
    else:
        largest, total = x.masked_fill(padding[..., None], -torch.inf).amax(1), x.masked_fill(padding[..., None], 0.0).sum(1)
    return largest.masked_fill((lengths == 0)[:, None], 0.0), total / lengths.clamp_min(1)[:, None]


class _LargestAndSum(torch.autograd.Function):
    """Both over the steps, but for those of the padding, in a sixth of the time that torch's operators take one after the other.

    They would go over all steps eight times, half of it with masks of truth values, which is slow; and would look for the place
    of the largest value, which takes fifteen times as long as the value. Here the padding alone is touched, and the place found again.
    """

    @staticmethod
    def forward(x: Tensor, padding: Tensor) -> tuple[Tensor, Tensor]:
        steps = x.flatten(0, 1).index_fill(0, padding, 0.0)
        total = steps.view(x.shape).sum(1)
        steps = steps.index_fill_(0, padding, -torch.inf).view(x.shape)
        return steps.amax(1), total

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: tuple[Tensor, Tensor]) -> None:
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*inputs, output[0])

    @staticmethod
    def backward(ctx: Any, to_largest: Tensor | None, to_total: Tensor | None) -> tuple[Tensor, None]:
        x, padding, largest = ctx.saved_tensors
        if to_largest is None:
            found = x.new_zeros(x.shape)
        else:
            there = (x - largest[:, None]).eq_(0.0).view(-1, x.shape[2]).index_fill_(0, padding, 0.0).view(x.shape)
            found = there.mul_((to_largest / there.sum(1).clamp_min(1.0))[:, None])
        if to_total is not None:
            found = found.add_(to_total[:, None]).view(-1, x.shape[2]).index_fill_(0, padding, 0.0).view(x.shape)
        return found, None
