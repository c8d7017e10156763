"""The scikit-learn classifier."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from sklearn.base import ClassifierMixin
from sklearn.utils import check_array, check_consistent_length
from sklearn.utils.multiclass import type_of_target

from recurra.estimators.estimator import RecurrentEstimator
from recurra.estimators.targets import class_target, label_target, label_texts, require_target
from recurra.heads import ClassifyHead, LabelsHead
from recurra.metrics.labels import predicted_labels

__all__ = ["RecurrentClassifier"]

LOWEST = float(np.finfo(np.float32).min)
"""Decision value of a class without a training row."""


class RecurrentClassifier(ClassifierMixin, RecurrentEstimator):  # type: ignore[misc]
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
        require_target(y)
        several = type_of_target(y, input_name="y") == "multilabel-indicator"
        if several:
            matrix = check_array(y, accept_sparse=True, dtype=None, input_name="y")
            classes, target = label_target(matrix, getattr(y, "columns", range(matrix.shape[1])))
        else:
            classes, target = class_target(y)
        check_consistent_length(inputs.frame, target.values)
        self._train(inputs, target)
        self.classes_ = classes
        self._indicator: np.dtype[Any] | None = matrix.dtype if several else None
        names = [str(name) for name in classes] if several else label_texts(classes)
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
        head = self.model_.head
        assert isinstance(head, (ClassifyHead, LabelsHead))
        return self._by_class(head.probabilities(outputs), missing=0.0)

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
