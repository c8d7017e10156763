"""Scikit-learn estimators: a recurrent network inside `cross_val_score`, `GridSearchCV` and `Pipeline`.

Here: what scikit-learn hands over (arrays, lists, frames) as a table, and a model's outputs as scikit-learn wants them.
Not here: the training itself, which is `recurra.train`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, Self

import numpy as np
import polars as pl
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.utils import check_array, check_consistent_length, check_random_state, column_or_1d
from sklearn.utils.multiclass import check_classification_targets, type_of_target
from sklearn.utils.validation import check_is_fitted, validate_data

from recurra.config import Settings, load_settings
from recurra.data.read import read
from recurra.errors import TrainingInterrupted
from recurra.heads import ClassifyHead, LabelsHead
from recurra.metrics.labels import predicted_labels
from recurra.model.encode import encode_columns, usable_rows
from recurra.model.inference import run_network
from recurra.model.model import CHUNK, Model
from recurra.training.seeds import random_state as generator_states
from recurra.training.seeds import restore_random_state
from recurra.training.train import print_line, train

__all__ = ["RecurrentClassifier", "RecurrentRegressor"]

PARAMETERS = {
    "tokenizer": "text.tokenizer",
    "vocabulary_size": "text.vocabulary_size",
    "min_frequency": "text.min_frequency",
    "max_length": "text.max_length",
    "embedding_size": "embedding.size",
    "embedding_dropout": "embedding.dropout",
    "cell": "encoder.cell",
    "hidden_size": "encoder.hidden_size",
    "layers": "encoder.layers",
    "bidirectional": "encoder.bidirectional",
    "pooling": "encoder.pooling",
    "head_dropout": "head.dropout",
    "optimizer": "optimizer.name",
    "learning_rate": "optimizer.learning_rate",
    "weight_decay": "optimizer.weight_decay",
    "epochs": "training.epochs",
    "patience": "training.patience",
    "batch_size": "training.batch_size",
    "validation_share": "data.validation_share",
    "device": "training.device",
}
"""The setting behind each parameter."""
QUIET = {"logging.tensorboard": False, "training.gradient_flow_batches": 0, "evaluation.bootstrap_samples": 0}
"""What is measured and written for a report, which a fit does not have; `settings` may ask for it."""
ALWAYS = {"data.test_share": 0.0, "evaluation.baselines": False}
"""A fit uses all its rows, and scikit-learn does the comparing."""
LOWEST = float(np.finfo(np.float32).min)
"""Decision value of a class without a training row."""

Kind = Literal["texts", "token lists", "numbers", "columns of several types"]


class _Inputs(NamedTuple):
    """What scikit-learn handed over, as a table."""

    kind: Kind
    frame: pl.DataFrame


class _Target(NamedTuple):
    """The target as a column of that table."""

    values: pl.Series
    task: Literal["classify", "labels", "regress"]


class _RecurrentEstimator(BaseEstimator):  # type: ignore[misc] # scikit-learn has no types
    """What both estimators share: parameters, inputs, training, outputs."""

    _kind: Kind
    _columns: list[str]

    def __init__(
        self,
        *,
        tokenizer: str | None = None,
        vocabulary_size: int | None = None,
        min_frequency: int | None = None,
        max_length: int | None = None,
        embedding_size: int | None = None,
        embedding_dropout: float | None = None,
        cell: str | None = None,
        hidden_size: int | None = None,
        layers: int | None = None,
        bidirectional: bool | None = None,
        pooling: str | None = None,
        head_dropout: float | None = None,
        optimizer: str | None = None,
        learning_rate: float | Literal["auto"] | None = None,
        weight_decay: float | None = None,
        epochs: int | None = None,
        patience: int | None = None,
        batch_size: int | None = None,
        validation_share: float | None = None,
        device: str | None = None,
        settings: Settings | dict[str, Any] | str | Path | None = None,
        random_state: int | np.random.RandomState | None = None,
        verbose: bool = False,
    ) -> None:
        """Take the parameters as they are; `fit` checks them. None is what `settings` has, or else the default of `recurra.Settings`.

        Args:
            tokenizer: auto, word, character, bpe, whitespace or jieba (`text.tokenizer`).
            vocabulary_size: most tokens kept (`text.vocabulary_size`).
            min_frequency: tokens seen less often are unknown (`text.min_frequency`): 1 for small data.
            max_length: tokens of one text that are read (`text.max_length`).
            embedding_size: features of a token's vector (`embedding.size`).
            embedding_dropout: share of an embedded step set to zero in training (`embedding.dropout`).
            cell: elman, elman_relu, lstm or gru (`encoder.cell`).
            hidden_size: units of a layer and direction (`encoder.hidden_size`).
            layers: layers on top of each other (`encoder.layers`).
            bidirectional: read from both ends (`encoder.bidirectional`).
            pooling: last, mean, max or attention (`encoder.pooling`).
            head_dropout: share of the vector before the output set to zero in training (`head.dropout`).
            optimizer: its name in torch.optim (`optimizer.name`).
            learning_rate: step size at its largest, or "auto" to find it (`optimizer.learning_rate`).
            weight_decay: decay of the weight matrices (`optimizer.weight_decay`).
            epochs: most passes over the training rows (`training.epochs`).
            patience: epochs without improvement before training stops (`training.patience`).
            batch_size: most rows of a batch (`training.batch_size`).
            validation_share: share of the rows given to `fit` that selects the model (`data.validation_share`); 0 trains on all.
            device: auto, cpu, cuda or mps (`training.device`).
            settings: all other settings: a dictionary (`{"head.class_weights": "balanced"}`), a `Settings`, or the path of a
                YAML file. The parameters above go before it.
            random_state: seed of the validation rows, the initial weights, the order of the batches and all noise. None is
                `training.seed`, so that two fits on the same data give the same model.
            verbose: show the course of the training on standard error.
        """
        self.tokenizer = tokenizer
        self.vocabulary_size = vocabulary_size
        self.min_frequency = min_frequency
        self.max_length = max_length
        self.embedding_size = embedding_size
        self.embedding_dropout = embedding_dropout
        self.cell = cell
        self.hidden_size = hidden_size
        self.layers = layers
        self.bidirectional = bidirectional
        self.pooling = pooling
        self.head_dropout = head_dropout
        self.optimizer = optimizer
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.epochs = epochs
        self.patience = patience
        self.batch_size = batch_size
        self.validation_share = validation_share
        self.device = device
        self.settings = settings
        self.random_state = random_state
        self.verbose = verbose

    def __sklearn_tags__(self) -> Any:
        """Texts, and missing numbers. One-dimensional input is texts only, so that the tag for it, which means numbers, stays off."""
        tags = super().__sklearn_tags__()
        tags.input_tags.string = True
        tags.input_tags.allow_nan = True
        return tags

    def _inputs(self, X: Any, *, reset: bool) -> _Inputs:
        """`X` as a table; with `reset` its columns are remembered, without they are checked.

        Raises:
            ValueError: the shape is wrong, a number is infinite, or the columns are not those of `fit`.
            TypeError: a value is of the wrong kind.
        """
        found = _sequences(X, None if reset else self._kind)
        if found is not None and reset:
            for name in ("n_features_in_", "feature_names_in_"):
                self.__dict__.pop(name, None)
        if found is None:
            found = self._table(X, reset=reset)
        if reset:
            self._kind = found.kind
        elif found.kind != self._kind:
            raise ValueError(f"{type(self).__name__} was fitted on {self._kind}, but X holds {found.kind}: give what fit got.")
        return found

    def _table(self, X: Any, *, reset: bool) -> _Inputs:
        """Columns of numbers, or of several types."""
        frame = _mixed_columns(X)
        numbers = frame is None or all(dtype.is_numeric() for dtype in frame.dtypes)
        if not reset and self._kind == "columns of several types" and frame is not None:
            numbers = False  # a column that happens to hold no text this time
        if numbers:
            values = validate_data(self, X, reset=reset, dtype=np.float64, ensure_all_finite="allow-nan")
            return _Inputs("numbers", pl.DataFrame({name: values[:, i] for i, name in enumerate(self._names(values.shape[1]))}))
        assert frame is not None
        if not len(frame):
            raise ValueError(f"Found array with 0 sample(s) (shape={frame.shape}) while a minimum of 1 is required.")
        validate_data(self, X, reset=reset, skip_check_array=True)
        for column in frame:
            if column.dtype.is_float() and column.is_infinite().any():
                raise ValueError(f"Input X contains infinity in column {column.name!r}.")
        if not reset:
            frame.columns = self._columns
        return _Inputs("columns of several types", frame)

    def _names(self, count: int) -> list[str]:
        names = getattr(self, "feature_names_in_", None)
        return [f"x{i}" for i in range(count)] if names is None else [str(name) for name in names]

    def _train(self, inputs: _Inputs, target: _Target) -> None:
        """Train a model on a table and keep it."""
        settings = self._settings(inputs, target)
        assert settings.target is not None
        table = inputs.frame.with_columns(target.values.alias(settings.target))
        states = generator_states()
        try:
            self.model_: Model = train(table, settings=settings, show=print_line if self.verbose else None)
        except TrainingInterrupted as interruption:
            raise KeyboardInterrupt(str(interruption)) from interruption  # or a grid search would go on with the next fit
        finally:
            restore_random_state(states)
        self._columns = inputs.frame.columns
        self.history_: list[dict[str, float]] = self.model_.run["training"]["history"]

    def _settings(self, inputs: _Inputs, target: _Target) -> Settings:
        """Settings of a fit, from `settings`, the parameters and the form of X and y."""
        given = {path: _plain(getattr(self, name)) for name, path in PARAMETERS.items() if getattr(self, name) is not None}
        if self.random_state is not None:
            state = _plain(self.random_state)
            given["training.seed"] = state if isinstance(state, int) else int(check_random_state(state).randint(2**31 - 1))
        chosen = load_settings(QUIET, self.settings, given)
        types = {**_types(inputs), **chosen.data.types}
        # a rare label that only a validation row has cannot be learnt: that row is left out
        rare = {"data.on_error": "skip"} if target.task == "labels" else None
        name = target.values.name or chosen.target or "target"
        while name in inputs.frame.columns or name in chosen.data.join:
            name += "_"
        return load_settings(chosen, ALWAYS, rare, {"target": name, "head.task": target.task, "data.types": types})

    def _outputs(self, X: Any) -> np.ndarray:
        """(N, C) outputs of the network."""
        check_is_fitted(self, "model_")
        model = self.model_
        table = read(self._inputs(X, reset=False).frame, join=model.settings.data.join)
        parts: list[np.ndarray] = []
        start = 0
        for frame in table.chunks(size=CHUNK):
            usable_rows(table, frame, range(start, start + len(frame)), columns=model.features, on_error="fail")
            parts.append(run_network(model.network, encode_columns(frame, model.features), model.settings.training))
            start += len(frame)
        return np.concatenate(parts)


class RecurrentClassifier(ClassifierMixin, _RecurrentEstimator):  # type: ignore[misc]
    """A recurrent network that tells classes apart, as a scikit-learn classifier.

    `X` is one of

    - texts: a list, one-dimensional array or Series of strings (None is a missing text),
    - token lists: a list, array or Series of lists of strings, of any lengths,
    - numbers: a two-dimensional array or a frame of numbers; each column is a number feature, NaN is a missing number,
    - columns: a frame (pandas, polars, Arrow) or a two-dimensional array of several types; numbers are number features, and
      what text columns are (text or category) is inferred from the rows given to `fit` or set: `settings={"data.types": {"title": "text"}}`.

    `y` is one class a row (strings, whole numbers, booleans), or an indicator matrix (N, C) of zeros and ones for several
    labels at once. Nothing is left on the disk. There are no sample weights; class weights are the setting `head.class_weights`.
    For the parameters see `__init__`.

    Attributes:
        classes_: the classes, in the order of the columns of `predict_proba`; of an indicator matrix the numbers of its
            columns, or their names where it is a frame.
        model_: the trained `recurra.Model`; `model_.save(folder)` writes a model folder. Its labels are the classes.
        history_: one record an epoch: train_loss, learning_rate, seconds, and the metrics of the validation rows.
        n_features_in_: columns of X, where it is two-dimensional.
        feature_names_in_: their names, where X is a frame.

    Example:
        >>> from recurra import RecurrentClassifier
        >>> texts = ["good", "very good", "so good", "bad", "very bad", "so bad"] * 10
        >>> classifier = RecurrentClassifier(hidden_size=8, epochs=5, learning_rate=0.03, random_state=0)
        >>> classifier.fit(texts, ["yes", "yes", "yes", "no", "no", "no"] * 10).predict(["good", "so very bad"]).tolist()
        ['yes', 'no']
    """

    classes_: np.ndarray

    def __sklearn_tags__(self) -> Any:
        """One class of several, or several labels."""
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags

    def fit(self, X: Any, y: Any) -> Self:
        """Train on rows and their classes.

        Args:
            X: see the class.
            y: (N,) classes, or (N, C) zeros and ones.

        Raises:
            ValueError: a shape is wrong, X and y differ in length, a class is missing, or there is only one class.
            TypeError: a value of X is of the wrong kind.
            RecurraError: a setting is wrong, there are too few rows to hold out validation rows, or training failed.
        """
        inputs = self._inputs(X, reset=True)
        _require_target(y)
        several = type_of_target(y, input_name="y") == "multilabel-indicator"
        if several:
            matrix = check_array(y, accept_sparse=True, dtype=None, input_name="y")
            classes, target = _label_target(matrix, getattr(y, "columns", range(matrix.shape[1])))
        else:
            classes, target = _class_target(y)
        check_consistent_length(inputs.frame, target.values)
        self._train(inputs, target)
        self.classes_ = classes
        self._indicator: np.dtype[Any] | None = matrix.dtype if several else None
        names = [str(name) for name in classes] if several else _label_texts(classes)
        head = self.model_.head
        assert isinstance(head, (ClassifyHead, LabelsHead))
        self._order = [names.index(name) for name in head.labels.names]
        return self

    def predict(self, X: Any) -> np.ndarray:
        """(N,) the most probable class of each row, or (N, C) zeros and ones.

        Raises:
            NotFittedError: `fit` was not called.
            ValueError: X is not of the form that `fit` got.
        """
        probabilities = self.predict_proba(X)
        if self._indicator is not None:
            return predicted_labels(probabilities).astype(self._indicator)
        chosen: np.ndarray = self.classes_[probabilities.argmax(axis=1)]
        return chosen

    def predict_proba(self, X: Any) -> np.ndarray:
        """(N, C) probabilities in the order of `classes_`; of several labels each for itself. Raises as `predict` does."""
        outputs = self._outputs(X)
        return self._by_class(self.model_.head.probabilities(outputs), missing=0.0)

    def decision_function(self, X: Any) -> np.ndarray:
        """(N, C) outputs before the softmax (the sigmoid of several labels); with two classes (N,), their difference. Raises as `predict` does."""
        outputs = self._by_class(self._outputs(X).astype(np.float64), missing=LOWEST)
        if len(self.classes_) == 2 and self._indicator is None:
            return np.asarray(outputs[:, 1] - outputs[:, 0])
        return outputs

    def _by_class(self, values: np.ndarray, *, missing: float) -> np.ndarray:
        """Columns in the order of `classes_`, `missing` where the training part had no row of the class."""
        ordered = np.full((len(values), len(self.classes_)), missing)
        ordered[:, self._order] = values
        return ordered


class RecurrentRegressor(RegressorMixin, _RecurrentEstimator):  # type: ignore[misc]
    """A recurrent network that predicts a number, as a scikit-learn regressor.

    `X`, the parameters, `model_`, `history_`, `n_features_in_` and `feature_names_in_` are as for `RecurrentClassifier`; `y` is
    a number a row.

    Example:
        >>> from recurra import RecurrentRegressor
        >>> texts = ["good", "very good", "very very good", "bad", "very bad", "very very bad"] * 10
        >>> regressor = RecurrentRegressor(hidden_size=8, epochs=20, learning_rate=0.03, random_state=0)
        >>> regressor.fit(texts, [1.0, 2.0, 3.0, -1.0, -2.0, -3.0] * 10).score(texts, [1.0, 2.0, 3.0, -1.0, -2.0, -3.0] * 10) > 0.5
        True
    """

    def fit(self, X: Any, y: Any) -> Self:
        """Train on rows and their numbers.

        Args:
            X: see `RecurrentClassifier`.
            y: (N,) finite numbers.

        Raises:
            ValueError: a shape is wrong, X and y differ in length, or a target is no finite number.
            TypeError: a value of X is of the wrong kind.
            RecurraError: a setting is wrong, all targets are equal, there are too few rows to hold out validation rows, or
                training failed.
        """
        inputs = self._inputs(X, reset=True)
        target = _number_target(y)
        check_consistent_length(inputs.frame, target.values)
        self._train(inputs, target)
        return self

    def predict(self, X: Any) -> np.ndarray:
        """(N,) the number predicted for each row.

        Raises:
            NotFittedError: `fit` was not called.
            ValueError: X is not of the form that `fit` got.
        """
        outputs = self._outputs(X)
        return self.model_.head.probabilities(outputs)


def _sequences(X: Any, expected: Kind | None) -> _Inputs | None:
    """Texts or token lists as a frame of one column; None where X is neither. `expected` decides where no row has anything in it.

    Raises:
        ValueError: X is one text.
        TypeError: some rows are texts or token lists, and others are not.
    """
    if isinstance(X, str):
        raise ValueError(f"X is one text, {X[:60]!r}: give a list of texts.")  # noqa: TRY004 - as scikit-learn does for one row
    if hasattr(X, "columns") or len(getattr(X, "shape", (0,))) != 1 or not hasattr(X, "__len__"):
        return None
    if not isinstance(X, (list, tuple)):
        X = X.to_list() if hasattr(X, "to_list") else X.tolist() if hasattr(X, "tolist") else X
    rows = [None if _is_missing(row) else row for row in X]
    first: Any = next((row for row in rows if row is not None and not (_is_list(row) and not len(row))), None)
    nothing = first is None and bool(rows)
    if isinstance(first, str) or (nothing and expected == "texts"):
        wrong = next((i for i, row in enumerate(rows) if not (row is None or isinstance(row, str))), None)
        if wrong is not None:
            raise TypeError(f"X holds texts, but row {wrong} is of type {type(rows[wrong]).__name__}: every row must be a text or None.")
        return _Inputs("texts", pl.DataFrame({"text": pl.Series([None if row is None else str(row) for row in rows], dtype=pl.String)}))
    if (_is_list(first) and any(isinstance(token, str) for token in first)) or (nothing and expected == "token lists"):
        return _Inputs("token lists", pl.DataFrame({"tokens": pl.Series(list(_token_rows(rows)), dtype=pl.List(pl.String))}))
    return None


def _token_rows(rows: Iterable[Any]) -> Iterable[list[str] | None]:
    for number, row in enumerate(rows):
        if row is not None and not (_is_list(row) and all(isinstance(token, str) for token in row)):
            raise TypeError(f"X holds token lists, but row {number} is no list of strings: {str(row)[:60]!r}.")
        yield None if row is None else [str(token) for token in row]


def _is_list(value: Any) -> bool:
    return isinstance(value, (list, tuple)) or (isinstance(value, np.ndarray) and value.ndim == 1)


def _is_missing(value: Any) -> bool:
    """None, NaN, or pandas' NA."""
    return value is None or (isinstance(value, float) and np.isnan(value)) or type(value).__name__ == "NAType"


