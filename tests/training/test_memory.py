"""The most memory that a process has held."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from recurra.training.memory import peak_memory

MIB = 2**20


@pytest.mark.skipif(sys.platform == "win32", reason="there is no figure to read on Windows")
def test_the_peak_stays_when_the_memory_is_given_back() -> None:
    """At least what was written to at one time; a process never holds more than its peak."""
    before = peak_memory()["process"]
    held = np.ones(2 * before * MIB // 8)
    size = held.nbytes // MIB
    del held
    after = peak_memory()["process"]
    assert after >= max(before, size)
    assert after <= before + size + 64  # the interpreter's own, a few MiB
