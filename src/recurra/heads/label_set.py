"""The labels of a target column, their numbers and their type."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import polars as pl

from recurra.errors import nearest

__all__ = ["LabelSet"]

LabelType = Literal["text", "integer", "boolean"]


@dataclass(frozen=True)
class LabelSet:
    """The labels seen in training, in order; a label's number is its place.

    Attributes:
        names: as texts, sorted (numerically where they are numbers).
        counts: training rows of each.
        kind: what predictions are turned back into.
    """

    names: tuple[str, ...]
    counts: tuple[int, ...]
    kind: LabelType

    @classmethod
    def count(cls, labels: Iterable[str], kind: LabelType) -> LabelSet:
        """The distinct labels of an iterable."""
        counts = Counter(labels)
        names = sorted(counts, key=(lambda name: (0, int(name), "")) if kind == "integer" else str)
        return cls(tuple(names), tuple(counts[name] for name in names), kind)

    def without(self, label: str) -> LabelSet:
        """The labels but one."""
        kept = [number for number, name in enumerate(self.names) if name != label]
        return LabelSet(tuple(self.names[number] for number in kept), tuple(self.counts[number] for number in kept), self.kind)

    def __len__(self) -> int:
        return len(self.names)

    def __contains__(self, label: str) -> bool:
        return self.number(label) >= 0

    def number(self, label: str | None) -> int:
        """The number of a label; -1 for none and for one that the training rows do not have."""
        if label is not None and self.kind == "boolean":
            label = label.lower()  # True of a spreadsheet is true
        return -1 if label is None else self._numbers.get(label, -1)

    def problem(self, label: str, column: str) -> str:
        """What to say of a label that is not here."""
        return (
            f"{label!r} in column {column!r} is none of the {len(self)} labels of the training rows.{nearest(label, self.names)} "
            "Correct it, or leave such rows out with on_error='skip' (--on-error skip)."
        )

    @cached_property
    def _numbers(self) -> dict[str, int]:
        return {name: number for number, name in enumerate(self.names)}

    @property
    def dtype(self) -> type[pl.DataType]:
        """The polars type of predictions."""
        return {"text": pl.String, "integer": pl.Int64, "boolean": pl.Boolean}[self.kind]

    def values(self) -> list[Any]:
        """The labels in the type of the user's column."""
        if self.kind == "integer":
            return [int(name) for name in self.names]
        if self.kind == "boolean":
            return [name == "true" for name in self.names]
        return list(self.names)

    def state(self) -> dict[str, Any]:
        """As JSON values."""
        return {"names": list(self.names), "counts": list(self.counts), "kind": self.kind}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> LabelSet:
        """The labels that `state()` described."""
        return cls(tuple(state["names"]), tuple(state["counts"]), state["kind"])

    @staticmethod
    def kind_of(dtype: pl.DataType) -> LabelType:
        """The label type of a target column."""
        if dtype == pl.Boolean:
            return "boolean"
        return "integer" if dtype.is_integer() else "text"

    @staticmethod
    def texts(values: pl.Series) -> Sequence[str | None]:
        """A target column as texts, blanks at the ends removed."""
        texts: list[str | None] = values.cast(pl.String).str.strip_chars().to_list()
        return texts
