"""The page."""

from __future__ import annotations

from pathlib import Path

from recurra.evaluation.report.content import Report

__all__ = ["render_report", "write_report"]


def render_report(report: Report) -> str:
    """The page as HTML."""
    return f"<!doctype html><title>{report.task}</title>"


def write_report(path: str | Path, report: Report) -> None:
    """Write the page atomically."""
    Path(path).write_text(render_report(report), encoding="utf-8")
