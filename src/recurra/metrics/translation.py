"""How near texts are to the reference texts: BLEU and chrF as sacreBLEU counts them, and exact matches.

Scores are between 0 and 100, as the field writes them. Intervals draw texts: every figure is a function of sums over them.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF

from recurra.metrics.intervals import Intervals, bootstrap
from recurra.shapes import Float

__all__ = ["signatures", "text_intervals", "text_metrics"]

ORDER = 4
"""Longest n-grams of BLEU."""
CHARACTER_ORDER = 6
"""Longest n-grams of characters of chrF."""


def text_metrics(texts: Sequence[str], references: Sequence[str]) -> dict[str, float]:
    r"""Figures of N texts, each with one reference.

    `bleu`: the geometric mean of the precisions of 1- to 4-grams times the brevity penalty, over all texts together (Papineni et al.
    2002), cut into words by sacreBLEU's "13a" (Chinese, Japanese and Korean references by character, "char"); `chrf`: the F2 score of
    1- to 6-grams of characters (Popović 2015); `exact_match`: the share of texts that equal their reference but for blanks around
    them; `length_ratio`: words of the texts over those of the references.

    Raises:
        ValueError: there is no text, or not one reference each.
    """
    if not texts or len(texts) != len(references):
        raise ValueError(f"Give one reference for each text, and one text at least; these are {len(texts)} and {len(references)}.")
    statistics, characters, exact = _statistics(texts, references)
    total = statistics.sum(0, keepdims=True)
    return {
        "bleu": float(_bleu(total)[0]),
        "chrf": float(_chrf(characters.sum(0, keepdims=True))[0]),
        "exact_match": float(exact.mean()),
        "length_ratio": float(total[0, 0] / max(total[0, 1], 1.0)),
    }


def text_intervals(
    texts: Sequence[str], references: Sequence[str], *, samples: int = 1_000, confidence: float = 0.95, seed: int = 0
) -> Intervals:
    """Bootstrap intervals of `bleu`, `chrf` and `exact_match`; see `text_metrics`. Source: Koehn 2004."""
    statistics, characters, exact = _statistics(texts, references)

    def metric(counts: Float[np.ndarray, "S N"]) -> dict[str, np.ndarray]:
        return {
            "bleu": _bleu(counts @ statistics),
            "chrf": _chrf(counts @ characters),
            "exact_match": counts @ exact / counts.sum(1),
        }

    return bootstrap(metric, len(texts), samples=samples, confidence=confidence, seed=seed)


def signatures(references: Sequence[str]) -> dict[str, str]:
    """What BLEU and chrF were counted with, as sacreBLEU writes it beside a figure."""
    bleu, chrf = _scorers(references)
    for scorer in (bleu, chrf):
        scorer.corpus_score(["a"], [["a"]])  # a signature knows the number of references only then
    return {"bleu": str(bleu.get_signature()), "chrf": str(chrf.get_signature())}


def _scorers(references: Sequence[str]) -> tuple[BLEU, CHRF]:
    from recurra.data.words import detect, series

    kind, _ = detect([series(list(references))])
    return BLEU(tokenize="char" if kind == "character" else "13a"), CHRF(char_order=CHARACTER_ORDER)


def _statistics(texts: Sequence[str], references: Sequence[str]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of each text the counts that BLEU and chrF are functions of, and whether it is exact."""
    bleu, chrf = _scorers(references)
    # sacreBLEU's own entry from texts to counts; the sums and the scores of resamples are ours.
    counted = np.asarray(bleu._extract_corpus_statistics(list(texts), [list(references)]), np.float64)
    characters = np.asarray(chrf._extract_corpus_statistics(list(texts), [list(references)]), np.float64)
    exact = np.array([text.strip() == reference.strip() for text, reference in zip(texts, references, strict=True)], np.float64)
    return counted, characters, exact


def _bleu(statistics: Float[np.ndarray, "S 10"]) -> Float[np.ndarray, " S"]:
    """BLEU of summed counts: lengths of texts and references, n-grams that are right, n-grams in all; with exponential smoothing."""
    length, reference = statistics[:, 0], statistics[:, 1]
    right, all_ = statistics[:, 2 : 2 + ORDER], statistics[:, 2 + ORDER :]
    missed = (right == 0) & (all_ > 0)
    smoothed = np.where(missed, 0.5 ** np.cumsum(missed, axis=1), right)
    with np.errstate(divide="ignore", invalid="ignore"):
        precision = np.log(np.where(all_ > 0, smoothed / all_, 0.0)).mean(1)
        penalty = np.minimum(0.0, 1.0 - reference / length)
        found = 100.0 * np.exp(precision + penalty)
    return np.where((right.sum(1) > 0) & (length > 0), found, 0.0)


def _chrf(statistics: Float[np.ndarray, "S 18"]) -> Float[np.ndarray, " S"]:
    """chrF2 of summed counts: for each order n-grams of the texts, of the references, and those in both."""
    text, reference, both = (statistics[:, place::3] for place in range(3))
    known = (text > 0) & (reference > 0)
    count = np.maximum(known.sum(1), 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        precision = np.where(known, both / text, 0.0).sum(1) / count
        recall = np.where(known, both / reference, 0.0).sum(1) / count
        found = 100.0 * 5.0 * precision * recall / (4.0 * precision + recall)
    return np.where(precision + recall > 0, found, 0.0)
