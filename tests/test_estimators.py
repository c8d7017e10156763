"""Scikit-learn estimators: scikit-learn's own checks, the forms of X and y, and what surrounds an estimator in practice."""

from __future__ import annotations

import copy
import io
import pickle
import random
import tempfile

import joblib
import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from scipy.sparse import csr_array
from sklearn.base import clone
from sklearn.datasets import load_iris
from sklearn.exceptions import DataConversionWarning, NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_predict, cross_val_score
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils.estimator_checks import check_estimator

import recurra
from recurra import RecurrentClassifier, RecurrentRegressor, Settings
from recurra.config import load_settings
from recurra.errors import DataError, MissingColumn, RowError, SettingsError, TrainingInterrupted
from recurra.estimators.estimator import PARAMETERS

TINY = {"hidden_size": 8, "embedding_size": 8, "embedding_dropout": 0.0, "head_dropout": 0.0, "min_frequency": 1, "random_state": 0}
QUICK = {**TINY, "epochs": 6, "learning_rate": 0.05, "batch_size": 16}
"""A network of a few hundred weights that learns the toy tasks below in a fraction of a second."""
GOOD, BAD, FILLER = ["good", "fine", "great"], ["bad", "poor", "awful"], ["a", "film", "so", "the", "plot", "was"]


def toy_texts(rows: int, seed: int = 0) -> tuple[list[str], np.ndarray]:
    """Texts of 3 to 8 words with one that tells the class."""
    rng = np.random.default_rng(seed)
    labels = np.where(rng.random(rows) < 0.5, "good", "bad")
    texts = []
    for label in labels:
        words = list(rng.choice(FILLER, rng.integers(2, 8)))
        words.insert(int(rng.integers(len(words) + 1)), str(rng.choice(GOOD if label == "good" else BAD)))
        texts.append(" ".join(words))
    return texts, labels


def toy_tokens(rows: int) -> tuple[list[list[str]], np.ndarray]:
    texts, labels = toy_texts(rows)
    return [text.split() for text in texts], labels


@pytest.fixture(scope="module")
def fitted() -> RecurrentClassifier:
    texts, labels = toy_texts(120)
    return RecurrentClassifier(**QUICK).fit(texts, labels)


@pytest.mark.parametrize(("estimator", "epochs"), [(RecurrentClassifier, 1), (RecurrentRegressor, 2)])
@pytest.mark.filterwarnings("ignore")  # the checks provoke warnings of scikit-learn
def test_scikit_learn_checks(estimator, epochs):
    # no validation rows, so that the checks' 20 rows all train; the rate suits the linear network that columns of numbers make
    chosen = estimator(hidden_size=8, epochs=epochs, batch_size=16, learning_rate=0.3, validation_share=0.0, head_dropout=0.0)
    results = check_estimator(chosen, on_fail=None)
    assert [(result["check_name"], str(result["exception"])) for result in results if result["status"] not in {"passed", "skipped"}] == []
    # the array API check asks for SCIPY_ARRAY_API=1 in the environment before scipy is imported
    assert {result["check_name"] for result in results if result["status"] == "skipped"} <= {"check_array_api_input"}
    assert sum(result["status"] == "passed" for result in results) >= 50


def test_iris():
    X, y = load_iris(return_X_y=True)
    classifier = RecurrentClassifier(**QUICK).set_params(learning_rate=0.3, patience=0).fit(X, y)
    # a linear model gets 0.97; the three species apart at all needs more than the 0.67 of two of them
    assert classifier.score(X, y) > 0.9
    assert classifier.n_features_in_ == 4
    assert not hasattr(classifier, "feature_names_in_")
    probabilities = classifier.predict_proba(X)
    assert probabilities.shape == (150, 3)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1.0, atol=1e-12)  # a softmax in float64
    np.testing.assert_array_equal(classifier.decision_function(X).argmax(axis=1), probabilities.argmax(axis=1))


