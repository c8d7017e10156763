"""The batches of a training: shuffled windows with noise for the training part, in order of length for the validation part."""

from __future__ import annotations

from recurra.data.augment import Augmentation
from recurra.data.buckets import LengthBuckets
from recurra.data.loader import Loader
from recurra.model.answer.network import ANSWERS
from recurra.model.answer.running import window_buckets
from recurra.training.answer.prepare import PreparedQuestions
from recurra.training.devices import process_rank

__all__ = ["loaders", "train_buckets"]


def train_buckets(prepared: PreparedQuestions) -> LengthBuckets:
    """Which training windows make a batch of this process."""
    chosen = prepared.settings.training
    return LengthBuckets(
        prepared.windows["train"].inputs["context"].lengths,
        batch_size=chosen.batch_size,
        batch_tokens=chosen.batch_tokens,
        seed=chosen.seed,
        processes=chosen.devices,
        rank=process_rank(),
    )


def loaders(prepared: PreparedQuestions) -> tuple[Loader, Loader | None]:
    """Batches of the training windows, and of the validation windows where there are any."""
    noise = Augmentation(prepared.settings.augmentation, prepared.encoder.tokenizer)
    windows = prepared.windows["train"]
    train = Loader(windows.inputs, train_buckets(prepared), targets={ANSWERS: windows.spans}, augment={"question": noise, "context": noise})
    held_out = prepared.windows.get("validation")
    if held_out is None:
        return train, None
    buckets = window_buckets(held_out, prepared.settings.training)
    return train, Loader(held_out.inputs, buckets, targets={ANSWERS: held_out.spans})
