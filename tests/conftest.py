"""One thread, the same generated examples every time, and shapes checked at every annotated boundary of the numerical rooms."""

import os
from collections.abc import Iterator
from functools import partial

os.environ.setdefault("OMP_NUM_THREADS", "1")

import jaxtyping
from jaxtyping import install_import_hook

install_import_hook(["recurra.kernels", "recurra.cells", "recurra.layers"], "beartype.beartype")

import pytest  # noqa: E402 - after the hook
import torch  # noqa: E402 - after the hook and the number of threads
from hypothesis import settings  # noqa: E402 - after the hook

torch.set_num_threads(1)

settings.register_profile("repeatable", derandomize=True)
settings.register_profile("explore", derandomize=False)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "repeatable"))

from jobs import _own_cache, folder, models, quiet_report  # noqa: E402, F401 - fixtures of the whole job


@pytest.fixture
def unchecked() -> Iterator[None]:
    """Annotations are not checked: sizes that torch traces are no integers, and the check itself cannot be traced."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.fixture
def unwritten_memory_is_nan(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What is saved has room for every step and for whole vectors, and only real steps and units are written: two calls differ
    in the rest. With this it is NaN in all of them, and NaN is NaN; whoever reads it gets NaN too."""
    monkeypatch.setattr(torch.testing, "assert_close", partial(torch.testing.assert_close, equal_nan=True))
    torch.use_deterministic_algorithms(True)  # has torch fill new memory with NaN
    yield
    torch.use_deterministic_algorithms(False)
