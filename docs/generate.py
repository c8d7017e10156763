"""Pages that are written from the code: settings, command line, Python API.

Run by mkdocs (plugin gen-files, see mkdocs.yml), so that these pages cannot fall behind. The functions return Markdown.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from recurra.cli import app
from recurra.config import Settings

__all__ = ["API", "COMMANDS", "api_page", "command_page", "settings_page", "write"]

COMMANDS = ("train", "evaluate", "predict", "forecast", "backtest", "recommend", "generate", "dialogues", "chat", "settings", "doctor")
"""The commands, in the order of a person's work."""

API: dict[str, tuple[str, list[str]]] = {
    "models": (
        "Train, load, predict",
        [
            "recurra.training.train.train",
            "recurra.model.load.load",
            "recurra.model.model.Model",
            "recurra.model.model.Prediction",
            "recurra.model.language.model.LanguageModel",
            "recurra.model.translate.model.Translator",
            "recurra.model.translate.outputs.Translation",
            "recurra.model.translate.outputs.Aligned",
            "recurra.metrics.translation",
            "recurra.model.answer.model.Answerer",
            "recurra.model.answer.model.Answer",
            "recurra.metrics.answers",
            "recurra.model.conversation.Conversation",
            "recurra.model.conversation.Answer",
            "recurra.model.stream.Stream",
            "recurra.config.load_settings",
        ],
    ),
    "forecasting": (
        "Forecasts",
        [
            "recurra.model.forecast.forecaster.Forecaster",
            "recurra.model.forecast.stream.ForecastStream",
            "recurra.model.forecast.forecasts.Forecasts",
            "recurra.training.forecast.backtest.backtest",
            "recurra.training.forecast.folds.Backtest",
            "recurra.metrics.forecast",
            "recurra.metrics.forecast_intervals",
            "recurra.evaluation.forecast.seasons",
            "recurra.evaluation.forecast.baselines",
        ],
    ),
    "estimators": ("scikit-learn estimators", ["recurra.estimators.RecurrentClassifier", "recurra.estimators.RecurrentRegressor"]),
    "layers": (
        "Layers and cells",
        [
            "recurra.layers.Stack",
            "recurra.layers.Regularization",
            "recurra.layers.Initialization",
            "recurra.layers.Stepper",
            "recurra.layers.LSTM",
            "recurra.layers.GRU",
            "recurra.layers.RNN",
            "recurra.layers.torch_layer.TorchLayer",
            "recurra.layers.accelerate",
            "recurra.layers.Acceleration",
            "recurra.layers.conversions",
            "recurra.layers.pooling",
            "recurra.layers.attention",
            "recurra.layers.LinearChainCRF",
            "recurra.layers.Embedding",
            "recurra.layers.VariationalDropout",
            "recurra.cells.Cell",
            "recurra.cells.LSTMCell",
            "recurra.cells.GRUCell",
            "recurra.cells.ElmanCell",
            "recurra.cells.LayerNormLSTMCell",
            "recurra.cells.LayerNormGRUCell",
            "recurra.cells.GRUResetBeforeCell",
            "recurra.cells.ProjectedLSTMCell",
            "recurra.cells.PeepholeLSTMCell",
            "recurra.cells.SLSTMCell",
            "recurra.cells.state",
            "recurra.testing.assert_conforms",
        ],
    ),
    "decoding": ("Decoding", ["recurra.decoding"]),
    "kernels": (
        "Kernels",
        [
            "recurra.kernels.lstm_recurrence",
            "recurra.kernels.gru_recurrence",
            "recurra.kernels.elman_recurrence",
            "recurra.kernels.layernorm_lstm_recurrence",
            "recurra.kernels.layernorm_gru_recurrence",
            "recurra.kernels.gru_reset_before_recurrence",
            "recurra.kernels.projected_lstm_recurrence",
            "recurra.kernels.peephole_lstm_recurrence",
            "recurra.kernels.slstm_recurrence",
            "recurra.kernels.backend",
        ],
    ),
    "errors": ("Errors", ["recurra.errors"]),
}
"""Pages of the Python API: name of the file -> title and what stands on it."""


def settings_page() -> str:
    """A table of all settings a group, from `recurra.config`."""
    lines = [
        "# Settings",
        "",
        "Every setting of a run, with its default. `recurra settings` prints the same as YAML, `recurra settings --schema` as a JSON schema for editors.",
        "They are given as `--set group.name=value` (the value is YAML), in a YAML file with `--settings file.yaml`, or in Python as",
        '`settings={"group.name": value}`. What comes later wins: the file, then the options of the command line, then `--set`.',
        "An unknown name is an error that tells the nearest one.",
        "",
        "`target`: the column to predict. No default.",
        "",
    ]
    for group, field in Settings.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            lines += [
                f"## {group}",
                "",
                (field.annotation.__doc__ or "").strip(),
                "",
                "| setting | default | allowed | meaning |",
                "| --- | --- | --- | --- |",
            ]
            lines += [_row(group, name, inner) for name, inner in field.annotation.model_fields.items()]
            lines.append("")
    return "\n".join(lines)


