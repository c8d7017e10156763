"""Tags of tokens that write down spans, one tag a token: B-PER I-PER O. Which scheme they follow, the spans they stand for, and back.

| scheme | begins | goes on | ends | alone |
| --- | --- | --- | --- | --- |
| bio (IOB2) | B | I | I | B |
| iob1 | I; B right after a span of the same kind | I | I | I or B |
| bioes | B | I | E | S |
| none | every tag is a name of its own, as parts of speech are |

BMES and BILOU are bioes with other letters. Spans are read as the CoNLL evaluation script `conlleval` reads them, which knows no
invalid tags: an I after O begins a span, and so does a change of kind. All functions take the tags of many rows end to end, as
numbers. Not inside: metrics of spans (`recurra.metrics.spans`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, NamedTuple, Self

import numpy as np
import numpy.typing as npt

__all__ = ["OUTSIDE", "UNKNOWN_KIND", "Scheme", "Spans", "TagScheme", "split_tag"]

UNKNOWN_KIND = "(not in training)"
"""Name of all kinds that a scheme does not have."""
Scheme = Literal["bio", "iob1", "bioes", "none"]
"""How tags write down spans."""
OUTSIDE = "O"
"""Tag of a token that is in no span."""
O, B, I, E, S = range(5)  # noqa: E741  # the letters that the field uses
_LETTERS = {"B": B, "I": I, "M": I, "E": E, "L": E, "S": S, "U": S}
_PLACES = {"bio": (B, I), "iob1": (B, I), "bioes": (B, I, E, S)}
Numbers = npt.NDArray[np.int64]


class Spans(NamedTuple):
    """Spans of tokens, in order.

    Attributes:
        start: (S,) the first token, counted over all rows.
        end: (S,) the token after the last one.
        kind: (S,) number of the kind.
    """

    start: Numbers
    end: Numbers
    kind: Numbers


def split_tag(tag: str) -> tuple[int, str] | None:
    """Letter (O, B, I, E or S as a number) and kind of a tag: `"B-PER"` is (1, "PER"), `"O"` (0, ""); None for a tag of no scheme."""
    if tag == OUTSIDE:
        return O, ""
    letter, dash, kind = tag.partition("-")
    return (_LETTERS[letter], kind) if letter in _LETTERS and (kind or not dash) else None


@dataclass(frozen=True)
class TagScheme:
    """The tags of a scheme for some kinds of spans. Number 0 is `O`; each kind has a block of numbers (scheme none: a number a name).

    Attributes:
        name: of the scheme.
        kinds: what spans can be; the tags themselves where the scheme is none.
        letters: how O, B, I, E and S are written.
    """

    name: Scheme
    kinds: tuple[str, ...]
    letters: str = "OBIES"

    @classmethod
    def detect(cls, rows: Iterable[Sequence[str]]) -> Self:
        """The scheme that rows of tags follow, its kinds in alphabetical order.

        Where half of the different tags or more are of no scheme, the scheme is none; fewer are slips, which `fits` tells.
        Tags with E, L, S or U are bioes. All others are bio, or iob1 where spans begin with I and B stands only where it must.
        """
        seen: set[str] = set()
        loose_starts = needless = 0  # spans that begin with I; spans that begin with B where iob1 would write I
        for row in rows:
            seen.update(row)
            before: tuple[int, str] | None = (O, "")
            for tag in row:
                now = split_tag(tag)
                if now is not None and now[0] in (B, I):
                    goes_on = before is not None and before[0] != O and before[1] == now[1]
                    loose_starts += now[0] == I and not goes_on
                    needless += now[0] == B and not goes_on
                before = now
        parsed = [split_tag(tag) for tag in seen]
        strange = sum(each is None for each in parsed)
        if 2 * strange >= len(parsed) or not any(each and each[0] != O for each in parsed):
            return cls("none", tuple(sorted(seen)))
        kinds = tuple(sorted({each[1] for each in parsed if each is not None and each[0] != O}))
        if not any(each and each[0] in (E, S) for each in parsed):
            return cls("iob1" if loose_starts and not needless else "bio", kinds)
        written = {tag.partition("-")[0] for tag in seen if split_tag(tag)}
        return cls("bioes", kinds, "OB" + ("M" if "M" in written else "I") + ("LU" if written & {"L", "U"} else "ES"))

    def with_unknown(self) -> Self:
        """The same with one kind more, `UNKNOWN_KIND`, for tags of kinds that are not among these."""
        return type(self)(self.name, (*self.kinds, UNKNOWN_KIND), self.letters)

    def in_scheme(self, name: Scheme) -> Self:
        """The same kinds in another scheme."""
        return type(self)(name, self.kinds)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """(C,) the tags by number."""
        if self.name == "none":
            return self.kinds
        return (
            OUTSIDE,
            *(f"{self.letters[place]}-{kind}" if kind else self.letters[place] for kind in self.kinds for place in self._places),
        )

    def __len__(self) -> int:
        return len(self.names)

    @property
    def _places(self) -> tuple[int, ...]:
        return _PLACES[self.name]

    @cached_property
    def _letter_of(self) -> Numbers:
        return np.array([O, *(place for _ in self.kinds for place in self._places)])

    @cached_property
    def _kind_of(self) -> Numbers:
        return np.array([-1, *(number for number in range(len(self.kinds)) for _ in self._places)])

    def fits(self, tag: str | None) -> bool:
        """Whether a tag is written as those of a scheme are, in any letters, be its kind among these or not; any tag of scheme none."""
        return tag is not None and (self.name == "none" or split_tag(tag) is not None)

    @cached_property
    def _places_of_names(self) -> dict[str, int]:
        return {name: number for number, name in enumerate(self.kinds)}

    def parse(self, tags: Sequence[str], offsets: Numbers) -> Numbers:
        """Numbers of tags of any scheme, each read as `conlleval` reads it and written in this scheme.

        Args:
            tags: of all rows, end to end; all fit. Those of a kind that is not among these get the numbers of one kind more.
            offsets: (N + 1,) where each row begins.
        """
        if self.name == "none":
            return np.fromiter((self._places_of_names.get(tag, len(self.kinds)) for tag in tags), np.int64, len(tags))
        found = {tag: split_tag(tag) or (O, "") for tag in set(tags)}
        numbered = {
            tag: (letter, self._places_of_names.get(kind, len(self.kinds)) if letter else -1) for tag, (letter, kind) in found.items()
        }
        both = np.array([numbered[tag] for tag in tags], np.int64).reshape(-1, 2)
        return self.write(_spans(both[:, 0], both[:, 1], offsets), offsets)

    def read(self, numbers: Numbers, offsets: Numbers) -> Spans:
        """The spans that tags stand for; none where the scheme is none.

        Args:
            numbers: of all rows, end to end.
            offsets: (N + 1,) where each row begins.
        """
        if self.name == "none":
            return Spans(*(np.zeros(0, np.int64) for _ in Spans._fields))
        numbers = numbers.astype(np.int64)
        return _spans(self._letter_of[numbers], self._kind_of[numbers], offsets)

    def write(self, spans: Spans, offsets: Numbers) -> Numbers:
        """Numbers of the tags that stand for spans; see `read`."""
        lengths = spans.end - spans.start
        letters = np.zeros(int(offsets[-1]), np.int64)
        kinds = np.zeros(len(letters), np.int64)
        inside = np.arange(lengths.sum()) + np.repeat(spans.start - (np.cumsum(lengths) - lengths), lengths)
        letters[inside], kinds[inside] = I, np.repeat(spans.kind, lengths)
        if self.name == "bioes":
            letters[spans.end - 1], letters[spans.start] = E, B
            letters[spans.start[lengths == 1]] = S
        elif self.name == "bio":
            letters[spans.start] = B
        else:
            follows = np.zeros(len(spans.start), bool)
            follows[1:] = (spans.start[1:] == spans.end[:-1]) & (spans.kind[1:] == spans.kind[:-1]) & ~np.isin(spans.start[1:], offsets)
            letters[spans.start[follows]] = B
        place = np.zeros(5, np.int64)
        place[list(self._places)] = np.arange(len(self._places))
        numbers: Numbers = np.where(letters == O, 0, 1 + kinds * len(self._places) + place[letters])
        return numbers

    def allowed(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Which tags may begin a row (C,), follow each other (C, C) and end a row (C,); everything may in iob1 and none."""
        size = len(self)
        if self.name in ("none", "iob1"):
            return np.ones(size, bool), np.ones((size, size), bool), np.ones(size, bool)
        letter, kind = self._letter_of, self._kind_of
        goes_on = np.isin(letter, (I, E))
        same = kind[:, None] == kind[None, :]
        open_before = np.isin(letter, (B, I))[:, None]
        if self.name == "bio":
            return ~goes_on, ~goes_on[None, :] | (open_before & same), np.ones(size, bool)
        return ~goes_on, np.where(open_before, goes_on[None, :] & same, ~goes_on[None, :]), ~open_before[:, 0]

    def invalid(self, tags: Sequence[str]) -> bool:
        """Whether a row of known tags breaks the rules of the scheme."""
        if not tags or self.name in ("none", "iob1"):
            return False
        first, following, last = self._allowed
        places = {name: number for number, name in enumerate(self.names)}
        if any(tag not in places for tag in tags):
            return True
        numbers = [places[tag] for tag in tags]
        moves = following[numbers[:-1], numbers[1:]]
        return not (first[numbers[0]] and moves.all() and last[numbers[-1]])

    @cached_property
    def _allowed(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return self.allowed()


def _spans(letters: Numbers, kinds: Numbers, offsets: Numbers) -> Spans:
    """Spans of letters and kinds, as `conlleval` finds them; E and S end a span, as in its successors."""
    starts_row = np.zeros(len(letters) + 1, bool)
    starts_row[offsets] = True
    before, kind_before = np.roll(letters, 1), np.roll(kinds, 1)
    inside = letters != O
    begins = inside & (starts_row[:-1] | (before == O) | (kinds != kind_before) | np.isin(letters, (B, S)) | np.isin(before, (E, S)))
    start = np.flatnonzero(begins)
    stops = np.append(np.flatnonzero(begins | ~inside | starts_row[:-1]), len(letters))
    end = stops[np.searchsorted(stops, start, side="right")]
    return Spans(start, end, kinds[start])
