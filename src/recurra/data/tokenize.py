"""From texts to numbered tokens.

A `Tokenizer` is a vocabulary with the rules that cut texts into its tokens; it is fitted on the training texts and
saved as JSON. Cutting is in `words.py`. Byte-pair merges are learnt and applied by the `tokenizers` library, on the
distinct words of a chunk only. Vectors for tokens are in `vectors.py`.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, SupportsIndex

import numpy as np
import numpy.typing as npt
import polars as pl

from recurra.config import TextSettings
from recurra.data.store import Ragged, offsets_of
from recurra.data.words import WORD_START, Kind, Texts, TokenRows, Words, blocks, cut, detect, jieba_module, listed, normalize, series
from recurra.errors import DataError, EmptyData

if TYPE_CHECKING:
    import tokenizers

__all__ = ["PADDING", "UNKNOWN", "Tokenizer"]

PADDING = 0
"""Number of the token that fills rows up; no text is ever encoded to it."""
UNKNOWN = 1
"""Number of every token that is not in the vocabulary."""
_SPECIAL = ("<pad>", "<unk>")
_DETECTION_ROWS = 10_000
_FORMAT = 1


@dataclass(frozen=True, eq=False, repr=False)
class Tokenizer:
    """A vocabulary with the rules that cut texts into its tokens; made by `fit`, `fit_tokens` or `from_json`.

    Attributes:
        kind: how texts are cut. word: runs of letters, marks, digits and `_`, and every other sign alone. character:
            every one, blanks too. bpe: byte-pair pieces of words. whitespace: at blanks. jieba: Chinese words.
            tokens: not at all, rows come as lists.
        tokens: the vocabulary by number: 0 is padding, 1 unknown, the most frequent first (bpe: in the order of learning).
        settings: what it was fitted with.
        merges: byte-pair merges, in the order of learning.
        reason: why it is of this kind.
    """

    kind: Kind
    tokens: list[str]
    settings: TextSettings
    merges: list[tuple[str, str]]
    reason: str

    @classmethod
    def fit(cls, texts: Iterable[Texts], settings: TextSettings) -> Tokenizer:
        """Learn a vocabulary from the training texts, in one pass and the memory of the distinct tokens.

        Args:
            texts: chunks of texts. Of each text `settings.max_length` tokens are read.
            settings: kind, normalization and limits of the vocabulary.

        Raises:
            EmptyData: there is no text at all, or every token is rarer than `settings.min_frequency`.
            MissingDependency: the kind is jieba and it is not installed.
        """
        chunks: Iterator[pl.Series] = map(series, texts)
        kind: Kind
        if settings.tokenizer == "auto":
            first = list(_first_chunks(chunks))
            kind, reason = detect(first)
            chunks = itertools.chain(first, chunks)
        else:
            kind, reason = settings.tokenizer, f"{settings.tokenizer}: set"
        if kind == "bpe":
            found, merges = _learn_merges(blocks(chunks), settings)
            return cls(kind, [*_SPECIAL, *found], settings, merges, reason)
        if kind == "character":
            counts = _count_characters(blocks(chunks), settings)
            return cls(kind, _vocabulary(counts, settings.model_copy(update={"min_frequency": 1})), settings, [], reason)
        if kind == "jieba":
            jieba_module()
        counts = _count(cut(block, kind, settings).flat for block in blocks(chunks))
        return cls(kind, _vocabulary(counts, settings), settings, [], reason)

    @classmethod
    def fit_tokens(cls, rows: Iterable[TokenRows], settings: TextSettings) -> Tokenizer:
        """The same for rows that are lists of tokens already. Normalization and case folding apply to each token.

        Args:
            rows: chunks of rows.
            settings: normalization and limits of the vocabulary; `settings.tokenizer` is not used.

        Raises:
            EmptyData: as `fit`.
        """
        counts = _count(listed(chunk, settings).flat for chunk in rows)
        return cls("tokens", _vocabulary(counts, settings), settings, [], "tokens: the column holds lists")

    def continuing(self, known: Tokenizer) -> Tokenizer:
        """This tokenizer with the numbers of another: all tokens of `known` as it numbers them, then those that only this one has.

        Byte-pair vocabularies are taken as they are, for the merges would no longer give the same pieces.

        Args:
            known: of the same kind, or one of tokens that came as lists.

        Raises:
            ValueError: it is of another kind.
        """
        if known.kind != self.kind and (known.kind != "tokens" or self.kind == "bpe"):
            raise ValueError(f"a vocabulary of {self.kind} tokens cannot go on with one of {known.kind} tokens")
        held = set(known.tokens)
        new = [] if self.kind == "bpe" else [token for token in self.tokens if token not in held]
        reason = f"{self.reason}; the vocabulary of the model that it begins with, and {len(new):,} new tokens"
        return Tokenizer(self.kind, [*known.tokens, *new], self.settings, known.merges, reason)

    def __len__(self) -> int:
        return len(self.tokens)

    def __repr__(self) -> str:
        return f"Tokenizer({self.kind!r}, {len(self)} tokens)"

    def encode(self, texts: Texts) -> Ragged:
        """Numbers of the tokens of each text, at most `settings.max_length` of them.

        Args:
            texts: N texts of any kind: missing, empty, with lone surrogates (read as U+FFFD), of many megabytes.

        Returns:
            N rows of int32; `truncated` counts the texts that were cut off.

        Raises:
            TypeError: the tokenizer was fitted on lists of tokens.
        """
        if self.kind == "tokens":
            raise TypeError("this tokenizer was fitted on lists of tokens: use encode_tokens")
        if self.kind == "character":
            parts = [self._number_characters(block) for block in blocks([series(texts)])]
        else:
            parts = [self._number(cut(block, self.kind, self.settings)) for block in blocks([series(texts)])]
        return Ragged.concatenate([Ragged(np.zeros(0, np.int32), offsets_of([])), *parts])

    def encode_tokens(self, rows: TokenRows) -> Ragged:
        """Like `encode` for rows that are lists of tokens already."""
        return self._number(listed(rows, self.settings))

    def surface(self, number: SupportsIndex) -> str:
        """The token as it stands in normalized text; byte-pair pieces at the start of a word begin with a blank."""
        token = self.tokens[number]
        return token.replace(WORD_START, " ") if self.kind == "bpe" else token

    def pieces(self, surface: str) -> list[int]:
        """Numbers for one token given as `surface` gives it: one number, or those of its byte-pair pieces."""
        if self._bpe is None:
            return [self._numbers.get(surface, UNKNOWN)]
        return [token.id for token in self._bpe.model.tokenize(surface.replace(" ", WORD_START))]

    def to_json(self) -> str:
        """Everything `from_json` needs, as ASCII text."""
        fields = {name: getattr(self, name) for name in ("kind", "reason", "tokens", "merges")}
        return json.dumps({"format": _FORMAT, "settings": self.settings.model_dump(), **fields})

    @classmethod
    def from_json(cls, text: str) -> Tokenizer:
        """The tokenizer that `to_json` wrote.

        Raises:
            DataError: the text is not one, or comes from a newer version.
        """
        try:
            content = json.loads(text)
            if content["format"] != _FORMAT:
                raise ValueError(f"format {content['format']} is newer than this version of Recurra")  # noqa: TRY301
            known = {name: value for name, value in content["settings"].items() if name in TextSettings.model_fields}
            merges = [(left, right) for left, right in content["merges"]]
            return cls(content["kind"], content["tokens"], TextSettings(**known), merges, content["reason"])
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(f"This is not a saved tokenizer ({error!r}). Take it from a model folder that Recurra wrote.") from error

    @cached_property
    def alphabet(self) -> list[str]:
        """Every character that stands in a token, in the order of code points."""
        return sorted(set("".join(self.tokens[len(_SPECIAL) :])) - {WORD_START})

    @cached_property
    def _numbers(self) -> dict[str, int]:
        return {token: number for number, token in enumerate(self.tokens) if number > UNKNOWN}

    @cached_property
    def _enum(self) -> Any:
        return pl.Enum(self.tokens[len(_SPECIAL) :])

    @cached_property
    def _code_points(self) -> npt.NDArray[np.int32]:
        """Number of every Unicode code point (4 MB)."""
        table = np.full(0x110000, UNKNOWN, np.int32)
        for character, number in self._numbers.items():
            table[ord(character)] = number
        return table

    @cached_property
    def _bpe(self) -> tokenizers.Tokenizer | None:
        if self.kind != "bpe":
            return None
        import tokenizers

        vocabulary = {token: number for number, token in enumerate(self.tokens)}
        model = tokenizers.models.BPE(vocabulary, self.merges, unk_token=_SPECIAL[UNKNOWN], fuse_unk=True)
        bpe = tokenizers.Tokenizer(model)
        bpe.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
        return bpe

    def _number(self, words: Words) -> Ragged:
        limit = self.settings.max_length
        offsets = offsets_of(np.minimum(words.counts, limit))
        if self._bpe is None:
            # Null is what the vocabulary lacks: one below the first real token.
            positions = _positions(words.flat, self._enum).fill_null(UNKNOWN - len(_SPECIAL)).to_numpy()
            return Ragged(positions.astype(np.int32) + np.int32(len(_SPECIAL)), offsets, int((words.counts > limit).sum()))
        distinct = words.flat.unique()
        encodings = self._bpe.encode_batch_fast(distinct.to_list(), add_special_tokens=False)
        pieces = Ragged.from_rows([encoding.ids for encoding in encodings]).take(_positions(words.flat, pl.Enum(distinct)).to_numpy())
        whole = Ragged(pieces.values, pieces.offsets[offsets])
        return Ragged(*_head(whole, limit), int(((words.counts > limit) | (whole.lengths > limit)).sum()))

    def _number_characters(self, texts: pl.Series) -> Ragged:
        limit = self.settings.max_length
        texts = normalize(texts, self.settings)
        counts = texts.str.len_chars().to_numpy().astype(np.int64)
        values = self._code_points[_code_points_of(texts.str.head(limit))]
        return Ragged(values, offsets_of(np.minimum(counts, limit)), int((counts > limit).sum()))


def _positions(words: pl.Series, categories: Any) -> pl.Series:
    """Where each word stands in the categories, a `pl.Enum`; null for one that does not."""
    return words.cast(categories, strict=False).to_physical().cast(pl.Int64)


def _head(ragged: Ragged, limit: int) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int64]]:
    """The first `limit` steps of each row."""
    lengths = ragged.lengths
    steps = np.arange(len(ragged.values)) - np.repeat(ragged.offsets[:-1], lengths)
    return ragged.values[steps < limit], offsets_of(np.minimum(lengths, limit))


def _code_points_of(texts: pl.Series) -> npt.NDArray[np.uint32]:
    """Code points of all texts, end to end."""
    return np.frombuffer("".join(texts.to_list()).encode("utf-32-le"), np.uint32)


def _first_chunks(chunks: Iterator[pl.Series]) -> Iterator[pl.Series]:
    """Chunks until enough texts that are not empty have been seen to tell the script."""
    seen = 0
    for chunk in chunks:
        yield chunk
        seen += int((chunk != "").sum())
        if seen >= _DETECTION_ROWS:
            return


def _count(chunks: Iterable[pl.Series]) -> pl.DataFrame:
    """How often each token stands in the chunks. Merged now and then, so that memory is that of the result."""
    total = pl.DataFrame(schema={"token": pl.String, "count": pl.Int64})
    waiting = [total]
    for chunk in chunks:
        waiting.append(chunk.alias("token").value_counts(name="count").select("token", pl.col("count").cast(pl.Int64)))
        if sum(map(len, waiting[1:])) > max(len(waiting[0]), 100_000):
            waiting = [_merged(waiting)]
    return _merged(waiting)


def _merged(counts: Sequence[pl.DataFrame]) -> pl.DataFrame:
    return pl.concat(counts).group_by("token").agg(pl.col("count").sum())


def _count_characters(texts: Iterable[pl.Series], settings: TextSettings) -> pl.DataFrame:
    counts = np.zeros(0x110000, np.int64)
    for block in texts:
        codes, times = np.unique(_code_points_of(normalize(block, settings).str.head(settings.max_length)), return_counts=True)
        counts[codes] += times
    seen = np.flatnonzero(counts)
    return pl.DataFrame({"token": list(map(chr, seen)), "count": counts[seen]}, schema={"token": pl.String, "count": pl.Int64})


def _vocabulary(counts: pl.DataFrame, settings: TextSettings) -> list[str]:
    """The special tokens and then the most frequent ones; ties stand in the order of their UTF-8 bytes."""
    counts = counts.filter(~pl.col("token").is_in([*_SPECIAL, ""]))
    if counts.is_empty():
        raise _no_text()
    kept = counts.filter(pl.col("count") >= settings.min_frequency)
    if kept.is_empty():
        raise EmptyData(
            f"None of the {len(counts)} distinct tokens stands {settings.min_frequency} times or more in the training rows. "
            "Give more rows, or set text.min_frequency=1."
        )
    kept = kept.sort("count", "token", descending=[True, False]).head(settings.vocabulary_size)
    return [*_SPECIAL, *kept["token"].to_list()]


def _learn_merges(texts: Iterable[pl.Series], settings: TextSettings) -> tuple[list[str], list[tuple[str, str]]]:
    """Byte-pair pieces and merges (Sennrich et al. 2016, section 3.2)."""
    import tokenizers

    learner = tokenizers.Tokenizer(tokenizers.models.BPE())
    learner.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    size = settings.vocabulary_size
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=size, min_frequency=settings.min_frequency, limit_alphabet=size, show_progress=False
    )
    learner.train_from_iterator((cut(block, "bpe", settings).flat.to_list() for block in texts), trainer)
    model = json.loads(learner.to_str())["model"]
    if not model["merges"] and set(model["vocab"]) <= {WORD_START}:
        raise _no_text()
    return sorted(model["vocab"], key=model["vocab"].__getitem__), [(left, right) for left, right in model["merges"]]


def _no_text() -> EmptyData:
    return EmptyData(
        "All texts of the training rows are empty. Check that the column is the one you mean, or leave it out with the type 'ignore'."
    )
