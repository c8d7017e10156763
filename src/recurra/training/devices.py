"""Where a network is trained, by which process, and in which arithmetic."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager, nullcontext

import torch

from recurra.config import TrainingSettings
from recurra.errors import SettingsError

__all__ = ["autocast", "choose_device", "process_rank"]


def choose_device(settings: TrainingSettings) -> torch.device:
    """The device that `training.device` means here; "auto" is CUDA, then Apple's MPS, then the CPU.

    Raises:
        SettingsError: the device asked for is not there, there are fewer than `training.devices` of it, or it cannot
            do `training.precision`.
    """
    cuda, mps = torch.cuda.is_available(), torch.backends.mps.is_available()
    name = settings.device
    if name == "auto":
        name = "cuda" if cuda else "mps" if mps else "cpu"
    if (name == "cuda" and not cuda) or (name == "mps" and not mps):
        raise SettingsError(f"training.device={name!r}: torch {torch.__version__} sees no such device here. Use training.device=auto.")
    if settings.precision == "float16" and name != "cuda":
        raise SettingsError(
            f"training.precision='float16' needs a CUDA device (its small range needs a loss scaler); here it would run on {name!r}. "
            "Use bfloat16 or float32."
        )
    present = torch.cuda.device_count() if name == "cuda" else 1 if name == "mps" else settings.devices
    if settings.devices > present:
        raise SettingsError(f"training.devices={settings.devices}, but there are {present} devices of type {name!r} here.")
    return torch.device(name)


def autocast(settings: TrainingSettings, device: torch.device) -> AbstractContextManager[object]:
    """The mixed precision of `training.precision` for code outside the trainer."""
    if settings.precision == "float32":
        return nullcontext()
    return torch.autocast(device.type, dtype=getattr(torch, settings.precision))


def process_rank() -> int:
    """Number of this process among those that share a training; Lightning starts the others with the same command."""
    return int(os.environ.get("LOCAL_RANK", "0"))
