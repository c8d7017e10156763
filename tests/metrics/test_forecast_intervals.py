"""Bootstrap intervals of forecasts: blocks of origins, the theory of dependent errors, what is drawn where."""

from __future__ import annotations

import numpy as np
import pytest

from recurra.metrics import bootstrap, forecast_errors, forecast_intervals
from recurra.metrics.forecast_intervals import forecast_draws


def test_blocks_of_one_row_are_rows() -> None:
    values = np.random.default_rng(0).normal(size=50)
    first, second = (bootstrap(lambda counts: {"mean": counts @ values / 50}, 50, samples=100, **more) for more in ({}, {"block": 1}))
    assert first == second


@pytest.mark.parametrize("block", [1, 7, 50])
def test_every_resample_has_as_many_rows(block: int) -> None:
    seen = []

    def metric(counts: np.ndarray) -> dict[str, np.ndarray]:
        seen.append(counts)
        return {"rows": counts.sum(axis=1)}

    bootstrap(metric, 50, block=block, samples=2_000)
    counts = np.concatenate(seen)
    assert (counts.sum(axis=1) == 50).all()
    # Every row is drawn once on average. A block's rows come together, so the mean over 2,000 resamples of 50 / block draws each
    # has a standard error of at most sqrt(block / (2000 * 50) * 50) = 0.16 for the longest; five of them.
    assert counts.mean(axis=0) == pytest.approx(1.0, abs=5 * np.sqrt(block / 2_000))


def test_the_interval_of_dependent_errors_is_as_wide_as_theory_says() -> None:
    """Errors that are sums of 12 independent numbers (windows that share 11 of 12 steps): the mean's variance is 12 times that of rows."""
    n, horizon = 6_000, 12
    shocks = np.random.default_rng(1).normal(size=n + horizon - 1)
    errors = np.convolve(shocks, np.ones(horizon), mode="valid") + 10.0
    measured = forecast_errors(errors[:, None, None], np.zeros((n, 1, 1)))
    low, high = forecast_intervals(measured, np.arange(n), horizon=8 * horizon, samples=2_000)["mae"]
    long_run = horizon * np.std(shocks) / np.sqrt(n)
    # Blocks of 8 horizons see all but 1/24 of the variance (Kuensch: sum of (1 - k/block) autocovariances); 62 blocks make the standard
    # error uncertain by 1 / sqrt(2 * 62) = 9%, and 2,000 draws add some 4%: three of these.
    assert (high - low) / (2 * 1.96) == pytest.approx(long_run, rel=0.3)
    rows = bootstrap(lambda counts: {"mean": counts @ errors / n}, n, samples=500)["mean"]
    assert rows[1] - rows[0] < 0.4 * (high - low)  # rows one by one: sqrt(12) = 3.5 times too narrow


def test_windows_of_one_origin_are_drawn_together() -> None:
    """Twenty copies of a series are worth one: the interval is the same."""
    n = 300
    values = np.random.default_rng(2).normal(size=(n, 1, 1))
    alone = forecast_intervals(forecast_errors(values, np.zeros_like(values)), np.arange(n), horizon=6)
    copies = np.repeat(values, 20, axis=0)
    series = np.tile(np.arange(20), n)
    together = forecast_intervals(forecast_errors(copies, np.zeros_like(copies)), np.repeat(np.arange(n), 20), horizon=6, series=series)
    for name, bounds in alone.items():
        assert together[name] == pytest.approx(bounds)


def test_the_order_of_the_windows_does_not_matter() -> None:
    n = 200
    values, order = np.random.default_rng(3).normal(size=(n, 2, 1)), np.random.default_rng(4).permutation(n)
    first = forecast_intervals(forecast_errors(values, 0 * values), np.arange(n), horizon=2)
    second = forecast_intervals(forecast_errors(values[order], 0 * values), np.arange(n)[order], horizon=2)
    assert first["mse"] == pytest.approx(second["mse"])


def test_what_is_drawn() -> None:
    origins = forecast_draws(np.arange(100), horizon=10)
    assert origins is not None
    assert (origins.unit, origins.block) == ("origin", 10)
    sparse = forecast_draws(np.arange(0, 1_000, 20), horizon=28)
    assert sparse is not None
    assert sparse.block == 2  # every second origin is 40 steps away
    series = forecast_draws(np.zeros(8, dtype=int), horizon=28, series=np.arange(8))
    assert series is not None
    assert (series.unit, series.count) == ("series", 8)
    assert forecast_draws(np.arange(30), horizon=28, series=np.arange(30) % 2) is None


def test_too_little_has_no_interval() -> None:
    values = np.ones((3, 4, 1))
    assert forecast_intervals(forecast_errors(values, 0 * values), np.arange(3), horizon=4) == {}
    values = np.ones((300, 4, 1))
    assert forecast_intervals(forecast_errors(values, 0 * values), np.arange(300), horizon=4, samples=0) == {}
