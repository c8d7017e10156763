"""Items as numbers: the vocabulary of a recommendation, how often each was clicked, their properties, and time gaps.

An item that the training part does not have has the number -1. It is stepped over where it was clicked (it moves no state), is
never recommended, and counts as a miss where it is the answer.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import polars as pl

from recurra.data.columns import as_names
from recurra.data.sessions import Sessions, renamed
from recurra.errors import DataError, nearest

__all__ = ["GAPS", "UNKNOWN_ITEM", "ItemAttribute", "ItemVocabulary", "gap_numbers"]

UNKNOWN_ITEM = -1
"""Number of an item that the training part does not have."""
GAPS = 64
"""Numbers of time gaps: none (a session's first click), and powers of two of the unit (of dates a microsecond)."""
SUGGESTED_ITEMS = 20_000
"""Most items among which a nearest name is looked for."""


@dataclass(frozen=True, eq=False)
class ItemAttribute:
    """A property of items.

    Attributes:
        values: what it can be, the most frequent first.
        numbers: (V,) of each item: 1 + the place of its value, 0 where it has none.
    """

    values: list[str]
    numbers: npt.NDArray[np.int64]

    @classmethod
    def fit(cls, items: npt.NDArray[np.int64], values: pl.Series, count: int) -> Self:
        """Each item's most frequent value among its clicks (the first one met of several).

        Args:
            items: (S,) numbers of the clicked items.
            values: (S,) the property in the row of each click; null where it is not known.
            count: V.
        """
        clicks = pl.DataFrame({"item": items, "value": values}).drop_nulls()
        own = clicks.group_by("item", "value", maintain_order=True).len().sort("len", descending=True, maintain_order=True)
        own = own.unique("item", keep="first", maintain_order=True)
        ranked = own.group_by("value", maintain_order=True).agg(pl.col("len").sum()).sort("len", descending=True, maintain_order=True)
        numbers = np.zeros(count, np.int64)
        placed = own.join(ranked.select("value").with_row_index("place", offset=1), on="value")
        numbers[placed["item"].to_numpy()] = placed["place"].to_numpy()
        return cls(ranked["value"].to_list(), numbers)


@dataclass(frozen=True, eq=False)
class ItemVocabulary:
    """The items of the training part.

    Attributes:
        names: (V,) as text, in order of their first click.
        counts: (V,) clicks in the training part.
        attributes: by column.
    """

    names: pl.Series
    counts: npt.NDArray[np.int64]
    attributes: Mapping[str, ItemAttribute] = field(default_factory=dict)

    @cached_property
    def number_by_name(self) -> dict[str, int]:
        """Number of each item by its name; made once, for all sessions in service."""
        return {name: number for number, name in enumerate(self.names.to_list())}

    @cached_property
    def digest(self) -> bytes:
        """Hash of the names in their order."""
        return hashlib.blake2b("\n".join(self.names.to_list()).encode(), digest_size=16).digest()

    @classmethod
    def fit(cls, train: Sessions) -> Self:
        """Count the items of the training sessions.

        Raises:
            DataError: there is one item only, and so nothing to choose from.
        """
        counts = np.bincount(train.items.values, minlength=len(train.names))
        seen = np.flatnonzero(counts)
        if len(seen) < 2:
            raise DataError(f"The training clicks are all of one item, {train.names[int(seen[0])]!r}: there is nothing to choose from.")
        place = np.zeros(len(counts), np.int64)
        place[seen] = np.arange(len(seen))
        numbers = place[train.items.values]
        found = {name: ItemAttribute.fit(numbers, train.attributes[name], len(seen)) for name in train.attributes.columns}
        return cls(train.names[seen], counts[seen], found)

    def __len__(self) -> int:
        return len(self.names)

    def encode(self, sessions: Sessions) -> Sessions:
        """The same clicks with this vocabulary's numbers; -1 where an item is not in it."""
        return renamed(sessions, self.names)

    def numbers(self, items: pl.Series) -> npt.NDArray[np.int64]:
        """(N,) numbers of items by name; -1 where one is not known."""
        known = self.names.to_frame("item").with_row_index("code")
        found = as_names(items).to_frame("item").join(known, on="item", how="left", maintain_order="left")
        return found["code"].cast(pl.Int64).fill_null(UNKNOWN_ITEM).to_numpy()

    def suggest(self, name: str) -> str:
        """A hint for a misspelt item."""
        return nearest(name, self.names.head(SUGGESTED_ITEMS))

    def state(self) -> dict[str, Any]:
        """Names, counts and attributes, as JSON values."""
        return {
            "names": self.names.to_list(),
            "counts": self.counts.tolist(),
            "attributes": {name: {"values": each.values, "numbers": each.numbers.tolist()} for name, each in self.attributes.items()},
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Self:
        """The vocabulary that `state()` described."""
        attributes = {
            name: ItemAttribute(list(each["values"]), np.array(each["numbers"], np.int64)) for name, each in state["attributes"].items()
        }
        return cls(pl.Series("item", state["names"], dtype=pl.String), np.array(state["counts"], np.int64), attributes)


def gap_numbers(times: npt.NDArray[np.float64], offsets: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """(S,) numbers of the time since the click before in the same session: 0 for a first click, 1 + floor(log2(1 + gap)) else."""
    gaps = np.diff(times, prepend=times[:1])
    numbers = 1 + np.floor(np.log2(1.0 + np.maximum(gaps, 0.0))).astype(np.int64)
    numbers[offsets[:-1][np.diff(offsets) > 0]] = 0
    return np.minimum(numbers, GAPS - 1)