def test_missing_numbers_are_taken_and_infinite_ones_are_not():
    X, y = load_iris(return_X_y=True)
    X = np.column_stack([X, np.full(150, np.nan)])
    X[::7, 1] = np.nan
    classifier = RecurrentClassifier(**QUICK).set_params(learning_rate=0.3).fit(X, y)
    assert classifier.score(X, y) > 0.8
    assert [feature.name for feature in classifier.model_.features] == ["x0", "x1", "x2", "x3"]  # nothing to learn from the empty column
    X[3, 2] = np.inf
    with pytest.raises(ValueError, match="infinity"):
        classifier.predict(X)
    frame = pd.DataFrame({"text": ["a", "b"], "price": [1.0, -np.inf]})
    with pytest.raises(ValueError, match="infinity in column 'price'"):
        RecurrentClassifier().fit(frame, [0, 1])


def test_cross_validation_of_ragged_token_lists():
    tokens, labels = toy_tokens(120)
    assert len({len(row) for row in tokens}) > 3
    scores = cross_val_score(RecurrentClassifier(**QUICK), tokens, labels, cv=2)
    assert scores.mean() > 0.8  # half of the rows are right by chance
    assert scores.tolist() == cross_val_score(RecurrentClassifier(**QUICK), pl.Series(tokens), labels, cv=2).tolist()


def test_grid_search_over_ragged_token_lists():
    tokens, labels = toy_tokens(90)
    shared = {"settings": [{"encoder.layer_norm": True}], "epochs": [4]}
    grid = [{"cell": ["gru"], "hidden_size": np.array([4, 8]), **shared}, {"cell": ["elman"], "hidden_size": [8], **shared}]
    search = GridSearchCV(RecurrentClassifier(**QUICK), grid, cv=2, error_score="raise").fit(tokens, labels)
    assert search.best_score_ > 0.8
    best = search.best_estimator_.model_.settings
    assert best.encoder.cell == search.best_params_["cell"]
    assert best.encoder.hidden_size == search.best_params_["hidden_size"]
    assert best.encoder.layer_norm
    assert search.score(tokens, labels) > 0.8


def test_texts_in_a_pipeline():
    texts, labels = toy_texts(120)
    upper = [text.upper() for text in texts]
    lower = FunctionTransformer(lambda rows: [row.lower() for row in rows])
    pipeline = Pipeline([("lower", lower), ("network", RecurrentClassifier(**QUICK))]).set_params(network__cell="gru")
    pipeline.fit(upper, labels)
    assert pipeline.score(upper, labels) > 0.9
    assert pipeline["network"].model_.settings.encoder.cell == "gru"
    predicted = cross_val_predict(pipeline, np.array(upper, dtype=object), labels, cv=2, method="predict_proba")
    assert predicted.shape == (120, 2)


@pytest.mark.parametrize(
    "form", [list, tuple, np.array, pd.Series, pl.Series, lambda t: pd.Series(t, index=range(50, 50 + len(t)), dtype="string")]
)
def test_every_form_of_texts_gives_the_same_predictions(fitted, form):
    texts, _ = toy_texts(10, seed=1)
    np.testing.assert_array_equal(fitted.predict_proba(form(texts)), fitted.predict_proba(texts))
    assert not hasattr(fitted, "n_features_in_")


def test_half_characters_are_taken():
    """Bytes that were no UTF-8, in texts, tokens and classes."""
    labels = ["x\udcff", "y"] * 10
    for rows in (["a \udcff", "b"] * 10, [["a", "\udcff"], ["b"]] * 10):
        estimator = RecurrentClassifier(**{**QUICK, "epochs": 1}).fit(rows, labels)
        assert set(estimator.predict(rows)) <= set(labels)
        whole = ["a \ufffd"] if isinstance(rows[0], str) else [["a", "\ufffd"]]
        np.testing.assert_array_equal(estimator.predict_proba(rows[:1]), estimator.predict_proba(whole))


