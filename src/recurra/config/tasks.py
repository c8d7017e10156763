"""What a task sets where the user sets nothing, and which settings have no effect on it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from recurra.config.forecast import FORECAST_DEFAULTS, FORECAST_UNUSED
from recurra.config.language import LANGUAGE_DEFAULTS, LANGUAGE_UNUSED
from recurra.config.recommend import RECOMMEND_DEFAULTS, RECOMMEND_UNUSED
from recurra.config.settings import Settings
from recurra.config.tag import TAG_DEFAULTS, TAG_UNUSED

__all__ = ["TASK_DEFAULTS", "UNUSED_SETTINGS", "target_settings", "task_of"]

TASK_DEFAULTS: dict[str, dict[str, Any]] = {
    "forecast": FORECAST_DEFAULTS,
    "language": LANGUAGE_DEFAULTS,
    "recommend": RECOMMEND_DEFAULTS,
    "tag": TAG_DEFAULTS,
}
"""By task, settings that replace the defaults of their groups."""
UNUSED_SETTINGS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("classify", "labels", "regress"), ("forecast", "language", "recommend", "tag")),
    "forecast": (*FORECAST_UNUSED, "language", "recommend", "tag"),
    "language": (*LANGUAGE_UNUSED, "tag"),
    "recommend": (*RECOMMEND_UNUSED, "language", "tag"),
    "tag": TAG_UNUSED,
}
"""By task, settings and groups of them that it does not read; any other value there than the default is refused."""


def task_of(given: Mapping[str, Any]) -> str:
    """The task that settings name: `head.task`, or the one whose own group of settings is there.

    Args:
        given: nested settings, as the user gave them.
    """
    task = (given.get("head") or {}).get("task", "auto")
    if task != "auto":
        return str(task)
    return next((name for name in TASK_DEFAULTS if _says_something(name, given.get(name) or {})), "auto")


def _says_something(group: str, values: Mapping[str, Any]) -> bool:
    """Whether a group of settings was meant: it is there, and not as a whole as it is by default (a record of all settings)."""
    if not values:
        return False
    default = getattr(Settings(), group).model_dump(mode="json")
    return bool(dict(values) != default)


def target_settings(target: str | Sequence[str] | None) -> dict[str, Any]:
    """The setting that names what is predicted: one column, or several to forecast."""
    names = [target] if isinstance(target, str) else list(target or [])
    if not names:
        return {}
    return {"target": names[0]} if len(names) == 1 else {"forecast.targets": names}
