"""What a training of tags is measured beside, and what its report shows."""

from __future__ import annotations

import numpy as np

from recurra.data.split import Part
from recurra.data.store import Ragged
from recurra.data.words import as_tokens
from recurra.evaluation.baselines import Baseline
from recurra.evaluation.comparison import Comparison
from recurra.evaluation.report import ErrorExample, TagResults
from recurra.evaluation.tagging import TaggedRows, compare_tags, error_example, tag_baselines, tag_errors
from recurra.heads import TagHead
from recurra.heads.tag import MARGINAL, TAG
from recurra.metrics.spans import per_kind, span_confusion
from recurra.training.tables.prepare import Prepared

__all__ = ["tag_comparison", "tag_examples", "tag_results", "train_tag_baselines"]

SHOWN_ERRORS = 20
"""Rows with mistakes that the report shows."""


def train_tag_baselines(head: TagHead, prepared: Prepared, rows: np.ndarray, targets: Ragged) -> dict[str, Baseline]:
    """Both baselines, on the same training rows (a random choice of them where they are very many) and the given rows.

    Args:
        head: of the model.
        prepared: its data.
        rows: numbers of the measured rows.
        targets: their tags.
    """
    settings = prepared.plan.settings
    train_rows = prepared.part(Part.TRAIN)
    limit = settings.evaluation.baseline_rows
    if len(train_rows) > limit:
        train_rows = np.sort(np.random.default_rng(settings.training.seed).choice(train_rows, limit, replace=False))
    all_targets = prepared.targets
    assert isinstance(all_targets, Ragged)
    train = TaggedRows(_tokens(head, prepared, train_rows), all_targets.take(train_rows))
    test = TaggedRows(_tokens(head, prepared, rows), targets)
    return tag_baselines(train, test, head.measured, settings=settings.evaluation, seed=settings.training.seed)


def tag_comparison(head: TagHead, prepared: Prepared, outputs: Ragged, targets: Ragged, baseline: Baseline) -> Comparison | None:
    """The network against a baseline."""
    settings = prepared.plan.settings
    tags = outputs.values[:, TAG].astype(np.int64)
    return compare_tags(head.measured, tags, baseline.predictions, targets, settings=settings.evaluation, seed=settings.training.seed)


def tag_results(head: TagHead, outputs: Ragged, targets: Ragged) -> TagResults:
    """Figures by kind, and which kinds are taken for which."""
    if head.scheme.name == "none":
        return TagResults({}, [], np.zeros((0, 0), np.int64))
    true, predicted = (head.spans(values, targets.offsets) for values in (targets.values, outputs.values[:, TAG]))
    kinds = list(head.measured.kinds)
    if not (true.kind >= len(head.taught.kinds)).any():
        kinds.pop()
    return TagResults(per_kind(true, predicted, kinds), kinds, span_confusion(true, predicted, len(kinds)))


def tag_examples(head: TagHead, prepared: Prepared, rows: np.ndarray, outputs: Ragged, targets: Ragged) -> list[ErrorExample]:
    """Rows with mistakes, the spans marked in their text; the rows are read again, the chosen ones only."""
    tags = Ragged(outputs.values[:, TAG].astype(np.int64), outputs.offsets)
    found = tag_errors(tags, outputs.values[:, MARGINAL], targets, limit=SHOWN_ERRORS)
    if not found:
        return []
    chosen = np.unique([row for row, _ in found])
    texts = dict(zip(chosen.tolist(), _tokens(head, prepared, rows[chosen]), strict=True))
    where = dict(zip(chosen.tolist(), prepared.rows.places(rows[chosen], head.name), strict=True))
    blank = "" if head.cut == "character" else " "
    return [
        error_example(where[row], texts[row], targets[row].astype(np.int64), tags[row], scheme=head.measured, score=score, blank=blank)
        for row, score in found
    ]


def _tokens(head: TagHead, prepared: Prepared, rows: np.ndarray) -> list[list[str]]:
    frame = prepared.rows.gather(rows, [head.steps])
    return [[token or "" for token in row or ()][: head.max_length] for row in as_tokens(frame[head.steps], head.cut).to_list()]
