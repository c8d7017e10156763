"""Text, and text that is already a list of tokens: sequences of token numbers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from collections.abc import Sequence as Many
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import numpy as np
import polars as pl
import torch
from torch import nn
from torch.nn.functional import embedding

from recurra.config import ColumnType, EmbeddingSettings, Settings
from recurra.data.batch import Sequence
from recurra.data.store import Ragged
from recurra.data.tokenize import Tokenizer
from recurra.data.vectors import WordVectors, read_vectors
from recurra.data.words import Cut, as_tokens
from recurra.features.feature import Feature
from recurra.features.spelling import CHARACTERS, SHAPES, spell
from recurra.layers.dropout import StepDropout
from recurra.layers.embedding import Embedding
from recurra.layers.hashed import CharacterNgrams, TokenNgrams
from recurra.layers.spelling import Spelling
from recurra.shapes import Float, Tensor

__all__ = ["TextFeature", "TokenEmbedding", "TokensFeature"]


PIECES = ("character", "bpe")
"""Tokenizations whose tokens are parts of words already."""
WORD_NGRAMS = (3, 5)
"""Character n-grams that "auto" adds to words."""
CHARACTER_NGRAMS = 4
"""Longest n-grams of neighbours that "auto" adds to characters."""
MOST_BUCKETS = {"character": 50_000, "word": 20_000}
"""Vectors of n-grams that "auto" gives: characters have few numbers and many n-grams, words the other way round."""


class TokenEmbedding(nn.Module):
    """Token numbers to vectors, (B, T) to (B, T, F): a vector a token, and where set those of its n-grams, then dropout.

    Args:
        tokens: the vocabulary by number.
        kind: of the tokenizer; decides which n-grams "auto" adds.
        settings: of the embedding.
        spelling: what is put beside the token's vector where a token is several numbers, (B, T, 1 + K): its own, and its spelling's.
    """

    def __init__(self, tokens: Many[str], kind: str, settings: EmbeddingSettings, *, spelling: Spelling | None = None) -> None:
        super().__init__()
        size, start, sparse = settings.size, settings.init_range, settings.sparse
        self.output_size = size
        self.embedding = Embedding(len(tokens), size, init_range=start, token_dropout=settings.token_dropout, sparse=sparse)
        self.ngrams = nn.ModuleList()
        lengths, order = settings.character_ngrams, settings.token_ngrams
        if lengths == "auto":
            lengths = "none" if kind in PIECES else WORD_NGRAMS
        if order == "auto":
            order = CHARACTER_NGRAMS if kind == "character" else 1
        automatic = MOST_BUCKETS["character"] if kind == "character" else min(4 * len(tokens), MOST_BUCKETS["word"])
        buckets = automatic if settings.buckets == "auto" else settings.buckets
        if lengths != "none":
            self.ngrams.append(CharacterNgrams(tokens, buckets, size, lengths=lengths, init_range=start, sparse=sparse))
        if order > 1:
            self.ngrams.append(TokenNgrams(order, buckets, size, init_range=start, sparse=sparse))
        self.spelling = spelling
        if spelling is not None:
            self.output_size += spelling.output_size
        self.dropout = StepDropout(settings.dropout)

    def begin_with(self, vectors: WordVectors) -> None:
        """Start the tokens that have a vector from it."""
        weight = self.embedding.weight
        with torch.no_grad():
            weight[torch.from_numpy(vectors.found)] = torch.from_numpy(vectors.matrix[vectors.found]).to(weight)

    def forward(self, sequence: Sequence) -> Float[Tensor, "B T F"]:
        """The vectors of a batch's tokens; what stands in the padding means nothing."""
        tokens = sequence.values if self.spelling is None else sequence.values[..., 0]
        # What a token has wherever it stands is looked up once, and its gradient summed once, for all tables together.
        distinct, places = torch.unique(tokens, return_inverse=True)
        own: Tensor = self.embedding(distinct)
        for table in self.ngrams:
            own = own + table.means(distinct) if isinstance(table, CharacterNgrams) else own
        vectors = embedding(places, own)
        for table in self.ngrams:
            vectors = vectors + table(tokens) if isinstance(table, TokenNgrams) else vectors
        if self.spelling is not None:
            vectors = torch.cat([vectors, self.spelling(sequence.values[..., 1:])], dim=-1)
        dropped: Tensor = self.dropout(vectors)
        return dropped


