"""Layer normalization inside a recurrence; that of a layer's output is in `recurra.layers.stack`."""

from __future__ import annotations

from torch.nn.functional import layer_norm

from recurra.shapes import Float, Tensor

__all__ = ["EPSILON", "normalize"]

EPSILON = 1e-5
"""Added to the variance, so that a vector of equal numbers (the product with a state of zeros) has a normal form: zeros."""


def normalize(x: Float[Tensor, "B N"], gain: Float[Tensor, " N"], bias: Float[Tensor, " N"]) -> Float[Tensor, "B N"]:
    """LN(x) = gain (x - mean) / sqrt(variance + EPSILON) + bias, mean and (biased) variance over a row's N numbers.

    Source: Ba et al. 2016, equation 4.
    """
    return layer_norm(x, gain.shape, gain, bias, EPSILON)
