"""The report as one HTML page: self-contained, offline, without JavaScript.

Everything that comes from the data passes through jinja's escaping; only the style sheet and the charts, which escape their own text,
are put in as they are. The page forbids itself every request and every script (Content-Security-Policy).
Not inside: what is shown (`view`), the sentences (`prose`), the look (`page.css`), the order of the sections (`page.html`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from importlib.resources import files
from pathlib import Path
from typing import Any, TypeVar, cast

from recurra.evaluation.report.content import Report
from recurra.evaluation.report.view import page_view
from recurra.files import replacing

__all__ = ["render_report", "write_report"]

_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")


def write_report(path: str | Path, report: Report) -> Path:
    """Write the report as an HTML file, under a temporary name first: the path holds the whole page or what it held before.

    Args:
        path: of the file; missing folders are made.
        report: what it says.

    Returns:
        The path.

    Raises:
        OSError: the file cannot be written; nothing is left behind.
    """
    path = Path(path)
    page = render_report(report).encode("utf-8")
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as file:
        file.write(page)
    return path


def render_report(report: Report) -> str:
    """The report as the text of an HTML page."""
    import jinja2

    folder = files("recurra.evaluation.report")
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    template = environment.from_string(folder.joinpath("page.html").read_text(encoding="utf-8"))
    style = folder.joinpath("page.css").read_text(encoding="utf-8")
    view = page_view(_printable(report))
    return template.render(style=style, view=view, **view)


T = TypeVar("T")


def _printable(value: T) -> T:
    """The same data without the control characters and lone surrogates that no page can hold."""
    cleaned: Any = value
    if isinstance(value, str):
        cleaned = _CONTROL.sub("\N{REPLACEMENT CHARACTER}", value)
    elif is_dataclass(value) and not isinstance(value, type):
        cleaned = replace(value, **{field.name: _printable(getattr(value, field.name)) for field in fields(value)})
    elif isinstance(value, Mapping):
        cleaned = {_printable(key): _printable(item) for key, item in value.items()}
    elif isinstance(value, (list, tuple)):
        cleaned = type(value)(_printable(item) for item in value)
    return cast("T", cleaned)
