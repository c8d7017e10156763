"""BLEU and chrF of texts: sacreBLEU's own figures, also where little or nothing is right, and intervals about them."""

from __future__ import annotations

import random

import pytest
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF

from recurra.metrics.translation import signatures, text_intervals, text_metrics

LONG = "Two young, white males are outside near many bushes - in 3,000.5 places!"
CASES = {
    "the same": ([LONG, "A cat sat."], [LONG, "A cat sat."]),
    "nothing shared": (["aa bb cc dd ee"], ["ff gg hh ii jj"]),
    "no 2-gram shared": (["a x b y c z d"], ["a b c d"]),
    "no 4-gram shared": (["the cat sat on a mat", "two dogs"], ["the cat sat in a mat", "two cats"]),
    "shorter than four words": (["a cat", "yes"], ["a cat", "yes"]),
    "empty texts": (["", "a man rides a bike"], ["a man rides a bike", "a man rides a bike"]),
    "all empty": (["", ""], ["a man", "a dog"]),
    "too long": ([" ".join([LONG] * 3)], [LONG]),
    "too short": (["Two young, white"], [LONG]),
    "signs and cases": (["HELLO , world !", "“quoted” text&quot;s"], ["Hello, world!", '"quoted" text\'s']),
    "Chinese": (["我喜欢这本书。", "他来了"], ["我很喜欢这本书。", "她来了"]),
    "repeats": (["the the the the the the the"], ["the cat is on the mat"]),
}


@pytest.mark.parametrize("name", CASES)
def test_figures_are_those_of_sacrebleu(name: str) -> None:
    texts, references = CASES[name]
    found = text_metrics(texts, references)
    bleu = BLEU(tokenize="char" if name == "Chinese" else "13a").corpus_score(texts, [references])
    # Sums and logarithms of up to 20 float64 numbers of about 100: 1e-9 is a thousand times their rounding.
    assert found["bleu"] == pytest.approx(bleu.score, abs=1e-9)
    assert found["chrf"] == pytest.approx(CHRF().corpus_score(texts, [references]).score, abs=1e-9)
    assert found["length_ratio"] == pytest.approx(bleu.ratio)


def test_exact_matches_are_counted_without_blanks_around() -> None:
    assert text_metrics(["a b ", "a  b"], ["a b", "a b"])["exact_match"] == 0.5


def test_intervals_hold_the_figure_and_shrink_with_more_texts() -> None:
    draw = random.Random(0)
    words = ["the", "a", "cat", "dog", "sat", "ran", "on", "in", "mat", "rug"]
    references = [" ".join(draw.choices(words, k=8)) for _ in range(400)]
    texts = [" ".join(word if draw.random() < 0.7 else draw.choice(words) for word in text.split()) for text in references]
    widths = []
    for count in (50, 400):
        found, bounds = text_metrics(texts[:count], references[:count]), text_intervals(texts[:count], references[:count], samples=300)
        assert all(low <= found[name] <= high for name, (low, high) in bounds.items())
        widths.append(bounds["bleu"][1] - bounds["bleu"][0])
    # Eight times the texts: about a third of the width, a half at most.
    assert widths[1] < 0.6 * widths[0]


def test_one_text_has_intervals_of_no_width() -> None:
    assert all(low == high for low, high in text_intervals(["a cat"], ["a dog"], samples=20).values())


def test_signatures_say_how_it_was_counted() -> None:
    assert "tok:13a" in signatures(["A cat."])["bleu"]
    assert "tok:char" in signatures(["我喜欢这本书。"])["bleu"]
    assert "nc:6" in signatures(["A cat."])["chrf"]


def test_there_must_be_a_reference_for_each_text() -> None:
    with pytest.raises(ValueError, match="1 and 2"):
        text_metrics(["a"], ["a", "b"])
    with pytest.raises(ValueError, match="0 and 0"):
        text_metrics([], [])