class TextFeature(Feature):
    """Free text, cut into tokens by `recurra.data.tokenize.Tokenizer`.

    Args:
        name: the column.
        tokenizer: fitted on the training rows.
    """

    type: ClassVar[ColumnType] = "text"
    kind: ClassVar[Literal["sequence", "static"]] = "sequence"

    def __init__(self, name: str, tokenizer: Tokenizer) -> None:
        super().__init__(name)
        self.tokenizer = tokenizer

    @classmethod
    def fit(cls, name: str, values: Iterable[pl.Series], settings: Settings) -> Self:
        """Fit the tokenizer; see `Feature.fit`."""
        return cls(name, Tokenizer.fit((as_texts(chunk) for chunk in values), settings.text))

    def encode(self, values: pl.Series) -> Ragged:
        """Token numbers of each text; a missing text has none."""
        return self.tokenizer.encode(as_texts(values))

    def build(self, settings: Settings) -> TokenEmbedding:
        """An embedding of the vocabulary; `load_vectors` starts it from word vectors."""
        return TokenEmbedding(self.tokenizer.tokens, self.tokenizer.kind, settings.embedding)

    def continuing(self, known: Tokenizer) -> Self:
        """The feature with the numbers of a trained model's vocabulary; see `Tokenizer.continuing`."""
        return type(self).from_state(self.name, {**self.state(), "tokenizer": self.tokenizer.continuing(known).to_json()})

    def load_vectors(self, module: TokenEmbedding, path: Path) -> float:
        """Start the vectors of known words from a GloVe or fastText file.

        Args:
            module: built by `build`, of the file's vector size.
            path: the file.

        Returns:
            The share of the vocabulary that the file has.
        """
        found = read_vectors(path, self.tokenizer.tokens)
        module.begin_with(found)
        return found.coverage

    def describe(self) -> str:
        """Vocabulary size and tokenization."""
        return f"{self.tokenizer.kind} tokens, vocabulary of {len(self.tokenizer.tokens):,}"

    def state(self) -> dict[str, Any]:
        """The tokenizer as JSON text."""
        return {"tokenizer": self.tokenizer.to_json()}

    @classmethod
    def from_state(cls, name: str, state: Mapping[str, Any]) -> Self:
        """The feature that `state()` described."""
        return cls(name, Tokenizer.from_json(state["tokenizer"]))


class TokensFeature(TextFeature):
    """Lists of tokens cut by the user: each list item is one token; a string is cut.

    Args:
        name: the column.
        tokenizer: fitted on the training rows.
        cut: how a string is cut.
        spelt: a token is also its shape and its characters, so that its encoded rows are (S, 1 + K).
    """

    type: ClassVar[ColumnType] = "tokens"

    def __init__(self, name: str, tokenizer: Tokenizer, *, cut: Cut = "whitespace", spelt: bool = False) -> None:
        super().__init__(name, tokenizer)
        self.cut = cut
        self.spelt = spelt

    @classmethod
    def fit(cls, name: str, values: Iterable[pl.Series], settings: Settings) -> Self:
        """Fit the vocabulary; see `Feature.fit`. The column that tags belong to is cut as `tag.cut` says, and spelt."""
        tagged = name == settings.tag.tokens and settings.tag.cut != "auto"
        cut: Cut = settings.tag.cut if tagged and settings.tag.cut != "auto" else "whitespace"
        tokenizer = Tokenizer.fit_tokens((as_tokens(chunk, cut) for chunk in values), settings.text)
        return cls(name, tokenizer, cut=cut, spelt=tagged)

    def encode(self, values: pl.Series) -> Ragged:
        """Token numbers of each list; a missing list has none."""
        tokens = as_tokens(values, self.cut)
        numbers = self.tokenizer.encode_tokens(tokens)
        if not self.spelt:
            return numbers
        flat = tokens.drop_nulls().list.head(self.tokenizer.settings.max_length).explode(empty_as_null=False)
        return Ragged(np.concatenate([numbers.values[:, None], spell(flat)], axis=1), numbers.offsets, numbers.truncated)

    def build(self, settings: Settings) -> TokenEmbedding:
        """As that of text; beside it the spelling, where the tokens are tagged and any is wanted."""
        chosen = settings.tag
        spelling = None
        if self.spelt:
            spelling = Spelling(CHARACTERS, SHAPES if chosen.shape else 0, way=chosen.characters, size=chosen.character_size)
        return TokenEmbedding(self.tokenizer.tokens, self.tokenizer.kind, settings.embedding, spelling=spelling)

    def state(self) -> dict[str, Any]:
        """The tokenizer as JSON text, the cut, and whether tokens are spelt."""
        return {**super().state(), "cut": self.cut, "spelt": self.spelt}

    @classmethod
    def from_state(cls, name: str, state: Mapping[str, Any]) -> Self:
        """The feature that `state()` described."""
        tokenizer = Tokenizer.from_json(state["tokenizer"])
        return cls(name, tokenizer, cut=state.get("cut", "whitespace"), spelt=state.get("spelt", False))


def as_texts(values: pl.Series) -> pl.Series:
    """A column as texts; numbers and dates as they print, items of a list joined by a space."""
    if isinstance(values.dtype, (pl.List, pl.Array)):
        rows = [None if row is None else " ".join(str(item) for item in row if item is not None) for row in values.to_list()]
        return pl.Series(values.name, rows, dtype=pl.String)
    return values.cast(pl.String)
