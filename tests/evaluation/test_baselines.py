"""The baselines: what they learn, from which columns, and what they do with rows and columns that say nothing."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from recurra.config import EvaluationSettings
from recurra.errors import EmptyData
from recurra.evaluation.baselines import Part, train_baselines
from recurra.evaluation.linear_features import has_no_blanks, linear_features

FEW = EvaluationSettings(bootstrap_samples=50)


def texts(n: int, seed: int) -> tuple[pl.DataFrame, np.ndarray]:
    random = np.random.default_rng(seed)
    targets = random.integers(0, 3, n)
    words = [["goal", "match"], ["bank", "market"], ["virus", "cell"]]
    rows = [" ".join([*random.choice(words[target], 2), *random.choice(["the", "old", "new"], 5)]) for target in targets]
    return pl.DataFrame({"text": rows}), targets


def test_linear_model_learns_words() -> None:
    train, test = Part(*texts(200, 0)), Part(*texts(100, 1))
    found = train_baselines(train, test, task="classify", column_types={"text": "text"}, settings=FEW)
    assert list(found) == ["majority", "tfidf_linear"]
    assert found["tfidf_linear"].metrics["accuracy"] == 1.0
    assert found["tfidf_linear"].rows == 200
    majority = np.bincount(train.targets).argmax()
    assert found["majority"].metrics["accuracy"] == pytest.approx((test.targets == majority).mean())
    assert set(found["majority"].intervals) == {"accuracy", "macro_f1", "weighted_f1"}
    assert found["majority"].predictions.shape == test.targets.shape
    assert found["tfidf_linear"].result().metrics == found["tfidf_linear"].metrics


def test_character_level() -> None:
    random = np.random.default_rng(0)
    targets = random.integers(0, 2, 160)
    rows = ["".join(random.choice(list("abcd" if target else "cdef"), 8)) for target in targets]
    train, test = (Part(pl.DataFrame({"text": rows[part]}), targets[part]) for part in (slice(0, 100), slice(100, None)))
    words = train_baselines(train, test, task="classify", column_types={"text": "text"}, settings=FEW)
    characters = train_baselines(train, test, task="classify", column_types={"text": "text"}, character_level=True, settings=FEW)
    # Random words hardly repeat, so words say next to nothing; a word without any of a, b, e, f has probability (1/2)^8.
    assert characters["tfidf_linear"].metrics["accuracy"] > 0.95 > words["tfidf_linear"].metrics["accuracy"]
    assert "characters" in characters["tfidf_linear"].description


def test_text_without_blanks_is_read_by_characters() -> None:
    chinese = pl.DataFrame({"text": ["今天天气很好我们一起去公园散步吧", "明天会下雨请带上雨伞再出门去上班"]})
    assert has_no_blanks(chinese, {"text": "text"})
    assert not has_no_blanks(texts(5, 0)[0], {"text": "text"})
    assert not has_no_blanks(chinese, {"text": "category"})


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        ("category", ["red", "blue"]),
        ("number", [1.5, -2.0]),
        ("tokens", [["a b", "x"], ["c d"]]),  # tokens with blanks inside stay whole
        ("text", ["some words", "other things"]),
    ],
)
def test_every_type_of_column_counts(kind: str, values: list[object]) -> None:
    targets = np.array([0, 1] * 20)
    inputs = pl.DataFrame({"x": [values[target] for target in targets], "noise": ["n"] * 40})
    part = Part(inputs, targets)
    found = train_baselines(part, part, task="classify", column_types={"x": kind, "noise": "ignore"}, settings=FEW)  # type: ignore[dict-item]
    assert found["tfidf_linear"].metrics["accuracy"] == 1.0


def test_nulls_unseen_categories_and_wild_numbers() -> None:
    train = pl.DataFrame(
        {"t": ["a word", None, "other"], "k": [["x"], None, []], "c": ["r", None, "g"], "n": ["1.5", None, "1e300"]},
        schema_overrides={"k": pl.List(pl.String)},
    )
    test = pl.DataFrame({"t": [None, "new"], "k": [None, ["x"]], "c": ["blue", None], "n": [None, "nan"]})
    features = linear_features(train, test, {"t": "text", "k": "tokens", "c": "category", "n": "number"})
    assert features is not None
    assert [block.shape[0] for block in features] == [3, 2]
    assert features[0].shape[1] == features[1].shape[1]
    assert all(np.isfinite(block.data).all() for block in features)
    missing = linear_features(train, test, {"n": "number"})
    assert missing is not None
    assert missing[1].toarray().tolist() == [[0.0, 1.0], [0.0, 1.0]]  # the training mean, flagged as missing


def test_a_very_long_text_is_cut() -> None:
    train = pl.DataFrame({"t": ["ab" * 100_000, "c d"]})
    features = linear_features(train, train, {"t": "text"}, character_level=True)
    assert features is not None
    assert features[0].nnz < 100


@pytest.mark.parametrize("inputs", [pl.DataFrame({"t": ["", None, "  "]}), pl.DataFrame({"other": [1, 2, 3]})])
def test_no_column_with_content_leaves_the_linear_model_out(inputs: pl.DataFrame) -> None:
    part = Part(inputs, np.array([0, 1, 1]))
    assert list(train_baselines(part, part, task="classify", column_types={"t": "text"}, settings=FEW)) == ["majority"]


def test_one_class_leaves_the_linear_model_out() -> None:
    part = Part(pl.DataFrame({"t": ["a word", "b word"]}), np.array([1, 1]))
    found = train_baselines(part, part, task="classify", column_types={"t": "text"}, settings=FEW)
    assert list(found) == ["majority"]
    assert found["majority"].metrics["accuracy"] == 1.0


def test_missing_targets() -> None:
    inputs, targets = texts(60, 0)
    holes = np.where(np.arange(60) % 2, targets, -1)
    found = train_baselines(Part(inputs, holes), Part(inputs, holes), task="classify", column_types={"text": "text"}, settings=FEW)
    assert found["tfidf_linear"].rows == 30
    assert len(found["tfidf_linear"].predictions) == 60
    with pytest.raises(EmptyData, match="test part has no row"):
        train_baselines(Part(inputs, targets), Part(inputs, np.full(60, -1)), task="classify", column_types={"text": "text"})


def test_rows_are_bounded() -> None:
    part = Part(*texts(100, 0))
    few = EvaluationSettings(bootstrap_samples=0, baseline_rows=20)
    found = train_baselines(part, part, task="classify", column_types={"text": "text"}, settings=few)
    assert (found["majority"].rows, found["tfidf_linear"].rows) == (100, 20)
    assert found["majority"].intervals == {}


def test_labels() -> None:
    random = np.random.default_rng(0)
    names = ["goal", "bank", "virus"]
    targets = (random.random((150, 4)) < 0.4).astype(np.int64)
    targets[:, 3] = 1  # a label that every row has
    inputs = pl.DataFrame({"text": [" ".join(["word", *(name for name, on in zip(names, row, strict=False) if on)]) for row in targets]})
    targets[::5, 0] = -1
    found = train_baselines(Part(inputs, targets), Part(inputs, targets), task="labels", column_types={"text": "text"}, settings=FEW)
    assert found["tfidf_linear"].metrics["micro_f1"] == 1.0
    assert found["majority"].predictions.shape == targets.shape
    assert found["majority"].metrics["micro_f1"] < 1.0


def test_regress() -> None:
    random = np.random.default_rng(0)
    words = random.integers(0, 2, (300, 2))
    inputs = pl.DataFrame({"text": [" ".join(["base", *(["big"] * a), *(["red"] * b)]) for a, b in words], "n": random.normal(size=300)})
    targets = 1e6 + 1e4 * words[:, 0] + 5e3 * inputs["n"].to_numpy()
    parts = [Part(inputs[rows], targets[rows]) for rows in (slice(0, 200), slice(200, 300))]
    found = train_baselines(*parts, task="regress", column_types={"text": "text", "n": "number"}, settings=FEW)
    assert list(found) == ["mean", "tfidf_linear"]
    assert found["mean"].metrics["r2"] == pytest.approx(0.0, abs=0.1)  # the means of 200 and of 100 rows differ by about 0.1 deviations
    assert found["tfidf_linear"].metrics["r2"] > 0.98  # linear in the features but for the penalty and TF-IDF's norms
    assert found["tfidf_linear"].description == "ridge regression on TF-IDF of words and word pairs, scaled numbers"
