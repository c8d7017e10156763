"""Settings of tagging: which tokens the tags belong to, how a token is spelt, and how tags hang together."""

from __future__ import annotations

from typing import Any, Literal

from recurra.config.group import Group, Positive, Text

__all__ = ["TAG_DEFAULTS", "TAG_UNUSED", "TagSettings"]


class TagSettings(Group):
    """A tag for every token of a row. Naming any of these makes the task tag."""

    tokens: Text | None = None
    """Column of tokens, or of text, that the tags belong to; found by its length when not given."""
    cut: Literal["auto", "whitespace", "word", "character"] = "auto"
    """How text is cut into tokens where it is no list: at blanks; words and single signs; every character that is no blank. auto:
    as many tokens as there are tags; for a model of lists, characters where the lists are Chinese characters, else words."""
    scheme: Literal["auto", "bio", "bioes"] = "auto"
    """How the network writes spans, whatever the scheme of the column: bioes marks ends and single tokens too (Ratinov & Roth 2009).
    auto: bioes for up to 30 kinds of spans, else bio."""
    crf: bool = True
    """Learn which tags follow each other (a conditional random field, Lample et al. 2016); false learns each token's tag alone."""
    constrain: bool = True
    """Tags that the scheme forbids after each other score minus infinity, in training and in prediction."""
    characters: Literal["recurrent", "ngrams", "none"] = "recurrent"
    """What the network sees of a token's characters, in their own case, be the token known or not: recurrent, a small bidirectional
    LSTM over them (Lample et al. 2016); ngrams, the sum of the vectors of their n-grams up to 4, by hash."""
    character_size: Positive = 25
    """Features of a character's vector; recurrent has as many units in each direction, ngrams as many features in all."""
    shape: bool = True
    """A learnt vector for how a token is written: small, Capital, ALL CAPITALS, miXed, digits, signs (Collobert et al. 2011)."""


TAG_DEFAULTS: dict[str, Any] = {
    "head.task": "tag",
    "embedding.size": 100,
    "embedding.dropout": 0.5,
    "embedding.character_ngrams": "none",
    "encoder.hidden_size": 128,
    "augmentation.word_dropout": 0.05,
    "training.batch_size": 16,
    "training.epochs": 20,
    "training.patience": 5,
}
"""What tagging sets where the user sets nothing."""
TAG_UNUSED = (
    "data.label_separator",
    "data.ignore_labels",
    "text.tokenizer",
    "head.label_smoothing",
    "head.class_weights",
    "augmentation.swap",
    "augmentation.character_noise",
)
"""What tagging does not read, beside the groups of other tasks."""
