"""Settings from YAML files, dictionaries and `group.name=value`, and errors that name the nearest setting."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from types import UnionType
from typing import TYPE_CHECKING, Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError

from recurra.config.group import AS_SAVED
from recurra.config.settings import Settings
from recurra.config.tasks import UNUSED_SETTINGS, defaults_of, settle_targets, task_of
from recurra.errors import SettingsError, nearest

if TYPE_CHECKING:
    import yaml

__all__ = ["load_settings", "parse_assignment", "saved_settings"]

_AS_WRITTEN = (
    "target",
    "answer.question",
    "answer.context",
    "answer.span",
    "answer.no_answer",
    "data.types",
    "data.join",
    "data.columns",
    "data.group",
    "data.time",
    "data.ignore_labels",
    "data.label_separator",
    "text.vectors",
    "forecast.targets",
    "forecast.series",
    "forecast.past",
    "forecast.known",
    "forecast.static",
    "forecast.frequency",
    "forecast.time_zone",
    "language.text",
    "out_of_scope.label",
    "recommend.session",
    "recommend.item",
    "recommend.attributes",
    "several.targets",
    "several.tasks",
    "tag.tokens",
    "transfer.model",
    "transfer.columns",
    "translate.source",
    "training.monitor",
    "logging.wandb",
    "logging.mlflow",
)
"""Settings that hold names or labels: in YAML, too, they are the text that was written, be it 1e5, 007 or True."""
_MERGED = (("data", "types"), ("data", "join"))
"""Dictionaries that a later source adds to; all others it replaces."""


def parse_assignment(assignment: str) -> tuple[str, Any]:
    """`"encoder.hidden_size=256"` as `("encoder.hidden_size", 256)`; the value is read as YAML, names and labels as they are written.

    Raises:
        SettingsError: there is no `=`, or the value is not YAML.
    """
    import yaml

    key, equals, value = assignment.partition("=")
    if not equals or not key.strip():
        raise SettingsError(f"{assignment!r} is not a setting: write it as group.name=value, for example encoder.hidden_size=256.")
    try:
        return key.strip(), _load_yaml(value, key.strip())
    except yaml.YAMLError as error:
        raise SettingsError(f"The value of {key!r} cannot be read as YAML: {value!r} ({error}).") from error


def load_settings(*sources: str | Path | Mapping[str, Any] | Settings | None) -> Settings:
    """Settings from files and dictionaries; what comes later replaces what came before.

    Args:
        sources: paths of YAML (or JSON) files, nested dictionaries, flat ones with dotted keys
            (`{"encoder.hidden_size": 256}`), or `Settings`. None is skipped.

    Raises:
        SettingsError: a file is missing or not YAML, a key is unknown (with the nearest name), a value is out of range.
    """
    merged: dict[str, Any] = {}
    for source in sources:
        if source is None:
            continue
        if isinstance(source, Settings):
            given: Mapping[str, Any] = source.model_dump(exclude_unset=True)
        elif isinstance(source, (str, Path)):
            given = _read_yaml(Path(source))
        elif isinstance(source, Mapping):
            given = source
        else:
            raise SettingsError(f"Settings are a dictionary, a `Settings` or the path of a YAML file, not {source!r}.")
        nested = _nested(given)
        _check_groups(nested)
        _merge(merged, nested)
    merged = settle_targets(merged)
    task = task_of(merged)
    _refuse_unused(merged, task)
    defaults = _nested(defaults_of(task, merged))
    _merge(defaults, merged)
    return _validated(defaults, as_saved=False)


def saved_settings(saved: Mapping[str, Any]) -> Settings:
    """Settings as a model folder holds them: all are there, those of other tasks too, and those that do nothing beside the others.

    Raises:
        SettingsError: a key is unknown, or a value is out of range.
    """
    return _validated(saved, as_saved=True)


def _validated(values: Mapping[str, Any], *, as_saved: bool) -> Settings:
    try:
        return Settings.model_validate(values, context={AS_SAVED: as_saved})
    except ValidationError as error:
        raise SettingsError(_explain(error)) from error


def _refuse_unused(given: Mapping[str, Any], task: str) -> None:
    """Nothing is accepted and ignored: what another task's settings say, this one would not do.

    Raises:
        SettingsError: a setting has another value than its default and no effect on this task.
    """
    defaults = Settings().model_dump(mode="json")
    for group, values in given.items():
        for name, value in values.items() if isinstance(values, Mapping) else ((None, values),):
            path = group if name is None else f"{group}.{name}"
            if not any(path == unused or path.startswith(f"{unused}.") for unused in UNUSED_SETTINGS.get(task, ())):
                continue
            default = defaults.get(group)
            if value != (default if name is None or not isinstance(default, Mapping) else default.get(name)):
                raise SettingsError(f"{path} has no effect on the task {task!r}: leave it out.")


def _read_yaml(path: Path) -> Mapping[str, Any]:
    import yaml

    try:
        content = _load_yaml(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"The settings file {str(path)!r} cannot be read: {error.strerror}.") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise SettingsError(f"The settings file {str(path)!r} is not YAML: {error}.") from error
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise SettingsError(f"The settings file {str(path)!r} must hold `group: {{name: value}}`, not a {type(content).__name__}.")
    return content


def _load_yaml(text: str, path: str = "") -> Any:
    """YAML with the numbers and truth values of version 1.2 (core schema); `path` is the setting that the text is the value of.

    Version 1.1, PyYAML's own, takes `on` and `no` for truth values, `2024-01-01` for a date and `1e-3` for a text.
    """
    loader = _yaml_loader()(text)
    try:
        node = loader.get_single_node()
        _keep_text(node, path, set())
        return None if node is None else loader.construct_document(node)
    finally:
        loader.dispose()


@cache
def _yaml_loader() -> type[yaml.SafeLoader]:
    import yaml

    class Loader(yaml.SafeLoader):
        """YAML 1.2, core schema, and merge keys."""

        yaml_implicit_resolvers = {}  # as the base class has it; not its own, which are those of 1.1

        def construct_yaml_int(self, node: yaml.ScalarNode) -> int:
            return int(node.value, 0 if node.value[:2] in ("0o", "0x") else 10)

    Loader.add_constructor("tag:yaml.org,2002:int", Loader.construct_yaml_int)
    for kind, pattern, first in (
        ("null", "~|null|Null|NULL|", ["~", "n", "N", ""]),
        ("bool", "true|True|TRUE|false|False|FALSE", list("tTfF")),
        ("int", "[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", list("-+0123456789")),
        ("float", r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)", list("-+.0123456789")),
        ("merge", "<<", ["<"]),
    ):
        Loader.add_implicit_resolver(f"tag:yaml.org,2002:{kind}", re.compile(f"^(?:{pattern})$"), first)
    return Loader


def _keep_text(node: yaml.Node | None, path: str, seen: set[int]) -> None:
    """Make text of all keys, and of the values of settings that hold names. `seen`: an alias may lead back or be met very often."""
    import yaml

    if node is None or id(node) in seen:
        return
    seen.add(id(node))
    if isinstance(node, yaml.MappingNode):
        met: set[str] = set()
        for key, value in node.value:
            if isinstance(key, yaml.ScalarNode) and key.tag != "tag:yaml.org,2002:merge":
                if key.value in met:  # YAML forbids it, and PyYAML would drop what stands under the first one
                    raise yaml.composer.ComposerError(None, None, f"{key.value!r} stands there a second time: keep one", key.start_mark)
                met.add(key.value)
                key.tag = "tag:yaml.org,2002:str"
            _keep_text(value, f"{path}.{key.value}".lstrip("."), seen)
    elif isinstance(node, yaml.SequenceNode):
        for value in node.value:
            _keep_text(value, path, seen)
    elif node.tag != "tag:yaml.org,2002:null" and any(f"{path}.".startswith(f"{name}.") for name in _AS_WRITTEN):
        node.tag = "tag:yaml.org,2002:str"


def _nested(source: Mapping[str, Any]) -> dict[str, Any]:
    """Dotted keys at the top level become nested dictionaries, and groups what is set in them.

    Raises:
        SettingsError: a setting is there in both ways.
    """
    nested: dict[str, Any] = {}
    for key, value in source.items():
        group, dot, rest = str(key).partition(".")
        plain = value.model_dump(exclude_unset=True) if isinstance(value, BaseModel) else value
        given = {group: _nested({rest: plain})} if dot else {group: plain}
        for name in _twice(nested, given):
            raise SettingsError(f"{name!r} is given twice, in its group and by its dotted name: keep one.")
        _merge(nested, given)
    return nested


def _twice(first: Mapping[str, Any], second: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """What both give a value."""
    for key in first.keys() & second.keys():
        if isinstance(first[key], Mapping) and isinstance(second[key], Mapping):
            yield from _twice(first[key], second[key], f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}"


def _check_groups(given: Mapping[str, Any]) -> None:
    """Refuse what stands in the place of a group and is none; the task is looked for in the groups before all is validated."""
    for name, fields in _groups().items():
        if name in given and not isinstance(given[name], Mapping):
            first = next(iter(fields))
            value = json.dumps(given[name], default=str)
            raise SettingsError(f"{name} is a group of settings, as in {name}.{first}=...; it has no value of its own (given: {value}).")


def _merge(into: dict[str, Any], other: Mapping[str, Any], path: tuple[str, ...] = ()) -> None:
    """`other` over `into`, groups key by key, and the dictionaries of columns too: any other dictionary that is a value replaces."""
    for key, value in other.items():
        here = (*path, key)
        if isinstance(value, Mapping) and (here in _MERGED or (not path and key in Settings.model_fields)):
            known = into.get(key)
            into[key] = dict(known) if isinstance(known, Mapping) else {}
            _merge(into[key], value, here)
        else:
            into[key] = value


def _explain(error: ValidationError) -> str:
    """Pydantic's errors in one line each, with the nearest name for an unknown key."""
    lines = []
    allowed: dict[tuple[str, str], list[str]] = {}
    for item in error.errors():
        path = _without_choice([str(part) for part in item["loc"]])
        if item["type"] == "extra_forbidden":
            lines.append(f"There is no setting {'.'.join(path)!r}.{_nearest_setting(path)}")
        else:
            given = "" if item["type"] == "value_error" or not path else f" (given: {json.dumps(item['input'], default=str)})"
            message = item["msg"].removeprefix("Value error, ")
            allowed.setdefault((".".join(path), given), []).append(message)
    for (name, given), messages in allowed.items():
        first, *others = messages
        message = ", or ".join([first, *(other[:1].lower() + other[1:] for other in others)])
        lines.append(f"{name}: {message}{given}." if name else "\n".join(messages))
    return "\n".join(dict.fromkeys(lines))


