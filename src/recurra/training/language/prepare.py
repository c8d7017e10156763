"""From text to numbered tokens in the cache: one flat array a part, and the vocabulary of the training part."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path

import numpy as np

from recurra.config import Settings
from recurra.data.cache import cache_key, cached
from recurra.data.codec import TextCodec
from recurra.data.store import Store, StoreWriter
from recurra.data.texts import RunningText
from recurra.data.tokenize import UNKNOWN
from recurra.errors import EmptyData
from recurra.shapes import Int

__all__ = ["PARTS", "PreparedText", "prepare"]

VERSION = 2
"""Of what is written into the cache."""
PARTS = ("train", "validation", "test")
FEWEST = 2
"""Tokens of a part: one that is read and one that is predicted."""


@dataclass(frozen=True)
class PreparedText:
    """Text that is ready to be learnt.

    Attributes:
        settings: of the run.
        codec: the vocabulary of the training part.
        tokens: (N,) numbers by part; parts without text are not there.
        characters: of each part.
        fingerprint: hash of the text.
        description: where it comes from.
        left_out: lines and rows that could not be read.
    """

    settings: Settings
    codec: TextCodec
    tokens: Mapping[str, Int[np.ndarray, " N"]]
    characters: Mapping[str, int]
    fingerprint: str
    description: str
    left_out: int

    @property
    def unknown(self) -> dict[str, int]:
        """Tokens of each part that the vocabulary lacks."""
        return {part: int((tokens == UNKNOWN).sum()) for part, tokens in self.tokens.items()}


def prepare(
    text: RunningText,
    given: Mapping[str, RunningText],
    settings: Settings,
    *,
    known: TextCodec | None = None,
    cache: Path | None,
    say: Callable[[str], None],
) -> PreparedText:
    """Split, learn the vocabulary, encode.

    Parts that are not given are shares of the text's characters from its end, test last; each begins with a line where there is one.

    Args:
        text: to train on.
        given: validation and test text, where the user gave it.
        settings: `text`, `data.validation_share` and `data.test_share` are read.
        known: the vocabulary that the new one goes on with, where the training begins with a trained model.
        cache: folder for the encoded text; the user's cache when None.
        say: shows a line.

    Raises:
        EmptyData: a part has fewer than two tokens.
        RowError: a line is no UTF-8.
    """
    prints = {"train": text.fingerprint(), **{part: each.fingerprint() for part, each in given.items()}}
    shares = {part: 0.0 if part in given else share for part, share in _shares(settings).items()}
    key = cache_key("language", VERSION, prints, shares, settings.text.model_dump(mode="json"), settings.data.on_error)
    key = key if known is None else cache_key(key, known.to_json())

    def build(writer: StoreWriter) -> None:
        say(f"reading {text.description}")
        _build(writer, text, given, settings, shares=shares, known=known)

    store = cached(key, build, folder=cache)
    codec = TextCodec.from_json(store.meta["codec"])
    _check(store, shares, text.description)
    tokens = {part: np.asarray(store[part]) for part in PARTS if part in store}
    fingerprint = cache_key(prints)
    return PreparedText(settings, codec, tokens, store.meta["characters"], fingerprint, text.description, store.meta["left_out"])


def _shares(settings: Settings) -> dict[str, float]:
    return {"validation": settings.data.validation_share, "test": settings.data.test_share}


def _build(
    writer: StoreWriter,
    text: RunningText,
    given: Mapping[str, RunningText],
    settings: Settings,
    *,
    shares: Mapping[str, float],
    known: TextCodec | None,
) -> None:
    """Three passes: how long the text is, the vocabulary, the tokens."""
    total = sum(len(piece) for piece in text.pieces())
    ends = [round(total * (1.0 - shares["validation"] - shares["test"])), round(total * (1.0 - shares["test"]))]
    codec = TextCodec.fit((piece for part, piece in _parts(text, ends) if part == "train"), settings.text)
    codec = codec if known is None else codec.continuing(known)
    characters = dict.fromkeys(PARTS, 0)
    sources: list[Iterator[tuple[str, str]]] = [_parts(text, ends)]
    sources += [zip(repeat(part), each.pieces()) for part, each in given.items()]
    for source in sources:
        for part, piece in source:
            writer.append(part, codec.encode(piece))
            characters[part] += len(piece)
    writer.meta = {
        "codec": codec.to_json(),
        "characters": {part: count for part, count in characters.items() if count},
        "left_out": text.left_out + sum(each.left_out for each in given.values()),
    }


def _parts(text: RunningText, ends: list[int]) -> Iterator[tuple[str, str]]:
    """The pieces of a text with the part that each belongs to; cut behind the line end that follows each of `ends`."""
    before, part = 0, 0
    for whole in text.pieces():
        piece = whole
        while part < len(ends) and before + len(piece) > ends[part]:
            line_end = piece.find("\n", max(0, ends[part] - before - 1))
            cut = line_end + 1 if 0 <= line_end < len(piece) - 1 else max(0, ends[part] - before)
            if cut:
                yield PARTS[part], piece[:cut]
            before, piece, part = before + cut, piece[cut:], part + 1
        if piece:
            yield PARTS[part], piece
        before += len(piece)


def _check(store: Store, shares: Mapping[str, float], description: str) -> None:
    for part in PARTS:
        count = len(store[part]) if part in store else 0
        if count < FEWEST and (part in store or part == "train" or shares[part]):
            raise EmptyData(
                f"The {part} part of {description} has {count} tokens, and {FEWEST} are needed: give more text, files for the parts, "
                "or set data.validation_share and data.test_share."
            )
