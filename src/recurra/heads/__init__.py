"""Typed outputs, one a file: loss, prediction and metrics of a task."""

from __future__ import annotations

from recurra.heads.classify import ClassifyHead
from recurra.heads.head import Head, OutputLayer
from recurra.heads.labels import LabelsHead
from recurra.heads.regress import RegressHead

__all__ = ["HEADS", "ClassifyHead", "Head", "LabelsHead", "OutputLayer", "RegressHead"]

HEADS: dict[str, type[Head]] = {head.task: head for head in (ClassifyHead, LabelsHead, RegressHead)}
"""The head of each task."""
