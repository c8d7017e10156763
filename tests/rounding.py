"""How far results in float32 may be from those in float64: no further than a small multiple of the reference's own."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["CANCELLED", "FACTOR", "assert_rounds_like", "rounding_error"]

FACTOR = 8
"""How much more than the reference another way to compute may round: 2 for the same sums in another order, times 4 for a
hyperbolic tangent right to three units in the last place, where the reference's is right to one."""

CANCELLED = 2.0**-3
"""Share of the largest number below which a tensor is taken for a difference of larger ones."""


def rounding_error(found: Sequence[Tensor], exact: Sequence[Tensor]) -> float:
    """The largest error of all tensors, each in units of its own largest number: one outlier or one lucky tensor says little.

    The unit is `CANCELLED` of the largest number of all or more, because what is smaller is what terms of that size left
    of each other, and rounds as they do.
    """
    errors = [0.0]
    least = CANCELLED * max((float(right.detach().abs().max()) for right in exact if right.numel()), default=0.0)
    for mine, right in zip(found, exact, strict=True):
        if right.numel():
            largest = float(right.detach().abs().max())
            error = float((mine.detach().double() - right.detach()).abs().max())
            assert largest or not error, "what is zero is exactly zero"
            errors.append(error / max(largest, least) if largest else 0.0)
    return max(errors)


def assert_rounds_like(mine: Sequence[Tensor], reference: Sequence[Tensor], exact: Sequence[Tensor]) -> None:
    """`mine` and `reference` are computed in float32 and `exact` in float64, from the same numbers."""
    least = torch.finfo(torch.float32).eps
    assert rounding_error(mine, exact) <= FACTOR * max(rounding_error(reference, exact), least)
