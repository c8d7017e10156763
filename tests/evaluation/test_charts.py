"""The charts: well-formed SVG that asks for nothing, and every degenerate input drawn or left out."""

from __future__ import annotations

import re
from collections.abc import Callable
from xml.etree import ElementTree as ET

import numpy as np
import pytest

from recurra.evaluation import charts
from recurra.evaluation.charts.theme import shorten

HISTORY = [{"epoch": epoch, "train_loss": 1 / epoch, "validation_loss": 1.1 / epoch, "validation_accuracy": 0.9} for epoch in (1, 2, 3)]
LAYERS = [{"epoch": epoch, "layer": layer, "norm": 0.1 * epoch} for epoch in (1, 2) for layer in ("text.0", "text.1")]
DISTANCES = [{**record, "distance": distance, "norm": 0.9**distance} for record in LAYERS for distance in range(5)]
NAMES = ["<b>&\"'", "中文", "עברית", "d"]
BINS = [{"low": 0.4, "high": 0.5, "confidence": 0.45, "accuracy": 0.5, "count": 7}]

CHARTS: dict[str, Callable[[], str]] = {
    "attention_map": lambda: charts.attention_map(np.eye(len(NAMES)), NAMES, NAMES),
    "learning_curve": lambda: charts.learning_curve(HISTORY, "loss", title="loss (nats)", best_epoch=2),
    "gradient_by_layer": lambda: charts.gradient_by_layer(LAYERS),
    "gradient_by_distance": lambda: charts.gradient_by_distance(DISTANCES),
    "length_distribution": lambda: charts.length_distribution(np.arange(1, 500), max_length=200),
    "confusion_matrix": lambda: charts.confusion_matrix(np.arange(16).reshape(4, 4), NAMES),
    "confusion_matrix_150": lambda: charts.confusion_matrix(np.eye(150, dtype=int), [str(i) for i in range(150)]),
    "confused_pairs": lambda: charts.confused_pairs(np.arange(16).reshape(4, 4), NAMES),
    "calibration": lambda: charts.calibration(BINS),
    "roc": lambda: charts.roc({name: [(0.0, 0.0), (0.2, 0.8), (1.0, 1.0)] for name in NAMES}),
    "predicted_against_true": lambda: charts.predicted_against_true(np.arange(9.0), np.arange(9.0) ** 2, target="price", unit="EUR"),
    "residuals": lambda: charts.residuals(np.arange(9.0), np.arange(9.0) ** 2, target="price"),
    "recall_curve": lambda: charts.recall_curve([{"model": name, "k": k, "recall": k / 20} for name in NAMES for k in (1, 5, 20)]),
    "by_group": lambda: charts.by_group(
        [{"model": name, "group": name, "order": order, "value": 0.1 * order} for order, name in enumerate(NAMES)],
        title="recall",
        groups="length",
    ),
    "results": lambda: charts.results(
        [{"name": NAMES[0], "value": 0.9, "low": 0.8, "high": 0.95, "text": "90%"}], title="Accuracy", share=True
    ),
}


def shown(svg: str) -> str:
    return " ".join(ET.fromstring(svg).itertext())


@pytest.mark.parametrize("name", CHARTS)
def test_well_formed_and_offline(name: str) -> None:
    svg = CHARTS[name]()
    assert ET.fromstring(svg).tag == "{http://www.w3.org/2000/svg}svg"
    addresses = set(re.findall(r"https?://[^\"'<> ]+", svg))
    assert addresses <= {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}
    assert "<script" not in svg
    assert "NaN" not in svg


def test_every_exported_chart_is_tried() -> None:
    assert set(charts.__all__) == set(CHARTS) - {"confusion_matrix_150"}


def test_names_are_written_in_full() -> None:
    assert all(name in shown(CHARTS["confusion_matrix"]()) for name in NAMES)
    assert "…" in shown(charts.confusion_matrix(np.eye(2, dtype=int), ["short", "long" * 40]))


