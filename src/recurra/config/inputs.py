"""Settings of what goes in: columns, text, embedding, noise."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator

from recurra.config.group import ColumnType, Group, Positive, Probability, Share, Text

__all__ = ["AugmentationSettings", "DataSettings", "EmbeddingSettings", "TextSettings"]


class DataSettings(Group):
    """Which columns are used, how rows are split, what happens to rows that cannot be used."""

    types: dict[Text, ColumnType] = {}
    """Column types that replace the inferred ones: text, tokens, category, number or ignore."""
    join: dict[Text, list[Text]] = {}
    """New text columns made of others, joined by a space: {"text": ["title", "description"]}."""
    columns: list[Text] | None = None
    """Input columns to use; all but the target when not given."""
    group: Text | None = None
    """Column whose rows stay together on one side of the split (a customer, a document)."""
    time: Text | None = None
    """Column that orders rows in time: the latest rows are held out."""
    validation_share: Share = 0.1
    """Share of the rows held out to select the model, when no validation file is given."""
    test_share: Share = 0.1
    """Share of the rows held out to measure the model, when no test file is given."""
    missing_targets: Literal["drop", "fail", "unlabelled"] = "drop"
    """What happens to rows without a target: left out and counted, an error, or learnt from without one (see `semi_supervised`)."""
    ignore_labels: list[Text] = []
    """Rows with one of these labels are left out of training and evaluation (by class), or the label is not learnt (several labels)."""
    label_separator: Text = ","
    """What stands between the labels of one row when the target holds several labels as text."""
    on_error: Literal["fail", "skip"] = "fail"
    """What happens to rows of a file that cannot be read: an error that names file and line, or left out and counted."""


class TextSettings(Group):
    """How text becomes tokens."""

    tokenizer: Literal["auto", "word", "character", "bpe", "whitespace", "jieba"] = "auto"
    """auto: character for mostly Chinese, Japanese, Korean or Thai text, word for all other."""
    lowercase: bool = True
    """Fold upper case into lower case."""
    normalization: Literal["nfc", "nfkc", "none"] = "nfkc"
    """Unicode normalization form applied first."""
    strip_accents: bool = False
    """Remove accents and other combining marks."""
    vocabulary_size: Positive = 30_000
    """Most tokens kept, the most frequent first."""
    min_frequency: Positive = 2
    """Tokens seen less often in the training rows are unknown. Not for characters, where every one seen is kept."""
    max_length: Positive = 1_000
    """Tokens of one text that are read; the rest is cut off and the number of cut texts reported."""
    vectors: Text | None = None
    """Path of a GloVe or fastText text file (may be gzipped) that initialises the embedding."""


class EmbeddingSettings(Group):
    """How tokens become vectors."""

    size: Positive = 128
    """Features of one token's vector; that of the file when word vectors are given."""
    init_range: Annotated[float, Field(gt=0.0)] = 0.05
    """Vectors start uniform in plus and minus this."""
    start: Literal["random", "cooccurrence"] = "random"
    """What the vectors of tokens start from. cooccurrence: how often tokens stand near each other in the training texts, learnt without
    labels (Levy et al. 2015); for texts with few labels."""
    dropout: Probability = 0.4
    """Share of the features of an embedded step set to zero, drawn anew at each step."""
    token_dropout: Probability = 0.0
    """Share of the vocabulary whose vectors are set to zero in a batch (Gal & Ghahramani 2016)."""
    character_ngrams: tuple[Positive, Positive] | Literal["auto", "none"] = "auto"
    """Shortest and longest character n-grams of a token whose vectors are added to its own, as [3, 5] (fastText).
    auto: [3, 5] for words, none for characters and byte-pair pieces."""
    token_ngrams: Annotated[int, Field(ge=1, le=8)] | Literal["auto"] = "auto"
    """Longest n-grams of neighbouring tokens whose vectors are added at the step where they end; 1 for none.
    auto: 4 for characters, 1 for all other tokens."""
    buckets: Annotated[int, Field(ge=2)] | Literal["auto"] = "auto"
    """Vectors shared, by hash, by all n-grams of one kind. auto: four times the vocabulary and at most 20,000 for words;
    50,000 for characters."""
    sparse: bool = False
    """Row-sparse gradients and optimizer updates of the embedding: pays for large vocabularies."""

    @field_validator("character_ngrams")
    @classmethod
    def _shortest_first(cls, value: tuple[int, int] | str) -> tuple[int, int] | str:
        if isinstance(value, tuple) and value[0] > value[1]:
            raise ValueError(f"{list(value)} has the longest n-gram first: write the shortest first, [{value[1]}, {value[0]}]")
        return value


class AugmentationSettings(Group):
    """Noise on the tokens of the training rows, drawn anew each epoch."""

    word_dropout: Probability = 0.1
    """Share of tokens replaced by the unknown token."""
    swap: Probability = 0.0
    """Share of tokens exchanged with their right neighbour."""
    character_noise: Probability = 0.0
    """Share of tokens in which one character is dropped, doubled, replaced or exchanged with its neighbour."""
