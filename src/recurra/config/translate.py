"""Settings of text to text: the columns, the decoder with its attention, and how the best output is searched for."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, ValidationInfo, model_validator

from recurra.config.group import Group, Positive, Probability, Text, was_saved

__all__ = ["TRANSLATE_DEFAULTS", "TRANSLATE_UNUSED", "TranslateSettings"]


class TranslateSettings(Group):
    """From one text to another: translation, summaries, replies. Naming any of these makes the task translate."""

    source: Text | None = None
    """Column of the text that is read; the only text column besides the target when not given."""
    decoder_layers: Positive = 1
    """Layers of the decoder."""
    decoder_size: Positive | Literal["auto"] = "auto"
    """Units of a layer of the decoder; auto: as many as a step of the encoder has features."""
    attention: Literal["multiplicative", "additive"] = "multiplicative"
    """How a step of the decoder and one of the source make a score: multiplicative (Luong et al. 2015), faster; additive (Bahdanau et
    al. 2015)."""
    attention_size: Positive | Literal["auto"] = "auto"
    """Features in which both meet; auto: those of the decoder."""
    coverage: bool = False
    """A score knows how much a step of the source was attended to before (See et al. 2017, equation 11); additive only, and step by
    step, which is slower."""
    copying: bool = False
    """A token may also be copied from the source, by the weights of the attention: names, numbers and words that are repeated (See et
    al. 2017, section 2.2). The scores of a batch are in memory as a whole then."""
    input_feeding: bool = False
    """The decoder also reads what attention made of the step before (Luong et al. 2015, section 3.3); step by step, which is slower."""
    sampling: Probability = 0.0
    """Share of the target's tokens in whose place the decoder reads one that it has drawn itself (scheduled sampling, Bengio et al.
    2015); step by step, which is slower."""
    sampling_batches: Positive = 10_000
    """Training batches over which that share rises from zero."""
    tied: bool = True
    """Tokens are read and written by the same vectors (Press & Wolf 2017)."""
    beam: Positive = 5
    """Outputs that a beam search follows; 1 takes the most probable token at each step."""
    length_power: Annotated[float, Field(ge=0.0)] = 1.0
    """What the log-probability of an output is divided by: its length to this power; 0 prefers short outputs, 1 is the mean."""
    most: Positive | Literal["auto"] = "auto"
    """Tokens of an output at most; auto: twice those of the longest target in the training part."""
    replace_unknown: bool = True
    """In place of an unknown token, the word of the source that it attends to most (Luong et al. 2015b); not for byte-pair pieces,
    which have none."""
    validation_rows: Annotated[int, Field(ge=0)] = 1_000
    """Validation rows that are written out greedily after each epoch, to select the model by BLEU; 0: none, the loss selects."""

    @model_validator(mode="after")
    def _together(self, info: ValidationInfo) -> TranslateSettings:
        if self.coverage and self.attention != "additive":
            raise ValueError("translate.coverage is part of the additive score: set translate.attention=additive, or leave it out")
        if self.sampling_batches != type(self).model_fields["sampling_batches"].default and not self.sampling and not was_saved(info):
            raise ValueError("translate.sampling_batches has no effect without translate.sampling: set that, or leave it out")
        return self


TRANSLATE_DEFAULTS: dict[str, Any] = {
    "head.task": "translate",
    "head.dropout": 0.2,
    "head.label_smoothing": 0.1,
    "text.tokenizer": "bpe",
    "text.vocabulary_size": 8_000,
    "text.lowercase": False,
    "text.normalization": "nfc",
    "embedding.size": 256,
    "embedding.dropout": 0.2,
    "embedding.init_range": 0.1,
    "encoder.hidden_size": 256,
    "encoder.pooling": "mean",
    "optimizer.embedding_factor": 1.0,
    "optimizer.weight_decay": 0.0,
    "training.batch_tokens": 4_096,
    "training.epochs": 15,
    "training.patience": 0,
    "training.gradient_flow_batches": 0,
}
"""What text to text sets where the user sets nothing."""
TRANSLATE_UNUSED = (
    "augmentation",
    "data.types",
    "data.columns",
    "data.ignore_labels",
    "data.label_separator",
    "text.vectors",
    "embedding.start",
    "embedding.character_ngrams",
    "embedding.token_ngrams",
    "embedding.buckets",
    "embedding.sparse",
    "encoder.shared",
    "head.hidden_size",
    "head.class_weights",
)
"""What text to text does not read, beside the groups of other tasks."""