def test_missing_and_empty_texts_are_rows_like_others(fitted):
    for missing in ([None, "good"], ["", "good"], [float("nan"), "good"], pd.Series([pd.NA, "good"], dtype="string")):
        assert fitted.predict(missing)[1] == "good"
    assert fitted.predict_proba([None]).shape == (1, 2)
    tokens, labels = toy_tokens(40)
    classifier = RecurrentClassifier(**{**QUICK, "epochs": 1}).fit([*tokens, [], None], [*labels, "bad", "bad"])
    assert classifier.predict_proba([[], []]).shape == (2, 2)


@pytest.mark.parametrize("library", [pd, pl])
def test_a_frame_of_text_number_and_category(library):
    texts, labels = toy_texts(100)
    rng = np.random.default_rng(2)
    columns = {
        "review": texts,
        "stars": rng.normal(size=100),
        "country": rng.choice(["at", "pt"], 100),
        "age": [None, *rng.permutation(99).tolist()],
    }
    frame = library.DataFrame(columns)
    classifier = RecurrentClassifier(**QUICK).fit(frame, labels)
    types = {feature.name: feature.type for feature in classifier.model_.features}
    assert types == {"review": "text", "stars": "number", "country": "category", "age": "number"}
    assert classifier.feature_names_in_.tolist() == ["review", "stars", "country", "age"]
    assert classifier.n_features_in_ == 4
    assert classifier.score(frame, labels) > 0.8
    assert cross_val_score(classifier, frame, labels, cv=2).min() > 0.6  # rows are chosen by place, whatever the index
    with pytest.raises(ValueError, match="feature names"):
        classifier.predict(frame[["stars", "review", "country", "age"]])
    with pytest.raises(ValueError, match="was fitted on columns of several types, but X holds texts"):
        classifier.predict(texts)


def test_a_column_of_numbers_follows_the_text_that_decides():
    """With `settings`, columns are joined, typed and named as in `recurra.train`."""
    texts, labels = toy_texts(80)
    frame = pd.DataFrame({"title": [text.split()[0] for text in texts], "body": [" ".join(text.split()[1:]) for text in texts]})
    classifier = RecurrentClassifier(**QUICK, settings={"data.join": {"text": ["title", "body"]}}).fit(
        frame, pd.Series(labels, name="opinion")
    )
    assert [feature.name for feature in classifier.model_.features] == ["text"]
    assert classifier.model_.head.name == "opinion"
    assert classifier.score(frame, labels) > 0.8
    with pytest.raises(MissingColumn, match="titel"):
        RecurrentClassifier(settings={"data.types": {"titel": "text"}}).fit(frame, labels)


def test_an_array_of_texts_and_numbers():
    texts, labels = toy_texts(60)
    X = np.array([[text, number] for number, text in enumerate(texts)], dtype=object)
    classifier = RecurrentClassifier(**QUICK).fit(X, labels)
    assert {feature.name: feature.type for feature in classifier.model_.features} == {"x0": "text", "x1": "number"}
    assert classifier.n_features_in_ == 2
    assert classifier.predict(X[:3]).shape == (3,)
    with pytest.raises(TypeError, match="must be a string or a number, not dict"):
        classifier.predict(np.array([["a", {}]], dtype=object))


@pytest.mark.parametrize(
    "classes",
    [
        np.array([3, -1, 10], dtype=np.int16),
        np.array([2**64 - 1, 0, 5], dtype=np.uint64),
        np.array([True, False]),
        np.array(["ä b", "10", "9"]),
        np.array(["x", "y"], dtype=object),
        np.array(["x", " x", ""]),  # labels that the model would take for one, or for none
        np.array([1.0, 2.0, 30.0], dtype=np.float32),
    ],
    ids=lambda classes: f"{classes.dtype}-{len(classes)}",
)
def test_classes_come_back_as_they_were_given(classes):
    y = np.tile(classes, 30)
    X = np.eye(len(classes))[np.tile(np.arange(len(classes)), 30)] * 4
    classifier = RecurrentClassifier(**{**QUICK, "epochs": 8, "learning_rate": 0.3}).fit(X, y)
    np.testing.assert_array_equal(classifier.classes_, np.unique(y))
    predicted = classifier.predict(X)
    assert predicted.dtype == classifier.classes_.dtype == y.dtype
    np.testing.assert_array_equal(predicted, y)
    np.testing.assert_array_equal(classifier.classes_[classifier.predict_proba(X).argmax(axis=1)], y)


