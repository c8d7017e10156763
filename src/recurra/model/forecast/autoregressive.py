"""The probabilistic model that goes step by step: each step reads the value before and puts out the distribution of the next.

Over the horizon it reads what it has drawn itself; many such paths are the forecast. Columns that are known up to the present keep their
last value there.

Source: Salinas et al. 2020 (DeepAR), section 3.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from recurra.cells.state import select
from recurra.config import Settings
from recurra.data.windows import WindowBatch
from recurra.heads import OutputLayer
from recurra.heads.forecast import ForecastHead
from recurra.model.forecast.scaling import Scaled, WindowScale
from recurra.model.forecast.segments import Identity, Sizes
from recurra.model.network import build_stack
from recurra.model.recurrent import RecurrentNetwork
from recurra.shapes import Float, Tensor

__all__ = ["AutoregressiveNetwork"]

IDENTITY_SIZE = 16
"""Of the learnt vector of a series, which every step reads."""


class AutoregressiveNetwork(RecurrentNetwork):
    """The model that goes step by step; see the module.

    Args:
        sizes: of the windows.
        head: what is put out.
        settings: of the run.

    Attributes:
        head: as given.
        inputs: F, features of a step's input.
    """

    def __init__(self, sizes: Sizes, head: ForecastHead, settings: Settings) -> None:
        super().__init__()
        forecast = settings.forecast
        self.head, self.sizes = head, sizes
        self.input_length, self.horizon = forecast.input_length, forecast.horizon
        self.scale = WindowScale(forecast.scaling, identities=sizes.identities, channels=sizes.channels, counts=sizes.counts)
        self.identity = Identity(sizes.identities, IDENTITY_SIZE) if forecast.identity and sizes.identities else None
        vector = IDENTITY_SIZE if self.identity is not None else 0
        self.inputs = sizes.channels * (1 + sizes.masked) + sizes.past + sizes.known + sizes.static + vector
        self.encoder = build_stack(self.inputs, settings.encoder)
        self.output = OutputLayer(self.encoder.output_size, sizes.channels * head.size, settings=settings.head)

    def forward(self, batch: WindowBatch) -> Float[Tensor, "B LH C O"]:
        """The head's parameters for every step of history and horizon, each from the true values before it."""
        scaled = self.scale(batch.history, batch.identity)
        whole = torch.cat([batch.history, batch.answers], 1)
        values, known = self._carry_forward(whole, scaled)
        past = torch.cat([batch.past, batch.past[:, -1:].expand(-1, self.horizon, -1)], 1)
        inputs = self.inputs_of(_later(values), _later(known), _later(past), batch.known, self.constants(batch))
        outputs, _ = self.encoder(inputs)
        return self._of_head(outputs, scaled.center, scaled.spread)

    def _carry_forward(self, whole: Tensor, scaled: Scaled) -> tuple[Tensor, Tensor]:
        """Scaled values of history and horizon, a missing one replaced by the one before, and which are known."""
        known = whole.isfinite()
        steps = torch.arange(whole.shape[1], device=whole.device)[:, None]
        latest = torch.where(known, steps, -1).cummax(1).values
        filled = whole.masked_fill(~known, 0.0).gather(1, latest.clamp(min=0))
        return ((filled - scaled.center) / scaled.spread).masked_fill(latest < 0, 0.0), known

    def constants(self, batch: WindowBatch) -> Float[Tensor, "B S"]:
        """What every step of a row reads: static columns and the identity's vector."""
        return batch.static if self.identity is None else torch.cat([batch.static, self.identity(batch.identity)], 1)

    def inputs_of(self, values: Tensor, known: Tensor, past: Tensor, ahead: Tensor, constants: Tensor) -> Float[Tensor, "B T F"]:
        """The inputs of steps.

        Args:
            values: (B, T, C) scaled, of the steps before.
            known: (B, T, C) which of these are.
            past: (B, T, P) of the steps before.
            ahead: (B, T, K) of the steps themselves.
            constants: (B, S).
        """
        parts = [values, known.to(values)] if self.sizes.masked else [values]
        return torch.cat([*parts, past, ahead, constants[:, None].expand(-1, values.shape[1], -1)], 2)

    def _of_head(self, outputs: Tensor, center: Tensor, spread: Tensor) -> Float[Tensor, "B T C O"]:
        raw = self.output(outputs.flatten(0, 1)).view(*outputs.shape[:2], self.sizes.channels, self.head.size)
        return self.head.parameters(raw, center[..., None], spread[..., None])

    def loss(self, outputs: Float[Tensor, "B LH C O"], batch: WindowBatch) -> Float[Tensor, ""]:
        """The head's loss of the known values of history and horizon."""
        return self.head.loss(outputs, torch.cat([batch.history, batch.answers], 1))

    def read_history(self, batch: WindowBatch) -> tuple[Scaled, Any]:
        """The scaled history, and the state after all inputs that hold no more than the values but the last."""
        scaled = self.scale(batch.history, batch.identity)
        length = batch.history.shape[1]
        inputs = self.inputs_of(
            _later(scaled.values), _later(scaled.known), _later(batch.past), batch.known[:, :length], self.constants(batch)
        )
        _, state = self.encoder(inputs)
        return scaled, state

    def paths(self, batch: WindowBatch, *, samples: int, generator: np.random.Generator) -> Float[Tensor, "B N H C"]:
        """Sample paths over the horizon, in the unit of the series; one path of points where the head draws none.

        Args:
            batch: its answers are not read.
            samples: N, paths of each row.
            generator: where they are drawn from.
        """
        scaled, state = self.read_history(batch)
        return self.continue_paths(
            scaled, state, past=batch.past[:, -1:], ahead=batch.known[:, -self.horizon :], constants=self.constants(batch),
            samples=samples, generator=generator,
        )  # fmt: skip

    def continue_paths(
        self,
        scaled: Scaled,
        state: Any,
        *,
        past: Tensor,
        ahead: Tensor,
        constants: Tensor,
        samples: int,
        generator: np.random.Generator,
    ) -> Float[Tensor, "B N H C"]:
        """Sample paths from a state, which has read all but the last of the scaled values; see `paths`."""
        rows = torch.arange(len(constants), device=constants.device).repeat_interleave(samples)
        state, past, ahead, constants = select(state, rows), past[rows], ahead[rows], constants[rows]
        center, spread = scaled.center[rows], scaled.spread[rows]
        values, known = scaled.values[rows, -1:], scaled.known[rows, -1:]
        drawn: list[Tensor] = []
        for step in range(ahead.shape[1]):
            outputs, state = self.encoder(self.inputs_of(values, known, past, ahead[:, step : step + 1], constants), state)
            parameters = self._of_head(outputs, center, spread)
            value = self.head.sample(parameters, generator) if self.head.samples else self.head.point(parameters)
            drawn.append(value)
            values, known = (value - center) / spread, torch.ones_like(known)
        paths = torch.cat(drawn, 1)
        return paths.view(-1, samples, *paths.shape[1:])


def _later(steps: Tensor) -> Tensor:
    """Each step holds what the one before held; the first one nothing."""
    return torch.cat([torch.zeros_like(steps[:, :1]), steps[:, :-1]], 1)
