"""Lone surrogates: what bytes that were no UTF-8 reach Python as, and what no table and no file can hold."""

from __future__ import annotations

from typing import Any

__all__ = ["without_surrogates"]


def without_surrogates(value: Any) -> Any:
    """A text, or lists and dictionaries of texts, with every lone surrogate as U+FFFD and every pair of two as its one character.

    What is no text stays as it is; a tuple becomes a list.
    """
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, dict):
        return {without_surrogates(key): without_surrogates(inner) for key, inner in value.items()}
    return [without_surrogates(inner) for inner in value] if isinstance(value, (list, tuple)) else value
