"""The scikit-learn regressor."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from sklearn.base import RegressorMixin
from sklearn.utils import check_consistent_length

from recurra.estimators.estimator import RecurrentEstimator
from recurra.estimators.targets import number_target
from recurra.heads import RegressHead

__all__ = ["RecurrentRegressor"]


class RecurrentRegressor(RegressorMixin, RecurrentEstimator):  # type: ignore[misc]
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
        target = number_target(y)
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
        head = self.model_.head
        assert isinstance(head, RegressHead)
        return head.probabilities(outputs)
