"""Gradients of large tables: a batch's rows up to the optimizer, the whole table only there."""

from __future__ import annotations

from torch import nn

from recurra.layers import Embedding, HashedTable
from recurra.shapes import Tensor

__all__ = ["RowGradients"]

SMALLEST = 2**18
"""Numbers of a table from which clearing, measuring and clipping the rows that no batch has costs more than to keep them apart."""


class RowGradients:
    """The tables of a network that are trained with row-sparse gradients, although their optimizer reads dense ones.

    A batch has few of a table's rows. The gradient of the others is zero, but must be there for an optimizer with momentum:
    it is, in one tensor a table that is kept between the steps, into which `fill` puts a step's rows and from which `clear`
    takes them. What comes before the optimizer (backward, norms, clipping) sees the rows alone. The training is the same but
    for the order in which norms are added up.

    Args:
        network: its tables of at least `SMALLEST` numbers that have dense gradients are taken.
    """

    def __init__(self, network: nn.Module) -> None:
        self._tables = [
            module
            for module in network.modules()
            if isinstance(module, (Embedding, HashedTable)) and not module.sparse and _is_large(module.weight)
        ]
        self._whole: dict[nn.Parameter, Tensor] = {}
        self._rows: dict[nn.Parameter, Tensor] = {}
        for module in self._tables:
            module.sparse = True

    def fill(self) -> None:
        """Before the optimizer's step: the gradients of the whole tables."""
        for weight in (module.weight for module in self._tables):
            gradient = weight.grad
            # with what a table gives elsewhere (as an output layer's weights) it may be dense already
            if gradient is None or not gradient.is_sparse:
                continue
            gradient = gradient.coalesce()
            self._rows[weight] = gradient._indices()[0]
            if weight not in self._whole:
                self._whole[weight] = weight.new_zeros(weight.shape)
            weight.grad = self._whole[weight].add_(gradient)  # to zeros

    def clear(self) -> None:
        """After the optimizer's step: the gradients are gone."""
        for weight, rows in self._rows.items():
            weight.grad = None
            self._whole[weight].index_fill_(0, rows, 0.0)
        self._rows.clear()

    def stop(self) -> None:
        """From now on the tables have dense gradients again."""
        for module in self._tables:
            module.sparse = False
        self._tables.clear()


def _is_large(weight: nn.Parameter) -> bool:
    return weight.requires_grad and weight.device.type == "cpu" and weight.numel() >= SMALLEST
