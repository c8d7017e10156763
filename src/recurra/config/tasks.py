"""What a task sets where the user sets nothing, and which settings have no effect on it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from recurra.config.answer import ANSWER_DEFAULTS, ANSWER_UNUSED
from recurra.config.forecast import FORECAST_DEFAULTS, FORECAST_UNUSED
from recurra.config.language import LANGUAGE_DEFAULTS, LANGUAGE_UNUSED
from recurra.config.recommend import RECOMMEND_DEFAULTS, RECOMMEND_UNUSED
from recurra.config.settings import Settings
from recurra.config.several import SEVERAL_DEFAULTS, SEVERAL_UNUSED
from recurra.config.tag import TAG_DEFAULTS, TAG_UNUSED
from recurra.config.transfer import TRANSFER_DEFAULTS, TRANSFER_TAKEN
from recurra.config.translate import TRANSLATE_DEFAULTS, TRANSLATE_UNUSED
from recurra.errors import SettingsError

__all__ = ["TASK_DEFAULTS", "UNUSED_SETTINGS", "defaults_of", "settle_targets", "target_settings", "task_of"]

TASK_DEFAULTS: dict[str, dict[str, Any]] = {
    "answer": ANSWER_DEFAULTS,
    "forecast": FORECAST_DEFAULTS,
    "language": LANGUAGE_DEFAULTS,
    "recommend": RECOMMEND_DEFAULTS,
    "several": SEVERAL_DEFAULTS,  # before tag, whose settings serve a head of several
    "tag": TAG_DEFAULTS,
    "translate": TRANSLATE_DEFAULTS,
}
"""By task, settings that replace the defaults of their groups."""
_ROWS = ("classify", "labels", "regress", "tag", "several")
_READERS: dict[str, tuple[str, ...]] = {
    **{task: (task,) for task in TASK_DEFAULTS},
    "tag": ("tag", "several"),
    "head.linear": ("classify",),
    "out_of_scope": ("classify", "several"),
    "semi_supervised": ("classify",),
    "transfer": (*_ROWS, "language"),
}
"""By setting or group of settings that is not for all, the tasks that read it."""
_OWN: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(_ROWS, ()),
    "answer": ANSWER_UNUSED,
    "forecast": FORECAST_UNUSED,
    "language": LANGUAGE_UNUSED,
    "recommend": RECOMMEND_UNUSED,
    "several": SEVERAL_UNUSED,
    "tag": TAG_UNUSED,
    "translate": TRANSLATE_UNUSED,
}
UNUSED_SETTINGS: dict[str, tuple[str, ...]] = {
    task: (*own, *(group for group, readers in _READERS.items() if task not in readers)) for task, own in _OWN.items()
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


def defaults_of(task: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """What is set where the user sets nothing, by dotted names: for the task, and for a training that begins with a trained model.

    Args:
        task: of `task_of`.
        given: nested settings, as the user gave them.
    """
    defaults = TASK_DEFAULTS.get(task, {})
    if not (given.get("transfer") or {}).get("model"):
        return defaults
    kept = {name: value for name, value in defaults.items() if name not in TRANSFER_TAKEN}
    return {**kept, **TRANSFER_DEFAULTS}


def _says_something(group: str, values: Mapping[str, Any]) -> bool:
    """Whether a group of settings was meant: it is there, and not as a whole as it is by default (a record of all settings)."""
    if not values:
        return False
    default = getattr(Settings(), group).model_dump(mode="json")
    return bool(dict(values) != default)


def target_settings(target: str | Sequence[str] | None) -> dict[str, Any]:
    """The setting that names what is predicted: a column, or a list of them, which `settle_targets` gives to the task that they make."""
    names = [target] if isinstance(target, str) else list(target or [])
    if not names:
        return {}
    return {"target": names[0] if len(names) == 1 else names}


def settle_targets(given: Mapping[str, Any]) -> dict[str, Any]:
    """Settings in which a list of targets stands where its task reads it.

    Series have several columns to forecast where anything else speaks of series: the task, a setting of `forecast`, a column of
    times, or "*" for all columns of numbers. Otherwise every column has a head of its own.

    Args:
        given: nested settings, as the user gave them; `target` may be a list.

    Raises:
        SettingsError: the task that is set has one target only, or the targets are named twice, differently.
    """
    targets = given.get("target")
    if not isinstance(targets, (list, tuple)):
        return dict(given)
    settled = {name: value for name, value in given.items() if name != "target"}
    if len(targets) < 2:
        return {**settled, **({"target": targets[0]} if targets else {})}
    task = task_of(given)
    if task in ("auto", "several", "tag") and (given.get("head") or {}).get("task", "auto") in ("auto", "several"):
        series = task == "auto" and ("*" in targets or (given.get("data") or {}).get("time") is not None)
        task = "forecast" if series else "several"
    if task not in ("forecast", "several"):
        raise SettingsError(
            f"The task {task!r} has one target, and {len(targets)} are named ({', '.join(map(str, targets))}). Leave the task out (or set it to "
            "several) to learn a head for each of them, or set it to forecast where they are columns of series."
        )
    group = dict(settled.get(task) or {})
    if group.get("targets") not in (None, [], list(targets)):
        raise SettingsError(
            f"target ({list(targets)}) and {task}.targets ({group['targets']}) both say what is predicted: give one of them."
        )
    return {**settled, task: {**group, "targets": list(targets)}}
