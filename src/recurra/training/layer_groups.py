"""Layers of a network that begins with a trained one: how fast each learns, and from when on.

Source: Howard & Ruder 2018, sections 3.2 (discriminative fine-tuning) and 3.3 (gradual unfreezing).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import nn

__all__ = ["LayerGroups"]


@dataclass(frozen=True)
class LayerGroups:
    r"""Parameters by their depth below the output.

    A parameter of depth d learns with \(\eta \lambda^d\) from epoch \(d\,u\) on, and is not touched before.

    Attributes:
        depths: by the parameter's name: 0 for what is new, 1 for the highest layer that was taken over, and so on down to the
            vectors of the tokens. Parameters that are not named have depth 0.
        decay: \(\lambda\), from one layer to the next lower one.
        unfreezing: u, epochs; 0 where all layers learn from the start.
    """

    depths: Mapping[str, int]
    decay: float
    unfreezing: float

    @property
    def factors(self) -> dict[str, float]:
        """Share of the learning rate by the parameter's name."""
        return {name: self.decay**depth for name, depth in self.depths.items()}

    def freeze(self, network: nn.Module, *, epochs: float) -> None:
        """Of the parameters that are named, let those learn that learn after so many epochs, and no others.

        Args:
            network: whose parameters are named.
            epochs: that are done, with the share of the present one.
        """
        for name, depth in self.depths.items():
            network.get_parameter(name).requires_grad_(depth * self.unfreezing <= epochs)

    def unfreeze(self, network: nn.Module) -> None:
        """Let all parameters that are named learn."""
        for name in self.depths:
            network.get_parameter(name).requires_grad_()
