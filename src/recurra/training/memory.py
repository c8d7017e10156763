"""The most memory that a process has held."""

from __future__ import annotations

import sys
from pathlib import Path

import torch

__all__ = ["peak_memory"]


def peak_memory() -> dict[str, int]:
    """In MiB since the process began: `process`, its own memory (not on Windows), and `gpu` where torch holds some there.

    The memory-mapped arrays of the data count as far as they are read, though the system takes them back when others want memory.
    """
    found = {}
    status = Path("/proc/self/status")
    if status.exists():  # not what getrusage tells on Linux: that begins with the peak of the process that started this one
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        found["process"] = int(line.split()[1]) // 1024
    elif sys.platform == "darwin":
        import resource

        found["process"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 20
    if torch.cuda.is_available() and torch.cuda.max_memory_allocated():
        found["gpu"] = torch.cuda.max_memory_allocated() >> 20
    return found
