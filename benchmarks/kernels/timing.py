"""The clock: contenders take turns, A B A B, so that what slows the machine down for a while slows all of them.

A figure is the median of several samples; a ratio is taken pair by pair, between samples of the same round, and is the
median of these. Every sample is kept.
"""

from __future__ import annotations

import gc
import math
import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Set

import torch

from benchmarks.kernels.options import Effort

__all__ = ["LEAST_ROUNDS", "geometric_mean", "interleave", "pair_ratios"]

LEAST_ROUNDS = 3
"""Samples that every contender gets however long they take: the fewest that have a median worth the name."""

REST = 0.02
"""Seconds before a sample in which the threads of the contender before it fall asleep: the worker threads of OpenMP wait
busily for some 15 ms after their last job, and would take a core from a contender that has threads of its own."""

AWAKE = 0.03
"""Seconds of untimed calls before a sample: its threads are then awake and its data in the cache. A thread that slept is often
woken on the core of the one that calls it, and waits there for milliseconds before the system finds it another."""

BRIEF = 0.05
"""A call of this many seconds or more is awake by itself for most of its time, and has no untimed one before it."""


def interleave(calls: Mapping[str, Callable[[], object]], *, effort: Effort, slow: Set[str] = frozenset()) -> dict[str, list[float]]:
    """Seconds of a call, sample by sample.

    Args:
        calls: the contenders by name.
        effort: how long.
        slow: contenders that get `LEAST_ROUNDS` samples and no more.

    Returns:
        For each contender its samples, in order of rounds: the n-th samples of two contenders were taken side by side.
    """
    brief = {name: _seconds(call) for name, call in calls.items()}
    samples: dict[str, list[float]] = {name: [] for name in calls}
    names = list(calls)
    # One thread for all leaves no thread waiting.
    rest = REST if torch.get_num_threads() > 1 else 0.0
    gc.collect()
    gc.disable()
    try:
        started = time.perf_counter()
        for number in range(max(effort.repeats, LEAST_ROUNDS)):
            if number >= LEAST_ROUNDS and time.perf_counter() - started > effort.seconds:
                break
            # Each begins a round in its turn: going first is no advantage.
            shift = number % len(names)
            for name in names[shift:] + names[:shift]:
                if name not in slow or number < LEAST_ROUNDS:
                    samples[name].append(_sample(calls[name], brief[name], effort.sample, rest))
    finally:
        gc.enable()
    return samples


def _seconds(call: Callable[[], object]) -> float:
    """How long a call takes, roughly; the first one, which allocates and chooses, does not count when it is short."""
    seconds = _timed(call, 1)
    return min(_timed(call, 1) for _ in range(3)) if seconds < BRIEF else seconds


def _sample(call: Callable[[], object], seconds: float, least: float, rest: float) -> float:
    time.sleep(rest)
    if seconds < BRIEF:
        _timed(call, max(1, math.ceil(AWAKE / seconds)))
    return _timed(call, max(1, math.ceil(least / seconds)))


def _timed(call: Callable[[], object], times: int) -> float:
    started = time.perf_counter()
    for _ in range(times):
        call()
    return (time.perf_counter() - started) / times


def pair_ratios(mine: list[float], other: list[float]) -> list[float]:
    """How many times longer the other took, round by round."""
    return [theirs / ours for ours, theirs in zip(mine, other, strict=False)]


def geometric_mean(values: Iterable[float]) -> float:
    """The mean of ratios: half and double make one."""
    return statistics.geometric_mean(values)
