"""The random numbers of a run: seeded once, recorded, and carried through checkpoints.

Everything random in the main thread draws from Python's, numpy's or torch's global generator. The loader's thread does
not: its noise depends on (seed, epoch, batch) alone.
"""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch

__all__ = ["random_state", "restore_random_state", "seed_everything"]


def seed_everything(seed: int) -> dict[str, int | str]:
    """Seed Python's, numpy's and torch's generators (all devices).

    Args:
        seed: 0 to 2**32 - 1.

    Returns:
        What decides whether a run can be repeated bit by bit, for `run.json`: the seed, the generators it went to, and
        torch's threads (sums over threads are added in another order when their number changes).
    """
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 - the global generator is what third-party code draws from
    torch.manual_seed(seed)
    return {"seed": seed, "generators": "python, numpy, torch", "threads": torch.get_num_threads(), "torch": torch.__version__}


def random_state() -> dict[str, Any]:
    """The state of all generators, of types that `torch.load(weights_only=True)` reads."""
    name, keys, position, has_gauss, gauss = np.random.get_state(legacy=True)  # noqa: NPY002
    state = {
        "python": random.getstate(),
        "numpy": (name, torch.from_numpy(np.asarray(keys).astype(np.int64)), position, has_gauss, gauss),
        "torch": torch.get_rng_state(),
    }
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state_all()
    return state


def restore_random_state(state: dict[str, Any]) -> None:
    """Put all generators where `random_state` found them."""
    random.setstate(state["python"])
    name, keys, position, has_gauss, gauss = state["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), position, has_gauss, gauss))  # noqa: NPY002
    torch.set_rng_state(state["torch"])
    if "cuda" in state and torch.cuda.is_available() and len(state["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(state["cuda"])
