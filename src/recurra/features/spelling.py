"""How a token is spelt, as numbers that need no vocabulary: its shape, and its characters in their own case."""

from __future__ import annotations

import numpy as np
import polars as pl

__all__ = ["CHARACTERS", "SHAPES", "WIDTH", "spell"]

CHARACTERS = 2_048
"""Numbers of characters: 0 for none, and the code point modulo 2,047, plus one. Those of one alphabet do not meet."""
SHAPES = 9
"""Numbers of shapes, 0 for padding; see `_shape`."""
BEGINNING, ENDING = 14, 8
"""Characters of a long token that are read: those of its beginning and those of its end."""
WIDTH = 1 + BEGINNING + ENDING
"""Numbers of a token: the shape, then the characters."""


def spell(tokens: pl.Series) -> np.ndarray:
    """(S, WIDTH) int32 numbers of tokens as the user wrote them; a missing token has none.

    Args:
        tokens: of all rows, end to end.
    """
    tokens = tokens.fill_null("")
    distinct = tokens.unique(maintain_order=True)
    table = np.zeros((len(distinct), WIDTH), np.int32)
    for row, token in enumerate(distinct.to_list()):
        table[row, 0] = _shape(token)
        shown = token if len(token) <= BEGINNING + ENDING else token[:BEGINNING] + token[-ENDING:]
        table[row, 1 : 1 + len(shown)] = [1 + ord(character) % (CHARACTERS - 1) for character in shown]
    rows = tokens.cast(pl.Enum(distinct)).to_physical().to_numpy()
    spelt: np.ndarray = table[rows]
    return spelt


def _shape(token: str) -> int:
    """1 small, 2 one capital letter, 3 Capital, 4 ALL CAPITALS, 5 miXed, 6 digits (with signs between), 7 digits and letters, 8 signs."""
    letters = [character for character in token if character.isalpha()]
    digits = any(character.isdigit() for character in token)
    if not letters:
        return 6 if digits else 8
    if digits:
        return 7
    upper = [character.isupper() for character in letters]
    if not any(upper):
        return 1
    if all(upper):
        return 2 if len(letters) == 1 else 4
    return 3 if upper[0] and not any(upper[1:]) else 5
