"""Several heads on one encoder, a target column each: an intent and its slots, a topic and a price."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

import numpy as np
import polars as pl
import torch
from torch import nn

from recurra.config import HeadSettings, Settings
from recurra.data.batch import Batch
from recurra.data.store import Columns, take_rows
from recurra.errors import SettingsError
from recurra.heads.classify import ClassifyHead
from recurra.heads.head import Head, Output
from recurra.heads.labels import LabelsHead
from recurra.heads.regress import RegressHead
from recurra.heads.tag import TagHead
from recurra.metrics.intervals import bootstrap
from recurra.shapes import Float, Tensor

__all__ = ["HEADS", "SeveralHeads"]

HEADS: dict[str, type[Head]] = {head.task: head for head in (ClassifyHead, LabelsHead, RegressHead, TagHead)}
"""The head of each task."""


class SeveralHeads(Output):
    r"""Heads beside each other, which share the encoder and learn together: loss \(\sum_h w_h L_h\).

    A row needs not have every target: where one is missing, its head learns nothing from the row and is not measured on it.
    Names of metrics and of predicted columns begin with the target: `intent.accuracy`, `tags.f1`. Two figures are of all heads:

    * `score`, which selects the model: the mean over the heads of accuracy, micro F1, R2, span F1 (tags that stand for no spans:
      token accuracy);
    * `all_right`: the share of rows in which no head makes a mistake, of rows that have every target; where no target is a number.

    Source: Liu & Lane 2016, Attention-Based Recurrent Neural Network Models for Joint Intent Detection and Slot Filling, 3.3
    (the sum of losses).

    Args:
        heads: two or more, of different columns.
        weights: of their losses, by column; 1 where not named.
    """

    task: ClassVar[str] = "several"
    monitor = "score"

    def __init__(self, heads: Sequence[Head], weights: Mapping[str, float] | None = None) -> None:
        super().__init__(", ".join(head.name for head in heads))
        self._heads = tuple(heads)
        self.weights = {head.name: float((weights or {}).get(head.name, 1.0)) for head in heads}

    @property
    def heads(self) -> tuple[Head, ...]:
        """The heads, in the order of the targets."""
        return self._heads

    def row_problems(self, frame: pl.DataFrame) -> dict[int, str]:
        """The first problem that any head has with a row."""
        found: dict[int, str] = {}
        for head in self.heads:
            found = head.row_problems(frame) | found
        return found

    def encode_rows(self, frame: pl.DataFrame) -> Columns:
        """The targets of each head."""
        return Columns({head.name: head.encode_rows(frame) for head in self.heads})

    def batch_loss(self, layer: nn.Module, outputs: Sequence[Any], batch: Batch) -> Float[Tensor, ""]:
        """The weighted sum of the heads' losses.

        Args:
            layer: a `torch.nn.ModuleList` of the heads' layers.
            outputs: of each of them.
            batch: with all targets.
        """
        assert isinstance(layer, nn.ModuleList)
        losses = [
            self.weights[head.name] * head.batch_loss(own, found, batch)
            for head, own, found in zip(self.heads, layer, outputs, strict=True)
        ]
        return torch.stack(losses).sum()

    def results(self, layer: nn.Module, outputs: Sequence[Any], batch: Batch) -> Columns:
        """The results of each head."""
        assert isinstance(layer, nn.ModuleList)
        found = {}
        for head, own, values in zip(self.heads, layer, outputs, strict=True):
            rows = head.results(own, values, batch)
            assert not isinstance(rows, Columns)
            found[head.name] = rows
        return Columns(found)

    def nothing(self) -> Columns:
        """The results of no rows."""
        found = {}
        for head in self.heads:
            rows = head.nothing()
            assert not isinstance(rows, Columns)
            found[head.name] = rows
        return Columns(found)

    def predict(self, outputs: Columns, *, top: int | None = None, rows: pl.DataFrame | None = None) -> pl.DataFrame:
        """The columns of each head under its name: `intent.label`, `tags.spans`.

        Args:
            outputs: results of the network.
            top: for the heads that predict labels.
            rows: what the predictions are for.

        Raises:
            SettingsError: `top` is given and no head predicts labels.
        """
        labelled = [head for head in self.heads if isinstance(head, (ClassifyHead, LabelsHead))]
        if top is not None and not labelled:
            raise SettingsError("top is for labels, and none of the targets is one.")
        frames = []
        for head in self.heads:
            frame = head.predict(outputs[head.name], top=top if head in labelled else None, rows=rows)
            frames.append(frame.rename({name: f"{head.name}.{name}" for name in frame.columns}))
        return pl.concat(frames, how="horizontal")

    def settle(self, outputs: Columns, targets: Columns) -> None:
        """As each head does."""
        for head in self.heads:
            own = self._measured(head, outputs, targets)
            if own is not None:
                head.settle(*own)

    def metrics(self, outputs: Columns, targets: Columns) -> dict[str, float]:
        """`score`, `all_right`, and each head's metrics on the rows that have its target; heads without any such row are left out."""
        found: dict[str, float] = {}
        scores = []
        for head in self.heads:
            own = self._measured(head, outputs, targets)
            if own is None:
                continue
            figures = head.metrics(*own)
            scores.append(figures.get(head.score, float("nan")))
            found |= {f"{head.name}.{name}": value for name, value in figures.items()}
        right = self._all_right(outputs, targets)
        together = {} if right is None or not len(right) else {"all_right": float(right.mean())}
        mean = {"score": float(np.nanmean(scores))} if np.isfinite(scores).any() else {}
        main = {
            f"{head.name}.{head.score}": found[f"{head.name}.{head.score}"] for head in self.heads if f"{head.name}.{head.score}" in found
        }
        return {**mean, **main, **together, **found}

    def intervals(self, outputs: Columns, targets: Columns, settings: Settings) -> dict[str, tuple[float, float]]:
        """Intervals of `all_right` and of each head's metrics; see `Output.intervals`."""
        found: dict[str, tuple[float, float]] = {}
        right = self._all_right(outputs, targets)
        if right is not None and len(right) and settings.evaluation.bootstrap_samples:
            found |= bootstrap(
                lambda counts: {"all_right": counts @ right / counts.sum(axis=1)},
                len(right),
                samples=settings.evaluation.bootstrap_samples,
                confidence=settings.evaluation.confidence,
                seed=settings.training.seed,
            )
        for head in self.heads:
            own = self._measured(head, outputs, targets)
            if own is not None:
                found |= {f"{head.name}.{name}": ends for name, ends in head.intervals(*own, settings).items()}
        return found

    def _measured(self, head: Head, outputs: Columns, targets: Columns) -> tuple[Any, Any] | None:
        """A head's outputs and targets of the rows that have its target; None where there are none."""
        rows = np.flatnonzero(head.known(outputs[head.name], targets[head.name]))
        return (take_rows(outputs[head.name], rows), take_rows(targets[head.name], rows)) if len(rows) else None

    def _all_right(self, outputs: Columns, targets: Columns) -> np.ndarray | None:
        """True where a row with every target has no mistake; None where a target is a number."""
        every = np.all([head.known(outputs[head.name], targets[head.name]) for head in self.heads], axis=0)
        rows = np.flatnonzero(every)
        found = np.ones(len(rows), np.bool_)
        for head in self.heads:
            right = head.right(take_rows(outputs[head.name], rows), take_rows(targets[head.name], rows))
            if right is None:
                return None
            found &= right
        return found

    def describe(self) -> str:
        """What each head is."""
        return "; ".join(f"{head.name}: {head.describe()}" for head in self.heads)

    def state(self) -> dict[str, Any]:
        """What each head has learnt, and the weights."""
        return {"heads": [{"name": head.name, "task": head.task, **head.state()} for head in self.heads], "weights": self.weights}

    @classmethod
    def from_state(cls, name: str, state: Mapping[str, Any], settings: HeadSettings) -> Self:  # noqa: ARG003
        """The heads that `state()` described."""
        return cls([HEADS[each["task"]].from_state(each["name"], each, settings) for each in state["heads"]], state["weights"])
