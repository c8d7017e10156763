"""Windows of long series: which (series, step) make a batch, and the batch, gathered in one vectorised copy.

A window with origin t reads the steps t - L to t - 1 and answers with t to t + H - 1. All series lie in one memory, with L missing steps
before and H behind, so that every window is a view of it and none needs a case of its own. With independent channels each target
column of each series is a row of its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from recurra.shapes import Float, Int, Tensor

__all__ = ["Encoded", "Origins", "WindowBatch", "WindowLoader", "Windows", "first_origin"]

Numbers = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]


def first_origin(steps: int, *, input_length: int, horizon: int) -> int:
    """The first step from which a series of so many steps is forecast: behind a whole history, or half of what a short one has."""
    return min(input_length, max(1, (steps - horizon) // 2))


class Encoded(NamedTuple):
    """A series as the network reads it.

    Attributes:
        values: (T, C) float32, NaN where missing.
        past: (T, P) float32 without missing values.
        known: (T + H, K), those of the horizon behind the last step too; (T, K) where no forecast goes beyond it.
        static: (S,).
        identity: (C,) number of each channel's learnt vector, or (1,) of the series' for joint channels; -1 for none.
        scales: (T + 1, 2, C) mean and deviation of the values before each step, by which a window with this origin is standardised once more;
            None where all windows have the same scale.
    """

    values: Floats
    past: Floats
    known: Floats
    static: Floats
    identity: Numbers
    scales: npt.NDArray[np.float64] | None = None


@dataclass(frozen=True)
class Origins:
    """Windows by their number of series, number of channel (0 for joint channels) and first step of the horizon, each (N,)."""

    series: Numbers
    channel: Numbers
    step: Numbers

    def take(self, rows: npt.NDArray[Any] | slice) -> Origins:
        """Some of them."""
        return Origins(self.series[rows], self.channel[rows], self.step[rows])

    def __len__(self) -> int:
        return len(self.step)


@dataclass(frozen=True)
class WindowBatch:
    """Windows side by side.

    Attributes:
        history: (B, L, C) float32, NaN where missing.
        answers: (B, H, C), NaN where missing or not known.
        past: (B, L, P).
        known: (B, L + H, K).
        static: (B, S).
        identity: (B,) number of a learnt vector, -1 for none.
        rows: (B,) numbers of the windows.
    """

    history: Float[Tensor, "B L C"]
    answers: Float[Tensor, "B H C"]
    past: Float[Tensor, "B L P"]
    known: Float[Tensor, "B LH K"]
    static: Float[Tensor, "B S"]
    identity: Int[Tensor, " B"]
    rows: Int[Tensor, " B"]

    def __len__(self) -> int:
        return int(self.rows.shape[0])

    @property
    def steps(self) -> int:
        """Steps of history in the batch."""
        return int(self.history.shape[0] * self.history.shape[1])

    def to(self, device: torch.device | str) -> WindowBatch:
        """The same batch on another device."""
        moved = {name: getattr(self, name).to(device) for name in ("history", "answers", "past", "known", "static", "identity", "rows")}
        return replace(self, **moved)


class Windows:
    """All windows of some series.

    Args:
        series: encoded, all with the same numbers of columns.
        input_length: L.
        horizon: H.
        joint: whether a row holds all channels of a series.
    """

    def __init__(self, series: Sequence[Encoded], *, input_length: int, horizon: int, joint: bool) -> None:
        self.series = list(series)
        self.input_length, self.horizon, self.joint = input_length, horizon, joint
        self.channels = 1 if joint else self.series[0].values.shape[1]
        pad = input_length + horizon
        lengths = np.array([len(each.values) + pad for each in self.series])
        self._covariate_base = np.concatenate([[0], np.cumsum(lengths)])
        self._scaled = [number for number, each in enumerate(self.series) if each.scales is not None]
        self._base = self._covariate_base if joint else np.concatenate([[0], np.cumsum(np.repeat(lengths, self.channels))])
        width = self.series[0].values.shape[1] if joint else 1
        self._values = np.full((width, int(self._base[-1])), np.nan, np.float32)
        self._past = np.zeros((self.series[0].past.shape[1], int(lengths.sum())), np.float32)
        self._known = np.zeros((self.series[0].known.shape[1], int(lengths.sum())), np.float32)
        self._static = np.stack([each.static for each in self.series])
        self._identity = np.stack([each.identity for each in self.series])
        for number, each in enumerate(self.series):
            self._lay(number, each)
        self._value_windows = np.lib.stride_tricks.sliding_window_view(self._values, pad, axis=1)
        self._past_windows = np.lib.stride_tricks.sliding_window_view(self._past, input_length, axis=1)
        self._known_windows = np.lib.stride_tricks.sliding_window_view(self._known, pad, axis=1)

    def _lay(self, number: int, series: Encoded) -> None:
        """One series into the memory."""
        steps = slice(int(self._covariate_base[number]) + self.input_length, None)
        self._past[:, steps][:, : len(series.past)] = series.past.T
        self._known[:, steps][:, : len(series.known)] = series.known.T
        if self.joint:
            self._values[:, steps][:, : len(series.values)] = series.values.T
            return
        for channel in range(self.channels):
            begin = int(self._base[number * self.channels + channel]) + self.input_length
            self._values[0, begin : begin + len(series.values)] = series.values[:, channel]

    def origins(self, spans: Sequence[tuple[int, int]], *, stride: int = 1, complete: bool = True) -> Origins:
        """Every window of a part, series by series and step by step, the channels of a step next to each other.

        Args:
            spans: for each series the first step of a horizon, and the step before which all horizons end.
            stride: steps between two windows.
            complete: leave out windows without a known value in their history, or without any in their horizon.
        """
        found = []
        for number, (begin, end) in enumerate(spans):
            steps = np.arange(begin, end - self.horizon + 1, stride)
            channel = np.tile(np.arange(self.channels), len(steps))
            found.append(Origins(np.full(len(channel), number), channel, np.repeat(steps, self.channels)))
        every = Origins(*(np.concatenate([getattr(each, name) for each in found]) for name in ("series", "channel", "step")))
        return every.take(self._answerable(every)) if complete else every

    def _answerable(self, origins: Origins) -> npt.NDArray[np.bool_]:
        known = np.concatenate([[0], np.cumsum(np.isfinite(self._values).any(0))])
        start = self._starts(origins)
        middle, end = start + self.input_length, start + self.input_length + self.horizon
        result: npt.NDArray[np.bool_] = (known[middle] > known[start]) & (known[end] > known[middle])
        return result

    def scales(self, origins: Origins) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """(B, C) mean and deviation, in the values of the series, by which `gather` standardises windows; 0 and 1 where it leaves them."""
        width = self.series[0].values.shape[1]
        found = np.tile(np.array([0.0, 1.0])[:, None], (len(origins), 1, width))
        for number in np.intersect1d(origins.series, self._scaled):
            scales, rows = self.series[number].scales, np.flatnonzero(origins.series == number)
            assert scales is not None
            found[rows] = scales[origins.step[rows]]
        if not self.joint:
            found = found[np.arange(len(origins)), :, origins.channel][..., None]
        return found[:, 0], found[:, 1]

    def _starts(self, origins: Origins) -> Numbers:
        """Where each window begins in the memory of the values."""
        starts: Numbers = self._base[origins.series * self.channels + origins.channel] + origins.step
        return starts

    def gather(self, origins: Origins, rows: Numbers | None = None) -> WindowBatch:
        """A batch.

        Args:
            origins: of its windows.
            rows: their numbers; 0, 1, 2, ... when not given.
        """
        values = self._value_windows[:, self._starts(origins)].transpose(1, 2, 0)
        if self._scaled:
            mean, deviation = self.scales(origins)
            values = ((values - mean[:, None]) / deviation[:, None]).astype(np.float32)
        covariates = self._covariate_base[origins.series] + origins.step
        past = self._past_windows[:, covariates].transpose(1, 2, 0)
        known = self._known_windows[:, covariates].transpose(1, 2, 0)
        return WindowBatch(
            torch.from_numpy(values[:, : self.input_length]),
            torch.from_numpy(values[:, self.input_length :]),
            torch.from_numpy(past),
            torch.from_numpy(known),
            torch.from_numpy(self._static[origins.series]),
            torch.from_numpy(self._identity[origins.series, origins.channel]),
            torch.from_numpy(np.arange(len(origins)) if rows is None else rows),
        )


class WindowLoader:
    """Batches of windows; see `training.batches.BatchLoader` for the manners.

    The order of an epoch depends on the seed and the epoch alone. Shuffled epochs leave out the windows that fill no batch, others none.

    Args:
        windows: where they come from.
        origins: which.
        batch_size: rows of a batch.
        shuffle: draw a new order for each epoch.
        seed: of the orders.
        processes: that share an epoch.
        rank: of this one.
    """

    def __init__(
        self, windows: Windows, origins: Origins, *, batch_size: int, shuffle: bool, seed: int = 0, processes: int = 1, rank: int = 0
    ) -> None:
        self.windows, self.origins = windows, origins
        self.batch_size = min(batch_size, max(1, len(origins)))
        self.shuffle, self.seed, self.processes, self.rank = shuffle, seed, processes, rank
        self.epoch = self._start = self._position = 0

    def __len__(self) -> int:
        """Batches of a whole epoch of this process."""
        batches = len(self.origins) // self.batch_size if self.shuffle else -(-len(self.origins) // self.batch_size)
        return max(1, batches // self.processes) if self.shuffle else batches

    def __iter__(self) -> Iterator[WindowBatch]:
        order = np.arange(len(self.origins))
        if self.shuffle:
            order = np.random.Generator(np.random.Philox(np.random.SeedSequence([self.seed, self.epoch]))).permutation(len(order))
        count = len(self)
        self._position, self._start = self._start, 0
        while self._position < count:
            number = self._position * self.processes + self.rank if self.shuffle else self._position
            rows = order[number * self.batch_size : (number + 1) * self.batch_size]
            self._position += 1
            yield self.windows.gather(self.origins.take(rows), rows)
        self.epoch, self._position = self.epoch + 1, 0

    def set_epoch(self, epoch: int) -> None:
        """The epoch that the next pass goes through; from its start, unless it is the one that was loaded."""
        if epoch != self.epoch:
            self.epoch, self._start, self._position = epoch, 0, 0

    def state_dict(self) -> dict[str, int]:
        """The epoch, and how many of its batches have been handed out."""
        return {"epoch": self.epoch, "position": self._position}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The next pass goes on after the batches that had been handed out."""
        self.epoch = int(state["epoch"])
        self._start = self._position = int(state["position"])
