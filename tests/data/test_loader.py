from __future__ import annotations

import threading
import time

import numpy as np
import pytest
import torch

from recurra.config import AugmentationSettings, TextSettings
from recurra.data.augment import Augmentation
from recurra.data.batch import Batch, Sequence
from recurra.data.buckets import LengthBuckets
from recurra.data.loader import Loader
from recurra.data.store import Ragged
from recurra.data.tokenize import Tokenizer

TEXTS = [" ".join(f"w{(i * j) % 11}" for j in range(i % 9)) for i in range(40)]
TOKENIZER = Tokenizer.fit([TEXTS], TextSettings(tokenizer="word", min_frequency=1))
COLUMN = TOKENIZER.encode(TEXTS)
TARGETS = np.arange(40) % 3
NOISE = Augmentation(AugmentationSettings(word_dropout=0.3, swap=0.2, character_noise=0.2), TOKENIZER)


def loader(rows=None, *, noise=True, seed=0, **changes) -> Loader:
    lengths = COLUMN.lengths if rows is None else COLUMN.lengths[rows]
    buckets = LengthBuckets(lengths, batch_size=4, batch_tokens=64, seed=seed)
    inputs = {"text": COLUMN, "price": np.arange(40.0), "flag": np.arange(40) % 2 == 0}
    augment = {"text": NOISE} if noise else None
    return Loader(inputs, buckets, **({"targets": {"y": TARGETS}, "rows": rows, "augment": augment} | changes))


def same(left: Batch, right: Batch) -> bool:
    return (
        torch.equal(left.inputs["text"].values, right.inputs["text"].values)
        and torch.equal(left.inputs["text"].lengths, right.inputs["text"].lengths)
        and torch.equal(left.rows, right.rows)
    )


def loader_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("recurra-loader")]


def test_batches_hold_the_rows():
    seen = []
    for batch in loader(noise=False):
        text = batch.inputs["text"]
        assert isinstance(text, Sequence)
        assert text.values.dtype == text.lengths.dtype == batch.targets["y"].dtype == batch.rows.dtype == torch.int64
        assert batch.inputs["price"].dtype == torch.float32
        assert batch.inputs["price"].tolist() == batch.rows.tolist()
        assert batch.targets["y"].tolist() == (batch.rows % 3).tolist()
        assert batch.inputs["flag"].tolist() == (batch.rows % 2 == 0).long().tolist()
        for row, values, length in zip(batch.rows.tolist(), text.values, text.lengths.tolist(), strict=True):
            assert values[:length].tolist() == COLUMN[row].tolist()
            assert not values[length:].any()
        seen += batch.rows.tolist()
    assert sorted(seen) == list(range(40))


def test_rows_of_one_part():
    part = np.array([3, 30, 8, 21, 5])
    batches = list(loader(part, noise=False))
    assert sorted(row for batch in batches for row in batch.rows.tolist()) == sorted(part.tolist())
    for batch in batches:
        assert batch.inputs["text"].lengths.tolist() == [len(COLUMN[row]) for row in batch.rows.tolist()]


def test_several_sequences_and_vectors_and_no_targets():
    frames = Ragged(np.random.default_rng(0).normal(size=(6, 2)), np.array([0, 4, 4, 6]))
    tokens = Ragged.from_rows([[2], [2, 3], []])
    buckets = LengthBuckets(frames.lengths + tokens.lengths, batch_size=3, batch_tokens=64, shuffle=False)
    (batch,) = Loader({"frames": frames, "tokens": tokens}, buckets)
    assert batch.inputs["frames"].values.shape == (3, 4, 2)
    assert batch.inputs["frames"].values.dtype == torch.float32
    assert batch.inputs["tokens"].lengths.tolist() == [len(tokens[row]) for row in batch.rows.tolist()]
    assert batch.targets == {}


def test_epochs_follow_each_other():
    data = loader()
    assert len(data) == len(list(data))
    assert data.state_dict() == {"epoch": 1, "position": 0}
    second = list(data)
    again = loader()
    again.set_epoch(1)
    assert all(same(*pair) for pair in zip(second, again, strict=True))