def test_the_model_itself_speaks_of_the_classes(fitted, tmp_path):
    assert fitted.model_.predict(["so good", "so bad"])["label"].to_list() == ["good", "bad"]
    fitted.model_.save(tmp_path / "model")
    texts, _ = toy_texts(20, seed=3)
    loaded = recurra.load(tmp_path / "model").predict(texts, top=2)
    assert loaded["label"].to_list() == fitted.predict(texts).tolist()
    assert loaded["probability"].to_list() == fitted.predict_proba(texts).max(axis=1).tolist()
    numbers = RecurrentClassifier(**{**QUICK, "epochs": 1}).fit(texts, pd.Series([4, 5] * 10, dtype="category"))
    assert numbers.model_.predict(texts)["label"].dtype == pl.Int64


@pytest.mark.parametrize(
    "form", [np.asarray, csr_array, lambda y: pd.DataFrame(y, columns=["short", "good", "never"]), lambda y: y.tolist()]
)
def test_several_labels_at_once(form):
    texts, labels = toy_texts(100)
    y = np.stack([[len(text.split()) < 5 for text in texts], labels == "good", np.zeros(100, bool)], axis=1).astype(np.int64)
    classifier = RecurrentClassifier(**{**QUICK, "learning_rate": 0.1}).fit(texts, form(y))
    predicted, probabilities = classifier.predict(texts), classifier.predict_proba(texts)
    assert predicted.shape == probabilities.shape == (100, 3)
    assert (predicted[:, 1] == y[:, 1]).mean() > 0.8
    assert not probabilities[:, 2].any()  # a label that no row has is not learnt
    np.testing.assert_array_equal(predicted, probabilities >= 0.5)
    np.testing.assert_array_equal(classifier.decision_function(texts) >= 0, predicted == 1)
    assert len(classifier.classes_) == 3


def test_a_regressor_learns_numbers_from_texts():
    texts, _ = toy_texts(200)
    y = np.array([sum((word in GOOD) - (word in BAD) for word in text.split()) + 0.1 * len(text.split()) for text in texts])
    regressor = RecurrentRegressor(**QUICK).fit(texts[:150], y[:150])
    assert regressor.score(texts[150:], y[150:]) > 0.5  # R2 of the mean is 0
    assert regressor.predict(texts[:3]).dtype == np.float64
    assert cross_val_score(RecurrentRegressor(**QUICK), texts, y, cv=2).min() > 0.3
    with pytest.raises(ValueError, match="NaN"):
        regressor.fit(texts, np.where(np.arange(200) == 7, np.nan, y))
    with pytest.raises(DataError, match="nothing to learn"):
        regressor.fit(texts, np.ones(200))


def test_the_same_random_state_gives_the_same_model():
    texts, labels = toy_texts(60)
    short = {**QUICK, "epochs": 2, "embedding_dropout": 0.3}
    first = RecurrentClassifier(**short).fit(texts, labels)
    second = clone(first).fit(texts, labels)
    for mine, other in zip(first.model_.network.parameters(), second.model_.network.parameters(), strict=True):
        assert torch.equal(mine, other)
    other = clone(first).set_params(random_state=1).fit(texts, labels)
    assert not np.array_equal(other.predict_proba(texts), first.predict_proba(texts))
    drawing = clone(first).set_params(random_state=np.random.RandomState(5), epochs=1)
    seeds = [estimator.fit(texts, labels).model_.settings.training.seed for estimator in (clone(drawing), clone(drawing), drawing, drawing)]
    assert seeds[0] == seeds[1] == seeds[2] != seeds[3]  # a clone has a copy of the generator
    unset = clone(first).set_params(random_state=None, settings={"training.seed": 3})
    assert unset.fit(texts, labels).model_.settings.training.seed == 3


