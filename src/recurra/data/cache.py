"""The cache of encoded data: stores by the hash of what went into them.

An entry is looked up by key, built when missing or damaged, and the entries used longest ago are removed when all
together take more than `CACHE_LIMIT`. Several processes may use the same folder: each builds under its own temporary
name and the first to finish puts its entry in place.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

from recurra.data.store import FORMAT, Store, StoreWriter
from recurra.errors import DataError

__all__ = ["CACHE_LIMIT", "cache_folder", "cache_key", "cached", "prune_cache"]

CACHE_LIMIT = 10_000_000_000
"""Bytes that all entries together may take; the ones used longest ago go first."""
ABANDONED_AFTER = 24 * 3600.0
"""Seconds without a write after which a half-built entry belongs to a process that died."""


def cache_folder() -> Path:
    """`$RECURRA_CACHE`, or the platform's cache folder for Recurra (`~/.cache/recurra` on Linux)."""
    if given := os.environ.get("RECURRA_CACHE"):
        return Path(given).expanduser()
    from platformdirs import user_cache_path

    return user_cache_path("recurra", appauthor=False)


def cache_key(*parts: object) -> str:
    """A name for what depends on `parts` (anything JSON can hold): 32 hexadecimal digits of their SHA-256."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]


def cached(key: str, build: Callable[[StoreWriter], None], *, folder: Path | None = None, limit: int = CACHE_LIMIT) -> Store:
    """The entry `key`, built when it is missing, truncated or damaged.

    Args:
        key: from `cache_key`, over everything that the entry depends on.
        build: writes the columns.
        folder: where entries live; `cache_folder()` when not given.
        limit: bytes after which old entries are removed.

    Raises:
        DataError: the disk is full or the folder cannot be written; the message names the folder and `$RECURRA_CACHE`.
    """
    folder = folder or cache_folder()
    path = folder / f"encoded-{FORMAT}" / key
    for _ in range(3):  # an entry just made can vanish again when another process prunes or repairs at that moment
        store = _open(path)
        if store is not None:
            return store
        _remove(path)
        try:
            with StoreWriter(path) as writer:
                build(writer)
        except FileExistsError:  # another process finished the same entry meanwhile
            continue
        prune_cache(limit, folder=folder, keep=key)
    raise DataError(f"The cache entry {str(path)!r} cannot be kept: it is damaged as soon as it is written. Check the disk.")


def prune_cache(limit: int = CACHE_LIMIT, *, folder: Path | None = None, keep: str = "") -> list[Path]:
    """Remove the entries used longest ago until all together take at most `limit` bytes, and what dead builds left.

    An entry that another process has open stays readable there until it closes it (Linux, macOS), or stays (Windows).

    Args:
        limit: bytes; 0 empties the cache.
        folder: where entries live; `cache_folder()` when not given.
        keep: key of an entry that is never removed.

    Returns:
        The removed folders.
    """
    root = (folder or cache_folder()) / f"encoded-{FORMAT}"
    removed = []
    entries = []
    for path in sorted(root.iterdir()) if root.is_dir() else []:
        used, size = _use(path)
        if not used:
            continue
        if path.name.startswith("."):
            if time.time() - used > ABANDONED_AFTER:
                shutil.rmtree(path, ignore_errors=True)
                removed.append(path)
        else:
            entries.append((used, size, path))
    total = sum(size for _, size, _ in entries)
    for _, size, path in sorted(entries):
        if total <= limit:
            break
        if path.name != keep:
            _remove(path)
            removed.append(path)
            total -= size
    return removed


def _open(path: Path) -> Store | None:
    try:
        store = Store.open(path)
        os.utime(path / "index.json")  # marks the use, for the order of removal
    except (DataError, OSError):
        return None
    return store


def _use(path: Path) -> tuple[float, int]:
    """When an entry was last used or written, 0 for one that is gone, and its bytes. Files may vanish while they are looked at."""
    used, size = 0.0, 0
    try:
        with os.scandir(path) as inside:
            files = [path, *(Path(file) for file in inside)]
    except OSError:  # renamed by the process that finished it, or removed
        return used, size
    for file in files:
        try:
            status = file.stat()
        except OSError:
            continue
        used, size = max(used, status.st_mtime), size + status.st_size
    return used, size


def _remove(path: Path) -> None:
    """Rename first, so that no other process ever opens half an entry."""
    trash = path.with_name(f".{path.name}.{os.getpid()}.{os.urandom(4).hex()}.old")
    try:
        path.rename(trash)
    except OSError:  # not there, or another process removed it
        return
    shutil.rmtree(trash, ignore_errors=True)
