"""What the page shows of a language model: loss by frequency and along the text, and text that it wrote. Not inside: the means (`view`)."""

from __future__ import annotations

from typing import Any

from recurra.evaluation import charts
from recurra.evaluation.report.content import LanguageResults, Report
from recurra.evaluation.report.quantities import baseline

__all__ = ["text_view"]


def text_view(report: Report) -> dict[str, Any]:
    """What the template shows of a language model; empty for another task."""
    results = report.results
    if not isinstance(results, LanguageResults):
        return {"samples": [], "charts": dict.fromkeys(("by_frequency", "by_place"), "")}
    drawn = {
        name: [{**record, "model": baseline(str(record["model"])).label} for record in records]
        for name, records in (("by_frequency", results.by_frequency), ("by_place", results.by_place))
    }
    title = "mean loss (nats a token)"
    return {
        "samples": list(results.samples),
        "charts": {
            "by_frequency": charts.by_group(
                drawn["by_frequency"], title=title, groups="times that the token stands in the training text", number_format=".1f"
            ),
            "by_place": charts.by_group(drawn["by_place"], title=title, groups="place in the text", number_format=".2f"),
        },
    }
