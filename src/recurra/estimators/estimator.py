"""What the classifier and the regressor share: parameters, inputs, training, outputs."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl
from sklearn.base import BaseEstimator
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from recurra.config import Settings, load_settings
from recurra.data.read import read
from recurra.errors import SettingsError, TrainingInterrupted
from recurra.estimators.inputs import Inputs, Kind, column_types, mixed_columns, plain, sequences
from recurra.estimators.targets import Target
from recurra.model.encode import encode_columns, usable_rows
from recurra.model.inference import run_network
from recurra.model.model import CHUNK, Model
from recurra.training.train import print_line, train

__all__ = ["PARAMETERS", "RecurrentEstimator"]

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


class RecurrentEstimator(BaseEstimator):  # type: ignore[misc] # scikit-learn has no types
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
            cell: lstm, gru, elman or another (`encoder.cell`).
            hidden_size: units of a layer and direction (`encoder.hidden_size`).
            layers: layers on top of each other (`encoder.layers`).
            bidirectional: read from both ends (`encoder.bidirectional`).
            pooling: last, mean, max, max_mean or attention (`encoder.pooling`).
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

    def _inputs(self, X: Any, *, reset: bool) -> Inputs:
        """`X` as a table; with `reset` its columns are remembered, without they are checked.

        Raises:
            ValueError: the shape is wrong, a number is infinite, or the columns are not those of `fit`.
            TypeError: a value is of the wrong kind.
        """
        found = sequences(X, None if reset else self._kind)
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

    def _table(self, X: Any, *, reset: bool) -> Inputs:
        """Columns of numbers, or of several types."""
        frame = mixed_columns(X)
        numbers = frame is None or all(dtype.is_numeric() for dtype in frame.dtypes)
        if not reset and self._kind == "columns of several types" and frame is not None:
            numbers = False  # a column that happens to hold no text this time
        if numbers:
            values = validate_data(self, X, reset=reset, dtype=np.float64, ensure_all_finite="allow-nan")
            return Inputs("numbers", pl.DataFrame({name: values[:, i] for i, name in enumerate(self._names(values.shape[1]))}))
        assert frame is not None
        if not len(frame):
            raise ValueError(f"Found array with 0 sample(s) (shape={frame.shape}) while a minimum of 1 is required.")
        validate_data(self, X, reset=reset, skip_check_array=True)
        for column in frame:
            if column.dtype.is_float() and column.is_infinite().any():
                raise ValueError(f"Input X contains infinity in column {column.name!r}.")
        if not reset:
            frame.columns = self._columns
        return Inputs("columns of several types", frame)

    def _names(self, count: int) -> list[str]:
        names = getattr(self, "feature_names_in_", None)
        return [f"x{i}" for i in range(count)] if names is None else [str(name) for name in names]

    def _train(self, inputs: Inputs, target: Target) -> None:
        """Train a model on a table and keep it."""
        settings = self._settings(inputs, target)
        assert settings.target is not None
        table = inputs.frame.with_columns(target.values.alias(settings.target))
        try:
            model = train(table, settings=settings, show=print_line if self.verbose else None)
        except TrainingInterrupted as interruption:
            raise KeyboardInterrupt(str(interruption)) from interruption  # or a grid search would go on with the next fit
        assert isinstance(model, Model), "X and y are rows with a target"
        self.model_ = model
        self._columns = inputs.frame.columns
        self.history_: list[dict[str, float]] = self.model_.run["training"]["history"]

    def _settings(self, inputs: Inputs, target: Target) -> Settings:
        """Settings of a fit, from `settings`, the parameters and the form of X and y."""
        given = {path: plain(getattr(self, name)) for name, path in PARAMETERS.items() if getattr(self, name) is not None}
        if self.random_state is not None:
            state = plain(self.random_state)
            given["training.seed"] = state if isinstance(state, int) else int(check_random_state(state).randint(2**31 - 1))
        chosen = load_settings(QUIET, self.settings, given)
        if chosen.out_of_scope.label is not None:
            raise SettingsError("An estimator gives every row one of the classes of y: out_of_scope is for recurra.train. Leave it out.")
        types = {**column_types(inputs), **chosen.data.types}
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
            found = run_network(model.network, encode_columns(frame, model.features), model.settings.training)
            assert isinstance(found, np.ndarray)
            parts.append(found)
            start += len(frame)
        return np.concatenate(parts)
