"""From numbered outputs to texts: the words of the tokens, and words of the source in place of unknown ones (Luong et al. 2015b)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl

from recurra.config import TranslateSettings
from recurra.data.codec import TextCodec
from recurra.data.store import Ragged
from recurra.data.tokenize import UNKNOWN
from recurra.decoding import Hypothesis
from recurra.model.translate.measuring import alignments
from recurra.model.translate.network import TranslateNetwork

__all__ = ["names_unknown", "worded"]


def names_unknown(codec: TextCodec, settings: TranslateSettings) -> bool:
    """Whether an unknown token may be written, for a word of the source takes its place; byte-pair pieces have none.

    Args:
        codec: the vocabulary.
        settings: of the run.
    """
    return codec.kind != "bpe" and settings.replace_unknown


def worded(
    network: TranslateNetwork, codec: TextCodec, given: pl.Series, sources: Ragged, written: Sequence[Sequence[Hypothesis]]
) -> list[list[str]]:
    """The texts of outputs.

    In place of an unknown token stands the word of the source that is attended to most. Where tokens are copied it is one of those that are
    unknown themselves, for a known one would have been written.

    Args:
        network: that wrote them.
        codec: its vocabulary.
        given: the sources as they were given.
        sources: their numbers.
        written: outputs of each.
    """
    flat = [(row, each) for row, outputs in enumerate(written) for each in outputs]
    lacking = [place for place, (_, each) in enumerate(flat) if UNKNOWN in each.tokens]
    replaced: dict[int, dict[int, str]] = {}
    if lacking:
        rows = [flat[place][0] for place in lacking]
        targets = Ragged.from_rows([flat[place][1].tokens for place in lacking])
        for place, row, weights in zip(lacking, rows, alignments(network, sources.take(rows), targets), strict=True):
            parts = codec.parts(given[row].strip())
            unknown = sources[row] == UNKNOWN
            looked = np.where(unknown, weights, -1.0) if network.head.copies and unknown.any() else weights
            tokens = flat[place][1].tokens
            replaced[place] = {at: parts[int(looked[at].argmax())] for at, token in enumerate(tokens) if token == UNKNOWN}
    texts = [codec.decode(each.tokens, replaced=replaced.get(place)).strip() for place, (_, each) in enumerate(flat)]
    remaining = iter(texts)
    return [[next(remaining) for _ in outputs] for outputs in written]
