"""Scikit-learn estimators: a recurrent network inside `cross_val_score`, `GridSearchCV` and `Pipeline`.

Here: what scikit-learn hands over (arrays, lists, frames) as a table, and a model's outputs as scikit-learn wants them.
Not here: the training itself, which is `recurra.train`.
"""

from __future__ import annotations

from recurra.estimators.classifier import RecurrentClassifier
from recurra.estimators.regressor import RecurrentRegressor

__all__ = ["RecurrentClassifier", "RecurrentRegressor"]
