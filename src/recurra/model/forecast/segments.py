"""The direct model: segments of history through a stack of cells, and all steps of the horizon in parallel.

history (B, L, C) -> scaled -> segments (B, L/w, w F) -> linear, ReLU -> stack -> its last state, once for each segment of the horizon
-> one step that reads where that segment lies, which series it is, and what is known of it -> output layer -> (B, H, C, O)

Source: Lin et al. 2023 (SegRNN), sections 3.2 and 3.3. Otherwise than there: the vectors of the position and of the channel are added, not
put side by side, so that others can be added too; any cell; covariates; a linear map beside (as the autoregressive part of LSTNet, Lai
et al. 2018, section 3.6).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import nn

from recurra.cells.state import select
from recurra.config import Settings
from recurra.data.windows import WindowBatch
from recurra.heads import OutputLayer
from recurra.heads.forecast import ForecastHead
from recurra.model.forecast.scaling import Scaled, WindowScale
from recurra.model.network import build_stack
from recurra.model.recurrent import RecurrentNetwork
from recurra.shapes import Float, Tensor

__all__ = ["Identity", "Sizes", "SegmentsNetwork"]

START = 0.02
"""Deviation of learnt positions and identities at the start."""


class Sizes(NamedTuple):
    """What a window is made of.

    Attributes:
        channels: C of a row; 1 for independent channels.
        past: P.
        known: K, calendar included.
        static: S.
        identities: learnt vectors; 0 for none.
        masked: whether the network is told which values are missing.
        counts: whether values are counts.
    """

    channels: int
    past: int
    known: int
    static: int
    identities: int
    masked: bool
    counts: bool


class Identity(nn.Module):
    """A learnt vector by identity; the mean of all for one that is not known.

    Args:
        identities: how many.
        size: of a vector.
    """

    def __init__(self, identities: int, size: int) -> None:
        super().__init__()
        self.vectors = nn.Parameter(START * torch.randn(identities, size))

    def forward(self, identity: Tensor) -> Tensor:
        """(B, size) of (B,) identities, -1 for not known."""
        every = torch.cat([self.vectors, self.vectors.mean(0, keepdim=True)])
        return every[identity]


class SegmentsNetwork(RecurrentNetwork):
    """The direct model; see the module.

    Args:
        sizes: of the windows.
        head: what is put out.
        settings: of the run.

    Attributes:
        head: as given.
    """

    def __init__(self, sizes: Sizes, head: ForecastHead, settings: Settings) -> None:
        super().__init__()
        forecast = settings.forecast
        self.head, self.sizes = head, sizes
        self.input_length, self.horizon, self.width = forecast.input_length, forecast.horizon, forecast.segment
        self.scale = WindowScale(forecast.scaling, identities=sizes.identities, channels=sizes.channels, counts=sizes.counts)
        size = settings.encoder.hidden_size
        features = sizes.channels * (1 + sizes.masked) + sizes.past + sizes.known
        self.read = nn.Linear(self.width * features, size)
        self.encoder = build_stack(size, settings.encoder)
        self.positions = nn.Parameter(START * torch.randn(-(-self.horizon // self.width), size))
        self.identity = Identity(sizes.identities, size) if forecast.identity and sizes.identities else None
        self.ahead = nn.Linear(self.width * sizes.known, size) if sizes.known else None
        self.static = nn.Linear(sizes.static, size) if sizes.static else None
        self.output = OutputLayer(self.encoder.output_size, self.width * sizes.channels * head.size, settings=settings.head)
        self.linear = None
        if forecast.linear == "auto" and not sizes.counts:
            # fitted in closed form before training; the network starts from it, and its own part from nothing
            self.linear = nn.Linear(self.input_length, self.horizon, bias=False).requires_grad_(False)
            for parameter in (self.linear.weight, self.output.output.weight, self.output.output.bias):
                nn.init.zeros_(parameter)

    def forward(self, batch: WindowBatch) -> Float[Tensor, "B H C O"]:
        """The head's parameters for every step of the horizon, in the unit of the series."""
        scaled = self.scale(batch.history, batch.identity)
        _, state = self.encoder(torch.relu(self.read(self._segments(scaled, batch))))
        queries = self._queries(batch)
        rows, ahead = queries.shape[:2]
        repeated = torch.arange(rows, device=queries.device).repeat_interleave(ahead)
        outputs, _ = self.encoder(queries.flatten(0, 1)[:, None], select(state, repeated))
        raw = self.output(outputs[:, 0]).view(rows, ahead * self.width, self.sizes.channels, self.head.size)[:, : self.horizon]
        if self.linear is not None:
            raw = self._add_linear(raw, scaled)
        return self.head.parameters(raw, scaled.center[..., None], scaled.spread[..., None])

    def _segments(self, scaled: Scaled, batch: WindowBatch) -> Float[Tensor, "B T F"]:
        """The history in segments; a first one that is not whole begins with zeros."""
        parts = [scaled.values]
        if self.sizes.masked:
            parts.append(scaled.known.to(scaled.values))
        steps = torch.cat([*parts, batch.past, batch.known[:, : self.input_length]], 2)
        lacking = -self.input_length % self.width
        padded = nn.functional.pad(steps, (0, 0, lacking, 0)) if lacking else steps
        return padded.reshape(len(steps), -1, self.width * steps.shape[2])

    def _queries(self, batch: WindowBatch) -> Float[Tensor, "B M F"]:
        """What is asked of each segment of the horizon."""
        asked = self.positions[None].expand(len(batch), -1, -1)
        if self.identity is not None:
            asked = asked + self.identity(batch.identity)[:, None]
        if self.static is not None:
            asked = asked + self.static(batch.static)[:, None]
        if self.ahead is not None:
            known = batch.known[:, self.input_length :]
            known = nn.functional.pad(known, (0, 0, 0, -self.horizon % self.width))
            asked = asked + self.ahead(known.reshape(len(known), -1, self.width * known.shape[2]))
        return asked

    def _add_linear(self, raw: Tensor, scaled: Scaled) -> Tensor:
        """The linear map on the middle of the output."""
        assert self.linear is not None
        level = self.linear(scaled.values.transpose(1, 2)).transpose(1, 2)
        middle = self.head.middle
        return torch.cat([raw[..., :middle], (raw[..., middle] + level)[..., None], raw[..., middle + 1 :]], -1)

    def loss(self, outputs: Float[Tensor, "B H C O"], batch: WindowBatch) -> Float[Tensor, ""]:
        """The head's loss of the known answers."""
        return self.head.loss(outputs, batch.answers)
