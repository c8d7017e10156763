"""Windows: every one is what slicing gives, none is lost, and an epoch goes on where it was left."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recurra.data.windows import Encoded, WindowLoader, Windows


def encoded(length: int, *, channels: int = 2, horizon: int = 3, number: int = 0) -> Encoded:
    steps = np.arange(length, dtype=np.float32)
    values = 1000 * number + 100 * np.arange(channels, dtype=np.float32)[None] + steps[:, None]
    known = np.arange(length + horizon, dtype=np.float32)[:, None] + 0.5
    static = np.array([number], np.float32)
    return Encoded(values, steps[:, None] + 0.25, known, static, np.arange(channels) + channels * number)


@pytest.mark.parametrize("joint", [False, True])
@settings(max_examples=60, deadline=None)
@given(st.integers(1, 6), st.integers(1, 4), st.lists(st.integers(1, 12), min_size=1, max_size=3))
def test_a_window_is_a_slice_of_its_series(joint: bool, input_length: int, horizon: int, lengths: list[int]) -> None:
    series = [encoded(length, horizon=horizon, number=number) for number, length in enumerate(lengths)]
    windows = Windows(series, input_length=input_length, horizon=horizon, joint=joint)
    origins = windows.origins([(0, length + horizon) for length in lengths], complete=False)
    assert len(origins) == sum(length + 1 for length in lengths) * (1 if joint else 2)
    batch = windows.gather(origins)
    for row in range(len(origins)):
        number, step = origins.series[row], origins.step[row]
        channels = slice(None) if joint else slice(origins.channel[row], origins.channel[row] + 1)
        for place, offset in enumerate(range(-input_length, horizon)):
            found = (batch.history[row, place] if offset < 0 else batch.answers[row, place - input_length]).numpy()
            inside = 0 <= step + offset < lengths[number]
            expected = series[number].values[step + offset, channels] if inside else np.full(found.shape, np.nan)
            np.testing.assert_array_equal(found, expected)
            assert batch.known[row, place, 0] == (step + offset + 0.5 if 0 <= step + offset < lengths[number] + horizon else 0)
        assert batch.static[row, 0] == number


def test_every_window_of_a_part_is_there() -> None:
    """The canonical test part of ETTh1 at horizon 96: 2,880 - 96 + 1 windows, the first reads back into the part before."""
    windows = Windows([encoded(14_400, channels=1, horizon=96)], input_length=336, horizon=96, joint=False)
    origins = windows.origins([(11_520, 14_400)])
    assert (len(origins), origins.step[0], origins.step[-1] + 96) == (2_785, 11_520, 14_400)
    np.testing.assert_array_equal(windows.gather(origins.take(slice(0, 1))).history[0, :, 0], np.arange(11_520 - 336, 11_520))


def test_windows_without_history_or_answer_are_left_out() -> None:
    values = np.full((20, 1), np.nan, np.float32)
    values[5:9], values[15] = 1.0, 1.0
    windows = Windows([encoded(20, channels=1, horizon=2)._replace(values=values)], input_length=3, horizon=2, joint=False)
    steps = windows.origins([(0, 20)]).step.tolist()
    expected = [t for t in range(19) if np.isfinite(values[max(0, t - 3) : t]).any() and np.isfinite(values[t : t + 2]).any()]
    assert steps == expected


@pytest.mark.parametrize("taken", [0, 1, 4])
def test_an_epoch_goes_on_where_it_was_left(taken: int) -> None:
    windows = Windows([encoded(50, horizon=2)], input_length=4, horizon=2, joint=False)

    def loader() -> WindowLoader:
        return WindowLoader(windows, windows.origins([(4, 50)]), batch_size=16, shuffle=True, seed=3)

    whole = loader()
    whole.set_epoch(1)
    expected = [batch.rows.tolist() for batch in whole]
    assert len(expected) == len(whole)
    assert len({row for rows in expected for row in rows}) == 16 * len(expected)
    first = loader()
    first.set_epoch(1)
    iterator = iter(first)
    begun = [next(iterator).rows.tolist() for _ in range(taken)]
    second = loader()
    second.load_state_dict(first.state_dict())
    assert begun + [batch.rows.tolist() for batch in second] == expected


def test_processes_share_an_epoch_without_meeting() -> None:
    windows = Windows([encoded(60, horizon=2)], input_length=4, horizon=2, joint=False)
    origins = windows.origins([(4, 60)])
    shares = [
        [row for batch in WindowLoader(windows, origins, batch_size=8, shuffle=True, processes=2, rank=rank) for row in batch.rows.tolist()]
        for rank in (0, 1)
    ]
    assert not set(shares[0]) & set(shares[1])
    assert len(shares[0]) == len(shares[1])


def test_an_epoch_in_order_has_every_window() -> None:
    windows = Windows([encoded(50, horizon=2)], input_length=4, horizon=2, joint=False)
    origins = windows.origins([(4, 50)])
    loader = WindowLoader(windows, origins, batch_size=16, shuffle=False)
    assert [row for batch in loader for row in batch.rows.tolist()] == list(range(len(origins)))
