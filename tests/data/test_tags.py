"""Tags that stand for spans: which scheme, which spans, and back."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recurra.data.store import offsets_of
from recurra.data.tags import Spans, TagScheme, split_tag

KINDS = ("", "LOC", "PER-X")


def spans_of(rows: list[list[str]], kinds: tuple[str, ...] = ("LOC", "PER")) -> list[tuple[int, int, str]]:
    offsets = offsets_of([len(row) for row in rows])
    scheme = TagScheme("bioes", kinds)
    numbers = scheme.parse([tag for row in rows for tag in row], offsets)
    return [(start, end, kinds[kind]) for start, end, kind in zip(*(part.tolist() for part in scheme.read(numbers, offsets)), strict=True)]


@pytest.mark.parametrize(
    ("tags", "spans"),
    [
        ("O I-PER I-PER O", [(1, 3, "PER")]),  # I after O begins a span
        ("B-PER I-LOC I-LOC", [(0, 1, "PER"), (1, 3, "LOC")]),  # a change of kind begins one
        ("B-PER B-PER I-PER", [(0, 1, "PER"), (1, 3, "PER")]),  # B after B
        ("I-PER B-PER", [(0, 1, "PER"), (1, 2, "PER")]),
        ("B-PER O I-PER", [(0, 1, "PER"), (2, 3, "PER")]),
        ("S-PER I-PER E-PER E-PER", [(0, 1, "PER"), (1, 3, "PER"), (3, 4, "PER")]),
        ("E-LOC", [(0, 1, "LOC")]),
        ("U-LOC L-LOC", [(0, 1, "LOC"), (1, 2, "LOC")]),
        ("B-LOC M-LOC E-LOC S-LOC", [(0, 3, "LOC"), (3, 4, "LOC")]),
        ("O O", []),
        ("", []),
    ],
)
def test_spans_are_read_as_conlleval_reads_them(tags: str, spans: list[tuple[int, int, str]]) -> None:
    assert spans_of([tags.split()]) == spans


def test_a_span_ends_with_its_row() -> None:
    assert spans_of([["B-PER"], [], ["I-PER", "I-PER"]]) == [(0, 1, "PER"), (1, 3, "PER")]


@given(
    rows=st.lists(st.lists(st.tuples(st.integers(1, 4), st.integers(-1, len(KINDS) - 1)), max_size=6), min_size=1, max_size=4),
    name=st.sampled_from(["bio", "iob1", "bioes"]),
)
def test_spans_written_are_the_spans_read(rows: list[list[tuple[int, int]]], name: str) -> None:
    """Rows are runs of tokens, each a span of some kind, or (-1) outside."""
    offsets = offsets_of([sum(length for length, _ in row) for row in rows])
    start, end, kind = [], [], []
    position = 0
    for row in rows:
        for length, number in row:
            if number >= 0:
                start.append(position), end.append(position + length), kind.append(number)
            position += length
    spans = Spans(*(np.array(part, np.int64) for part in (start, end, kind)))
    scheme = TagScheme(name, KINDS)  # type: ignore[arg-type]
    numbers = scheme.write(spans, offsets)
    for read, written in zip(scheme.read(numbers, offsets), spans, strict=True):
        np.testing.assert_array_equal(read, written)
    tags = [scheme.names[number] for number in numbers]
    assert not any(scheme.invalid(tags[a:b]) for a, b in itertools.pairwise(offsets))
    np.testing.assert_array_equal(scheme.parse(tags, offsets), numbers)


@pytest.mark.parametrize(
    ("rows", "name", "letters"),
    [
        (["B-PER I-PER O", "B-LOC B-LOC"], "bio", "OBIES"),
        (["I-PER I-PER O", "I-LOC B-LOC"], "iob1", "OBIES"),
        (["I-PER I-PER O", "O B-LOC"], "bio", "OBIES"),  # a B that iob1 would not write: bio with a slip
        (["S-PER O", "B-LOC E-LOC"], "bioes", "OBIES"),
        (["U-PER O", "B-LOC L-LOC"], "bioes", "OBILU"),
        (["B M E S"], "bioes", "OBMES"),
        (["NN VB O"], "none", "OBIES"),
        (["O O"], "none", "OBIES"),
    ],
)
def test_schemes_are_told_apart(rows: list[str], name: str, letters: str) -> None:
    scheme = TagScheme.detect([row.split() for row in rows])
    assert (scheme.name, scheme.letters) == (name, letters)
    assert all(scheme.fits(tag) for row in rows for tag in row.split())


@pytest.mark.parametrize(
    ("name", "tags", "wrong"),
    [
        ("bio", "O I-LOC", True),
        ("bio", "B-PER I-LOC", True),
        ("bio", "B-PER I-PER B-PER", False),
        ("bioes", "B-PER O", True),
        ("bioes", "B-PER E-LOC", True),
        ("bioes", "I-PER", True),
        ("bioes", "B-PER I-PER", True),
        ("bioes", "B-PER I-PER E-PER S-LOC O", False),
        ("iob1", "O I-LOC B-LOC", False),
    ],
)
def test_rows_that_break_the_scheme_are_known(name: str, tags: str, wrong: bool) -> None:
    assert TagScheme(name, ("LOC", "PER")).invalid(tags.split()) == wrong  # type: ignore[arg-type]


def test_kinds_may_have_dashes_and_other_tags_have_no_scheme() -> None:
    assert split_tag("B-aimed-at") == (1, "aimed-at")
    assert split_tag("B-") is None
    assert split_tag("NN") is None
    assert split_tag("I") == (2, "")
