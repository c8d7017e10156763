"""Metrics of forecasts: hand-made cases, scikit-learn, closed forms, and what must not matter."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm
from sklearn.metrics import mean_absolute_error, mean_pinball_loss, mean_squared_error

from recurra.errors import DataError, EmptyData
from recurra.metrics import (
    ForecastErrors,
    crps_of_quantiles,
    crps_of_samples,
    forecast_errors,
    forecast_metrics,
    pinball_loss,
    seasonal_scale,
)
from recurra.metrics.forecast import interval_pairs, level_weights

LEVELS = (0.05, 0.25, 0.5, 0.75, 0.95)


def forecasts(seed: int = 0, shape: tuple[int, ...] = (7, 5, 3)) -> dict[str, Any]:
    random = np.random.default_rng(seed)
    answers = random.normal(size=shape)
    quantiles = np.sort(random.normal(size=(*shape, len(LEVELS))), axis=-1)
    return {
        "point": random.normal(size=shape),
        "answers": answers,
        "quantiles": quantiles,
        "levels": LEVELS,
        "scale": random.random(shape[2]) + 0.5,
        "deviation": random.random((shape[0], shape[2])) + 0.5,
    }


def test_a_case_by_hand() -> None:
    point, answers = np.array([[[2.0], [4.0]], [[0.0], [9.0]]]), np.array([[[1.0], [2.0]], [[0.0], [np.nan]]])
    found = forecast_metrics(point, answers, scale=np.array([2.0]), deviation=np.array([4.0]))
    assert found == pytest.approx(
        {
            "mse": 5 / 3,
            "mae": 1.0,
            "rmse": math.sqrt(5 / 3),
            "mase": 0.5,
            "smape": (2 * 1 / 3 + 2 * 2 / 6 + 0) / 3,
            "standard_mse": 5 / 3 / 16,
            "standard_mae": 0.25,
        }
    )


def test_quantiles_by_hand() -> None:
    """One answer of 10 between 8 and 13, medians of 9 and 10: two cells, one of them outside its interval."""
    quantiles, answers = np.array([[[[8.0, 9.0, 13.0], [11.0, 12.0, 14.0]]]]), np.array([[[10.0, 10.0]]])
    found = forecast_metrics(quantiles[..., 1], answers, quantiles=quantiles, levels=(0.1, 0.5, 0.9))
    losses = [0.1 * 2 + 0.9 * 1, 0.5 * 1 + 0.5 * 2, 0.1 * 3 + 0.1 * 4]  # by level, both cells
    assert found["coverage_80"] == 0.5
    assert found["width_80"] == 4.0
    assert found["weighted_quantile_loss"] == pytest.approx(2 * sum(losses) / 20 / 3)
    weights = [0.3, 0.4, 0.3]  # nearest to .1: 0 to .3
    assert found["crps"] == pytest.approx(2 * sum(w * loss for w, loss in zip(weights, losses, strict=True)) / 2)


def test_scikit_learn_says_the_same() -> None:
    data = forecasts()
    found = forecast_metrics(**data)
    point, answers = data["point"].ravel(), data["answers"].ravel()
    assert found["mse"] == pytest.approx(mean_squared_error(answers, point))
    assert found["mae"] == pytest.approx(mean_absolute_error(answers, point))
    losses = pinball_loss(data["quantiles"], data["answers"], LEVELS)
    for place, level in enumerate(LEVELS):
        theirs = mean_pinball_loss(answers, data["quantiles"][..., place].ravel(), alpha=level)
        assert losses[..., place].mean() == pytest.approx(theirs)
    theirs = np.mean([mean_pinball_loss(answers, data["quantiles"][..., place].ravel(), alpha=level) for place, level in enumerate(LEVELS)])
    assert found["weighted_quantile_loss"] == pytest.approx(2 * theirs / np.abs(answers).mean())


@given(answer=st.floats(-1e3, 1e3), guess=st.floats(-1e3, 1e3), samples=st.integers(1, 9))
def test_the_crps_of_a_point_mass_is_the_absolute_error(answer: float, guess: float, samples: int) -> None:
    mass = np.full((1, samples), guess)
    assert crps_of_samples(mass, np.array([answer])) == pytest.approx(abs(answer - guess), rel=1e-12, abs=1e-12)
    same = np.full((1, len(LEVELS)), guess)
    assert crps_of_quantiles(same, np.array([answer]), LEVELS) == pytest.approx(abs(answer - guess), rel=1e-12, abs=1e-12)


@pytest.mark.parametrize("answer", [-2.0, 0.0, 0.7])
def test_the_crps_of_a_normal_distribution_is_its_closed_form(answer: float) -> None:
    """Gneiting and Raftery, 2007, equation 5: y (2 Phi(y) - 1) + 2 phi(y) - 1 / sqrt(pi)."""
    closed = answer * (2 * norm.cdf(answer) - 1) + 2 * norm.pdf(answer) - 1 / math.sqrt(math.pi)
    levels = (np.arange(2_000) + 0.5) / 2_000
    quantiles = norm.ppf(levels)
    # A midpoint rule of n cells on 2 * pinball, whose slope in the level is at most 2 * (|y| + |q|): half a cell of it, on average over the
    # levels 2 * (|y| + E|q|) / (2 n).
    assert crps_of_quantiles(quantiles, np.array(answer), levels) == pytest.approx(closed, abs=(abs(answer) + 0.8) / 2_000)
    # The same numbers as samples: the error of the empirical distribution is at most twice that, for the answer and for the pairs.
    assert crps_of_samples(quantiles, np.array(answer)) == pytest.approx(closed, abs=2 * (abs(answer) + 0.8) / 2_000)


def test_the_crps_of_samples_is_its_definition() -> None:
    samples, answers = np.random.default_rng(1).normal(size=(4, 11)), np.arange(4.0)
    pairs = np.abs(samples[:, :, None] - samples[:, None, :]).mean(axis=(1, 2)) / 2
    assert crps_of_samples(samples, answers) == pytest.approx(np.abs(samples - answers[:, None]).mean(axis=1) - pairs)


def test_quantiles_of_the_truth_cover_as_much_as_they_say() -> None:
    answers = np.random.default_rng(2).normal(size=(4_000, 1, 1))
    quantiles = np.broadcast_to(norm.ppf(LEVELS), (4_000, 1, 1, len(LEVELS)))
    found = forecast_metrics(answers, answers, quantiles=quantiles, levels=LEVELS)
    # Standard errors of a share of 4,000; four of them.
    assert found["coverage_90"] == pytest.approx(0.9, abs=4 * math.sqrt(0.9 * 0.1 / 4_000))
    assert found["coverage_50"] == pytest.approx(0.5, abs=4 * math.sqrt(0.5 * 0.5 / 4_000))
    assert found["width_90"] == pytest.approx(2 * norm.ppf(0.95))


def test_missing_answers_are_left_out() -> None:
    data = forecasts()
    holes = {**data, "answers": data["answers"].copy(), "point": data["point"].copy(), "quantiles": data["quantiles"].copy()}
    holes["answers"][3:], holes["answers"][:, 4:] = np.nan, np.nan
    holes["point"][3:], holes["quantiles"][3:] = np.nan, np.inf  # what is forecast where nothing is known does not matter
    kept = {name: data[name][:3, :4] for name in ("point", "answers", "quantiles")}
    rest = {"levels": LEVELS, "scale": data["scale"], "deviation": data["deviation"][:3]}
    assert forecast_metrics(**holes) == pytest.approx(forecast_metrics(**kept, **rest))
    assert np.isnan(forecast_errors(**holes).by_horizon()["mse"][4])


def test_pieces_make_the_whole() -> None:
    data = forecasts()
    whole = forecast_errors(**data)
    parts = [
        forecast_errors(**{name: value[rows] if name not in ("levels", "scale") else value for name, value in data.items()})
        for rows in (slice(0, 2), slice(2, 7))
    ]
    joined = ForecastErrors.join(parts)
    assert joined.windows == 7
    assert joined.metrics() == pytest.approx(whole.metrics())
    for name, values in whole.by_horizon().items():
        assert joined.by_horizon()[name] == pytest.approx(values)
    for name, values in whole.of_columns().items():
        assert joined.of_columns()[name] == pytest.approx(values)


def test_steps_and_columns_measure_themselves() -> None:
    data = forecasts()
    errors = forecast_errors(**data)
    step = {name: data[name][:, 2:3] for name in ("point", "answers", "quantiles")}
    rest = {name: data[name] for name in ("levels", "scale", "deviation")}
    alone = forecast_metrics(**step, **rest)
    assert {name: values[2] for name, values in errors.by_horizon().items()} == pytest.approx(alone)
    column = {name: data[name][:, :, 1:2] for name in ("point", "answers", "quantiles")}
    alone = forecast_metrics(**column, levels=LEVELS, scale=data["scale"][1:2], deviation=data["deviation"][:, 1:2])
    assert {name: values[1] for name, values in errors.of_columns().items()} == pytest.approx(alone)


@given(factor=st.sampled_from([0.5, 3.0, 100.0]))
def test_relative_metrics_know_no_unit(factor: float) -> None:
    data = forecasts()
    grown = {name: value if name == "levels" else value * factor for name, value in data.items()}
    before, after = forecast_metrics(**data), forecast_metrics(**grown)
    for name in ("mase", "smape", "standard_mse", "standard_mae", "weighted_quantile_loss", "coverage_90"):
        assert after[name] == pytest.approx(before[name])
    for name in ("mae", "rmse", "crps", "width_50"):
        assert after[name] == pytest.approx(factor * before[name])


def test_the_seasonal_naive_forecast_has_a_mase_of_one_where_it_was_scaled() -> None:
    values = np.random.default_rng(3).normal(size=(40, 2)).cumsum(axis=0)
    answers, point = values[None, 12:], values[None, :-12]
    assert forecast_metrics(point, answers, scale=seasonal_scale(values, 12))["mase"] == pytest.approx(1.0)


def test_the_scale_leaves_out_what_is_missing_and_says_where_there_is_none() -> None:
    values = np.array([[1.0, 5.0, 1.0], [3.0, 5.0, np.nan], [np.nan, 5.0, np.nan], [4.0, 5.0, np.nan], [7.0, 5.0, np.nan]])
    scale = seasonal_scale(values)
    assert scale[:2] == pytest.approx([2.5, 0.0])
    assert np.isnan(scale[2])
    assert np.isnan(seasonal_scale(values, 9)).all()  # a season longer than the series


def test_a_constant_series_counts_in_the_other_metrics_only() -> None:
    data = forecasts()
    found = forecast_metrics(data["point"], data["answers"], scale=np.array([0.0, 1.0, np.nan]))
    assert found["mase"] == pytest.approx(np.abs(data["point"] - data["answers"])[..., 1].mean())
    assert "mase" not in forecast_metrics(data["point"], data["answers"], scale=np.zeros(3))


def test_what_cannot_be_measured_is_refused() -> None:
    data = forecasts()
    with pytest.raises(EmptyData, match="no step with a known answer"):
        forecast_metrics(data["point"], np.full((7, 5, 3), np.nan))
    with pytest.raises(DataError, match="NaN or infinite"):
        forecast_metrics(np.full((7, 5, 3), np.nan), data["answers"])
    with pytest.raises(ValueError, match="must rise"):
        forecast_metrics(data["point"], data["answers"], quantiles=data["quantiles"], levels=LEVELS[::-1])
    with pytest.raises(ValueError, match="belong together"):
        forecast_metrics(data["point"], data["answers"], quantiles=data["quantiles"])


def test_levels_that_mirror_each_other_make_intervals() -> None:
    assert interval_pairs((0.025, 0.1, 0.5, 0.9, 0.975)) == [("95", 0, 4), ("80", 1, 3)]
    assert interval_pairs((0.1, 0.5, 0.8)) == []
    assert level_weights((0.1, 0.5, 0.8)) == pytest.approx([0.3, 0.35, 0.35])


def test_many_windows_are_measured_in_bounded_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    data = forecasts()
    whole = forecast_metrics(**data)
    monkeypatch.setattr("recurra.metrics.forecast._CELLS", 20)
    assert forecast_metrics(**data) == pytest.approx(whole)
