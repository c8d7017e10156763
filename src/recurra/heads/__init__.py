"""Typed outputs, one a file: loss, prediction and metrics of a task."""

from __future__ import annotations

from recurra.heads.classify import ClassifyHead
from recurra.heads.head import Head, OutputLayer, RowHead
from recurra.heads.labels import LabelsHead
from recurra.heads.regress import RegressHead
from recurra.heads.tag import TagHead, TagLayer

__all__ = ["HEADS", "ClassifyHead", "Head", "LabelsHead", "OutputLayer", "RegressHead", "RowHead", "TagHead", "TagLayer"]

HEADS: dict[str, type[Head]] = {head.task: head for head in (ClassifyHead, LabelsHead, RegressHead, TagHead)}
"""The head of each task."""