def _row(group: str, name: str, field: FieldInfo) -> str:
    cells = [f"`{group}.{name}`", f"`{_value(field.default)}`", _allowed(field.annotation, field.metadata), field.description or ""]
    return "| " + " | ".join(" ".join(cell.split()).replace("|", "\\|") for cell in cells) + " |"


def _value(default: Any) -> str:
    return "null" if default is None else str(default).lower() if isinstance(default, bool) else str(default)


def _allowed(annotation: Any, metadata: Any = ()) -> str:
    """A type and its bounds in words."""
    origin, inside = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        return _allowed(inside[0], inside[1:])
    if origin in (typing.Union, types.UnionType):
        return " or ".join(_allowed(part) for part in inside)
    if origin is typing.Literal:
        return ", ".join(f"`{value}`" for value in inside)
    if annotation is types.NoneType:
        return "`null`"
    if origin in (list, tuple):
        return f"list of {_allowed(inside[0])}"
    if origin is dict:
        return f"{{name: {_allowed(inside[1])}}}"
    word = {int: "whole number", float: "number", str: "text", bool: "`true`, `false`"}[annotation]
    return ", ".join([word, *_bounds(metadata)])


def _bounds(metadata: Any) -> Iterator[str]:
    signs = {"ge": "at least", "gt": "over", "le": "at most", "lt": "under"}
    for item in metadata:
        for constraint in getattr(item, "metadata", None) or [item]:
            for sign, words in signs.items():
                if getattr(constraint, sign, None) is not None:
                    yield f"{words} {getattr(constraint, sign):g}"


def command_page() -> str:
    """Arguments and options of every command, from the command line itself."""
    lines = [
        "# Command line",
        "",
        "Messages and progress go to standard error; standard output holds results only. Exit status: 0 when all went well, 1 for an error with",
        "its message, 130 after Ctrl-C. `recurra --help` and `recurra COMMAND --help` tell what stands here; `recurra --version` tells the version.",
        "",
    ]
    for name in COMMANDS:
        command = app[name]
        arguments = list(command.assemble_argument_collection(parse_docstring=True))
        placed = [_placed(argument) for argument in arguments if argument.index is not None]
        lines += [f"## recurra {name}", "", str(command.help), "", "    " + " ".join(["recurra", name, *placed, "[OPTIONS]"]), ""]
        lines += ["| | | |", "| --- | --- | --- |"] if arguments else []
        for argument in arguments:
            names = ", ".join(f"`{one}`" for one in argument.names)
            choices = argument.get_choices()
            kind = ", ".join(f"`{choice}`" for choice in choices) if choices else _kind(argument.hint)
            lines.append(f"| {names} | {kind} | {' '.join((argument.parameter.help or '').split())} |")
        lines.append("")
    return "\n".join(lines)


def _placed(argument: Any) -> str:
    """How an argument that needs no name stands in the usage line."""
    name = str(argument.names[0]).lstrip("-").upper()
    return name if argument.required else f"[{name}...]" if "tuple[" in str(argument.hint) else f"[{name}]"


def _kind(hint: Any) -> str:
    """What an option takes: nothing for a switch; whether it can be given several times."""
    if hint is bool:
        return "switch"
    several = "; may be given several times" if any(origin in str(hint) for origin in ("list[", "tuple[")) else ""
    kinds = {"int": "whole number", "Path": "path"}
    return next((kind for name, kind in kinds.items() if name in str(hint)), "text") + several


def api_page(title: str, names: list[str]) -> str:
    """A page that mkdocstrings fills in."""
    return "\n".join([f"# {title}", "", *(line for name in names for line in (f"::: {name}", ""))])


def write() -> None:
    """Write all pages into the site that mkdocs is building."""
    import mkdocs_gen_files

    pages = {"reference/settings.md": settings_page(), "reference/command-line.md": command_page()}
    pages |= {f"reference/api/{name}.md": api_page(title, names) for name, (title, names) in API.items()}
    for path, text in pages.items():
        with mkdocs_gen_files.open(path, "w") as file:
            file.write(text)


if __name__ == "<run_path>":  # as mkdocs-gen-files runs it
    write()
