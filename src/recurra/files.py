"""Files that are there as a whole or not at all.

Not inside: what is written, and what a failure is called to the person at the keyboard.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO
from uuid import uuid4

__all__ = ["replacing"]


@contextmanager
def replacing(path: Path, *, temporary: Path | None = None) -> Iterator[IO[bytes]]:
    """A file to write that takes its name, on the disk, only when the block ends well; its permissions are those of any new file.

    Args:
        path: of the file; its folder must exist. A device or a pipe is no file that could be replaced: it gets the content as it is written.
        temporary: its name until then, in the same folder. Not given, it is one that no other writer has.

    Yields:
        The open file.

    Raises:
        OSError: it cannot be written; what stood at `path` before is untouched, and nothing is left behind.
    """
    if path.exists() and not (path.is_file() or path.is_dir()):  # a device or a pipe, such as /dev/null, is written to and stays
        with path.open("wb") as file:
            yield file
        return
    name = temporary or path.with_name(f".{path.name}.{uuid4().hex[:8]}.part")
    try:
        with name.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        name.replace(path)
    except BaseException:
        with suppress(OSError):
            name.unlink(missing_ok=True)
        raise
