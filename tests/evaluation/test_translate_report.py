"""The report of a model of text to text, its picture of attention, and the baselines beside it."""

from __future__ import annotations

import numpy as np
import pytest

from recurra.config import EvaluationSettings
from recurra.evaluation.charts import attention_map
from recurra.evaluation.report import AttentionMap, Report, Result, TranslateResults, WrittenExample, render_report
from recurra.evaluation.translate.baselines import fit_baselines, nearest_targets
from recurra.evaluation.translate.details import by_length, chrf_of_each


def test_the_page_shows_texts_attention_and_baselines() -> None:
    records = [
        {"model": model, "group": group, "order": order, "value": value, "count": 30}
        for model in ("Recurrent network", "copy")
        for order, (group, value) in enumerate([("1–5", 40.0), ("6–9", 30.0)])
    ]
    example = WrittenExample("A <b>man</b>", "Ein Mann", "Eine Frau", 31.5)
    report = Report(
        "run",
        "translate",
        "en → de",
        Result("recurrent network", "LSTM", {"bleu": 36.5, "chrf": 60.0}, {"bleu": (35.0, 38.0)}),
        baselines=[Result("copy", "the source as it is", {"bleu": 3.2, "chrf": 20.0})],
        results=TranslateResults(records, [AttentionMap(["A", "man"], ["Ein", "Mann", "⏎"], np.full((3, 2), 0.5))], [example], [example]),
    )
    page = render_report(report)
    assert "Text to text, “en → de”" in page
    assert "The recurrent network pays: BLEU 36.50 against 3.20 of a copy of the source" in page
    assert "A &lt;b&gt;man&lt;/b&gt;" in page
    for title in ("Texts", "Attention", "Drawn at random", "Least like their references", "BLEU by the length of the source"):
        assert title in page
    assert page.count("<svg") >= 3


def test_a_page_without_texts_has_none_of_the_sections() -> None:
    page = render_report(Report("run", "classify", "label", Result("recurrent network", "LSTM", {"accuracy": 0.9})))
    assert 'id="written"' not in page
    assert 'id="attention"' not in page


def test_attention_is_drawn_where_it_can_be_read() -> None:
    drawn = attention_map(np.array([[0.9, 0.1], [0.001, 0.999]]), ["<a>", " b"], ["x", "⏎"])
    assert drawn.count("fill-opacity") == 3  # weights below half a per cent are not drawn
    assert "&lt;a&gt;" in drawn
    assert attention_map(np.zeros((1, 0)), [], ["⏎"]) == ""
    assert attention_map(np.full((1, 41), 1 / 41), ["a"] * 41, ["⏎"]) == ""


def test_the_nearest_source_is_that_of_the_largest_cosine() -> None:
    known = ["a cat sat on a mat", "two dogs ran", "the sky is blue"]
    targets = ["first", "second", "third"]
    assert nearest_targets(known, targets, ["dogs ran away", "blue sky", "the cat sat"]) == ["second", "third", "first"]
    assert nearest_targets(["你好", "再见"], ["hello", "bye"], ["再见。"]) == ["bye"]
    assert nearest_targets(["!", "?"], ["x", "y"], ["?"]) == ["y"]


def test_baselines_have_the_figures_of_the_network() -> None:
    known = (["a cat", "a dog", "a bird"] * 10, ["eine Katze", "ein Hund", "ein Vogel"] * 10)
    found = fit_baselines(known, ["a dog", "Katze"], ["ein Hund", "Katze"], settings=EvaluationSettings(bootstrap_samples=20))
    assert found["copy"].metrics["exact_match"] == 0.5
    assert found["nearest"].metrics["exact_match"] == 0.5
    assert set(found["copy"].intervals) == {"bleu", "chrf", "exact_match"}
    few = fit_baselines(known, ["a dog"], ["ein Hund"], settings=EvaluationSettings(bootstrap_samples=0, baseline_rows=1))
    assert few["nearest"].texts == ["eine Katze"]


@pytest.mark.parametrize("count", [0, 30, 500])
def test_groups_by_length_hold_all_texts_or_leave_small_ones_out(count: int) -> None:
    lengths = np.random.default_rng(0).integers(1, 40, count)
    texts = [f"word {n} of a text" for n in range(count)]
    records = by_length({"network": texts, "copy": texts[::-1]}, texts, lengths)
    assert all(record["value"] == pytest.approx(100.0) for record in records if record["model"] == "network")
    assert all(record["count"] >= 20 for record in records)
    assert sum(record["count"] for record in records if record["model"] == "network") == (count if count == 500 else 0)


def test_chrf_of_each_text_alone() -> None:
    assert chrf_of_each(["same", "other"], ["same", "words"])[0] == pytest.approx(100.0)