def test_noise_is_new_each_epoch_and_each_seed():
    def steps(seed, epoch):
        data = loader(seed=seed)
        data.set_epoch(epoch)
        return {
            row: values.tolist() for batch in data for row, values in zip(batch.rows.tolist(), batch.inputs["text"].values, strict=True)
        }

    assert steps(0, 0) == steps(0, 0)
    assert steps(0, 0) != steps(0, 1)
    assert steps(0, 0) != steps(1, 0)


def test_processes_draw_different_noise():
    ones = Ragged(np.full(40 * 20, 5, np.int32), np.arange(41) * 20)
    patterns = []
    for rank in (0, 1):
        buckets = LengthBuckets(ones.lengths, batch_size=20, batch_tokens=10_000, processes=2, rank=rank)
        (batch,) = Loader({"text": ones}, buckets, augment={"text": Augmentation(AugmentationSettings(word_dropout=0.5), TOKENIZER)})
        patterns.append(batch.inputs["text"].values)
    assert not torch.equal(*patterns)


@pytest.mark.parametrize("stop", [0, 1, 3, -1])
def test_resume_in_the_middle_is_exact(stop):
    whole = list(loader(seed=3))
    stop %= len(whole) + 1
    first = loader(seed=3)
    iterator = iter(first)
    for _ in range(stop):
        next(iterator)
    state = first.state_dict()  # batches made ahead do not count
    iterator.close()
    assert state == {"epoch": 0, "position": stop}
    resumed = loader(seed=3)
    resumed.load_state_dict(state)
    resumed.set_epoch(0)  # what a trainer does at the start of the epoch
    rest = list(resumed)
    assert len(rest) == len(whole) - stop
    assert all(same(*pair) for pair in zip(rest, whole[stop:], strict=True))
    assert resumed.state_dict() == {"epoch": 1, "position": 0}
    assert len(list(resumed)) == len(whole)


def test_early_exit_starts_anew_and_leaves_no_thread():
    data = loader()
    for number, _batch in enumerate(data, start=1):
        if number == 2:
            break
    assert loader_threads() == []
    assert data.state_dict() == {"epoch": 0, "position": 2}
    assert len(list(data)) == len(data)


def test_error_of_the_consumer_leaves_no_thread():
    data = loader()

    def consume():
        for _batch in data:
            raise RuntimeError

    with pytest.raises(RuntimeError):
        consume()
    assert loader_threads() == []


def test_error_of_the_thread_is_raised():
    def broken(rows, generator):
        raise ZeroDivisionError("in the thread")

    with pytest.raises(ZeroDivisionError, match="in the thread"):
        list(loader(augment={"text": broken}))
    assert loader_threads() == []


def test_batches_are_made_ahead_but_not_more_than_asked():
    made = []

    def watched(rows, generator):
        made.append(1)
        return rows

    iterator = iter(loader(augment={"text": watched}, prefetch=3))
    next(iterator)
    deadline = time.monotonic() + 10
    while len(made) < 3 and time.monotonic() < deadline:
        time.sleep(0.001)
    time.sleep(0.02)
    assert len(made) == 3
    iterator.close()


def test_waiting_is_measured():
    def slow(rows, generator):
        time.sleep(0.005)
        return rows

    hungry = loader(augment={"text": slow})
    assert hungry.waiting_share == 0.0
    list(hungry)
    # The consumer does nothing, the maker sleeps: the consumer waits nearly all the time.
    assert 0.5 < hungry.waiting_share <= 1.0
    fed = loader(noise=False)
    for _batch in fed:
        time.sleep(0.005)
    # A batch takes well under a millisecond to make, behind the consumer's five.
    assert fed.waiting_share < 0.5


def test_noise_for_no_sequence():
    with pytest.raises(ValueError, match=r"price"):
        loader(augment={"price": NOISE})


def test_quick_enough_never_to_starve_a_model():
    """Batches of 64 rows of 50 tokens; about 5,000 a second on an idle core, a hundredth of it is the floor."""
    rows = 64 * 100
    column = Ragged(np.random.default_rng(0).integers(2, 9_999, rows * 50).astype(np.int32), np.arange(rows + 1) * 50)
    data = Loader(
        {"text": column}, LengthBuckets(column.lengths, batch_size=64, batch_tokens=16_384), targets={"y": np.zeros(rows, np.int64)}
    )
    begun = time.perf_counter()
    count = sum(1 for _ in data)
    assert count / (time.perf_counter() - begun) > 50
