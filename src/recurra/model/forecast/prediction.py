"""From windows to forecasts: the network in large batches, its quantiles shifted by what the validation part showed.

All is on the scale that the network learns on; `forecaster` brings it to the user's unit.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import torch

from recurra.config import ForecastSettings
from recurra.data.windows import Origins, WindowBatch, Windows
from recurra.model.forecast.autoregressive import AutoregressiveNetwork
from recurra.model.forecast.forecasts import Forecasts
from recurra.model.forecast.segments import SegmentsNetwork
from recurra.shapes import Tensor

__all__ = ["Calibration", "ForecastNetwork", "beside", "forecast_batch", "forecast_windows"]

ForecastNetwork = SegmentsNetwork | AutoregressiveNetwork
NETWORKS: dict[str, type[ForecastNetwork]] = {"segments": SegmentsNetwork, "autoregressive": AutoregressiveNetwork}
"""The network of each `forecast.model`."""
ROWS = 2_048
"""Windows of a batch, paths of it counted one by one."""
Values = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Calibration:
    """How far each quantile must be shifted, by step ahead, so that on the validation part each level covered its share.

    The shift of level a at step h is the a-quantile of (y - q_a) / spread over the validation windows, with the window's spread. A point
    forecast gets its quantiles so: they are its errors'. Afterwards quantiles are put in order.

    Source: Romano, Patterson & Candès 2019, section 3, for each side of an interval by itself.

    Attributes:
        shifts: (H, Q).
    """

    shifts: Values

    @classmethod
    def fit(cls, forecasts: Forecasts, spread: Values, answers: Values) -> Self:
        """Measure.

        Args:
            forecasts: of N windows.
            spread: (N, C) of each.
            answers: (N, H, C), NaN where missing.
        """
        errors = (answers[..., None] - forecasts.quantiles) / spread[:, None, :, None]
        shifts = np.zeros(errors.shape[1:2] + errors.shape[3:])
        for step in range(errors.shape[1]):
            for number, level in enumerate(forecasts.levels):
                known = errors[:, step, :, number]
                known = known[np.isfinite(known)]
                shifts[step, number] = np.quantile(known, level) if len(known) else 0.0
        return cls(shifts)

    def apply(self, forecasts: Forecasts, spread: Values) -> Forecasts:
        """Forecasts with shifted quantiles."""
        shifted = forecasts.quantiles + self.shifts[:, None] * spread[:, None, :, None]
        return Forecasts(forecasts.point, np.sort(shifted, axis=-1), forecasts.levels)

    def state(self) -> dict[str, Any]:
        """As JSON values."""
        return {"shifts": self.shifts.tolist()}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Self:
        """What `state()` described."""
        return cls(np.array(state["shifts"]))


def forecast_batch(
    network: ForecastNetwork, batch: WindowBatch, settings: ForecastSettings, *, generator: np.random.Generator
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Point (B, H, C), quantiles (B, H, C, Q) and the sample paths (B, N, H, C) where there are any."""
    if isinstance(network, SegmentsNetwork):
        parameters = network(batch).float()
        return network.head.point(parameters), network.head.quantiles(parameters, settings.levels), None
    samples = settings.samples if network.head.samples else 1
    paths = network.paths(batch, samples=samples, generator=generator).float()
    return paths.mean(1), quantiles_of(paths, settings), paths if network.head.samples else None


def quantiles_of(paths: Tensor, settings: ForecastSettings) -> Tensor:
    """(B, H, C, Q) of paths (B, N, H, C)."""
    levels = torch.tensor(settings.levels, dtype=paths.dtype, device=paths.device)
    return torch.quantile(paths, levels, dim=1).permute(1, 2, 3, 0)


def forecast_windows(
    network: ForecastNetwork, windows: Windows, origins: Origins, settings: ForecastSettings, *, seed: int
) -> tuple[Forecasts, Values]:
    """Forecasts of all windows, channels side by side, and the spread (N, C) that each window was scaled by.

    Args:
        network: in evaluation mode.
        windows: where they come from.
        origins: of all channels of each step, next to each other (`Windows.origins` with complete=False).
        settings: of the run.
        seed: of the paths that are drawn.
    """
    device = next(network.parameters()).device
    generator = np.random.Generator(np.random.Philox(seed))
    draws = settings.samples if isinstance(network, AutoregressiveNetwork) and network.head.samples else 1
    size = max(1, ROWS * 8 // draws) if draws > 1 else ROWS
    points, quantiles, spreads = [], [], []
    with torch.inference_mode():
        for begin in range(0, len(origins), size):
            batch = windows.gather(origins.take(slice(begin, begin + size))).to(device)
            middle, several, _ = forecast_batch(network, batch, settings, generator=generator)
            points.append(middle.cpu().numpy())
            quantiles.append(several.cpu().numpy())
            spreads.append(network.scale(batch.history, batch.identity).spread[:, 0].cpu().numpy())
    horizon, channels = settings.horizon, windows.channels
    point, levels, spread = (beside(np.concatenate(parts), channels) for parts in (points, quantiles, spreads))
    shape = (-1, horizon, point.shape[2])
    return Forecasts(point.reshape(shape), levels.reshape(*shape, len(settings.levels)), tuple(settings.levels)), spread


def answers_of(windows: Windows, origins: Origins) -> Values:
    """(N, H, C) the answers of the same windows, NaN where missing."""
    parts = [windows.gather(origins.take(slice(begin, begin + ROWS))).answers.numpy() for begin in range(0, len(origins), ROWS)]
    return beside(np.concatenate(parts), windows.channels)


def beside(rows: npt.NDArray[Any], channels: int) -> Values:
    """(N C, ..., 1, ...) rows of single channels as (N, ..., C, ...); rows of all channels as they are. A spread is (N C, 1)."""
    values = rows.astype(np.float64)
    if channels == 1:
        return values
    split = values.reshape(-1, channels, *values.shape[1:])
    place = 1 if values.ndim == 2 else 2
    return np.moveaxis(split, 1, place).squeeze(place + 1)
