"""Recurrent networks for sequences: from a table to a trained, evaluated, usable model.

>>> import recurra
>>> model = recurra.train("tickets.csv", target="intent", output="runs/tickets")  # doctest: +SKIP
>>> model.predict("my card was swallowed")  # doctest: +SKIP

Names are loaded when they are first used, so that importing the package costs nothing.
"""

from __future__ import annotations

import importlib
import importlib.metadata
from typing import TYPE_CHECKING, Any

_HOMES = {
    "Model": "recurra.model.model",
    "Forecaster": "recurra.model.forecast.forecaster",
    "Recommender": "recurra.model.recommend.model",
    "RecurraError": "recurra.errors",
    "RecurrentClassifier": "recurra.estimators",
    "RecurrentRegressor": "recurra.estimators",
    "Settings": "recurra.config",
    "Translator": "recurra.model.translate.model",
    "accelerate": "recurra.layers.acceleration",
    "backtest": "recurra.training.forecast.backtest",
    "load": "recurra.model.load",
    "load_settings": "recurra.config",
    "train": "recurra.training.train",
}

__all__ = [
    "Model",
    "Forecaster",
    "Recommender",
    "RecurraError",
    "RecurrentClassifier",
    "RecurrentRegressor",
    "Settings",
    "Translator",
    "__version__",
    "accelerate",
    "backtest",
    "load",
    "load_settings",
    "train",
]

if TYPE_CHECKING:
    __version__: str
    from recurra.config import Settings, load_settings
    from recurra.errors import RecurraError
    from recurra.estimators import RecurrentClassifier, RecurrentRegressor
    from recurra.layers.acceleration import accelerate
    from recurra.model.forecast.forecaster import Forecaster
    from recurra.model.load import load
    from recurra.model.model import Model
    from recurra.model.recommend.model import Recommender
    from recurra.model.translate.model import Translator
    from recurra.training.forecast.backtest import backtest
    from recurra.training.train import train


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return importlib.metadata.version("recurra")
    if name not in _HOMES:
        raise AttributeError(f"module 'recurra' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
