"""A table of vectors of which a batch reads some rows: its gradient, too, is these rows and no others."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from recurra.shapes import Float, Int, Tensor

__all__ = ["ItemTable"]


class ItemTable(nn.Module):
    """A vector for each item.

    It differs from `torch.nn.Embedding` in that rows are named once each and in order: their row-sparse gradient has each of them
    once.

    Args:
        items: V.
        size: D.
        init_range: vectors start uniform in plus and minus this.
        sparse: gradients of `forward` are row-sparse, for an optimizer that takes them.

    Attributes:
        weight: (V, D).
        output_size: D.
    """

    def __init__(self, items: int, size: int, *, init_range: float = 0.05, sparse: bool = False) -> None:
        super().__init__()
        self.output_size = size
        self.sparse = sparse
        self.weight = nn.Parameter(torch.empty(items, size).uniform_(-init_range, init_range))

    def forward(self, rows: Int[Tensor, " K"]) -> Float[Tensor, "K D"]:
        """Some rows.

        Args:
            rows: numbers, each once, ascending.
        """
        if not self.sparse:
            return self.weight.index_select(0, rows)
        result: Tensor = _Rows.apply(self.weight, rows)  # type: ignore[no-untyped-call]
        return result

    def extra_repr(self) -> str:
        """Sizes, for `print(module)`."""
        return f"{len(self.weight)}, {self.output_size}"


class _Rows(torch.autograd.Function):
    """Rows of a matrix whose gradient is row-sparse and coalesced as it comes."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, rows: Tensor) -> Tensor:
        ctx.save_for_backward(rows)
        ctx.size = weight.shape
        return weight.index_select(0, rows)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (rows,) = ctx.saved_tensors
        return torch.sparse_coo_tensor(rows[None], gradient, ctx.size, is_coalesced=True, check_invariants=False), None
