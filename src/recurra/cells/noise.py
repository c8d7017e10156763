"""Noise inside a recurrence, drawn once a call: recurrent dropout, zoneout and weight drop.

Noise around a recurrence (of its input, between layers) is in `recurra.layers.dropout`.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import torch
from torch.nn.functional import dropout

from recurra.errors import SettingsError
from recurra.kernels.loop import RecurrentNoise
from recurra.kernels.transforms import is_traced
from recurra.shapes import Float, Tensor

__all__ = ["check_rate", "draw_noise", "drop", "drop_weights"]


def check_rate(name: str, rate: float) -> None:
    """Raise SettingsError unless the rate is a probability under one."""
    if not 0.0 <= rate < 1.0:
        raise SettingsError(f"{name} must be from 0 to under 1, not {rate}.")


def drop(x: Tensor, rate: float) -> Tensor:
    """Some elements set to zero, the rest scaled up so that the mean stays.

    On a CPU torch's own dropout takes as long as a third of an LSTM's whole training step, this a thirtieth (measured;
    B=64, T=50, F=H=128).
    """
    if x.device.type != "cpu":
        return dropout(x, rate)
    return x * _factors(x, x.shape, rate)


def drop_weights(weight: Float[Tensor, "GH H"], rate: float) -> Float[Tensor, "GH H"]:
    """Recurrent weights with a share set to zero and the rest scaled up, the same for all rows and steps of a call.

    The recurrence itself is untouched, so every backend still runs. Source: Merity et al. 2017, section 2.
    """
    return drop(weight, rate) if rate else weight


def draw_noise(
    x: Float[Tensor, "B T F"], sizes: tuple[int, ...], *, recurrent_dropout: float, zoneout: float, training: bool
) -> RecurrentNoise | None:
    """The noise of one call; None when there is none.

    Args:
        x: the input, for its shape, type and device.
        sizes: width of every part of the state that is zoned out on its own, the hidden state's first.
        recurrent_dropout: share of the hidden state set to zero where the recurrence reads it; only in training.
        zoneout: share of the units that keep their previous value; in evaluation they move by the expectation.
        training: draw masks, or take expectations.
    """
    mask = None
    if training and recurrent_dropout:
        mask = _factors(x, (x.shape[0], sizes[0]), recurrent_dropout)
    rates: tuple[Tensor | float, ...] = ()
    if zoneout:
        rates = tuple(_marks(x, (*x.shape[:2], size), zoneout) if training else zoneout for size in sizes)
    return None if mask is None and not rates else RecurrentNoise(mask, rates)


def _factors(x: Tensor, shape: tuple[int, ...], rate: float) -> Tensor:
    """Zeros at this rate, and what keeps the mean; of one seed the same in every type of number."""
    # As bytes, because torch turns them into numbers five times as fast as it does truth values.
    return _marks(x, shape, 1.0 - rate).view(torch.uint8).to(x.dtype).mul_(1.0 / (1.0 - rate))


def _marks(x: Tensor, shape: tuple[int, ...], share: float) -> Tensor:
    """True with probability `share`; of one seed of torch the same in every type of number."""
    if x.device.type != "cpu" or is_traced():
        return torch.rand(shape, dtype=torch.float32, device=x.device) < share
    return torch.from_numpy(_draw(math.prod(shape), share)).view(shape)


def _draw(count: int, share: float) -> npt.NDArray[np.bool_]:
    """True with probability `share`, exactly: one byte decides, but for the value in which the share lies, where a second number does.

    A number of torch's generator seeds one that is three times as fast, and a byte is a quarter of what `torch.rand` takes for each.
    """
    bits = np.random.SFC64(int(torch.randint(2**63 - 1, (), device="cpu")))
    drawn = bits.random_raw(-(-count // 8)).view(np.uint8)[:count]
    border, rest = divmod(min(share, 1.0 - 2**-53) * 256, 1.0)
    chosen = drawn < np.uint8(border)
    if rest:
        undecided = np.flatnonzero(drawn == np.uint8(border))
        chosen[undecided] = np.random.Generator(bits).random(len(undecided)) < rest
    return chosen
