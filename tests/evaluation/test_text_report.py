"""The report of a language model."""

from __future__ import annotations

from recurra.evaluation.report import LanguageResults, Report, Result, render_report


def test_the_page_shows_losses_samples_and_the_n_grams() -> None:
    records = [
        {"model": model, "group": group, "order": order, "value": value, "count": 30}
        for model in ("Recurrent network", "ngrams")
        for order, (group, value) in enumerate([("1+", 5.0), ("10+", 2.0)])
    ]
    report = Report(
        "run",
        "language",
        "plays.txt",
        Result("recurrent network", "LSTM", {"perplexity": 4.5, "bits_per_character": 2.1}, {"perplexity": (4.3, 4.7)}),
        baselines=[
            Result("ngrams", "6-grams", {"perplexity": 4.9, "bits_per_character": 2.2}),
            Result("unigram", "", {"perplexity": 26.0}),
        ],
        results=LanguageResults(records, records, [("temperature 0.7", "To be <or> not")]),
    )
    page = render_report(report)
    assert "Language model of “plays.txt”" in page
    assert "The recurrent network pays: perplexity 4.500 against 4.900 of the n-gram model" in page
    assert "To be &lt;or&gt; not" in page
    assert page.count("<svg") >= 3
    for title in ("Loss by token", "Samples", "By how often the token was seen"):
        assert title in page