def _without_choice(path: list[str]) -> list[str]:
    """The path of a value without pydantic's word for the one of several types that the value was held against."""
    group = Settings.model_fields.get(path[0]) if len(path) > 2 else None
    field = getattr(group.annotation, "model_fields", {}).get(path[1]) if group is not None else None
    choices = [] if field is None else [each for each in get_args(field.annotation) if each is not type(None)]
    of_several = field is not None and get_origin(field.annotation) in {Union, UnionType} and len(choices) > 1
    return [*path[:2], *path[3:]] if of_several else path


def _nearest_setting(path: list[str]) -> str:
    model: type[BaseModel] = Settings
    for part in path[:-1]:
        annotation = model.model_fields[part].annotation
        if not (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
            return ""
        model = annotation
    group = ".".join(path[:-1])
    hint = nearest(path[-1], model.model_fields)
    if hint:
        return hint.replace("'", f"'{group}.", 1) if group else hint
    homes = [f"{group}.{path[-1]}" for group in _groups() if path[-1] in _groups()[group]]
    if homes:
        return f" Did you mean {homes[0]!r}?"
    return f" Known here: {', '.join(model.model_fields)}."


def _groups() -> dict[str, Iterable[str]]:
    return {
        name: field.annotation.model_fields
        for name, field in Settings.model_fields.items()
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)
    }
