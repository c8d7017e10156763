"""Settings of a language model: the text, the windows of back-propagation through time, the output, and how it is measured."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator

from recurra.config.group import Group, Positive, Text, was_saved

__all__ = ["LANGUAGE_DEFAULTS", "LANGUAGE_UNUSED", "LanguageSettings"]

Order = Annotated[int, Field(ge=1, le=10)]


class LanguageSettings(Group):
    """One stream of tokens, of which the next one is predicted. Naming any of these makes the task a language model."""

    text: Text | None = None
    """Column of a table that holds the text; its only text column when not given. Files of plain text have none."""
    window: Positive = 70
    """Steps of a window: back-propagation through time ends at its edge, the state is carried over it."""
    random_windows: bool = False
    """Lengths of training windows scatter about `window`, and the learning rate is scaled by the length (Merity et al. 2018, 5.1)."""
    tied: bool | Literal["auto"] = "auto"
    """Tokens are read and predicted by the same vectors (Press & Wolf 2017); where a layer has another width than they, a linear map
    stands between. auto: tied, but not with `cutoffs`."""
    cutoffs: list[Positive] = []
    """Numbers of the most frequent tokens after which a cluster of rarer ones begins, as [2000, 10000]: adaptive softmax (Grave et
    al. 2017), faster for large vocabularies. None: the full softmax."""
    activation: Annotated[float, Field(ge=0.0)] = 0.0
    """Weight of the squared outputs of the last layer after dropout (AR, Merity et al. 2017); 2 in the AWD recipe."""
    temporal: Annotated[float, Field(ge=0.0)] = 0.0
    """Weight of the squared change of these outputs from step to step (TAR); 1 in the AWD recipe."""
    cache: Annotated[int, Field(ge=0)] = 0
    """Steps that a continuous cache remembers when the model is measured (Grave et al. 2017); 0 measures without."""
    cache_weight: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.1
    """Share of the cache in the probabilities."""
    cache_flatness: Annotated[float, Field(ge=0.0)] = 0.3
    """How sharply the cache prefers steps whose outputs are alike; 0 counts all alike."""
    dynamic_rate: Annotated[float, Field(ge=0.0)] = 0.0
    """Learning rate at which a copy of the model goes on learning while it is measured (Krause et al. 2018); 0 measures without."""
    dynamic_decay: Annotated[float, Field(ge=0.0, le=1.0)] = 0.0
    """Share of the way back to the trained weights after each of these steps."""
    dynamic_window: Positive = 20
    """Steps that are measured before the copy learns from them."""
    order: Order | Literal["auto"] = "auto"
    """Tokens of the longest n-gram of the Kneser-Ney baseline; auto: 6 for characters, 5 for all other tokens."""

    @field_validator("cutoffs")
    @classmethod
    def _ascending(cls, value: list[int]) -> list[int]:
        if any(first >= second for first, second in pairwise(value)):
            raise ValueError(f"{value} must be ascending, without repeats")
        return value

    @model_validator(mode="after")
    def _together(self, info: ValidationInfo) -> LanguageSettings:
        if self.tied is True and self.cutoffs:
            raise ValueError("language.cutoffs has clusters of its own vectors: leave out language.tied=true, or the cutoffs")
        if was_saved(info):
            return self
        defaults = {name: field.default for name, field in type(self).model_fields.items()}
        for names, idle, switch in (
            (("cache_weight", "cache_flatness"), not self.cache, "cache"),
            (("dynamic_decay", "dynamic_window"), not self.dynamic_rate, "dynamic_rate"),
        ):
            for name in names:
                if idle and getattr(self, name) != defaults[name]:
                    raise ValueError(f"language.{name} has no effect without language.{switch}: set that, or leave it out")
        return self


LANGUAGE_DEFAULTS: dict[str, Any] = {
    "head.task": "language",
    "head.dropout": 0.2,
    "text.tokenizer": "character",
    "text.lowercase": False,
    "text.normalization": "none",
    "text.min_frequency": 2,
    "embedding.size": 256,
    "embedding.dropout": 0.0,
    "encoder.bidirectional": False,
    "encoder.hidden_size": 512,
    "encoder.input_dropout": 0.1,
    "optimizer.embedding_factor": 1.0,
    "optimizer.weight_decay": 0.0,
    "schedule.warmup": 0.02,
    "training.batch_size": 32,
    "training.epochs": 10,
    "training.gradient_flow_batches": 0,
}
"""What a language model sets where the user sets nothing."""
LANGUAGE_UNUSED = (
    "target",
    "augmentation",
    "data.types",
    "data.columns",
    "data.group",
    "data.time",
    "data.missing_targets",
    "data.ignore_labels",
    "data.label_separator",
    "text.max_length",
    "text.vectors",
    "embedding.start",
    "embedding.character_ngrams",
    "embedding.token_ngrams",
    "embedding.buckets",
    "embedding.sparse",
    "encoder.pooling",
    "encoder.shared",
    "head.hidden_size",
    "head.label_smoothing",
    "head.class_weights",
    "training.batch_tokens",
    "training.devices",
    "evaluation.baseline_rows",
)
"""What a language model does not read, beside the groups of other tasks."""
