"""Baselines of forecasts: what each of them repeats, the ridge in closed form, intervals, comparison, seasons, missing values."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import Ridge

from recurra.evaluation.forecast.baselines import drift, fit_baselines, naive, seasonal_naive
from recurra.evaluation.forecast.linear import _form, _Moments, _solve, filled, fit_linear
from recurra.evaluation.forecast.measure import compare_forecasts, measure_baselines
from recurra.evaluation.forecast.seasons import autocorrelation, find_season
from recurra.evaluation.forecast.smoothing import SmoothingForecast, fit_smoothing, smoothing_is_installed
from recurra.metrics import forecast_errors

NAN = float("nan")


def column(*values: float) -> np.ndarray:
    return np.array(values)[None, :, None]


def seasonal(steps: int, season: int, *, noise: float = 0.1, columns: int = 1, seed: int = 0) -> np.ndarray:
    wave = np.sin(2 * np.pi * np.arange(steps) / season)[:, None]
    return wave + noise * np.random.default_rng(seed).normal(size=(steps, columns))


def windows(values: np.ndarray, lookback: int, horizon: int) -> tuple[np.ndarray, np.ndarray]:
    cut = np.lib.stride_tricks.sliding_window_view(values, lookback + horizon, axis=0).swapaxes(1, 2)
    return cut[:, :lookback], cut[:, lookback:]


def test_what_the_simple_ones_say() -> None:
    history = column(1, 2, 3, 5)
    assert naive(history, 3).ravel().tolist() == [5, 5, 5]
    assert seasonal_naive(history, 5, 2).ravel().tolist() == [3, 5, 3, 5, 3]
    assert drift(history, 3).ravel() == pytest.approx([5 + 4 / 3, 5 + 8 / 3, 5 + 12 / 3])


def test_what_the_simple_ones_say_where_values_are_missing() -> None:
    history = column(NAN, 1, NAN, 5, NAN)
    assert filled(history).ravel().tolist() == [1, 1, 1, 5, 5]
    assert naive(history, 2).ravel().tolist() == [5, 5]
    assert seasonal_naive(history, 3, 3).ravel().tolist() == [1, 5, 5]
    assert drift(history, 2).ravel().tolist() == [9, 11]  # 2 a step from the 5 on, which lies one step back
    nothing = column(NAN, NAN)
    assert (naive(nothing, 2) == 0).all()  # the training mean, as values are standardised
    assert (drift(nothing, 2) == 0).all()


def test_a_line_is_the_drifts_and_a_season_the_seasonal_naives() -> None:
    line = 3.0 + 0.5 * np.arange(40.0)[:, None]
    history, answers = windows(line, 12, 6)
    assert drift(history, 6) == pytest.approx(answers)
    history, answers = windows(seasonal(60, 12, noise=0), 12, 9)
    assert seasonal_naive(history, 9, 12) == pytest.approx(answers)


def test_the_ridge_is_scikit_learns() -> None:
    """The DLinear form with its two blocks of weights spelled out, and the NLinear form, against a ridge on these very features."""
    random = np.random.default_rng(0)
    rows, length, horizon, strength = 200, 30, 4, 0.02
    history, answers = random.normal(size=(rows, length)).cumsum(axis=1), random.normal(size=(rows, horizon))
    ones = np.concatenate([history, np.ones((rows, 1))], axis=1)
    moments = _Moments(ones.T @ ones, ones.T @ answers, float((answers**2).sum()), rows)
    # 1e-9 of the features' mean square keeps constant series solvable: it moves a weight by less than that over the ridge's share.
    padded = np.pad(history, ((0, 0), (12, 12)), mode="edge")
    average = np.stack([padded[:, step : step + 25].mean(axis=1) for step in range(length)], axis=1)
    both = np.concatenate([average, history - average], axis=1)
    theirs = Ridge(alpha=strength * rows, tol=1e-12).fit(both, answers).predict(both)
    assert ones @ _solve(moments, "dlinear", strength) == pytest.approx(theirs, abs=1e-5)
    last = history[:, -1:]
    theirs = last + Ridge(alpha=strength * rows).fit(history - last, answers - last).predict(history - last)
    assert ones @ _solve(moments, "nlinear", strength) == pytest.approx(theirs, abs=1e-5)


def test_an_endless_penalty_leaves_the_last_value() -> None:
    values = np.random.default_rng(1).normal(size=(200, 1)).cumsum(axis=0)
    _, penalty, offset = _form("nlinear", 5, 3)
    assert penalty[-1, -1] == 0.0  # the constant is free
    assert np.concatenate([values[:5, 0], [1.0]]) @ offset == pytest.approx([values[4, 0]] * 3)


def test_the_linear_baseline_finds_a_linear_law() -> None:
    """Sines are solutions of x(t) = 2 cos(w) x(t-1) - x(t-2): a linear map forecasts them as far as one likes."""
    values = seasonal(400, 17, noise=0)
    fitted = fit_linear([values[:250]], [values[250 - 20 : 330]], length=20, horizon=30)
    assert fitted is not None
    history, answers = windows(values[330:], 20, 30)
    # The least strength tried, 1e-5, shrinks the two active directions, whose share of the 20 steps is large, by some 1e-5 / 10.
    assert fitted.forecast(history) == pytest.approx(answers, abs=1e-3)


def test_columns_with_laws_of_their_own_get_weights_of_their_own() -> None:
    random = np.random.default_rng(2)
    up, down = np.zeros((2, 1_500))
    for step in range(1, 1_500):
        up[step] = 0.9 * up[step - 1] + random.normal()
        down[step] = -0.9 * down[step - 1] + random.normal()
    values = np.stack([up, down], axis=1)
    fitted = fit_linear([values[:1_000]], [values[1_000 - 8 :]], length=8, horizon=1)
    assert fitted is not None
    assert fitted.weights.shape == (2, 9, 1)
    history, answers = windows(values[1_000:], 8, 1)
    # The noise has a variance of 1, from 984 numbers: a standard error of sqrt(2 / 984) = .045, of which four. One map for both would
    # forecast zero, with an error of 1 / (1 - .81) = 5.
    assert np.square(fitted.forecast(history) - answers).mean() == pytest.approx(1.0, abs=0.2)
    alike = np.stack([up, np.roll(up, 300)], axis=1)
    assert fit_linear([alike[:1_000, :1]], [alike[992:, :1]], length=8, horizon=1).weights.shape == (1, 9, 1)  # type: ignore[union-attr]


def test_short_series_get_a_shorter_linear_map_or_none() -> None:
    values = np.random.default_rng(3).normal(size=(40, 1))
    fitted = fit_linear([values], [], length=336, horizon=12)
    assert fitted is not None
    assert fitted.length == 40 - 12 - 9
    assert fit_linear([values[:15]], [], length=336, horizon=12) is None
    baselines = fit_baselines([values[:15]], [], input_length=336, horizon=12)
    assert "linear" not in baselines.each
    assert "longer" in baselines.left_out["linear"]
    assert baselines.each["naive"].forecast(np.full((1, 2, 1), 3.0)).shape == (1, 12, 1)


def test_a_series_shorter_than_the_history_has_baselines_with_intervals() -> None:
    values = seasonal(116, 12)
    baselines = fit_baselines([values], [values[90:104]], input_length=336, horizon=12, season=12)
    assert set(baselines.each) >= {"naive", "seasonal_naive", "drift", "linear"}
    for baseline in baselines.each.values():
        assert baseline.offsets.shape == (12, 1, 7)
        assert (np.diff(baseline.offsets, axis=-1) >= 0).all()
        assert (np.ptp(baseline.offsets, axis=-1) > 0).all()


def test_a_series_with_holes_is_learnt_around_them() -> None:
    values = seasonal(600, 12, noise=0.05, seed=4)
    whole = fit_linear([values[:400]], [values[400 - 24 : 500]], length=24, horizon=6)
    holes = values.copy()
    holes[::37] = NAN
    some = fit_linear([holes[:400]], [holes[400 - 24 : 500]], length=24, horizon=6)
    assert whole is not None
    assert some is not None
    history, answers = windows(values[500:], 24, 6)
    # Noise of .05: the map through holes may err by twice as much as the one without.
    assert np.abs(some.forecast(history) - answers).mean() < 2 * np.abs(whole.forecast(history) - answers).mean()
    sparse = values.copy()
    sparse[::3] = NAN  # no horizon is complete: the filled one is learnt
    assert fit_linear([sparse[:400]], [], length=24, horizon=6) is not None


@pytest.mark.parametrize("constant", [0.0, 7.0])
def test_a_constant_series_stays_as_it_is(constant: float) -> None:
    values = np.full((200, 2), constant)
    baselines = fit_baselines([values[:120]], [values[100:]], input_length=20, horizon=5, season=4)
    for baseline in baselines.each.values():
        point = baseline.forecast(values[None, :20])
        assert point == pytest.approx(np.full((1, 5, 2), constant), abs=1e-6)
        assert baseline.quantiles(point)[..., 0] == pytest.approx(point, abs=1e-6)


def test_no_baseline_looks_ahead() -> None:
    """What comes after the training part changes no forecast of the naive ones, and of the linear only through the validation part."""
    values = seasonal(300, 12, columns=2)
    baselines = fit_baselines([values[:200]], [values[170:260]], input_length=24, horizon=6, season=12)
    later = values.copy()
    later[260:] = 1e6
    again = fit_baselines([later[:200]], [later[170:260]], input_length=24, horizon=6, season=12)
    for name, baseline in baselines.each.items():
        assert (baseline.forecast(values[None, 236:260]) == again.each[name].forecast(later[None, 236:260])).all()


def test_intervals_cover_what_they_say_on_a_series_that_goes_on_as_before() -> None:
    values = seasonal(4_000, 24, noise=0.5, seed=5)
    baselines = fit_baselines([values[:2_000]], [values[2_000 - 48 : 3_000]], input_length=48, horizon=12, season=24)
    history, answers = windows(values[3_000 - 48 :], 48, 12)
    errors = measure_baselines(baselines, history, answers, mean=np.zeros(1), deviation=np.ones(1))
    assert set(errors) >= {"naive", "seasonal_naive", "drift", "linear"}
    for found in errors.values():
        # Quantiles of 989 validation windows whose errors are shared by up to 24 neighbours: no fewer than 41 independent ones,
        # so a standard error of sqrt(.9 * .1 / 41) = .047, on either part.
        assert found.metrics()["coverage_90"] == pytest.approx(0.9, abs=0.1)


@settings(max_examples=10, deadline=None)
@given(mean=st.floats(-100, 100), deviation=st.floats(0.1, 50))
def test_errors_are_in_the_users_unit(mean: float, deviation: float) -> None:
    values = seasonal(300, 12, noise=0.3)
    baselines = fit_baselines([values[:200]], [values[176:250]], input_length=24, horizon=6, season=12)
    history, answers = windows(values[226:], 24, 6)
    plain = measure_baselines(baselines, history, answers, mean=np.zeros(1), deviation=np.ones(1))["linear"].metrics()
    unit = measure_baselines(baselines, history, answers * deviation + mean, mean=np.array([mean]), deviation=np.array([deviation]))
    found = unit["linear"].metrics()
    assert found["mae"] == pytest.approx(deviation * plain["mae"])
    assert found["crps"] == pytest.approx(deviation * plain["crps"])
    assert found["standard_mse"] == pytest.approx(plain["mse"])
    assert found["coverage_90"] == pytest.approx(plain["coverage_90"], abs=2 / len(answers))  # an answer may sit on a bound


def test_measuring_in_pieces_is_measuring(monkeypatch: pytest.MonkeyPatch) -> None:
    values = seasonal(300, 12, columns=2)
    baselines = fit_baselines([values[:200]], [values[176:250]], input_length=24, horizon=6, season=12)
    history, answers = windows(values[226:], 24, 6)
    scales = {"mean": np.ones((len(history), 2)), "deviation": np.ones(2), "scale": np.full((1, 2), 0.5)}
    whole = measure_baselines(baselines, history, answers, **scales)
    monkeypatch.setattr("recurra.evaluation.forecast.measure._CELLS", 500)
    for name, errors in measure_baselines(baselines, history, answers, **scales).items():
        assert errors.metrics() == pytest.approx(whole[name].metrics())


def test_a_better_forecast_is_found_better() -> None:
    random = np.random.default_rng(6)
    answers = random.normal(size=(400, 6, 1))
    good, bad = (forecast_errors(answers + spread * random.normal(size=answers.shape), answers, scale=np.ones(1)) for spread in (0.5, 1.0))
    origins = np.arange(400)
    comparison = compare_forecasts(good, bad, origins, horizon=6)
    assert comparison is not None
    assert (comparison.metric, comparison.verdict) == ("mase", "better")
    back = compare_forecasts(bad, good, origins, horizon=6)
    assert back is not None
    assert back.verdict == "worse"
    assert back.gain == pytest.approx(-comparison.gain)
    same = compare_forecasts(good, good, origins, horizon=6)
    assert same is not None
    assert (same.gain, same.low, same.high, same.verdict) == (0, 0, 0, "even")
    unscaled = forecast_errors(answers, answers)
    assert compare_forecasts(unscaled, unscaled, origins, horizon=6).metric == "mae"  # type: ignore[union-attr]
    assert compare_forecasts(good, bad, np.zeros(400, dtype=int), horizon=6) is None


@pytest.mark.parametrize("season", [7, 12, 24, 168])
def test_a_season_is_found(season: int) -> None:
    values = seasonal(12 * season, season, noise=0.5, columns=3)
    found = find_season([values])
    assert abs(found.length - season) <= max(1, season // 50)
    assert find_season([values], candidates=(season, 5 * season)).length == season
    assert str(found.length) in found.reason


def test_what_has_no_season() -> None:
    random = np.random.default_rng(7)
    for values in (
        random.normal(size=(1_000, 1)),
        random.normal(size=(4_000, 8)).cumsum(axis=0),
        np.ones((500, 1)),
        np.arange(300.0)[:, None],
    ):
        found = find_season([values], candidates=(7, 24, 365))
        assert found.length == 1
        assert "no lag stands out" in found.reason
    assert find_season([np.full((100, 1), NAN)]).length == 1
    assert "too short" in find_season([np.ones((4, 1))]).reason


def test_a_season_with_holes_and_a_trend_is_a_season() -> None:
    values = seasonal(480, 24, noise=0.2) + 0.05 * np.arange(480)[:, None]
    values[100:130] = NAN
    values[::11] = NAN
    assert find_season([values]).length == pytest.approx(24, abs=1)


def test_autocorrelation_is_its_definition() -> None:
    values = np.random.default_rng(8).normal(size=50)
    rest = values - np.polyval(np.polyfit(np.arange(50), values, 1), np.arange(50))
    theirs = [np.mean(rest[lag:] * rest[: 50 - lag]) / np.mean(rest**2) for lag in range(20)]
    assert autocorrelation(values, 19) == pytest.approx(theirs)


def test_smoothing_with_an_error_that_moves_everything_is_the_naive_forecast() -> None:
    history = np.random.default_rng(9).normal(size=(3, 30, 2))
    plain = SmoothingForecast(level=1.0, trend=0.0, season=0.0, damping=0.0, length=1, horizon=4, name="ETS(A,N,N)")
    assert plain.forecast(history) == pytest.approx(naive(history, 4))
    still = SmoothingForecast(level=0.0, trend=0.0, season=1.0, damping=0.0, length=5, horizon=7, name="ETS(A,N,A)")
    assert still.forecast(history) == pytest.approx(seasonal_naive(history, 7, 5))


@pytest.mark.skipif(not smoothing_is_installed(), reason="statsmodels is not installed")
def test_smoothing_is_that_of_statsmodels() -> None:
    from statsmodels.tsa.exponential_smoothing.ets import ETSModel

    values = seasonal(400, 12, noise=0.3, seed=10) + 0.01 * np.arange(400)[:, None]
    fitted = fit_smoothing([values], season=12, horizon=24)
    assert fitted is not None
    assert fitted.name.endswith("A)")
    trend = "add" if fitted.damping else None
    model = ETSModel(
        values[:, 0], trend=trend, damped_trend=bool(trend), seasonal="add", seasonal_periods=12, initialization_method="heuristic"
    )
    theirs = model.fit(disp=False, maxiter=200).forecast(24)
    # The start of the series is forgotten at the rate of the level and the season: what is left of it after 400 steps, and no more.
    left = (1 - fitted.level) ** 388 + (1 - fitted.season) ** 32
    assert fitted.forecast(values[None])[0, :, 0] == pytest.approx(theirs, abs=0.02 + 2 * left)
