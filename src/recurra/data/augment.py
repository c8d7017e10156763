"""Noise on the tokens of training rows: unknown words, exchanged neighbours, misspellings.

Functions of `Ragged` rows and a seeded generator; they never change the rows they are given. Drawing the generator of
a batch is the loader's work.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from recurra.config import AugmentationSettings
from recurra.data.store import Ragged, offsets_of
from recurra.data.tokenize import UNKNOWN, Tokenizer

__all__ = ["Augmentation", "character_noise", "swap", "word_dropout"]

_DROP, _DOUBLE, _REPLACE, _EXCHANGE = range(4)


@dataclass(frozen=True)
class Augmentation:
    """The noise of the settings, in this order: exchanged neighbours, misspellings, unknown words.

    Attributes:
        settings: the three shares.
        tokenizer: that of the rows.
    """

    settings: AugmentationSettings
    tokenizer: Tokenizer

    def __call__(self, rows: Ragged, generator: np.random.Generator) -> Ragged:
        """The rows with noise; the same generator state gives the same noise."""
        if self.settings.swap:
            rows = swap(rows, self.settings.swap, generator)
        if self.settings.character_noise:
            rows = character_noise(rows, self.settings.character_noise, generator, tokenizer=self.tokenizer)
        if self.settings.word_dropout:
            rows = word_dropout(rows, self.settings.word_dropout, generator)
        return rows


def word_dropout(rows: Ragged, share: float, generator: np.random.Generator) -> Ragged:
    """Each token becomes the unknown token with probability `share`.

    Source: Iyyer et al. 2015, section 3.2 (where the token is removed; here the length stays).
    """
    dropped = generator.random(len(rows.values)) < share
    if rows.values.ndim == 1:
        return Ragged(np.where(dropped, rows.values.dtype.type(UNKNOWN), rows.values), rows.offsets)
    values = np.array(rows.values)
    values[dropped, 0] = UNKNOWN  # what stands beside a token's number, its spelling, stays
    return Ragged(values, rows.offsets)


def swap(rows: Ragged, share: float, generator: np.random.Generator) -> Ragged:
    """Each token is exchanged with its right neighbour of the same row with probability `share`.

    A token takes part in one exchange at most: of chosen tokens that follow each other every second one counts.
    """
    return Ragged(_exchange(rows, generator.random(len(rows.values)) < share), rows.offsets)


def _exchange(rows: Ragged, chosen: npt.NDArray[np.bool_]) -> npt.NDArray[np.int32]:
    """The values with each chosen step and its right neighbour in exchanged places."""
    chosen = chosen.copy()
    ends = rows.offsets[1:][rows.lengths > 0] - 1
    chosen[ends] = False
    steps = np.arange(len(chosen))
    # Distance to the last step that was not chosen: odd ones of a run count, even ones are taken by their left neighbour.
    before = np.maximum.accumulate(np.where(chosen, -1, steps))
    left = steps[chosen & ((steps - before) % 2 == 1)]
    values = np.array(rows.values)
    values[left], values[left + 1] = rows.values[left + 1], rows.values[left]
    return values


def character_noise(rows: Ragged, share: float, generator: np.random.Generator, *, tokenizer: Tokenizer) -> Ragged:
    """Each token is misspelt with probability `share`: one character dropped, doubled, replaced or moved one to the right.

    A token of a character model is its own character. All other tokens are misspelt in writing and numbered again: a
    word that becomes one the vocabulary lacks is unknown, a byte-pair piece becomes the pieces of its misspelling, so
    that rows can get longer. The unknown token stays as it is.

    Source: Belinkov & Bisk 2018, section 4.2 (swap), extended by dropping, doubling and replacing.
    """
    chosen = (generator.random(len(rows.values)) < share) & (np.asarray(rows.values) > UNKNOWN)
    if tokenizer.kind == "character":
        return _misspell_characters(rows, chosen, generator, len(tokenizer))
    steps = np.flatnonzero(chosen)
    # All draws at once: what one token gets does not depend on the others.
    draws = generator.random((len(steps), 3)).tolist()
    surfaces = [tokenizer.surface(number) for number in rows.values[steps].tolist()]
    pieces = [tokenizer.pieces(_misspelt(text, draw, tokenizer.alphabet)) for text, draw in zip(surfaces, draws, strict=True)]
    times = np.ones(len(rows.values), np.int64)
    times[steps] = [len(numbers) for numbers in pieces]
    values = np.repeat(rows.values, times)
    values[np.repeat(chosen, times)] = [number for numbers in pieces for number in numbers]
    return _repeated(rows, values, times)


def _misspell_characters(rows: Ragged, chosen: npt.NDArray[np.bool_], generator: np.random.Generator, size: int) -> Ragged:
    operation = generator.integers(4, size=len(rows.values))
    others = generator.integers(UNKNOWN + 1, max(size, UNKNOWN + 2), size=len(rows.values))
    values = np.where(chosen & (operation == _REPLACE), others.astype(rows.values.dtype), rows.values)
    values = _exchange(Ragged(values, rows.offsets), chosen & (operation == _EXCHANGE))
    times = np.ones(len(values), np.int64)
    times[chosen & (operation == _DROP)] = 0
    times[chosen & (operation == _DOUBLE)] = 2
    return _repeated(rows, np.repeat(values, times), times)


def _repeated(rows: Ragged, values: npt.NDArray[np.int32], times: npt.NDArray[np.int64]) -> Ragged:
    """Rows whose steps have become `times` steps each."""
    return Ragged(values, offsets_of(times)[rows.offsets - rows.offsets[0]])


def _misspelt(text: str, draw: list[float], alphabet: list[str]) -> str:
    """One edit of the characters after a leading blank.

    Args:
        text: a token's surface.
        draw: three numbers from 0 to 1: which edit, at which character, by which other.
        alphabet: what a character is replaced by.
    """
    blank, letters = (text[0], text[1:]) if text[:1] == " " else ("", text)
    if not letters:
        return text
    operation = int(draw[0] * 4)
    if len(letters) == 1 and operation in {_DROP, _EXCHANGE}:
        operation = _REPLACE
    at = int(draw[1] * (len(letters) - (operation == _EXCHANGE)))
    middle = {
        _DROP: "",
        _DOUBLE: letters[at] * 2,
        _REPLACE: alphabet[int(draw[2] * len(alphabet))],
        _EXCHANGE: letters[at + 1 : at + 2] + letters[at],
    }[operation]
    return blank + letters[:at] + middle + letters[at + 1 + (operation == _EXCHANGE) :]
