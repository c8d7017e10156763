"""From running text to numbered tokens and back again, for models that put text out.

Unlike `tokenize.py`, whose tokens are only read, nothing is lost here that a reader would miss: line ends are tokens, and characters
and byte-pair pieces give the text back exactly. Vocabularies of characters and words are `tokenize.Tokenizer`'s; byte-pair
pieces are of bytes (the `tokenizers` library), so that every text has some.
"""

from __future__ import annotations

import codecs
import itertools
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt
import polars as pl

from recurra.config import TextSettings
from recurra.data.store import Ragged, offsets_of
from recurra.data.tokenize import UNKNOWN, Tokenizer
from recurra.data.words import detect, normalize, series
from recurra.errors import DataError, EmptyData, SettingsError

if TYPE_CHECKING:
    import tokenizers

__all__ = ["CodecKind", "Decoder", "TextCodec"]

CodecKind = Literal["character", "word", "whitespace", "bpe"]

LINE_END = "\n"
REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
"""Stands for a character that is not in the vocabulary; of words, `<unk>` does."""
_PATTERNS = {"word": r"\n|\w+|[^\w\s]", "whitespace": r"\n|[^\s]+"}
_SPECIAL = ("<pad>", "<unk>")
_UNBOUNDED = 2**40
"""A stream has no longest text."""
_FORMAT = 1
_CLOSING, _OPENING = set(".,;:!?)]}%'’”…"), set("([{'’“$#@")


