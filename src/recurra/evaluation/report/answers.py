"""What the page shows of a model of answers: answers marked in their contexts, and F1 by kinds of questions."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from recurra.evaluation import charts
from recurra.evaluation.report.content import AnswerExample, AnswerResults, Report
from recurra.evaluation.report.quantities import per_cent

__all__ = ["answer_view", "marked_parts"]

EITHER_SIDE = 160
"""Characters of a context that are shown on either side of the answers."""
APART = 40
"""Characters that are shown where a longer stretch lies between two answers, on either side of the gap."""


def answer_view(report: Report) -> dict[str, Any]:
    """What the template shows of a model of answers; empty for another task."""
    results = report.results
    if not isinstance(results, AnswerResults):
        return {"answers": [], "charts": {"by_question": ""}}
    drawn = charts.by_group([dict(record) for record in results.by_question], title="mean F1", groups="first word of the question")
    return {"answers": [_example(example) for example in results.examples], "charts": {"by_question": drawn}}


def _example(example: AnswerExample) -> dict[str, Any]:
    if example.given is None:
        note = "(no answer given)" if example.references else "(no answer given, and there is none)"
    else:
        note = "" if example.references else "(there is none)"
    return {
        "place": example.place,
        "question": example.question,
        "parts": marked_parts(example.context, example.given, example.references),
        "note": note,
        "probability": per_cent(example.probability),
        "f1": per_cent(example.f1),
    }


def marked_parts(
    context: str, given: tuple[int, int] | None, references: Any, *, either_side: int = EITHER_SIDE
) -> list[tuple[str, bool, bool]]:
    """A context in pieces: the text, whether it was answered, whether it is right. What is far from both is cut out.

    Args:
        context: the text.
        given: characters of the answer given, if any.
        references: characters of the right answers.
        either_side: characters that are kept around all of them.
    """
    spans = [*([given] if given else []), *references]
    edges = sorted({0, len(context), *(edge for span in spans for edge in span)})
    parts = []
    for start, end in pairwise(edges):
        answered = given is not None and given[0] <= start and end <= given[1]
        right = any(first <= start and end <= last for first, last in references)
        text = context[start:end]
        if not answered and not right:
            text = _shortened(text, either_side, first=start == 0, last=end == len(context))
        parts.append((text, answered, right))
    return parts


def _shortened(text: str, kept: int, *, first: bool, last: bool) -> str:
    """A piece between answers: its ends, or where it begins or ends the context only the end beside an answer."""
    if first and last:
        return text if len(text) <= 2 * kept else text[: 2 * kept] + " …"
    if first:
        return text if len(text) <= kept else "… " + text[-kept:]
    if last:
        return text if len(text) <= kept else text[:kept] + " …"
    return text if len(text) <= kept + 2 * APART else f"{text[:APART]} … {text[-APART:]}"
