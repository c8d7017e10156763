"""Which modules of a network are recurrent layers: gradients are watched at their inputs, and Muon updates their matrices."""

from __future__ import annotations

from torch import nn

from recurra.cells import Cell

__all__ = ["recurrent_layers"]


def recurrent_layers(network: nn.Module) -> dict[str, nn.Module]:
    """By name, the cells of a network (each reads one whole sequence), and torch's own recurrent modules."""
    return {name: module for name, module in network.named_modules() if isinstance(module, (Cell, nn.RNNBase))}
