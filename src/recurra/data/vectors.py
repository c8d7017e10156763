"""Word vectors from a GloVe or fastText text file, for the tokens of a vocabulary."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from recurra.errors import DataError, RowError

__all__ = ["WordVectors", "read_vectors", "vector_size"]


@dataclass(frozen=True, eq=False)
class WordVectors:
    """Vectors for a vocabulary.

    Attributes:
        matrix: (V, F) float32; zeros where the file has no vector.
        found: (V,) True where it has one.
    """

    matrix: npt.NDArray[np.float32]
    found: npt.NDArray[np.bool_]

    @property
    def coverage(self) -> float:
        """Share of the tokens, padding and unknown aside, that have a vector."""
        return float(self.found[2:].mean()) if len(self.found) > 2 else 0.0


def read_vectors(path: str | Path, tokens: Sequence[str]) -> WordVectors:
    """Read the vectors of `tokens`; all other lines are only checked for their number of fields.

    A line is a word and its numbers, divided by blanks; the first line may be a header of two whole numbers (fastText,
    word2vec). A token gets the vector of the same word or, when there is none, of its lower-case form. Where a word
    stands twice, its first line counts.

    Args:
        path: text file, gzipped when its name ends in `.gz`.
        tokens: the vocabulary by number; the first two (padding, unknown) get no vector.

    Raises:
        DataError: the file cannot be read, is empty, or holds vectors of none of the tokens.
        RowError: a line has another number of fields than the first or something that is no finite number in them.
    """
    path = Path(path)
    exact = {token.encode("utf-8", "replace"): number for number, token in enumerate(tokens) if number > 1}
    lower = _lower_case(tokens)
    matrix = np.zeros((len(tokens), 0), np.float32)
    quality = np.zeros(len(tokens), np.int8)  # 2: the same word, 1: its lower-case form
    with _opened(path) as file:
        size = 0
        for line, (word, numbers) in _lines(file, path):
            if not size:
                size = numbers.count(b" ") + 1
                matrix = np.zeros((len(tokens), size), np.float32)
            same = exact.get(word)
            wanted = [number for number in lower.get(word, ()) if quality[number] < 1]
            if same is not None and quality[same] < 2:
                wanted.append(same)
            if wanted:
                matrix[wanted] = _floats(numbers, path, line)
                quality[wanted] = 1
            if same is not None:
                quality[same] = 2
    if not size:
        raise DataError(f"The file of word vectors {str(path)!r} is empty: each line must hold a word and its numbers.")
    if not quality.any():
        raise DataError(
            f"The file of word vectors {str(path)!r} holds none of the {len(tokens) - 2} tokens. "
            "Give vectors of the same language, and the tokenizer 'word' (text.tokenizer=word)."
        )
    return WordVectors(matrix, quality > 0)


def vector_size(path: str | Path) -> int:
    """Numbers of a vector in a file of word vectors.

    Raises:
        DataError: the file cannot be read or is empty.
        RowError: its first line holds no vector.
    """
    path = Path(path)
    with _opened(path) as file:
        for _, (_, numbers) in _lines(file, path):
            return numbers.count(b" ") + 1
    raise DataError(f"The file of word vectors {str(path)!r} is empty: each line must hold a word and its numbers.")


def _lower_case(tokens: Sequence[str]) -> dict[bytes, list[int]]:
    forms: dict[bytes, list[int]] = {}
    for number, token in enumerate(tokens):
        if number > 1 and token.lower() != token:
            forms.setdefault(token.lower().encode("utf-8", "replace"), []).append(number)
    return forms


def _lines(file: Iterable[bytes], path: Path) -> Iterator[tuple[int, tuple[bytes, bytes]]]:
    """Number, word and numbers of each line. Words may hold blanks (GloVe 840B has some): numbers are told from the end."""
    size = 0
    for line, raw in enumerate(file, start=1):
        text = raw.rstrip()
        if not text:
            continue
        if line == 1 and _is_header(text):
            size = int(text.split()[1])
            continue
        size = size or text.count(b" ")
        if size and text.count(b" ") == size:
            word, _, numbers = text.partition(b" ")
        else:
            fields = text.rsplit(b" ", size)
            if len(fields) != size + 1 or size == 0:
                raise RowError(
                    f"a word and {size or 'its'} numbers are needed, given: {text[:60].decode(errors='replace')!r}. "
                    "Give a GloVe or fastText file in text form.",
                    source=str(path),
                    line=line,
                )
            word, numbers = fields[0], b" ".join(fields[1:])
        yield line, (word, numbers)


def _is_header(text: bytes) -> bool:
    fields = text.split()
    return len(fields) == 2 and all(field.isdigit() for field in fields)


def _floats(numbers: bytes, path: Path, line: int) -> npt.NDArray[np.float32]:
    try:
        vector = np.array(numbers.split(b" "), dtype=np.float32)
    except ValueError as error:
        raise RowError(f"something in the vector is not a number ({error}).", source=str(path), line=line) from error
    if not np.isfinite(vector).all():
        raise RowError("the vector holds a number that is not finite.", source=str(path), line=line)
    return vector


@contextmanager
def _opened(path: Path) -> Iterator[Iterable[bytes]]:
    try:
        with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as file:
            yield file
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"The file of word vectors {str(path)!r} cannot be read: {reason}. Check the path (text.vectors).") from error
