"""The batches of a training of text to text: pairs of similar length."""

from __future__ import annotations

import numpy as np

from recurra.data.buckets import LengthBuckets
from recurra.data.loader import Loader
from recurra.data.split import Part
from recurra.model.translate.network import SOURCE, TARGET
from recurra.training.devices import process_rank
from recurra.training.translate.prepare import PreparedPairs

__all__ = ["loaders"]


def loaders(prepared: PreparedPairs) -> tuple[Loader, Loader | None]:
    """Batches of the training pairs, and of the validation pairs where there are any."""
    chosen = prepared.settings.training
    inputs = {SOURCE: prepared.sources, TARGET: prepared.targets}
    lengths = np.maximum(prepared.sources.lengths, prepared.targets.lengths + 1)
    rows = prepared.part(Part.TRAIN)
    buckets = LengthBuckets(
        lengths[rows],
        batch_size=chosen.batch_size,
        batch_tokens=chosen.batch_tokens,
        seed=chosen.seed,
        processes=chosen.devices,
        rank=process_rank(),
    )
    train = Loader(inputs, buckets, rows=rows)
    held_out = prepared.part(Part.VALIDATION)
    if not len(held_out):
        return train, None
    even = LengthBuckets(lengths[held_out], batch_size=2 * chosen.batch_size, batch_tokens=2 * chosen.batch_tokens, shuffle=False)
    return train, Loader(inputs, even, rows=held_out)
