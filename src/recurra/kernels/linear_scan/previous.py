"""What each step of a recurrence reads of the step before it, for all steps at once."""

from __future__ import annotations

import torch

from recurra.shapes import Bool, Float, Int, Tensor

__all__ = ["previous_steps"]


def previous_steps(
    values: Float[Tensor, "B T D"],
    first: Float[Tensor, "B D"],
    begin: Float[Tensor, "B D"] | None,
    *,
    lengths: Int[Tensor, " B"] | None = None,
    resets: Bool[Tensor, "B T"] | None = None,
    reverse: bool = False,
) -> Float[Tensor, "B T D"]:
    """The values of the step read before each step.

    Args:
        values: of all steps.
        first: what the first step read has before it.
        begin: what a step has before it where `resets` is true; zeros when None.
        lengths: real steps of each row; None when all are real.
        resets: where a step begins anew.
        reverse: steps are read from each row's last real one to its first.

    Returns:
        Values of the step before; anything in the padding.
    """
    # The step to leave out is left out afterwards, so that there may be no step at all.
    before = torch.cat([values, first[:, None]], 1)[:, 1:] if reverse else torch.cat([first[:, None], values], 1)[:, :-1]
    if reverse and lengths is not None:
        starts = torch.arange(values.shape[1], device=values.device) == lengths.to(values.device)[:, None] - 1
        before = torch.where(starts[..., None], first[:, None], before)
    if resets is not None:
        before = torch.where(resets[..., None], before.new_zeros(()) if begin is None else begin[:, None], before)
    return before
