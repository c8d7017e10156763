"""What a tagger is shown beside, and what it got wrong: two baselines, the paired comparison, and rows with their spans marked.

* `frequent_tag`: each word has the tag that it has most often in the training rows; a word that is not there the most frequent of all.
* `window_linear`: logistic regression on a word, its neighbours, its beginning, its end and its shape; each token for itself.

Not inside: how spans are counted (`recurra.metrics.spans`).
"""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from recurra.config import EvaluationSettings
from recurra.data.store import Ragged
from recurra.data.tags import Spans, TagScheme
from recurra.evaluation.baselines import Baseline
from recurra.evaluation.comparison import Comparison
from recurra.evaluation.results import ErrorExample
from recurra.metrics.intervals import bootstrap
from recurra.metrics.spans import span_counts, span_intervals, span_metrics, span_statistics, token_counts

__all__ = ["TaggedRows", "compare_tags", "marked", "tag_baselines", "tag_errors"]

FEATURES = 2**18
"""Columns that the features of the linear tagger are hashed into."""
PASSES = 5
"""Over the training tokens, of the linear tagger."""


@dataclass(frozen=True)
class TaggedRows:
    """Rows of tokens with their tags.

    Attributes:
        tokens: of each row, as many as tags.
        tags: numbers of a scheme.
    """

    tokens: Sequence[Sequence[str]]
    tags: Ragged


def tag_baselines(
    train: TaggedRows, test: TaggedRows, scheme: TagScheme, *, settings: EvaluationSettings | None = None, seed: int = 0
) -> dict[str, Baseline]:
    """Train both baselines and measure them on the test part.

    Args:
        train: rows to learn from.
        test: rows to measure on.
        scheme: of the tags.
        settings: resamples and confidence.
        seed: of the linear tagger's order and of the resamples.
    """
    settings = settings or EvaluationSettings()
    found = {}
    for name, description, predict in (
        ("frequent_tag", "the most frequent tag of each word in training", _frequent),
        ("window_linear", "logistic regression on each word, two neighbours on either side, its ends and its shape", _linear),
    ):
        started = time.perf_counter()
        predictions = predict(train, test, seed)
        metrics, intervals = _figures(scheme, predictions, test.tags, settings, seed)
        found[name] = Baseline(name, description, metrics, intervals, predictions, time.perf_counter() - started, len(train.tags))
    return found


def compare_tags(
    scheme: TagScheme,
    model: np.ndarray,
    baseline: np.ndarray,
    targets: Ragged,
    *,
    settings: EvaluationSettings | None = None,
    seed: int = 0,
) -> Comparison | None:
    """The paired comparison of two taggers on the same rows, in F1 (accuracy of tokens where tags stand for no spans).

    Args:
        scheme: of the tags.
        model: (S,) predicted tags of all tokens.
        baseline: those of the baseline.
        targets: the truth.
        settings: resamples and confidence.
        seed: of the resamples.

    Returns:
        None when intervals are switched off or there are no rows.
    """
    settings = settings or EvaluationSettings()
    if not settings.bootstrap_samples or not len(targets):
        return None
    name = "token_accuracy" if scheme.name == "none" else "f1"
    first, second = (_counts(scheme, predictions, targets) for predictions in (model, baseline))

    def gain(counts: np.ndarray) -> dict[str, np.ndarray]:
        return {name: span_statistics(*first, counts)[name] - span_statistics(*second, counts)[name]}

    bounds = bootstrap(gain, len(targets), samples=settings.bootstrap_samples, confidence=settings.confidence, seed=seed)
    point = float(gain(np.ones((1, len(targets))))[name][0])
    return Comparison(name, point, *bounds[name], settings.confidence) if name in bounds and np.isfinite(point) else None


def tag_errors(tags: Ragged, probabilities: np.ndarray, targets: Ragged, *, limit: int = 20) -> list[tuple[int, float]]:
    """Rows with a wrong tag, the most confident mistake first: number of the row, probability of its surest wrong tag.

    Args:
        tags: predicted.
        probabilities: (S,) of each predicted tag.
        targets: the truth.
        limit: most rows.
    """
    wrong = tags.values.astype(np.int64) != targets.values.astype(np.int64)
    places = np.flatnonzero(wrong)
    rows = np.searchsorted(targets.offsets, places, side="right") - 1
    order = np.argsort(-probabilities[places], kind="stable")
    rows, places = rows[order], places[order]
    _, first = np.unique(rows, return_index=True)
    return [(int(rows[index]), float(probabilities[places[index]])) for index in np.sort(first)[:limit]]


