"""The tree of all settings."""

from __future__ import annotations

from pydantic import model_validator

from recurra.config.answer import AnswerSettings
from recurra.config.forecast import ForecastSettings
from recurra.config.group import Group, Text
from recurra.config.inputs import AugmentationSettings, DataSettings, EmbeddingSettings, TextSettings
from recurra.config.language import LanguageSettings
from recurra.config.network import EncoderSettings, HeadSettings
from recurra.config.out_of_scope import OutOfScopeSettings
from recurra.config.recommend import RecommendSettings
from recurra.config.semi_supervised import SemiSupervisedSettings
from recurra.config.several import SeveralSettings
from recurra.config.tag import TagSettings
from recurra.config.training import EvaluationSettings, LoggingSettings, OptimizerSettings, ScheduleSettings, TrainingSettings
from recurra.config.transfer import TransferSettings
from recurra.config.translate import TranslateSettings

__all__ = ["Settings"]


class Settings(Group):
    """All settings of a run."""

    target: Text | None = None
    """The column to predict."""
    data: DataSettings = DataSettings()
    text: TextSettings = TextSettings()
    embedding: EmbeddingSettings = EmbeddingSettings()
    encoder: EncoderSettings = EncoderSettings()
    head: HeadSettings = HeadSettings()
    out_of_scope: OutOfScopeSettings = OutOfScopeSettings()
    recommend: RecommendSettings = RecommendSettings()
    optimizer: OptimizerSettings = OptimizerSettings()
    schedule: ScheduleSettings = ScheduleSettings()
    augmentation: AugmentationSettings = AugmentationSettings()
    training: TrainingSettings = TrainingSettings()
    evaluation: EvaluationSettings = EvaluationSettings()
    logging: LoggingSettings = LoggingSettings()
    forecast: ForecastSettings = ForecastSettings()
    language: LanguageSettings = LanguageSettings()
    tag: TagSettings = TagSettings()
    several: SeveralSettings = SeveralSettings()
    transfer: TransferSettings = TransferSettings()
    translate: TranslateSettings = TranslateSettings()
    answer: AnswerSettings = AnswerSettings()
    semi_supervised: SemiSupervisedSettings = SemiSupervisedSettings()

    @model_validator(mode="after")
    def _together(self) -> Settings:
        if self.data.validation_share + self.data.test_share >= 1.0:
            raise ValueError("data.validation_share and data.test_share leave no rows to train on: their sum must be under 1")
        if self.data.group and self.data.time:
            raise ValueError("data.group and data.time cannot both decide the split: give one of them")
        if self.embedding.start != "random" and (self.text.vectors or self.transfer.model):
            other = "text.vectors" if self.text.vectors else "transfer.model"
            raise ValueError(f"embedding.start={self.embedding.start} and {other} both say what vectors start from: give one of them")
        if self.target is not None and self.several.targets:
            raise ValueError(
                f"target ({self.target}) and several.targets ({', '.join(self.several.targets)}) both say what is predicted: give one of them"
            )
        if self.data.missing_targets == "unlabelled" and not self.semi_supervised.active:
            raise ValueError(
                "data.missing_targets=unlabelled learns from rows without a target: say how much, with semi_supervised.virtual_adversarial=1 and "
                "semi_supervised.entropy=1, or leave it out"
            )
        return self