def test_only_the_most_confused_pairs_of_many_classes() -> None:
    counts = np.eye(150, dtype=np.int64) * 10
    counts[3, 7], counts[9, 2] = 6, 4
    text = shown(charts.confused_pairs(counts, [f"class {i}" for i in range(150)]))
    assert "class 3" in text
    assert "6 of 16" in text
    assert "class 50" not in text
    assert charts.confusion_matrix(np.eye(500, dtype=int), [str(i) for i in range(500)]) == ""


def test_nothing_to_draw() -> None:
    empty = np.array([])
    assert charts.learning_curve([], "loss", title="loss") == ""
    assert charts.learning_curve([{"epoch": 1, "train_loss": float("nan")}], "loss", title="loss") == ""
    assert charts.gradient_by_layer([{"epoch": 1, "layer": "a", "norm": 0.0}]) == ""
    assert charts.gradient_by_distance([]) == ""
    assert charts.length_distribution([]) == ""
    assert charts.confused_pairs(np.eye(3, dtype=int), ["a", "b", "c"]) == ""
    assert charts.confusion_matrix(np.zeros((2, 2), dtype=int), ["a", "b"]) == ""
    assert charts.calibration([]) == ""
    assert charts.roc({}) == ""
    assert charts.roc({str(i): [(0.0, 0.0)] for i in range(30)}) == ""
    assert charts.predicted_against_true(empty, empty, target="y") == ""
    assert charts.residuals(np.array([np.nan]), np.array([1.0]), target="y") == ""
    assert charts.results([], title="x", share=False) == ""


def test_degenerate_but_drawn() -> None:
    one = {"epoch": 1, "train_loss": 1.0, "validation_loss": 1.0}
    assert "kept" in shown(charts.learning_curve([one], "loss", title="loss", best_epoch=1))
    assert "median 0" in shown(charts.length_distribution([0, 0, 0]))
    assert "median 5" in shown(charts.length_distribution([5]))
    assert "class" in shown(charts.confusion_matrix(np.array([[3]]), ["only"]))
    assert "price" in shown(charts.predicted_against_true(np.ones(2), np.ones(2), target="price"))
    assert "10⁻¹⁰" in shown(charts.gradient_by_layer([{"epoch": 1, "layer": "a", "norm": 1e-10}]))


def test_surrogates_and_control_characters_are_drawn_as_something() -> None:
    names = ["a\ud800b", "c\x00d\x1b", "🙂" * 40, "क्षि" * 30]
    for svg in (charts.confusion_matrix(np.eye(4, dtype=int), names), charts.confused_pairs(1 - np.eye(4, dtype=int), names)):
        svg.encode("utf-8")
        assert "a\N{REPLACEMENT CHARACTER}b" in shown(svg)
        assert "🙂…" in shown(svg)


def test_names_are_cut_by_their_width() -> None:
    assert [shorten(name, 4) for name in ("abcd", "abcde", "中文", "中文字", "e\u0301" * 4)] == [
        "abcd",
        "abc…",
        "中文",
        "中…",
        "e\u0301" * 4,
    ]


def test_ids_of_two_charts_never_meet() -> None:
    first, second = (set(re.findall(r'id="([^"]+)"', CHARTS[name]())) for name in ("calibration", "roc"))
    assert not first & second


def test_layers_whose_names_share_a_beginning_stay_apart() -> None:
    layers = [f"encoders.column_description.cells.{i}.backward" for i in range(3)]
    records = [{"epoch": e, "layer": layer, "norm": 0.1 + i} for e in (1, 2) for i, layer in enumerate(layers)]
    svg = charts.gradient_by_layer(records)
    assert all(f"cells.{i}.backward" in shown(svg) for i in range(3))
    assert len(set(re.findall(r'stroke="(#\w+)" stroke-width="2"', svg))) >= 3
    assert charts.gradient_by_layer([{"epoch": 1, "layer": f"layer {i}", "norm": 1.0} for i in range(40)]).count("layer ") == 16