def test_fit_leaves_no_trace(fitted, capfd, monkeypatch, tmp_path):
    """No output, no files, and the caller's random numbers go on as if nothing had been."""
    monkeypatch.setenv("RECURRA_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    expected = []
    for _ in range(2):
        random.seed(1), np.random.seed(1), torch.manual_seed(1)  # noqa: NPY002
        if expected:
            clone(fitted).set_params(epochs=1).fit(*toy_texts(40))
        expected.append((random.random(), np.random.random(), float(torch.rand(1))))  # noqa: NPY002
    assert expected[0] == expected[1]
    assert list(tmp_path.iterdir()) == []
    assert capfd.readouterr() == ("", "")
    clone(fitted).set_params(epochs=1, verbose=True).fit(*toy_texts(40))
    out, shown = capfd.readouterr()
    assert out == ""
    assert "columns:" in shown
    assert "epoch   1" in shown


def test_pickle_joblib_and_copies_of_a_fitted_estimator(fitted):
    texts, _ = toy_texts(20, seed=4)
    buffer = io.BytesIO()
    joblib.dump(fitted, buffer)
    buffer.seek(0)
    for other in (pickle.loads(pickle.dumps(fitted)), joblib.load(buffer), copy.deepcopy(fitted)):
        np.testing.assert_array_equal(other.predict_proba(texts), fitted.predict_proba(texts))
        assert other.get_params() == fitted.get_params()
        assert other.history_ == fitted.history_


def test_history(fitted):
    assert [record["epoch"] for record in fitted.history_] == list(range(1, len(fitted.history_) + 1))
    assert {"train_loss", "accuracy", "seconds"} <= set(fitted.history_[-1])
    assert max(record["accuracy"] for record in fitted.history_) > 0.8


def test_parameters_go_before_settings_and_settings_before_defaults(tmp_path):
    """Every parameter reaches its setting; what is not given is the default of `Settings`."""
    texts, labels = toy_texts(40)
    path = tmp_path / "recipe.yaml"
    path.write_text("encoder: {cell: elman, hidden_size: 3, bidirectional: false}\ntraining: {epochs: 1}\ndata: {test_share: 0.5}\n")
    for settings in (path, str(path), load_settings(path), {"encoder": {"cell": "elman", "bidirectional": False}, "training.epochs": 1}):
        chosen = RecurrentClassifier(hidden_size=4, settings=settings).fit(texts, labels).model_.settings
        assert (chosen.encoder.cell, chosen.encoder.hidden_size, chosen.encoder.bidirectional) == ("elman", 4, False)
        assert chosen.embedding == Settings().embedding
        assert chosen.data.test_share == 0.0
    assert (
        {*PARAMETERS, "settings", "random_state", "verbose"}
        == set(RecurrentClassifier().get_params())
        == set(RecurrentRegressor().get_params())
    )
    assert all(value is None for name, value in RecurrentClassifier().get_params().items() if name != "verbose")
    for setting in PARAMETERS.values():
        group, name = setting.split(".")
        assert name in type(getattr(Settings(), group)).model_fields


def test_settings_that_are_wrong():
    texts, labels = toy_texts(20)
    with pytest.raises(SettingsError, match=r"encoder\.cell"):
        RecurrentClassifier(cell="lstn").fit(texts, labels)
    with pytest.raises(SettingsError, match=r"Did you mean 'encoder\.hidden_size'"):
        RecurrentClassifier(settings={"encoder.hiden_size": 3}).fit(texts, labels)
    with pytest.raises(SettingsError, match=r"training\.seed"):
        RecurrentClassifier(random_state=-1).fit(texts, labels)


@pytest.mark.parametrize("method", ["predict", "predict_proba", "decision_function"])
def test_before_fit(method):
    with pytest.raises(NotFittedError):
        getattr(RecurrentClassifier(), method)(["a text"])


@pytest.mark.parametrize(
    ("X", "y", "error", "message"),
    [
        (["a", "b", "c"], ["x", "y"], ValueError, "inconsistent numbers of samples"),
        (["a", "b", "c"], ["x", "x", "x"], ValueError, r"one class only, \['x'\]"),
        (["a", "b", "c"], ["x", None, "y"], ValueError, "NaN or None, first in row 1"),
        (["a", "b", "c"], [0.5, 0.7, 0.1], ValueError, "Unknown label type"),
        (["a", "b", "c"], None, ValueError, "y to be passed"),
        (["a", 2, "c"], [0, 1, 0], TypeError, "row 1 is of type int"),
        ([["a"], "b", ["c"]], [0, 1, 0], TypeError, "row 1 is no list of strings: 'b'"),
        ([["a"], [2], ["c"]], [0, 1, 0], TypeError, "row 1 is no list of strings"),
        ("a text", ["x"], ValueError, "give a list of texts"),
        ([], [], ValueError, "Expected 2D array"),
        ([None, None], [0, 1], ValueError, "Expected 2D array"),
        ([1.0, 2.0], [0, 1], ValueError, "Expected 2D array"),
        ([[1.0, 2.0], [1.0]], [0, 1], ValueError, "inhomogeneous"),
        (np.zeros((4, 3, 2)), [0, 1, 0, 1], ValueError, "3"),
        (csr_array(np.eye(4)), [0, 1, 0, 1], TypeError, "[Ss]parse"),
        (pd.DataFrame({"text": []}), [], ValueError, "0 sample"),
        (pd.DataFrame([["x", "y"], ["z", "y"]], columns=["a", "a"]), [0, 1], ValueError, "several columns of one name"),
        (pd.DataFrame({"a": [1, 2, 3]}), [[0], [1], [0]], DataConversionWarning, "column-vector"),
        (["a b", "c d"], ["x", "y"], DataError, "every class must keep a row to train on"),
    ],
)
def test_what_cannot_be_fitted(X, y, error, message):
    with pytest.raises(error, match=message):
        RecurrentClassifier(**QUICK).fit(X, y)


def test_what_cannot_be_predicted(fitted):
    with pytest.raises(ValueError, match="was fitted on texts, but X holds token lists"):
        fitted.predict([["a", "b"]])
    with pytest.raises(ValueError, match="Expected 2D array"):
        fitted.predict([])
    frame = pd.DataFrame({"text": ["good", "bad"] * 20, "price": np.arange(40.0)})
    classifier = RecurrentClassifier(**{**QUICK, "epochs": 1}).fit(frame, [0, 1] * 20)
    with pytest.raises(RowError, match=r"row 2|:2"):
        classifier.predict(pd.DataFrame({"text": ["good", "bad"], "price": [1.0, "dear"]}))
    with pytest.raises(ValueError, match="feature names"):
        classifier.predict(frame[["text"]])


def test_an_interruption_ends_a_grid_search_too(monkeypatch):
    """scikit-learn takes an ordinary error for a failed fit and goes on with the next one."""

    def interrupted(*args, **kwargs):
        raise TrainingInterrupted("Training was stopped.")

    monkeypatch.setattr("recurra.estimators.estimator.train", interrupted)
    texts, labels = toy_texts(20)
    with pytest.raises(KeyboardInterrupt):
        GridSearchCV(RecurrentClassifier(), {"layers": [1, 2]}, cv=2).fit(texts, labels)


def test_nothing_is_held_out_where_the_share_is_zero():
    texts, labels = toy_texts(20)
    classifier = RecurrentClassifier(**{**QUICK, "epochs": 1, "validation_share": 0.0}).fit(texts, labels)
    assert classifier.model_.run["data"]["rows"] == {"train": 20}


def test_the_examples_of_the_docstrings():
    import doctest

    from recurra.estimators import classifier, regressor

    outcomes = [doctest.testmod(module) for module in (classifier, regressor)]
    assert [outcome.failed for outcome in outcomes] == [0, 0]
    assert sum(outcome.attempted for outcome in outcomes) >= 7
