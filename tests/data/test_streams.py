"""Streams: every step once, in order, with resets where a sequence begins."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recurra.data.store import offsets_of
from recurra.data.streams import Streams

lengths = st.lists(st.integers(0, 9), min_size=1, max_size=30).filter(any)


def rows_of(streams: Streams) -> list[list[tuple[int, bool]]]:
    """(position, reset) of each row, all windows end to end."""
    found: list[list[tuple[int, bool]]] = [[] for _ in range(streams.rows)]
    for window in streams:
        assert window.positions.shape == window.reset.shape == window.inside.shape
        for row, length in enumerate(window.lengths):
            found[row] += zip(window.positions[row, :length].tolist(), window.reset[row, :length].tolist(), strict=True)
    return found


@given(lengths=lengths, rows=st.integers(1, 6), window=st.integers(1, 7), seed=st.integers(0, 9), jitter=st.booleans())
def test_whole_sequences_are_read_once_from_first_step_to_last(lengths: list[int], rows: int, window: int, seed: int, jitter: bool) -> None:
    starts = offsets_of(lengths)[:-1]
    streams = Streams(starts, lengths, rows=rows, window=window, seed=seed, random_windows=jitter)
    begins = {int(start): length for start, length in zip(starts, lengths, strict=True) if length}
    seen = []
    for found in rows_of(streams):
        assert found, "no row is empty"
        row = found
        while row:
            (start, reset), *_ = row
            length = begins[start]
            assert reset
            assert row[:length] == [(start, True), *((start + step, False) for step in range(1, length))]
            seen.append(start)
            row = row[length:]
    assert sorted(seen) == sorted(begins)


@given(steps=st.integers(1, 60), rows=st.integers(1, 6), window=st.integers(1, 7))
def test_one_long_text_is_cut_into_rows_of_equal_length(steps: int, rows: int, window: int) -> None:
    found = rows_of(Streams([5], [steps], rows=rows, window=window, whole=False, shuffle=False))
    assert [position for row in found for position, _ in row] == list(range(5, 5 + steps))
    assert {len(row) for row in found} <= {steps // len(found), -(-steps // len(found))}
    assert all([reset for _, reset in row] == [True] + [False] * (len(row) - 1) for row in found)


def test_steps_inside_a_sequence_are_counted() -> None:
    (window,) = Streams([0, 3], [3, 2], rows=1, window=9, shuffle=False)
    assert window.inside.tolist() == [[0, 1, 2, 0, 1]]


def test_an_epoch_depends_on_seed_and_number_alone() -> None:
    made = [Streams(np.arange(0, 50, 5), [5] * 10, rows=2, window=4, seed=seed) for seed in (0, 0, 1)]
    made[0].set_epoch(3)
    made[0].set_epoch(1)
    for streams in made[1:]:
        streams.set_epoch(1)
    orders = [[w.positions.tolist() for w in streams] for streams in made]
    assert orders[0] == orders[1] != orders[2]
    assert [w.positions.tolist() for w in Streams(np.arange(0, 50, 5), [5] * 10, rows=2, window=4)] != orders[0]


def test_random_windows_scatter_about_their_length() -> None:
    streams = Streams([0], [60_000], rows=1, window=30, random_windows=True)
    found = np.array([int(window.lengths[0]) for window in streams])[:-1]
    # normal about 30 with deviation 5, one in twenty about 15: mean 29.25, standard error of some 2,000 windows 0.14
    assert abs(found.mean() - 29.25) < 5 * 0.14
    assert found.min() >= 5
    assert len(set(found.tolist())) > 10


def test_memory_does_not_grow_with_the_length_of_a_stream() -> None:
    def peak(steps: int) -> int:
        tracemalloc.start()
        streams = Streams([0], [steps], rows=4, window=8, whole=False)
        for number in range(50):
            streams[number]
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    # The number of windows is known beforehand and costs 8 bytes a window: an epoch of a hundred million steps in 4 rows has 3 million.
    # What a window itself costs is the same for both.
    short, long = peak(100_000), peak(200_000)
    assert long - short <= 3 * 8 * (100_000 // 4 // 8) + 20_000


@pytest.mark.parametrize(("rows", "window"), [(0, 1), (1, 0)])
def test_numbers_below_one_are_refused(rows: int, window: int) -> None:
    with pytest.raises(ValueError, match="must be 1 or more"):
        Streams([0], [3], rows=rows, window=window)


def test_nothing_to_read_is_refused() -> None:
    with pytest.raises(ValueError, match="every sequence is empty"):
        Streams([0, 0], [0, 0], rows=1, window=1)
