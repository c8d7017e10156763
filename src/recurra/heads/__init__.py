"""Typed outputs, one a file: loss, prediction and metrics of a task; and several of them on one encoder."""

from __future__ import annotations

from recurra.heads.classify import ClassifyHead
from recurra.heads.head import Head, Output, OutputLayer, RowHead
from recurra.heads.labels import LabelsHead
from recurra.heads.regress import RegressHead
from recurra.heads.several import HEADS, SeveralHeads
from recurra.heads.tag import TagHead, TagLayer

__all__ = [
    "HEADS",
    "OUTPUTS",
    "ClassifyHead",
    "Head",
    "LabelsHead",
    "Output",
    "OutputLayer",
    "RegressHead",
    "RowHead",
    "SeveralHeads",
    "TagHead",
    "TagLayer",
]

OUTPUTS: dict[str, type[Output]] = {**HEADS, SeveralHeads.task: SeveralHeads}
"""What a model of a table's rows puts out, by task."""
