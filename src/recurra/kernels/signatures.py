"""What is to be known of a recurrence before its compiled kernel runs: how many tensors it takes, and of what shapes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from recurra.shapes import Tensor

__all__ = ["SIGNATURES", "Signature", "Sizes"]


class Signature(NamedTuple):
    """The tensors of an operation.

    Attributes:
        gates: G.
        fields: of its state.
        planes: times H numbers that a real step saves for the backward pass.
        numbers: numbers saved beside these.
        zones: shares of zoneout; the last one holds for all fields behind it.
        more: widths in H of the weights beside w_ih, w_hh, b_ih and b_hh, each a vector.
        projected: the only further weight is a matrix (P, H) that makes the hidden state.
        heads: a unit may read a part of the hidden state alone.
    """

    gates: int
    fields: int
    planes: int = 1
    numbers: int = 0
    zones: int = 1
    more: tuple[int, ...] = ()
    projected: bool = False
    heads: bool = False

    @property
    def weights(self) -> int:
        """How many they are."""
        return 4 + len(self.more) + self.projected


SIGNATURES = {
    "elman": Signature(1, 1),
    "elman_relu": Signature(1, 1),
    "gru": Signature(3, 1, planes=4),
    "lstm": Signature(4, 2, planes=5, zones=2),
    "layernorm_lstm": Signature(4, 2, planes=9, numbers=4, zones=2, more=(4, 4, 1, 1)),
    "layernorm_gru": Signature(3, 1, planes=6, numbers=4, more=(3, 3)),
    "gru_reset_before": Signature(3, 1, planes=4),
    "projected_lstm": Signature(4, 2, planes=6, zones=2, projected=True),
    "peephole_lstm": Signature(4, 2, planes=5, zones=2, more=(1, 1, 1)),
    "slstm": Signature(4, 4, planes=7, zones=2, heads=True),
}
"""The operations that have compiled kernels."""


class Sizes(NamedTuple):
    """Sizes of an operation's weights.

    Attributes:
        units: H, width of a gate, and of all fields of the state but the first.
        outputs: P, width of the hidden state, the first field.
        head: numbers of the hidden state that a unit reads.
    """

    units: int
    outputs: int
    head: int

    @classmethod
    def of(cls, operation: str, weights: Sequence[Tensor]) -> Sizes:
        """Those of a direction's weights, or of several directions', which agree."""
        signature, (rows, read) = SIGNATURES[operation], weights[1].shape
        if signature.projected:
            return cls(weights[4].shape[1], read, read)
        return cls(rows // signature.gates, rows // signature.gates, read) if signature.heads else cls(read, read, read)

    @property
    def widest(self) -> int:
        """Width of the widest field."""
        return max(self.units, self.outputs)

    def fields(self, operation: str) -> tuple[int, ...]:
        """Widths of the fields of the state."""
        return self.outputs, *(self.units,) * (SIGNATURES[operation].fields - 1)

    def zones(self, operation: str) -> tuple[int, ...]:
        """Widths of the shares of zoneout."""
        return self.fields(operation)[: SIGNATURES[operation].zones]

    def weights(self, operation: str, features: int) -> tuple[tuple[int, ...], ...]:
        """Shapes of a direction's weights."""
        signature = SIGNATURES[operation]
        wide = signature.gates * self.units
        read = self.head if signature.heads and self.head and self.units % self.head == 0 else self.outputs
        more = ((self.outputs, self.units),) if signature.projected else tuple((width * self.units,) for width in signature.more)
        return (wide, features), (wide, read), (wide,), (wide,), *more