def marked(tokens: Sequence[str], tags: np.ndarray, scheme: TagScheme, *, blank: str = " ") -> str:
    """Tokens as text with the spans marked: `[Ada Lovelace PER] was born in [London LOC]`; words with their tags where there are no spans."""
    if scheme.name == "none":
        return blank.join(f"{token}/{scheme.names[number]}" for token, number in zip(tokens, tags.tolist(), strict=True))
    spans = scheme.read(tags, np.array([0, len(tags)]))
    pieces = list(tokens)
    for start, end, kind in zip(*(part.tolist() for part in spans), strict=True):
        pieces[start] = f"[{pieces[start]}"
        pieces[end - 1] += f" {scheme.kinds[kind]}]"
    return blank.join(pieces)


def error_example(
    place: str, tokens: Sequence[str], true: np.ndarray, predicted: np.ndarray, *, scheme: TagScheme, score: float, blank: str
) -> ErrorExample:
    """A wrongly tagged row: the text as the model marked it, and the spans that are missing there and too many."""
    found = [_named_spans(tokens, tags, scheme, blank) for tags in (true, predicted)]
    missing, spurious = (" · ".join(span for span in one if span not in other) or "(none)" for one, other in (found, found[::-1]))
    return ErrorExample(place, marked(tokens, predicted, scheme, blank=blank), missing, spurious, score)


def _named_spans(tokens: Sequence[str], tags: np.ndarray, scheme: TagScheme, blank: str) -> list[str]:
    if scheme.name == "none":
        return [
            f"{token}/{scheme.names[number]} ({place + 1})" for place, (token, number) in enumerate(zip(tokens, tags.tolist(), strict=True))
        ]
    spans: Spans = scheme.read(tags, np.array([0, len(tags)]))
    return [
        f"{blank.join(tokens[start:end])} {scheme.kinds[kind]}" for start, end, kind in zip(*(part.tolist() for part in spans), strict=True)
    ]


def _frequent(train: TaggedRows, test: TaggedRows, seed: int) -> np.ndarray:  # noqa: ARG001
    counts: dict[str, Counter[int]] = defaultdict(Counter)
    for token, tag in zip((token for row in train.tokens for token in row), train.tags.values.tolist(), strict=True):
        counts[token][tag] += 1
    most = int(np.bincount(train.tags.values).argmax())
    known = {token: tags.most_common(1)[0][0] for token, tags in counts.items()}
    return np.array([known.get(token, most) for row in test.tokens for token in row], np.int64)


def _linear(train: TaggedRows, test: TaggedRows, seed: int) -> np.ndarray:
    from sklearn.feature_extraction import FeatureHasher
    from sklearn.linear_model import SGDClassifier

    hasher = FeatureHasher(FEATURES, input_type="string", alternate_sign=False)
    tags = train.tags.values
    if len(np.unique(tags)) < 2 or not test.tags.offsets[-1]:
        return np.full(int(test.tags.offsets[-1]), tags[0] if len(tags) else 0, np.int64)
    model = SGDClassifier(loss="log_loss", alpha=1e-6, max_iter=PASSES, tol=None, random_state=seed, average=True)
    model.fit(hasher.transform(_features(train.tokens)), tags)
    return np.asarray(model.predict(hasher.transform(_features(test.tokens))), np.int64)


def _features(rows: Sequence[Sequence[str]]) -> Iterator[list[str]]:
    for row in rows:
        lower = ["<<", "<", *(token.lower() for token in row), ">", ">>"]
        for place, token in enumerate(row):
            around = [f"{distance}={lower[place + 2 + distance]}" for distance in (-2, -1, 0, 1, 2)]
            written = "".join("A" if c.isupper() else "a" if c.isalpha() else "0" if c.isdigit() else c for c in token[:12])
            yield [*around, f"begins={lower[place + 2][:3]}", f"ends={lower[place + 2][-3:]}", f"shape={written}", f"token={token}"]


def _figures(
    scheme: TagScheme, predictions: np.ndarray, targets: Ragged, settings: EvaluationSettings, seed: int
) -> tuple[dict[str, float], dict[str, tuple[float, float]]]:
    counts = _counts(scheme, predictions, targets)
    bounds = span_intervals(*counts, samples=settings.bootstrap_samples, confidence=settings.confidence, seed=seed)
    return span_metrics(*counts), bounds


def _counts(scheme: TagScheme, predictions: np.ndarray, targets: Ragged) -> tuple[np.ndarray | None, np.ndarray]:
    true = targets.values.astype(np.int64)
    tokens = token_counts(true, predictions, targets.offsets)
    if scheme.name == "none":
        return None, tokens
    return span_counts(scheme.read(true, targets.offsets), scheme.read(predictions, targets.offsets), targets.offsets), tokens
