"""Every setting of a run: the only home of defaults.

One tree of pydantic models. It is read from a YAML file, from `--set encoder.hidden_size=256` and from Python
dictionaries, saved in every model folder, and exported as a JSON schema for editors (`recurra settings --schema`).
Unknown keys are errors with the nearest name. This room knows no other room but the errors.
"""

from __future__ import annotations

from recurra.config.answer import AnswerSettings
from recurra.config.forecast import ForecastSettings
from recurra.config.group import ColumnType
from recurra.config.inputs import AugmentationSettings, DataSettings, EmbeddingSettings, TextSettings
from recurra.config.language import LanguageSettings
from recurra.config.network import EncoderSettings, HeadSettings
from recurra.config.out_of_scope import OutOfScopeSettings
from recurra.config.reading import load_settings, parse_assignment, saved_settings
from recurra.config.recommend import RecommendSettings
from recurra.config.semi_supervised import SemiSupervisedSettings
from recurra.config.settings import Settings
from recurra.config.several import SeveralSettings
from recurra.config.tag import TagSettings
from recurra.config.tasks import target_settings
from recurra.config.training import EvaluationSettings, LoggingSettings, OptimizerSettings, ScheduleSettings, TrainingSettings
from recurra.config.transfer import TransferSettings
from recurra.config.translate import TranslateSettings

__all__ = [
    "AnswerSettings",
    "AugmentationSettings",
    "ColumnType",
    "DataSettings",
    "EmbeddingSettings",
    "EncoderSettings",
    "EvaluationSettings",
    "ForecastSettings",
    "HeadSettings",
    "LanguageSettings",
    "LoggingSettings",
    "OptimizerSettings",
    "OutOfScopeSettings",
    "RecommendSettings",
    "ScheduleSettings",
    "SemiSupervisedSettings",
    "Settings",
    "SeveralSettings",
    "TagSettings",
    "TextSettings",
    "TrainingSettings",
    "TransferSettings",
    "TranslateSettings",
    "load_settings",
    "parse_assignment",
    "saved_settings",
    "target_settings",
]