def _mixed_columns(X: Any) -> pl.DataFrame | None:
    """A frame, or a two-dimensional array with texts in it, as a polars frame; None where X is neither.

    Raises:
        ValueError: several columns have one name.
        TypeError: a cell of an array is neither text nor a number.
    """
    if hasattr(X, "columns"):
        if not len(X) or not len(X.columns):
            return None
        names = [str(name) for name in (X.column_names if hasattr(X, "column_names") else X.columns)]
        if len(set(names)) < len(names):
            raise ValueError(f"X has several columns of one name: {', '.join(names)}. Rename them.")
        return pl.concat(list(read(X).chunks()))
    if len(getattr(X, "shape", ())) != 2 or getattr(X.dtype, "kind", "") not in "OUT":
        return None
    values = np.asarray(X, dtype=object)
    if not values.size or not any(isinstance(cell, str) for cell in values.flat):
        return None
    wrong = next((cell for cell in values.flat if not (_is_missing(cell) or isinstance(cell, (str, bool, int, float, np.generic)))), None)
    if wrong is not None:
        raise TypeError(f"A cell of X must be a string or a number, not {type(wrong).__name__}.")
    columns = {f"x{i}": [None if _is_missing(cell) else _plain(cell) for cell in values[:, i]] for i in range(values.shape[1])}
    return pl.concat(list(read(columns).chunks()))


