"""Features: fit on training rows, encode any row, come back from JSON as they were."""

from __future__ import annotations

import json

import numpy as np
import polars as pl
import pytest
import torch

from recurra.config import load_settings
from recurra.data.batch import Sequence
from recurra.data.store import Ragged
from recurra.errors import DataError
from recurra.features import FEATURES, CategoryFeature, Feature, NumberFeature, TextFeature, TokensFeature
from recurra.features.series import Standard

SETTINGS = load_settings({"text.min_frequency": 1, "embedding.size": 6})
COLUMNS = {
    "text": pl.Series(["a b b", "b c", None, "zebra"]),
    "tokens": pl.Series([["a", "b"], ["b"], None, []]),
    "category": pl.Series(["x", "y", "x", None]),
    "number": pl.Series(["1.5", " 2 ", None, "4"]),
}


def fitted(kind: str) -> Feature:
    return FEATURES[kind].fit(kind, [COLUMNS[kind][:2], COLUMNS[kind][2:]], SETTINGS)


def arrays(encoded: Ragged | np.ndarray) -> list[np.ndarray]:
    return [encoded.values, encoded.offsets] if isinstance(encoded, Ragged) else [encoded]


@pytest.mark.parametrize("kind", FEATURES)
def test_json_brings_the_feature_back(kind: str) -> None:
    feature = fitted(kind)
    again = type(feature).from_state(kind, json.loads(json.dumps(feature.state())))
    for before, after in zip(arrays(feature.encode(COLUMNS[kind])), arrays(again.encode(COLUMNS[kind])), strict=True):
        np.testing.assert_array_equal(before, after)
    assert again.describe() == feature.describe()


@pytest.mark.parametrize("kind", FEATURES)
def test_a_row_is_encoded_as_it_is_alone(kind: str) -> None:
    feature = fitted(kind)
    together = feature.encode(COLUMNS[kind])
    for row in range(len(COLUMNS[kind])):
        np.testing.assert_array_equal(together[row], feature.encode(COLUMNS[kind][row : row + 1])[0])


@pytest.mark.parametrize("kind", FEATURES)
def test_the_module_makes_vectors_of_its_size(kind: str) -> None:
    feature = fitted(kind)
    encoded = feature.encode(COLUMNS[kind])
    module = feature.build(SETTINGS).eval()
    if isinstance(encoded, Ragged):
        values, lengths = encoded.pad()
        output = module(Sequence(torch.from_numpy(values).long(), torch.from_numpy(lengths)))
        assert output.shape == (4, values.shape[1], module.output_size)
    else:
        assert module(torch.from_numpy(encoded)).shape == (4, module.output_size)


def test_text_numbers_are_those_of_the_vocabulary() -> None:
    feature = fitted("text")
    assert isinstance(feature, TextFeature)
    tokens = feature.tokenizer.tokens
    assert [tokens[number] for number in feature.encode(pl.Series(["B unseen c"]))[0]] == ["b", "<unk>", "c"]
    assert len(feature.encode(pl.Series([None], dtype=pl.String))[0]) == 0


def test_tokens_are_not_cut_again() -> None:
    feature = TokensFeature.fit("tokens", [pl.Series([["new york", "x"], ["new york"]])], SETTINGS)
    assert "new york" in feature.tokenizer.tokens
    assert len(feature.encode(pl.Series(["x x unseen"]))[0]) == 3


def test_unseen_and_missing_categories_share_number_zero() -> None:
    feature = CategoryFeature.fit("c", [pl.Series(["x", "y", "x", None])], SETTINGS)
    np.testing.assert_array_equal(feature.encode(pl.Series(["x", "y", "z", None])), [1, 2, 0, 0])


def test_numbers_are_standardised_by_the_training_rows() -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(1e6, 3.0, 1_000)
    feature = NumberFeature.fit("n", [pl.Series(values[:100]), pl.Series(values[100:])], SETTINGS)
    # The pairwise update is exact up to a few rounding errors of the mean: 1e6 * 2**-52 * a few, against a deviation of 3.
    assert feature.mean == pytest.approx(values.mean(), rel=1e-12)
    assert feature.deviation == pytest.approx(values.std(), rel=1e-6)
    encoded = feature.encode(pl.Series([values.mean(), None, float("nan"), values.mean() + values.std()]))
    np.testing.assert_array_equal(encoded[:, 1], [0, 1, 1, 0])
    np.testing.assert_allclose(encoded[:, 0], [0, 0, 0, 1], atol=1e-5)


def test_words_among_numbers_are_problems_and_missing_ones_are_not() -> None:
    feature = fitted("number")
    problems = feature.problems(pl.Series(["1", "many", "", None, "inf"]))
    assert list(problems) == [1, 4]
    assert "'many'" in problems[1]
    assert "--type number=category" in problems[1]


def test_a_column_without_numbers_is_refused() -> None:
    with pytest.raises(DataError, match="holds no number"):
        NumberFeature.fit("n", [pl.Series([None, "n/a"])], SETTINGS)


def test_constant_numbers_do_not_divide_by_zero() -> None:
    feature = NumberFeature.fit("n", [pl.Series([2.0, 2.0])], SETTINGS)
    np.testing.assert_array_equal(feature.encode(pl.Series([2.0, 3.0]))[:, 0], [0.0, 1.0])


@pytest.mark.parametrize("value", [0.1, 0.3, 19.99, 1e9 + 0.1])
def test_rounding_is_no_deviation(value: float) -> None:
    feature = NumberFeature.fit("n", [pl.Series([value] * 7), pl.Series([value] * 1_000 + [None])], SETTINGS)
    assert feature.deviation == 1.0
    # The difference itself, up to the float32 it is stored in and the roundings of a mean of that size in float64.
    assert feature.encode(pl.Series([value + 1]))[0, 0] == pytest.approx(1.0, abs=2**-23 + 8 * 2**-52 * value)


@pytest.mark.parametrize("value", [0.0, 0.1, 1e-12, -1e12 - 0.1])
def test_rounding_is_no_deviation_of_a_series_either(value: float) -> None:
    assert Standard.of(np.full((10_001, 1), value)).deviation.tolist() == [1.0]
    assert Standard.of(np.array([[1e-30], [3e-30]])).deviation == pytest.approx([1e-30])
