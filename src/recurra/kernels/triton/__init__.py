"""What the Triton kernels of all operations share: launching, functions inside kernels, the torch operators made of them.

The kernels themselves stand in each operation's folder. They run on CUDA devices and, for their values, in Triton's interpreter
on a CPU. None has been timed on a GPU yet.
"""

from __future__ import annotations

from importlib.util import find_spec

__all__ = ["UNAVAILABLE"]

UNAVAILABLE = None if find_spec("triton") else "Triton is not installed: pip install 'recurra[triton]', or triton itself"
"""Why the Triton kernels cannot run; None when they can."""
