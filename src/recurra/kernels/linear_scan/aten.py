"""The linear scan in plain PyTorch without a Python step for every step of the sequence.

The steps are cut into about sqrt(T) chunks of about sqrt(T) steps. All chunks are scanned at once from zeros, step by step,
together with the running products of a; then the state is carried from chunk to chunk; then each step adds its product times
the state that its chunk began with. That is 2 sqrt(T) Python steps. Nothing is divided, so a may be zero or negative; the
products over one chunk have to stay finite.
"""

from __future__ import annotations

import math

import torch
from torch.nn.functional import pad

from recurra.kernels.lengths import real_steps
from recurra.kernels.loop import Resets
from recurra.shapes import Float, Int, Tensor

__all__ = ["linear_scan_aten"]


def linear_scan_aten(
    a: Float[Tensor, "B T H"],
    b: Float[Tensor, "B T H"],
    state: Float[Tensor, "B H"],
    *,
    lengths: Int[Tensor, " B"] | None = None,
    resets: Resets | None = None,
    reverse: bool = False,
) -> tuple[Float[Tensor, "B T H"], Float[Tensor, "B H"]]:
    """See `linear_scan_recurrence` for the equation and the arguments."""
    if resets is not None:
        # A step that begins anew reads the reset's state: what that gives is a constant of the step.
        where = resets.where[..., None]
        b = torch.where(where, a * resets.state[:, None] + b, b)
        a = a.masked_fill(where, 0.0)
    padding = None if lengths is None else ~real_steps(lengths.to(a.device), a.shape[1])[..., None]
    if padding is not None:
        # The state stands still in the padding, so it need not be looked for at each row's own end.
        a, b = a.masked_fill(padding, 1.0), b.masked_fill(padding, 0.0)
    if reverse:
        a, b = a.flip(1), b.flip(1)
    output = _scan_chunks(a, b, state)
    last = output[:, -1]
    output = output.flip(1) if reverse else output
    return (output if padding is None else output.masked_fill(padding, 0.0)), last


def _scan_chunks(a: Tensor, b: Tensor, state: Tensor) -> Tensor:
    batch_size, steps, width = a.shape
    length = math.isqrt(steps - 1) + 1
    chunks = -(-steps // length)
    more = (0, 0, 0, chunks * length - steps)
    a = pad(a, more, value=1.0).view(batch_size, chunks, length, width)
    b = pad(b, more).view(batch_size, chunks, length, width)
    factors, terms = a.unbind(2), b.unbind(2)
    products, sums = [factors[0]], [terms[0]]
    for factor, term in zip(factors[1:], terms[1:], strict=True):
        products.append(factor * products[-1])
        sums.append(torch.addcmul(term, factor, sums[-1]))
    begins = [state]
    for product, total in zip(products[-1].unbind(1)[:-1], sums[-1].unbind(1)[:-1], strict=True):
        begins.append(torch.addcmul(total, product, begins[-1]))
    begin = torch.stack(begins, 1)
    output = [torch.addcmul(total, product, begin) for product, total in zip(products, sums, strict=True)]
    return torch.stack(output, 2).view(batch_size, chunks * length, width)[:, :steps]
