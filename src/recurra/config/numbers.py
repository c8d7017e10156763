"""Numbers that a function is given: refused with the same error as those of the settings."""

from __future__ import annotations

from numbers import Integral, Real
from typing import Any

from recurra.errors import SettingsError

__all__ = ["require_number", "require_whole"]


def require_whole(name: str, value: Any, *, least: int) -> None:
    """Refuse what is no whole number of at least `least`.

    Raises:
        SettingsError: it is none.
    """
    if isinstance(value, bool) or not isinstance(value, Integral) or int(value) < least:
        raise SettingsError(f"{name} is {value!r}: give a whole number, {least} or more.")


def require_number(name: str, value: Any) -> None:
    """Refuse what is no number, of whatever size.

    Raises:
        SettingsError: it is none.
    """
    if isinstance(value, bool) or not isinstance(value, Real):
        raise SettingsError(f"{name} is {value!r}: give a number.")