@dataclass(frozen=True, eq=False, repr=False)
class TextCodec:
    """A vocabulary that cuts text into tokens and joins them again; made by `fit` or `from_json`.

    | kind | tokens | back to text |
    | --- | --- | --- |
    | character | every character, line ends too | exact, of characters that are known |
    | bpe | byte-pair pieces of bytes (Radford et al. 2019, section 2.2) | exact, of every text |
    | word | runs of letters and digits, every other sign alone, line ends | blanks as English has them |
    | whitespace | what stands between blanks, line ends | one blank between two |

    Attributes:
        kind: how text is cut.
        tokenizer: the vocabulary; None for byte-pair pieces.
        merges: the byte-pair model as the `tokenizers` library writes it; empty for the others.
        settings: normalization and limits that it was fitted with.
        reason: why it is of this kind.
    """

    kind: CodecKind
    tokenizer: Tokenizer | None
    merges: str
    settings: TextSettings
    reason: str

    @classmethod
    def fit(cls, texts: Iterable[str], settings: TextSettings) -> TextCodec:
        """Learn a vocabulary from the training text, in one pass.

        Args:
            texts: the text in pieces that end where lines do.
            settings: kind, normalization, size of the vocabulary.

        Raises:
            EmptyData: there is no text.
            SettingsError: the kind is jieba, whose words do not give back the text.
        """
        settings = settings.model_copy(update={"max_length": _UNBOUNDED})
        pieces = (piece for piece in texts if piece)
        first = next(pieces, None)
        if first is None:
            raise EmptyData("The training text is empty: there is nothing to learn.")
        whole = itertools.chain([first], pieces)
        if settings.tokenizer == "jieba":
            raise SettingsError("text.tokenizer='jieba' cannot write text: use character (for Chinese), word, whitespace or bpe.")
        kind, reason = _choose(first, settings)
        if kind == "bpe":
            return cls(kind, None, _learn_pieces(whole, settings), settings, reason)
        if kind == "character":
            fixed = settings.model_copy(update={"tokenizer": "character"})
            return cls(kind, Tokenizer.fit(([piece] for piece in whole), fixed), "", settings, reason)
        tokenizer = Tokenizer.fit_tokens((_cut(piece, kind) for piece in whole), settings)
        return cls(kind, tokenizer, "", settings, reason)

    def continuing(self, known: TextCodec) -> TextCodec:
        """This codec with the numbers of another: all tokens of `known` as it numbers them, then those that only this one has.

        Byte-pair pieces are taken as they are: they write every text.

        Args:
            known: of the same kind.

        Raises:
            ValueError: it is of another kind.
        """
        if known.kind != self.kind:
            raise ValueError(f"a vocabulary of {self.kind} tokens cannot go on with one of {known.kind} tokens")
        if self.tokenizer is None or known.tokenizer is None:
            return TextCodec(self.kind, None, known.merges, self.settings, known.reason)
        tokenizer = self.tokenizer.continuing(known.tokenizer)
        new = len(tokenizer) - len(known.tokenizer)
        reason = f"{self.reason}; the vocabulary of the model that it begins with, and {new:,} new tokens"
        return TextCodec(self.kind, tokenizer, "", self.settings, reason)

    def __len__(self) -> int:
        """V, padding and unknown token included."""
        return len(self.tokenizer) if self.tokenizer is not None else self._bpe.get_vocab_size() + len(_SPECIAL)

    def __repr__(self) -> str:
        return f"TextCodec({self.kind!r}, {len(self)} tokens)"

    def encode(self, text: str) -> npt.NDArray[np.int32]:
        """Numbers of a text's tokens. Pieces that end where lines do may be encoded one by one."""
        if not text:
            return np.zeros(0, np.int32)
        if self.tokenizer is None:
            lines = normalize(series(text.splitlines(keepends=True)), self.settings).to_list()
            encodings = self._bpe.encode_batch_fast(_joined_lines(lines), add_special_tokens=False)
            found = [np.asarray(encoding.ids, np.int32) for encoding in encodings]
            return np.concatenate([np.zeros(0, np.int32), *found]) + np.int32(len(_SPECIAL))
        if self.kind == "character":
            return self.tokenizer.encode([text]).values
        return self.tokenizer.encode_tokens(_cut(text, self.kind)).values

    def encode_rows(self, texts: pl.Series) -> Ragged:
        """Numbers of the tokens of many texts, each for itself; missing ones are empty."""
        texts = texts.cast(pl.String).fill_null("")
        if self.tokenizer is None:
            encodings = self._bpe.encode_batch_fast(normalize(texts, self.settings).to_list(), add_special_tokens=False)
            values = np.fromiter((number for encoding in encodings for number in encoding.ids), np.int32)
            return Ragged(values + np.int32(len(_SPECIAL)), offsets_of([len(encoding.ids) for encoding in encodings]))
        if self.kind == "character":
            return self.tokenizer.encode(texts)
        return self.tokenizer.encode_tokens(texts.str.extract_all(_PATTERNS[self.kind]))

    def unknown(self, text: str) -> list[str]:
        """The parts of a text that the vocabulary lacks, each once, in their order."""
        if self.tokenizer is None:
            return []
        numbers = self.encode(text)
        return list(dict.fromkeys(part for part, number in zip(self.parts(text), numbers, strict=True) if number == UNKNOWN))

    def decoder(self) -> Decoder:
        """Tokens to text, one by one."""
        return Decoder(self)

    def decode(self, numbers: Sequence[int] | npt.NDArray[np.int32], *, replaced: Mapping[int, str] | None = None) -> str:
        """The text of tokens; for characters and byte-pair pieces the one they were encoded from.

        Args:
            numbers: of the tokens.
            replaced: by its place, what stands for a token instead; of characters and words only.
        """
        decoder, instead = self.decoder(), replaced or {}
        return "".join(decoder.text(int(number), instead.get(place)) for place, number in enumerate(numbers)) + decoder.end()

    def parts(self, text: str) -> list[str]:
        """The tokens of a text as it has them, known or not; bytes that are no whole character as U+FFFD."""
        if self.tokenizer is None:
            return [self.surface(int(number)) for number in self.encode_rows(series([text])).values]
        return list(normalize(series([text]), self.settings)[0]) if self.kind == "character" else _cut(text, self.kind)[0].to_list()

    @property
    def exact(self) -> bool:
        """Whether tokens give the text back, so that its characters can be counted by their probability."""
        return self.kind in ("character", "bpe")

    def number_of(self, token: str) -> int | None:
        """The number of a token that is in the vocabulary; None of another."""
        if self.tokenizer is None:
            found = self.encode(token)
            return int(found[0]) if len(found) == 1 else None
        number = self.tokenizer.pieces(token)[0]
        return None if number == UNKNOWN else number

    def surface(self, number: int) -> str:
        """One token as text; bytes that are no whole character as U+FFFD."""
        if self.tokenizer is not None:
            return self.tokenizer.tokens[number]
        return _SPECIAL[number] if number < len(_SPECIAL) else self.piece_bytes[number - len(_SPECIAL)].decode("utf-8", "replace")

    def whole_characters(self, number: int) -> int:
        """Characters of a text that are over with a token: one for a character that is not known, none for the beginning of one."""
        if self.tokenizer is not None:
            return 1 if number == UNKNOWN else len(self.tokenizer.tokens[number])
        return 0 if number < len(_SPECIAL) else len(self.piece_bytes[number - len(_SPECIAL)].decode("utf-8", "ignore"))

    def describe(self) -> str:
        """Kind and size, in words."""
        return f"{self.kind} tokens, vocabulary of {len(self):,}"

    def to_json(self) -> str:
        """Everything `from_json` needs, as ASCII text."""
        inner = None if self.tokenizer is None else self.tokenizer.to_json()
        fields = {"kind": self.kind, "tokenizer": inner, "merges": self.merges, "reason": self.reason}
        return json.dumps({"format": _FORMAT, "settings": self.settings.model_dump(), **fields})

    @classmethod
    def from_json(cls, text: str) -> TextCodec:
        """The codec that `to_json` wrote.

        Raises:
            DataError: the text is not one, or comes from a newer version.
        """
        try:
            content = json.loads(text)
            if content["format"] != _FORMAT:
                raise ValueError(f"format {content['format']} is newer than this version of Recurra")  # noqa: TRY301
            known = {name: value for name, value in content["settings"].items() if name in TextSettings.model_fields}
            tokenizer = None if content["tokenizer"] is None else Tokenizer.from_json(content["tokenizer"])
            return cls(content["kind"], tokenizer, content["merges"], TextSettings(**known), content["reason"])
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(f"This is not a saved vocabulary ({error!r}). Take it from a model folder that Recurra wrote.") from error

    @cached_property
    def _bpe(self) -> tokenizers.Tokenizer:
        import tokenizers

        return tokenizers.Tokenizer.from_str(self.merges)

    @cached_property
    def piece_bytes(self) -> list[bytes]:
        """The bytes of each byte-pair piece, by its number without the special tokens."""
        table = _bytes_of_signs()
        vocabulary = self._bpe.get_vocab()
        return [bytes(table[sign] for sign in piece) for piece in sorted(vocabulary, key=vocabulary.__getitem__)]


