"""A trained model of the rows of a table: predict, evaluate, stream.

Not inside: training (`recurra.train`), saving and sharing (`trained`), loading (`load`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import polars as pl

from recurra.config import Settings
from recurra.config.numbers import require_whole
from recurra.data.read import BadRow, Table, given_texts, read, require_columns
from recurra.data.store import Rows, join_rows
from recurra.errors import EmptyData, MissingColumn
from recurra.features import FEATURES, Feature
from recurra.features.text import TextFeature
from recurra.heads import OUTPUTS, Output, RowHead
from recurra.layers import NgramLinear
from recurra.model.card import model_card
from recurra.model.encode import encode_columns, usable_rows
from recurra.model.inference import run_network
from recurra.model.network import Network
from recurra.model.stream import Stream
from recurra.model.trained import OnError, TrainedModel

__all__ = ["Model", "Prediction", "unreadable_rows"]

CHUNK = 8_192
"""Rows read, encoded and predicted at a time: what memory a file of any size takes."""


@dataclass(frozen=True)
class Prediction:
    """Predictions of some consecutive rows.

    Attributes:
        inputs: the rows as they were given.
        outputs: one row of predictions for each.
        bad_rows: rows that were left out, with the reason; each is told once: those that could not be read (the first 1,000 of a
            file) with the first piece, those that could not be used with the rows that they stood among.
        left_out: all that were left out, told or not.
        notes: what else a person should know of these rows, in sentences.
    """

    inputs: pl.DataFrame
    outputs: pl.DataFrame
    bad_rows: tuple[BadRow, ...] = ()
    left_out: int = 0
    notes: tuple[str, ...] = ()


def unreadable_rows(table: Table, *, first: bool) -> tuple[tuple[BadRow, ...], int]:
    """The rows that a table left out, as `Prediction` tells them, and how many: all of them with the first piece, none later."""
    return (tuple(table.bad_rows), table.bad_row_count) if first else ((), 0)


class Model(TrainedModel):
    """A trained model that predicts a target of the rows of a table.

    Args:
        settings: of the run.
        features: fitted inputs.
        head: fitted output: a head, or several.
        network: with trained weights.
        run: what `run.json` holds.

    Attributes:
        settings: of the run.
        features: fitted inputs.
        head: fitted output: a head, or several.
        network: a `torch.nn.Module`, in evaluation mode.
        run: versions, seed, data fingerprint, metrics, timings.
    """

    command: ClassVar[str] = "predict"
    network: Network

    def __init__(
        self, settings: Settings, features: list[Feature], head: Output, *, network: Network, run: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__(settings, network, run)
        self.features = features
        self.head = head

    def __repr__(self) -> str:
        inputs = ", ".join(f"{feature.name} ({feature.type})" for feature in self.features)
        return f"Model({inputs} -> {self.head.name}: {self.head.describe()}; {self.network.parameter_count:,} parameters)"

    @property
    def input_columns(self) -> list[str]:
        """Columns a table must have, the parts of joined columns in place of these."""
        join = self.settings.data.join
        return list(dict.fromkeys(column for feature in self.features for column in join.get(feature.name, [feature.name])))

    def predict(self, data: Any, *, top: int | None = None, on_error: OnError = "fail") -> pl.DataFrame:
        """Predict for texts, rows or a table.

        Args:
            data: a text, a list or a column of texts (for a model with one input of text or tokens), a dict or a list of dicts, a frame
                (polars, pandas, Arrow), or the path of a file. A string is a path when a table of that name exists.
            top: also the most probable labels, so many.
            on_error: what happens to rows that cannot be read.

        Returns:
            A row for each row of `data`, in order (those that can be read, with on_error="skip"). Columns: `label` and
            `probability` for a class; `labels` and `probabilities` for several; `value` for a number; `tags` and `spans` for tags; with `top` also
            `top_labels` and `top_probabilities`. Of several targets, each under its name: `intent.label`.

        Raises:
            MissingColumn: an input column is not there.
            RowError: a row cannot be read.
        """
        parts = [part.outputs for part in self.predict_chunks(data, top=top, on_error=on_error)]
        return pl.concat(parts) if parts else self.head.predict(self.head.nothing(), top=top)

    def predict_chunks(self, data: Any, *, top: int | None = None, on_error: OnError = "fail") -> Iterator[Prediction]:
        """Predict piece by piece, in constant memory, in the order of the rows; see `predict`.

        Raises:
            SettingsError: `top` is no whole number, or less than one.
        """
        if top is not None:
            require_whole("top", top, least=1)
        table = self._table(data, on_error)
        start = 0
        for frame in table.chunks(size=CHUNK):
            mask, unusable = usable_rows(table, frame, range(start, start + len(frame)), columns=self.features, on_error=on_error)
            unreadable = unreadable_rows(table, first=not start)
            start += len(frame)
            kept = frame if not unusable else frame.filter(mask)
            results = run_network(self.network, encode_columns(kept, self.features), self.settings.training)
            outputs = self.head.predict(results, top=top, rows=kept)
            yield Prediction(kept.drop(list(table.join)), outputs, (*unreadable[0], *unusable), unreadable[1] + len(unusable))

    def stream(self, streams: int = 1, *, half_weights: bool = False) -> Stream:
        """Rows that come piece by piece: a prediction after every piece, at the cost of the piece alone.

        Args:
            streams: rows at the same time.
            half_weights: keep the matrices of the recurrence in 16 bits, which makes a step of a large model up to 1.8 times as fast.

        Raises:
            SettingsError: the model reads more than one text, reads it from both ends, weighs its steps by all of them, or has a linear
                model beside its network.
            BackendUnavailable: 16 bits are asked for, and there are no compiled steps of the model's cell.
        """
        return Stream(self.network, self.features, self.head, self.settings, streams=streams, half_weights=half_weights)

    def evaluate(self, data: Any, *, on_error: OnError = "fail") -> dict[str, float]:
        """Measure on a table with targets.

        Args:
            data: a table as for `predict`, with the target column.
            on_error: what happens to rows that cannot be read or have an unknown label.

        Returns:
            Flat metrics: each by name, its confidence interval as `NAME_low` and `NAME_high`, `rows` measured, and
            `rows_without_target` and `rows_left_out` where there were any.

        Raises:
            MissingColumn: an input column or the target is not there.
            RowError: a row cannot be read, or its label is unknown.
            EmptyData: no row has a target.
        """
        table = self._table(data, on_error, texts_too=False)
        require_columns(table, self.head.columns)
        outputs, targets = [], []
        start = without = unusable = 0
        for frame in table.chunks(size=CHUNK):
            has_target = ~self.head.without_target(frame, self.settings.data.ignore_labels)
            rows = (start + has_target.arg_true()).to_list()
            start += len(frame)
            without += len(frame) - len(rows)
            known = frame.filter(has_target)
            mask, bad = usable_rows(table, known, rows, columns=[*self.features, self.head], on_error=on_error)
            unusable += len(bad)
            kept = known.filter(mask)
            targets.append(self.head.encode_rows(kept))
            outputs.append(run_network(self.network, encode_columns(kept, self.features), self.settings.training))
        if not sum(len(part) for part in targets):
            raise EmptyData(
                f"No row of {table.description} has a known target in column {', '.join(map(repr, self.head.columns))}: there is nothing to measure."
            )
        facts = {"rows_without_target": without, "rows_left_out": unusable + table.bad_row_count}
        return {**self.measure(join_rows(outputs), join_rows(targets)), **{name: count for name, count in facts.items() if count}}

    def measure(self, outputs: Rows, targets: Rows) -> dict[str, float]:
        """Flat metrics with intervals of the network's results against encoded targets; see `evaluate`."""
        metrics: dict[str, float] = dict(self.head.metrics(outputs, targets))
        for name, (low, high) in self.head.intervals(outputs, targets, self.settings).items():
            metrics[f"{name}_low"], metrics[f"{name}_high"] = low, high
        return {**metrics, "rows": len(targets)}

    def _holds_columns(self, data: Mapping[str, Any]) -> bool:
        """Whether a dictionary holds a table, one list a column, and not one row; a list of tokens is one value."""
        tokens = {feature.name for feature in self.features if feature.type == "tokens"}
        first = {name: next(iter(value), None) for name, value in data.items() if hasattr(value, "__iter__") and not isinstance(value, str)}
        return any(name not in tokens or (hasattr(item, "__iter__") and not isinstance(item, str)) for name, item in first.items())

    def _table(self, data: Any, on_error: OnError, *, texts_too: bool = True) -> Table:
        """Whatever the user gave, as a table that has the input columns; plain texts too, where no target is asked of them."""
        if isinstance(data, Mapping) and not self._holds_columns(data):
            data = [data]
        texts = given_texts(data) if texts_too else None
        if texts is not None:
            if [feature.type for feature in self.features] not in (["text"], ["tokens"]):
                raise MissingColumn(f"This model reads the columns {', '.join(self.input_columns)}: give rows with these, not plain texts.")
            return read(pl.DataFrame({self.features[0].name: texts}, schema={self.features[0].name: pl.String}))
        join = {
            name: columns for name, columns in self.settings.data.join.items() if any(feature.name == name for feature in self.features)
        }
        table = read(data, on_error=on_error, join=join)
        require_columns(table, [feature.name for feature in self.features])
        return table

    def state(self) -> dict[str, Any]:
        """Features and head as JSON values, and the size of the linear model beside the network where there is one."""
        linear = self.network.linear
        return {
            "features": [{"name": feature.name, "type": feature.type, **feature.state()} for feature in self.features],
            "head": {"name": self.head.name, "task": self.head.task, **self.head.state()},
            **({} if linear is None else {"linear": {"ngrams": len(linear.keys), "order": linear.order}}),
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any], settings: Settings, run: Mapping[str, Any]) -> Self:
        """The model that `state()` described, its network as it was before training."""
        features = [FEATURES[each["type"]].from_state(each["name"], each) for each in state["features"]]
        fitted = state["head"]
        head = OUTPUTS[fitted["task"]].from_state(fitted["name"], fitted, settings.head)
        network = Network(features, head, settings)
        if "linear" in state:
            saved = state["linear"]
            text = next(feature for feature in features if isinstance(feature, TextFeature))
            assert isinstance(head, RowHead)
            linear = NgramLinear(saved["ngrams"], head.output_size, order=saved["order"], vocabulary_size=len(text.tokenizer))
            network.put_beside(linear, text.name)
        return cls(settings, features, head, network=network, run=run)

    def card(self) -> str:
        """The model card, Markdown."""
        linear = self.network.linear
        return model_card(self.settings, self.features, self.head, self.run, ngrams=0 if linear is None else len(linear.keys))
