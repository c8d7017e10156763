"""How far results may be from the reference's in float64: no further than a small multiple of its own error in float32."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from recurra.shapes import Tensor

__all__ = ["allowed_error", "assert_rounds_like", "rounding_error", "rounding_errors"]

FACTOR = 8
"""How much more than the reference another way to compute may round: 2 for the same sums in another order, times 4 for a
hyperbolic tangent right to three units in the last place, where the reference's is right to one."""

CANCELLED = 2.0**-3
"""Share of the largest number below which a tensor is taken for a difference of larger ones."""


def rounding_error(found: Sequence[Tensor], exact: Sequence[Tensor]) -> float:
    """The largest error of all tensors, each in units of its own largest number: one outlier or one lucky tensor says little.

    The unit is `CANCELLED` of the largest number of all or more, because what is smaller is what terms of that size left
    of each other, and rounds as they do. Infinite where a number is NaN, or anything but zero in a tensor that is all zero.
    """
    return max(rounding_errors(found, exact), default=0.0)


def rounding_errors(found: Sequence[Tensor], exact: Sequence[Tensor]) -> list[float]:
    """The error of each tensor, in the unit of `rounding_error`."""
    errors = []
    least = CANCELLED * max((float(right.detach().abs().max()) for right in exact if right.numel()), default=0.0)
    for mine, right in zip(found, exact, strict=True):
        if not right.numel():
            errors.append(0.0)
        else:
            largest = float(right.detach().abs().max())
            error = float((mine.detach().double() - right.detach()).abs().max())
            wrong = math.isnan(error) or (error and not largest)
            errors.append(math.inf if wrong else error / max(largest, least) if largest else 0.0)
    return errors


def allowed_error(reference: Sequence[Tensor], exact: Sequence[Tensor], dtype: torch.dtype = torch.float32) -> float:
    """The largest `rounding_error` that passes.

    Args:
        reference: what the reference computes in float32.
        exact: what it computes in float64 from the same numbers.
        dtype: of the results to be judged. In float64 the bound shrinks with the types' last places, and is doubled,
            because the exact numbers round like those that are judged.
    """
    single = torch.finfo(torch.float32).eps
    bound = FACTOR * max(rounding_error(reference, exact), single)
    return bound if dtype == torch.float32 else 2 * bound * torch.finfo(dtype).eps / single


def assert_rounds_like(mine: Sequence[Tensor], reference: Sequence[Tensor], exact: Sequence[Tensor]) -> None:
    """`mine` and `reference` are computed in float32 and `exact` in float64, from the same numbers.

    Raises:
        AssertionError: `mine` is further from `exact` than `allowed_error`.
    """
    error, allowed = rounding_error(mine, exact), allowed_error(reference, exact)
    if error > allowed:
        raise AssertionError(f"An error of {error:.3g} of the largest number, where {allowed:.3g} is allowed.")