class Decoder:
    """Tokens to text as they come: what has been put out is never taken back.

    Args:
        codec: whose tokens they are.
    """

    def __init__(self, codec: TextCodec) -> None:
        self._codec = codec
        self._bytes = codecs.getincrementaldecoder("utf-8")("replace")
        self._before = LINE_END

    def text(self, number: int, instead: str | None = None) -> str:
        """What a token adds; nothing while it ends inside a character of several bytes.

        Args:
            number: of the token.
            instead: a character or word that stands for it.
        """
        codec = self._codec
        if codec.tokenizer is None:
            return "" if number < len(_SPECIAL) else self._bytes.decode(codec.piece_bytes[number - len(_SPECIAL)])
        token = codec.tokenizer.tokens[number] if instead is None else instead
        if instead is not None and codec.kind == "character":
            return instead
        if codec.kind == "character":
            return token if number > UNKNOWN else REPLACEMENT if number == UNKNOWN else ""
        joined = token if self._joins(token) else f" {token}"
        self._before = token
        return joined

    def _joins(self, token: str) -> bool:
        """Whether no blank stands before a token."""
        if LINE_END in (token, self._before):
            return True
        return self._codec.kind == "word" and (token in _CLOSING or self._before in _OPENING)

    def end(self) -> str:
        """What is left: U+FFFD for a character that was cut off."""
        return self._bytes.decode(b"", final=True)


def _choose(text: str, settings: TextSettings) -> tuple[CodecKind, str]:
    if settings.tokenizer == "auto":
        kind, reason = detect([series([text])])
        return ("character" if kind == "character" else "word"), reason
    kinds: dict[str, CodecKind] = {"character": "character", "word": "word", "whitespace": "whitespace", "bpe": "bpe"}
    return kinds[settings.tokenizer], f"{settings.tokenizer}: set"


def _cut(text: str, kind: CodecKind) -> pl.Series:
    """One row of tokens; line ends are tokens."""
    return series([text]).str.extract_all(_PATTERNS[kind])


def _joined_lines(lines: list[str]) -> list[str]:
    """Lines end at U+000A alone: what `splitlines` cut elsewhere is joined again."""
    joined: list[str] = []
    for line in lines:
        if joined and not joined[-1].endswith(LINE_END):
            joined[-1] += line
        else:
            joined.append(line)
    return joined


def _learn_pieces(texts: Iterator[str], settings: TextSettings) -> str:
    """A byte-level byte-pair model; its alphabet is all bytes, so that no text is outside of it."""
    import tokenizers

    size = settings.vocabulary_size - len(_SPECIAL)
    alphabet = tokenizers.pre_tokenizers.ByteLevel.alphabet()
    if size < len(alphabet):
        raise SettingsError(
            f"text.vocabulary_size={settings.vocabulary_size} is too small for byte-pair pieces, which begin with the {len(alphabet)} bytes: "
            f"give {len(alphabet) + len(_SPECIAL)} or more."
        )
    learner = tokenizers.Tokenizer(tokenizers.models.BPE())
    learner.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=size, min_frequency=settings.min_frequency, initial_alphabet=alphabet, show_progress=False
    )
    learner.train_from_iterator(
        (_joined_lines(normalize(series(text.splitlines(keepends=True)), settings).to_list()) for text in texts), trainer
    )
    return str(learner.to_str())


def _bytes_of_signs() -> dict[str, int]:
    """The byte that each sign of the byte-level alphabet stands for (Radford et al. 2019, `bytes_to_unicode`)."""
    plain = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in plain]
    return {chr(byte): byte for byte in plain} | {chr(256 + place): byte for place, byte in enumerate(others)}
