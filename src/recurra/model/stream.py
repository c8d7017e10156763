"""Rows that come piece by piece: the model's state is kept, and every prediction costs what the piece costs.

Whole rows are predicted by `Model.predict`.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence as Many
from copy import deepcopy
from typing import Any

import numpy as np
import polars as pl
import torch
from torch import nn

from recurra.config import Settings
from recurra.config.numbers import require_whole
from recurra.data.batch import Sequence
from recurra.data.surrogates import without_surrogates
from recurra.errors import SettingsError
from recurra.features import Feature
from recurra.features.text import TextFeature, TokenEmbedding
from recurra.heads import Output, RowHead
from recurra.layers import Stack, TokenNgrams
from recurra.layers.stepper import Stepper
from recurra.model.network import Network
from recurra.shapes import Tensor

__all__ = ["Stream"]

POOLED = ("last", "mean", "max", "max_mean")
"""Poolings that go on from step to step; attention weighs every step anew with each one that comes."""
MOST_PIECES = 400_000
"""Pieces whose token numbers are kept: words come again and again, and to cut one takes longer than all else that is done with it."""
LONGEST_PIECE = 50
"""Characters, or tokens of a list, of a piece that is kept."""


class Stream:
    """Streams through a trained model; `Model.stream` makes it.

    After all pieces of a row the prediction is that of the whole row, except that a row is never cut off at
    `text.max_length` (a piece is). Pieces are cut into tokens one by one: give whole words, or, where the tokens are
    characters, any text with its blanks.

    What is computed beforehand of the whole vocabulary, `fork` shares: a server makes one stream and forks it for
    everyone who comes.

    Args:
        network: with trained weights; they are copied.
        features: of the model: one, of text or tokens.
        head: of the model.
        settings: of the model.
        streams: S, rows at the same time.
        half_weights: keep the matrices of the recurrence in 16 bits; see `recurra.layers.Stepper`.

    Attributes:
        streams: S.
        steps: (S,) tokens that each stream has read.

    Raises:
        SettingsError: the model cannot read piece by piece; the message says why.
        BackendUnavailable: 16 bits are asked for, and there are no compiled steps of the model's cell.
    """

    def __init__(
        self,
        network: Network,
        features: Many[Feature],
        head: Output,
        settings: Settings,
        *,
        streams: int = 1,
        half_weights: bool = False,
    ) -> None:
        if not isinstance(head, RowHead):
            raise SettingsError(
                "A stream predicts one target after every piece; tags need the whole row, and so do several targets: use predict."
            )
        _check(features, settings)
        if network.linear is not None:
            raise SettingsError(
                "This model has a linear model beside its network, which counts the tokens of a whole row: train one with head.linear=none to stream."
            )
        require_whole("streams", streams, least=1)
        feature = features[0]
        stack, embedding = next(iter(network.encoders.values())), network.embedding_of(feature.name)
        assert isinstance(feature, TextFeature)
        assert isinstance(stack, Stack)
        assert isinstance(embedding, TokenEmbedding)
        self._feature, self._head = feature, head
        self._output = deepcopy(network.output).eval()
        self._weight = next(self._output.parameters())
        self._pooling = settings.encoder.pooling
        # N-grams of tokens reach back over pieces; all else of a token's vector is the same wherever it stands.
        vectors, ngrams = _vectors(embedding, len(feature.tokenizer.tokens))
        self._reach = max((table.order - 1 for table in ngrams), default=0)
        self._ngrams = [(table, _array(table.weight)) for table in ngrams]
        self._vectors = _array(vectors if ngrams else vectors[:0])
        self._stepper = Stepper(stack, streams=streams, embedding=None if ngrams else vectors, half_weights=half_weights)
        self._known: dict[Any, np.ndarray] = {None: np.zeros(0, np.int64)}
        self._numbers(feature.tokenizer.tokens[: MOST_PIECES // 2])
        self._set_streams(streams, stack.output_size)

    def _set_streams(self, streams: int, size: int) -> None:
        self.streams = streams
        self.steps = np.zeros(streams, np.int64)
        self._before = np.zeros((streams, self._reach), np.int64)
        self._last, self._sum, self._most = np.zeros((streams, size)), np.zeros((streams, size)), np.full((streams, size), -np.inf)

    def feed(self, pieces: str | Many[Any], *, top: int | None = None) -> pl.DataFrame:
        """Read the next piece of every stream and predict.

        Args:
            pieces: for each stream a text, or a list of tokens where the column holds lists; None for nothing new. For a
                single stream also the text alone.
            top: also the most probable labels, so many.

        Returns:
            The predictions as they stand now, one row for each stream; the columns are those of `Model.predict`.

        Raises:
            ValueError: there is not one piece for each stream.
            TypeError: a piece is no text and no list of tokens.
            SettingsError: `top` is less than one.
        """
        self.read(pieces)
        return self.predict(top=top)

    def read(self, pieces: str | Many[Any]) -> None:
        """Read the next piece of every stream without predicting, which takes longer than the reading.

        Args:
            pieces: as `feed` takes them.

        Raises:
            ValueError: there is not one piece for each stream.
            TypeError: a piece is no text and no list of tokens.
        """
        given = [pieces] if isinstance(pieces, str) else list(pieces)
        if len(given) != self.streams:
            raise ValueError(f"Give one piece for each of the {self.streams} streams, None for nothing new; these are {len(given)}.")
        tokens = self._numbers(given)
        read = 0
        for end in sorted({len(row) for row in tokens} - {0}):  # all that still have tokens go on together
            running = [number for number, row in enumerate(tokens) if len(row) >= end]
            self._run(running, np.stack([tokens[number][read:end] for number in running]))
            read = end

    def predict(self, *, top: int | None = None) -> pl.DataFrame:
        """The predictions as they stand now, one row for each stream.

        Args:
            top: also the most probable labels, so many.

        Raises:
            SettingsError: `top` is less than one.
        """
        if top is not None:
            require_whole("top", top, least=1)
        with torch.inference_mode():
            outputs = self._output(torch.from_numpy(self._pooled()).to(self._weight))
        return self._head.predict(outputs.float().cpu().numpy(), top=top)

    def reset(self, rows: Many[int] | None = None) -> None:
        """Begin a new row in some streams; in all when None.

        Raises:
            IndexError: there is no such stream.
        """
        self._stepper.reset(rows)
        chosen = list(range(self.streams) if rows is None else rows)
        self.steps[chosen], self._before[chosen], self._most[chosen] = 0, 0, -np.inf
        self._last[chosen] = self._sum[chosen] = 0.0

    def fork(self, rows: Many[int]) -> Stream:
        """Streams of their own that go on from these: to see what the prediction would be after one piece or another.

        Args:
            rows: for every stream of the new one the number of the stream it copies; repeats are allowed.

        Raises:
            IndexError: there is no such stream.
        """
        made = object.__new__(Stream)
        chosen = list(rows)
        made.__dict__.update(self.__dict__)
        made._stepper = self._stepper.fork(chosen)
        made.streams = len(chosen)
        for name in ("steps", "_before", "_last", "_sum", "_most"):
            setattr(made, name, getattr(self, name)[chosen])
        return made

    def explain_backend(self) -> str:
        """What computes the steps, and why."""
        return self._stepper.explain_backend()

    def _numbers(self, pieces: Many[Any]) -> list[np.ndarray]:
        """The token numbers (T,) of each piece."""
        for piece in pieces:
            if not isinstance(piece, (str, list, tuple, type(None))):
                raise TypeError(f"A piece is a text, a list of tokens or None, not {piece!r}.")
        keys = [tuple(piece) if isinstance(piece, list) else piece for piece in pieces]
        found = [self._known.get(key) for key in keys]
        new = list(dict.fromkeys(key for key, numbers in zip(keys, found, strict=True) if numbers is None))
        if not new:
            return found  # type: ignore[return-value]
        made: dict[Any, np.ndarray] = {}
        for kind, dtype in ((str, pl.String), (tuple, pl.List(pl.String))):
            alike = [key for key in new if isinstance(key, kind)]
            if alike:
                made.update(zip(alike, self._encode(alike, dtype), strict=True))
        if len(self._known) + len(made) > MOST_PIECES:
            self._known = {None: self._known[None]}
        self._known.update({key: numbers for key, numbers in made.items() if len(key) <= LONGEST_PIECE})
        return [made[key] if numbers is None else numbers for key, numbers in zip(keys, found, strict=True)]

    def _encode(self, pieces: list[Any], dtype: Any) -> list[np.ndarray]:
        """The token numbers of texts, or of lists of tokens, none of which is missing."""
        rows = self._feature.encode(pl.Series(self._feature.name, without_surrogates(pieces), dtype=dtype))
        return [rows.values[begin:end].astype(np.int64) for begin, end in itertools.pairwise(rows.offsets.tolist())]

    def _run(self, running: list[int], tokens: np.ndarray) -> None:
        """The same number of tokens (N, T) into some streams."""
        inputs = tokens
        if self._ngrams:
            known = np.concatenate([self._before[running], tokens], 1)
            self._before[running] = known[:, known.shape[1] - self._reach :]
            inputs = self._vectors[tokens]
            for table, weight in self._ngrams:
                before = [known[:, self._reach - n : known.shape[1] - n] for n in range(1, table.order)]
                inputs += sum(weight[rows] for rows in table.rows(tokens, before))
        everyone = len(running) == self.streams
        stepper = self._stepper if everyone else self._stepper.fork(running)
        outputs = stepper.step(inputs[:, 0])[:, None] if tokens.shape[1] == 1 else stepper.run(inputs)
        if not everyone:
            self._stepper.restore(stepper.snapshot(), running)
        steps = outputs.astype(np.float64)
        rows = slice(None) if everyone else running
        self.steps[rows] += tokens.shape[1]
        self._last[rows] = steps[:, -1]
        if "mean" in self._pooling:
            self._sum[rows] += steps.sum(1)
        if "max" in self._pooling:
            self._most[rows] = np.maximum(self._most[rows], steps.max(1))

    def _pooled(self) -> np.ndarray:
        """(S, E) the vectors of the rows so far; zeros where nothing was read."""
        parts = []
        if "max" in self._pooling:
            parts.append(np.where(self.steps[:, None] > 0, self._most, 0.0))
        if "mean" in self._pooling:
            parts.append(self._sum / np.maximum(self.steps, 1)[:, None])
        return np.concatenate(parts, 1) if parts else self._last


def _vectors(embedding: TokenEmbedding, tokens: int) -> tuple[Tensor, list[TokenNgrams]]:
    """(V, F) the vectors of all tokens wherever they stand, and the tables of what else they have."""
    plain = deepcopy(embedding).eval()
    ngrams = [table for table in plain.ngrams if isinstance(table, TokenNgrams)]
    plain.ngrams = nn.ModuleList(table for table in plain.ngrams if not isinstance(table, TokenNgrams))
    every = Sequence(torch.arange(tokens)[None], torch.tensor([tokens]))
    with torch.inference_mode():
        vectors: Tensor = plain(every.to(plain.embedding.weight.device))
    return vectors[0], ngrams


def _array(tensor: Tensor) -> np.ndarray:
    """As float32, or float64 where it is that: numpy has no bfloat16."""
    plain = tensor.detach().cpu()
    return (plain if plain.dtype == torch.float64 else plain.float()).numpy()


def _check(features: Many[Feature], settings: Settings) -> None:
    """Refuse what has no running value."""
    if [feature.kind for feature in features] != ["sequence"] or not isinstance(features[0], TextFeature):
        names = ", ".join(f"{feature.name} ({feature.type})" for feature in features)
        raise SettingsError(f"Only a model of one text, or of one column of tokens, can read piece by piece; this one reads {names}.")
    if settings.encoder.bidirectional:
        raise SettingsError(
            "This model reads its text from both ends, and a stream has no end yet: train one with encoder.bidirectional=false to stream."
        )
    if settings.encoder.pooling not in POOLED:
        raise SettingsError(
            f"The pooling {settings.encoder.pooling!r} weighs all steps anew with every new one: "
            f"train with encoder.pooling set to {', '.join(POOLED)} to stream."
        )
