"""What the page shows of a model of text to text: attention, BLEU by length, and texts beside their references."""

from __future__ import annotations

from typing import Any

from recurra.evaluation import charts
from recurra.evaluation.report.content import Report, TranslateResults, WrittenExample
from recurra.evaluation.report.quantities import baseline

__all__ = ["translate_view"]

LONGEST = 400
"""Characters of a text that are shown."""


def translate_view(report: Report) -> dict[str, Any]:
    """What the template shows of a model of text to text; empty for another task."""
    results = report.results
    if not isinstance(results, TranslateResults):
        return {"written": [], "worst_written": [], "attentions": [], "charts": {"by_length": ""}}
    records = [{**record, "model": baseline(str(record["model"])).label} for record in results.by_length]
    maps = [charts.attention_map(each.weights, each.source, each.output) for each in results.attention]
    return {
        "written": [_example(example) for example in results.examples],
        "worst_written": [_example(example) for example in results.worst],
        "attentions": [drawn for drawn in maps if drawn],
        "charts": {
            "by_length": charts.by_group(records, title="BLEU", groups=f"{report.data.length_unit}s of the source", number_format=".0f")
        },
    }


def _example(example: WrittenExample) -> dict[str, str]:
    return {
        "source": _cut(example.source),
        "reference": _cut(example.reference),
        "text": _cut(example.text) or "(nothing)",
        "chrf": f"{example.chrf:.1f}",
    }


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"
