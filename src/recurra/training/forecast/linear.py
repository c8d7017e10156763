"""The linear map beside the segments model, in closed form: where a series has little but trend and season, it is hard to beat.

A ridge regression from the scaled history to the scaled horizon, one for all series and channels; its strength is the one that errs least
on the validation windows. It stays as it is: the recurrent network learns what is left.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from recurra.data.split import Part
from recurra.data.windows import Origins
from recurra.model.forecast.segments import SegmentsNetwork
from recurra.training.forecast.prepare import Prepared

__all__ = ["fit_linear_part"]

Values = npt.NDArray[np.floating]
STRENGTHS = (1e-4, 1e-3, 1e-2, 3e-2, 1e-1, 3e-1, 1.0, 3.0, 10.0, 100.0)
"""Of the ridge, in multiples of the mean square of an input."""
MOST_ROWS = 200_000
"""Windows that are looked at, at most; they are thinned evenly."""
BATCH = 4_096


def fit_linear_part(network: SegmentsNetwork, prepared: Prepared) -> float:
    """Set the linear map of a network; zeros stay where there is no window without missing answers.

    Args:
        network: as it was built.
        prepared: the data.

    Returns:
        The strength of the ridge; 0 where nothing was fitted.
    """
    assert network.linear is not None
    products, targets, _, rows = _moments(network, prepared, prepared.origins(Part.TRAIN))
    if not rows:
        return 0.0
    unit = float(np.trace(products)) / len(products)
    if unit <= 0.0:
        return 0.0
    checked = _moments(network, prepared, prepared.origins(Part.VALIDATION))
    identity = np.eye(len(products))
    maps: dict[float, Values] = {strength: np.linalg.solve(products + strength * unit * identity, targets) for strength in STRENGTHS}
    chosen = min(STRENGTHS, key=lambda strength: _error(maps[strength], checked)) if checked[3] else 0.1
    weight = maps[chosen] if chosen in maps else np.linalg.solve(products + chosen * unit * identity, targets)
    with torch.no_grad():
        network.linear.weight.copy_(torch.from_numpy(weight.T))
    return chosen


def _error(weight: Values, moments: tuple[Values, Values, float, int]) -> float:
    """Sum of squared errors of a map, from the moments of the windows."""
    products, targets, squares, _ = moments
    return float(np.sum(weight * (products @ weight)) - 2.0 * np.sum(weight * targets) + squares)


def _moments(network: SegmentsNetwork, prepared: Prepared, origins: Origins) -> tuple[Values, Values, float, int]:
    """X'X (L, L), X'Y (L, H), the sum of Y's squares, and the rows, of scaled windows whose answers are all known."""
    length, horizon = network.input_length, network.horizon
    products, targets, squares, rows = np.zeros((length, length)), np.zeros((length, horizon)), 0.0, 0
    kept = np.linspace(0, len(origins) - 1, min(len(origins), MOST_ROWS)).round().astype(np.int64)
    for begin in range(0, len(kept), BATCH):
        batch = prepared.windows.gather(origins.take(kept[begin : begin + BATCH]))
        with torch.no_grad():
            scaled = network.scale(batch.history, batch.identity)
            answers = (batch.answers - scaled.center) / scaled.spread
        x = scaled.values.transpose(1, 2).reshape(-1, length)
        y = answers.transpose(1, 2).reshape(-1, horizon)
        whole = y.isfinite().all(1)
        inputs, outputs = x[whole].numpy(), y[whole].numpy()
        products += inputs.T @ inputs
        targets += inputs.T @ outputs
        squares += float(np.sum(outputs.astype(np.float64) ** 2))
        rows += len(inputs)
    return products, targets, squares, rows
