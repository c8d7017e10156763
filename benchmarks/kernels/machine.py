"""The machine that was measured: its names, its matrix-multiply rate, how busy it is."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

__all__ = ["busy_cores", "describe_machine", "matrix_rates"]

PACKAGES = ("recurra", "torch", "numpy", "onnxruntime", "onnx")
COUNTERS = Path("/proc/stat")
INSTRUCTIONS = ("avx2", "fma", "avx512f", "avx512_bf16", "avx512_fp16", "avx_vnni", "amx_tile", "asimd", "sve")
"""Instruction sets worth a name, as Linux spells them."""


def describe_machine() -> dict[str, Any]:
    """Versions, processor, instruction sets, threads and load, as plain values."""
    name, flags = _processor()
    return {
        "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "python": platform.python_version(),
        "system": platform.platform(),
        "packages": {package: _version(package) for package in PACKAGES},
        "processor": name,
        "instructions": [flag for flag in INSTRUCTIONS if flag in flags],
        "torch_instructions": torch.backends.cpu.get_cpu_capability(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
    }


def busy_cores(*, seconds: float = 0.3) -> float | None:
    """How many cores others keep busy while this process sleeps; None where Linux's counters are not."""
    if not COUNTERS.is_file():
        return None
    # Threads of our own that still wait busily would count as others.
    time.sleep(0.05)
    before, started = _busy_ticks(), time.perf_counter()
    time.sleep(seconds)
    return (_busy_ticks() - before) / os.sysconf("SC_CLK_TCK") / (time.perf_counter() - started)


def _busy_ticks() -> int:
    """Clock ticks of all cores that were not idle or waiting for a disk."""
    _, *fields = COUNTERS.read_text(encoding="ascii").splitlines()[0].split()
    user, nice, system, _idle, _waiting, *others = (int(field) for field in fields[:8])
    return user + nice + system + sum(others)


def matrix_rates(*, size: int = 2048, repeats: int = 5) -> list[float]:
    """Additions and multiplications a second of float32 matrix products of size x size; best of them is the rate."""
    a, b = torch.randn(size, size), torch.randn(size, size)
    out = torch.empty(size, size)
    torch.mm(a, b, out=out)
    return [2 * size**3 / _seconds(lambda: torch.mm(a, b, out=out)) for _ in range(repeats)]


def _seconds(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def _processor() -> tuple[str, set[str]]:
    """Name and flags of the processor."""
    path = Path("/proc/cpuinfo")
    fields: dict[str, str] = {}
    if path.is_file():
        for line in path.read_text(encoding="utf-8").splitlines():
            key, _, value = line.partition(":")
            fields.setdefault(key.strip(), value.strip())
    name = fields.get("model name") or platform.processor() or platform.machine()
    model = " ".join(fields[key] for key in ("cpu family", "model", "stepping") if key in fields)
    return f"{name} ({model})" if model else name, set(fields.get("flags", fields.get("Features", "")).split())


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
