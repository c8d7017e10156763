"""What the page of a forecaster shows: windows worth a look, charts that gaps do not break, sentences that follow the figures."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from dataclasses import replace

import numpy as np
import pytest

from recurra.evaluation.charts.forecasts import coverage, error_by_step, forecast_fan
from recurra.evaluation.comparison import Comparison
from recurra.evaluation.forecast.measure import strongest_baseline
from recurra.evaluation.forecast.windows import ForecastWindow, typical_windows, worst_windows
from recurra.evaluation.report import ForecastResults, Report, Result, render_report
from recurra.evaluation.report.forecasts import coverage_sentence, random_walk_sentence
from recurra.evaluation.report.quantities import metric
from recurra.metrics import forecast_errors

EVIL = "<script>alert(1)</script>"
LEVELS = (0.05, 0.25, 0.5, 0.75, 0.95)
HOUR = 3_600_000_000


def window(**changes: object) -> ForecastWindow:
    point = np.arange(4.0)
    whole = ForecastWindow(
        "store 1",
        np.arange(34) * HOUR,
        True,
        np.sin(np.arange(30.0)),
        point + 0.5,
        point,
        point[:, None] + np.linspace(-1, 1, 5),
        LEVELS,
        point + 1,
        "seasonal naive",
        0.5,
        "units",
        "2020-01-02",
    )
    return replace(whole, **changes)  # type: ignore[arg-type]


def report(**changes: object) -> Report:
    steps = {"network": [1.0, 1.2, 1.3, 1.4], "linear": [1.1, 1.3, 1.4, 1.5], "naive": [1.1, 1.5, 1.9, 2.0]}
    shares = {"network": [(0.5, 0.52), (0.9, 0.88)], "linear": [(0.5, 0.5), (0.9, 0.97)]}
    members = {"units": {"mase": 1.2, "mae": 3.0}, EVIL: {"mae": 4.0}}
    results = ForecastResults(
        4, "hour", 120, "mase", steps, shares, members, "column", [window()], [window(name=EVIL)], "24 hours: why", {"ets": "not installed"}
    )
    figures = {"mase": 1.2, "mae": 3.0, "smape": 0.2, "coverage_90": 0.88, "width_90": 2.0}
    whole = Report(
        "sales",
        "forecast",
        "units",
        Result("network", "GRU", figures, {"mase": (1.1, 1.3)}),
        baselines=[
            Result("naive", "repeats", {"mase": 1.7, "mae": 4.0}),
            Result("linear", "ridge", {"mase": 1.4, "mae": 3.5}, seconds=2.0),
        ],
        comparison=Comparison("mase", 0.2, 0.1, 0.3, 0.95, "linear"),
        results=results,
    )
    return replace(whole, **changes)  # type: ignore[arg-type]


def test_the_page_has_its_sections_and_escapes_what_comes_from_the_data() -> None:
    page = render_report(report())
    for section in ("forecasts", "horizon", "members", "worst"):
        assert f'<section id="{section}">' in page
        assert f'href="#{section}"' in page
    assert "<script" not in page
    assert "MASE on 120 test windows" in page
    assert "Coverage of the 90% interval" in page
    assert "MASE better by 0.200 than the linear model’s (95% interval 0.100 to 0.300, on the same windows)" in page
    assert "ETS left out" in page
    assert "repeating the last value" not in page
    assert page.index('<th class="right">Linear</th>') < page.index('<th class="right">Naive</th>')  # the one to beat comes first


def test_other_tasks_have_none_of_them() -> None:
    page = render_report(Report("x", "regress", "y", Result("network", "", {"rmse": 1.0, "mae": 1.0})))
    assert '<section id="horizon">' not in page


def test_a_random_walk_is_called_one() -> None:
    walk = report(
        model=Result("network", "GRU", {"mase": 1.0}), baselines=[Result("naive", "", {"mase": 1.0}), Result("linear", "", {"mase": 1.01})]
    )
    assert "Nothing here beats repeating the last value" in random_walk_sentence(walk)
    assert "Nothing here beats" in render_report(replace(walk, comparison=None))
    assert random_walk_sentence(replace(walk, model=Result("network", "GRU", {"mase": 0.9}))) == ""
    assert random_walk_sentence(replace(walk, baselines=[])) == ""


def test_coverage_in_words() -> None:
    assert coverage_sentence([(0.5, 0.1), (0.9, 0.91)]).endswith("90.0%.")
    assert "too narrow" in coverage_sentence([(0.9, 0.7)])
    assert "wider than they need" in coverage_sentence([(0.9, 0.99)])
    assert coverage_sentence([]) == ""


def test_metrics_of_intervals_have_names() -> None:
    assert metric("coverage_95").label == "Coverage of the 95% interval"
    assert metric("width_97.5").label == "Width of the 97.5% interval"
    assert not metric("width_80").higher
    assert metric("coverage_at_20").label == "Coverage at 20"  # of a ranking


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"calendar": False, "times": np.arange(34)},
        {"quantiles": None, "levels": ()},
        {"baseline": None},
        {"history": np.full(30, np.nan), "answers": np.full(4, np.nan)},
        {"history": np.empty(0), "times": np.arange(4) * HOUR},
        {"point": np.ones(1), "answers": np.ones(1), "quantiles": np.ones((1, 5)), "baseline": None, "times": np.arange(31) * HOUR},
        {"name": EVIL, "unit": EVIL, "baseline_name": EVIL},
    ],
)
@pytest.mark.parametrize("full", [True, False])
def test_every_window_can_be_drawn(changes: dict[str, object], full: bool) -> None:
    drawn = forecast_fan(window(**changes), full=full)
    ET.fromstring(drawn)
    assert "<script" not in drawn


def test_a_gap_in_the_history_is_a_gap_in_the_line() -> None:
    history = np.sin(np.arange(30.0))
    history[10:20] = np.nan
    whole, gap = (forecast_fan(window(history=values)) for values in (np.sin(np.arange(30.0)), history))
    assert len(gap) < len(whole)
    assert "NaN" not in gap


def test_charts_of_nothing_are_nothing() -> None:
    assert error_by_step({}, title="MASE") == ""
    assert error_by_step({"network": [float("nan")] * 3}, title="MASE") == ""
    assert coverage({}) == ""
    ET.fromstring(error_by_step({"network": [1.0]}, title="MASE"))


def test_the_windows_that_are_shown() -> None:
    size = np.concatenate([np.arange(50.0), [100, 99, 98, 60]])
    series = np.array([0] * 52 + [1] * 2)
    origins = np.array([*range(50), 50, 51, 51, 70])
    answers = np.zeros((54, 4, 1))
    answers[7] = np.nan
    errors = forecast_errors(np.broadcast_to(size[:, None, None], (54, 4, 1)), answers, scale=np.ones(1))
    # 51 overlaps the worst of its series; 52 is another series; 53 is far enough from it; 47 and later overlap 50.
    assert worst_windows(errors, origins, series, horizon=4, count=4).tolist() == [50, 52, 53, 46]
    typical = typical_windows(errors)
    assert len(typical) == 3
    assert size[typical[0]] == pytest.approx(np.median(np.delete(size, 7)), abs=1)
    assert 7 not in typical
    nothing = forecast_errors(np.zeros((2, 4, 1)), np.full((2, 4, 1), np.nan))
    assert len(typical_windows(nothing)) == len(worst_windows(nothing, np.arange(2), np.zeros(2, dtype=int), horizon=4, count=3)) == 0


def test_the_strongest_baseline() -> None:
    answers = np.random.default_rng(0).normal(size=(20, 3, 1))
    good, bad = (forecast_errors(answers + shift, answers, scale=np.ones(1)) for shift in (0.1, 1.0))
    assert strongest_baseline({"naive": bad, "linear": good}) == "linear"
    plain = forecast_errors(answers, answers)
    assert strongest_baseline({"naive": plain}) == "naive"
    assert strongest_baseline({}) is None
