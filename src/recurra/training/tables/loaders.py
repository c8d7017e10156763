"""The batches of a training: shuffled and noisy for the training rows, in order of length for the validation rows."""

from __future__ import annotations

import numpy as np

from recurra.data.augment import Augmentation
from recurra.data.buckets import LengthBuckets
from recurra.data.loader import Loader
from recurra.data.split import Part
from recurra.features.text import TextFeature
from recurra.model.inference import row_lengths
from recurra.training.devices import process_rank
from recurra.training.rows import UNLABELLED
from recurra.training.tables.prepare import Prepared

__all__ = ["loaders", "train_buckets", "train_rows"]


def train_rows(prepared: Prepared) -> np.ndarray:
    """Numbers of the rows that are trained on, with and without a target."""
    return np.flatnonzero(np.isin(prepared.parts, (Part.TRAIN, UNLABELLED)))


def train_buckets(prepared: Prepared) -> LengthBuckets:
    """Which training rows make a batch of this process."""
    chosen = prepared.plan.settings.training
    lengths = row_lengths(prepared.inputs)[train_rows(prepared)]
    return LengthBuckets(
        lengths,
        batch_size=chosen.batch_size,
        batch_tokens=chosen.batch_tokens,
        seed=chosen.seed,
        processes=chosen.devices,
        rank=process_rank(),
    )


def loaders(prepared: Prepared) -> tuple[Loader, Loader | None]:
    """Batches of the training rows, and of the validation rows where there are any."""
    settings = prepared.plan.settings
    targets = prepared.target_columns
    noise = {
        feature.name: Augmentation(settings.augmentation, feature.tokenizer)
        for feature in prepared.features
        if isinstance(feature, TextFeature)
    }
    train = Loader(prepared.inputs, train_buckets(prepared), targets=targets, rows=train_rows(prepared), augment=noise)
    rows = prepared.part(Part.VALIDATION)
    if not len(rows):
        return train, None
    chosen = settings.training
    buckets = LengthBuckets(
        row_lengths(prepared.inputs)[rows], batch_size=4 * chosen.batch_size, batch_tokens=2 * chosen.batch_tokens, shuffle=False
    )
    return train, Loader(prepared.inputs, buckets, targets=targets, rows=rows)