def _types(inputs: _Inputs) -> dict[str, str]:
    """Types of the columns, where they are not left to be inferred."""
    if inputs.kind == "texts":
        return {"text": "text"}
    if inputs.kind == "token lists":
        return {"tokens": "tokens"}
    numbers = [column for column in inputs.frame if column.dtype.is_numeric()]
    return {column.name: "ignore" if column.fill_nan(None).is_null().all() else "number" for column in numbers}


def _require_target(y: Any) -> None:
    """Raise ValueError where `y`, or a value of it, is missing."""
    if y is None:
        raise ValueError("This estimator requires y to be passed, but the target y is None.")
    values = np.asarray(y, dtype=object) if not hasattr(y, "toarray") else np.empty(0)
    if values.ndim == 1:
        missing = [row for row, value in enumerate(values.tolist()) if _is_missing(value)]
        if missing:
            raise ValueError(f"Input y contains NaN or None, first in row {missing[0]}: every row needs a target.")


def _class_target(y: Any) -> tuple[np.ndarray, _Target]:
    """Classes, and a target column of them.

    Raises:
        ValueError: they are no classes, or there is only one.
    """
    name, y = _name(y), column_or_1d(y, warn=True)
    check_classification_targets(y)
    classes, numbers = np.unique(y, return_inverse=True)
    if len(classes) < 2:
        raise ValueError(f"y holds one class only, {classes[:1].tolist()}: a classifier needs rows of two classes or more.")
    return classes, _Target(_label_column(classes).gather(numbers).alias(name), "classify")


def _number_target(y: Any) -> _Target:
    """A target column of numbers.

    Raises:
        ValueError: there are no two of them, or one is missing or infinite.
    """
    _require_target(y)
    values = column_or_1d(check_array(y, ensure_2d=False, dtype=np.float64, input_name="y"), warn=True)
    if len(values) < 2:
        raise ValueError("Found array with 1 sample(s): a minimum of 2 is required.")
    return _Target(pl.Series(_name(y), values), "regress")


def _label_column(classes: np.ndarray) -> pl.Series:
    """The classes as the model's labels: in their own type where a label can have it, else as texts, else numbered."""
    if classes.dtype.kind in "bi" or (classes.dtype.kind == "u" and int(classes.max()) < 2**63):
        return pl.Series(classes.tolist(), dtype=pl.Boolean if classes.dtype.kind == "b" else pl.Int64)
    texts = [str(value) for value in classes.tolist()]
    if len({text.strip() for text in texts} - {""}) < len(texts):
        return pl.Series(range(len(texts)), dtype=pl.Int64)
    return pl.Series(texts, dtype=pl.String)


def _label_texts(classes: np.ndarray) -> Sequence[str]:
    """How the model's head names each class."""
    texts: Sequence[str] = _label_column(classes).cast(pl.String).str.strip_chars().to_list()
    return texts


def _label_target(matrix: Any, names: Iterable[Any]) -> tuple[np.ndarray, _Target]:
    """Labels of an indicator matrix, and a target column of lists of them."""
    classes = np.asarray(list(names))
    dense = matrix.toarray() if hasattr(matrix, "toarray") else matrix
    rows = [[str(label) for label in classes[np.flatnonzero(row)]] for row in dense]
    return classes, _Target(pl.Series("", rows, dtype=pl.List(pl.String)), "labels")


def _name(y: Any) -> str:
    """The name of a Series; empty where there is none."""
    name = getattr(y, "name", None)
    return name if isinstance(name, str) else ""


def _plain(value: Any) -> Any:
    """A numpy scalar, as parameter grids hold them, as a Python value."""
    return value.item() if isinstance(value, np.generic) else value
