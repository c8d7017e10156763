"""A tag for every token of a row: spans of text, slots, parts of speech."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, NamedTuple, Self

import numpy as np
import polars as pl
import torch
from torch import nn

from recurra.config import HeadSettings, Settings
from recurra.data.batch import Batch, Sequence, padding_mask
from recurra.data.store import Ragged, offsets_of
from recurra.data.tags import OUTSIDE, Spans, TagScheme
from recurra.data.words import Cut, as_tokens, cut_tokens, places
from recurra.errors import DataError, SettingsError, nearest
from recurra.heads.head import Head, OutputLayer
from recurra.layers.crf import LinearChainCRF, Transitions
from recurra.metrics.spans import span_counts, span_intervals, span_metrics, token_counts
from recurra.shapes import Float, Int, Tensor

__all__ = ["TagHead", "TagLayer"]

MISSING = -1
"""Number of a tag that is not there."""
MOST_BIOES_KINDS = 30
"""Kinds of spans up to which "auto" marks ends and single tokens: each kind then has four tags, and a step costs their square."""
TAG, MARGINAL, CONDITIONAL = range(3)
"""Columns of the outputs; see `TagHead`."""


class TagLayer(nn.Module):
    """From the vectors of steps to scores of tags, and a conditional random field over them.

    Args:
        size: features of a step's vector.
        scheme: the tags.
        settings: dropout and hidden_size of the head, `tag.crf` and `tag.constrain`.
    """

    def __init__(self, size: int, scheme: TagScheme, settings: Settings) -> None:
        super().__init__()
        self.scores = OutputLayer(size, len(scheme), settings=settings.head)
        allowed = Transitions(*(torch.from_numpy(mask) for mask in scheme.allowed())) if settings.tag.constrain else None
        self.learns_neighbours = settings.tag.crf
        self.crf = LinearChainCRF(len(scheme), allowed=allowed, learn=settings.tag.crf)

    def forward(self, steps: Float[Tensor, "B T F"]) -> Float[Tensor, "B T C"]:
        """Scores of the tags at each step."""
        scores: Tensor = self.scores(steps)
        return scores

    def loss(self, scores: Float[Tensor, "B T C"], tags: Int[Tensor, "B T2"], lengths: Int[Tensor, " B"]) -> Float[Tensor, ""]:
        """Negative log-likelihood of the tags, mean over the tokens; rows without tags bring none."""
        steps = scores.shape[1]
        tags = tags.where(
            tags < scores.shape[2], 0
        )  # of a kind that training lacks: nothing to be learnt, in validation, but that it is none
        tags = nn.functional.pad(tags[:, :steps], (0, max(0, steps - tags.shape[1])), value=MISSING)
        lengths = lengths.where(tags[:, :1].ge(0).any(1), 0)
        tokens = lengths.sum().clamp(min=1)
        if self.learns_neighbours:
            likelihood: Tensor = self.crf(scores, tags, lengths)
            return -likelihood.sum() / tokens
        real = padding_mask(lengths, steps)
        total: Tensor = nn.functional.cross_entropy(scores[real].float(), tags[real], reduction="sum")
        return total / tokens


class Read(NamedTuple):
    """Tags of a target column.

    Attributes:
        rows: the tags of each row; None where there are none.
        problems: what is wrong, by row.
    """

    rows: list[list[str] | None]
    problems: dict[int, str]


class TagHead(Head):
    """One tag a token. Tags that stand for spans are learnt, measured and predicted as spans.

    Targets are lists of strings (or strings cut at blanks), one for each token of the column `steps`. The network is taught in a
    scheme of its own; a sequence of tags that breaks the rules of its scheme is read as the evaluation script `conlleval` reads it:
    an I after O begins a span. In rows that are measured, spans of kinds that the training rows lack count as spans that were missed.

    Outputs of the network are (S, 3) numbers, a row for each token: the number of the tag on the best path, its marginal
    probability, and its probability given the tag before it (see `LinearChainCRF.decode`).

    Args:
        name: the target column.
        scheme: of the user's tags.
        taught: scheme that the network is taught in.
        steps: the column of the tokens.
        cut: how that column is cut where it holds strings.
        max_length: tokens of a row that are read; those beyond are predicted as outside.
        invalid: training rows whose tags broke the rules of their scheme.
    """

    task: ClassVar[str] = "tag"
    monitor = "f1"
    score = "f1"
    steps: str

    def __init__(self, name: str, scheme: TagScheme, *, taught: TagScheme, steps: str, cut: Cut, max_length: int, invalid: int = 0) -> None:
        super().__init__(name)
        self.scheme, self.taught, self.measured = scheme, taught, taught.with_unknown()
        self.steps, self.cut, self.max_length = steps, cut, max_length
        self.invalid = invalid
        if scheme.name == "none":
            self.monitor = self.score = "token_accuracy"

    @classmethod
    def fit(cls, name: str, values: Iterable[pl.Series], settings: Settings) -> Self:
        """Find the scheme and the kinds of spans; see `Head.fit`."""
        chosen = settings.tag
        if chosen.tokens is None or chosen.cut == "auto":
            raise SettingsError("Tags belong to tokens: say which column holds them with tag.tokens, and how it is cut with tag.cut.")
        distinct: dict[tuple[str, ...], int] = {}
        for chunk in values:
            for row in as_tags(chunk).to_list():
                key = tuple(tag for tag in row or () if tag is not None)
                distinct[key] = distinct.get(key, 0) + 1
        scheme = TagScheme.detect(distinct)
        if len(scheme) < 2:
            raise DataError(
                f"Every token of the training rows has the same tag in column {name!r}{f' ({scheme.names[0]!r})' if scheme.names else ''}: "
                "there is nothing to tell apart. Check the target column, or give rows with other tags."
            )
        invalid = sum(count for row, count in distinct.items() if scheme.invalid(row))
        return cls(
            name,
            scheme,
            taught=_taught(scheme, settings),
            steps=chosen.tokens,
            cut=chosen.cut,
            max_length=settings.text.max_length,
            invalid=invalid,
        )

    @classmethod
    def missing(cls, values: pl.Series) -> pl.Series:
        """True where the tags are null; no tags at all belong to a row without tokens."""
        return values.is_null()

    def problems(self, values: pl.Series) -> dict[int, str]:
        """Rows with something that is no tag of a scheme, where the training rows have one, or without a tag among others."""
        return self._read(values).problems

    def row_problems(self, frame: pl.DataFrame) -> dict[int, str]:
        """As `problems`, and rows whose tags are not as many as their tokens."""
        found = self.problems(frame[self.name])
        tags, tokens = (
            column.list.len().fill_null(0).to_list() for column in (as_tags(frame[self.name]), as_tokens(frame[self.steps], self.cut))
        )
        missing = self.missing(frame[self.name]).to_list()
        for row, (given, wanted) in enumerate(zip(tags, tokens, strict=True)):
            if given != wanted and not missing[row]:
                found[row] = (
                    f"column {self.name!r} has {given} tags for the {wanted} tokens of column {self.steps!r}: each token needs one. "
                    "Correct the row, or leave such rows out with on_error='skip' (--on-error skip)."
                )
        return found

    def encode(self, values: pl.Series) -> Ragged:
        """Numbers of the tags, in the scheme that the network is taught in; a row that is missing or has a problem has none."""
        read = self._read(values)
        rows = [[] if tags is None or row in read.problems else tags[: self.max_length] for row, tags in enumerate(read.rows)]
        offsets = offsets_of([len(row) for row in rows])
        numbers = self.taught.parse([tag for row in rows for tag in row], offsets)
        return Ragged(numbers.astype(np.int32), offsets)

    def _read(self, values: pl.Series) -> Read:
        rows: list[list[str] | None] = as_tags(values).to_list()
        fitting: dict[str, bool] = {}
        problems = {}
        for number, row in enumerate(rows):
            for tag in row or ():
                if tag not in fitting:
                    fitting[tag] = self.scheme.fits(tag)  # a null is no tag
                if not fitting[tag] and number not in problems:
                    problems[number] = self._problem(tag)
        return Read(rows, problems)

    def _problem(self, tag: str | None) -> str:
        advice = "Correct it, or leave such rows out with on_error='skip' (--on-error skip)."
        if tag is None:
            return f"A token has no tag in column {self.name!r} (its place holds null). {advice}"
        return f"{tag!r} in column {self.name!r} is no tag such as {self.scheme.names[0]} and {self.scheme.names[-1]}.{nearest(tag, self.scheme.names)} {advice}"

    def build(self, size: int, settings: Settings) -> TagLayer:
        """Scores of the tags, and the field over them."""
        return TagLayer(size, self.taught, settings)

    def batch_loss(self, layer: nn.Module, outputs: Float[Tensor, "B T C"], batch: Batch) -> Float[Tensor, ""]:
        """See `TagLayer.loss`."""
        assert isinstance(layer, TagLayer)
        sequence = batch.inputs[self.steps]
        assert isinstance(sequence, Sequence)
        return layer.loss(outputs, batch.targets[self.name], sequence.lengths)

    def results(self, layer: nn.Module, outputs: Float[Tensor, "B T C"], batch: Batch) -> Ragged:
        """The best path through the scores, (S, 3) numbers for all rows end to end."""
        assert isinstance(layer, TagLayer)
        sequence = batch.inputs[self.steps]
        assert isinstance(sequence, Sequence)
        path = layer.crf.decode(outputs, sequence.lengths)
        stacked = torch.stack([path.tags.to(path.marginals.dtype), path.marginals, path.conditionals], -1)
        return Ragged(stacked[sequence.mask].float().cpu().numpy(), offsets_of(sequence.lengths.cpu().numpy()))

    def nothing(self) -> Ragged:
        """The results of no rows."""
        return Ragged(np.zeros((0, 3), np.float32), offsets_of([]))

    def spans(self, numbers: np.ndarray, offsets: np.ndarray) -> Spans:
        """Spans of encoded tags, those of unknown kinds too, or of the first column of the outputs."""
        return self.measured.read(numbers.astype(np.int64), offsets)

    def predict(self, outputs: Ragged, *, top: int | None = None, rows: pl.DataFrame | None = None) -> pl.DataFrame:
        """Columns `tags`, a tag a token in the user's own scheme, and `spans`: what they stand for.

        A span has `label`, `start` and `end`, its `text`, and its `probability`: that all its tokens are tagged so. `start` and
        `end` count in what the user gave: `value[start:end]` is the span, be the value a text (then they are characters) or a list
        (tokens). Tags that stand for no spans have `probabilities` in place of `spans`, one a token.

        Args:
            outputs: of the network.
            top: not for tags.
            rows: the rows with the column `steps`; without them spans count tokens and have no text.

        Raises:
            SettingsError: `top` is given.
        """
        if top is not None:
            raise SettingsError("top is for labels; a model of tags gives each token its tag, and each span its probability.")
        values = None if rows is None else rows[self.steps]
        tags = self._tags(outputs, None if values is None else as_tokens(values, self.cut).list.len().fill_null(0).to_list())
        columns = [pl.Series("tags", tags, dtype=pl.List(pl.String))]
        if self.scheme.name == "none":
            found = [outputs[row][:, MARGINAL].astype(np.float64).tolist() for row in range(len(outputs))]
            columns.append(pl.Series("probabilities", found, dtype=pl.List(pl.Float64)))
        else:
            columns.append(pl.Series("spans", self._span_records(outputs, values), dtype=pl.List(SPAN)))
        return pl.DataFrame(columns)

    def _tags(self, outputs: Ragged, lengths: list[int] | None) -> list[list[str]]:
        """Tags in the user's scheme; tokens that were not read are outside."""
        numbers = outputs.values[:, TAG].astype(np.int64)
        if self.scheme.name != "none":
            numbers = self.scheme.write(self.taught.read(numbers, outputs.offsets), outputs.offsets)
        names = self.scheme.names
        flat, ends = [names[number] for number in numbers.tolist()], outputs.offsets.tolist()
        rows = [flat[start:end] for start, end in itertools.pairwise(ends)]
        if lengths is None:
            return rows
        beyond = OUTSIDE if OUTSIDE in names else names[0]
        return [row + [beyond] * (length - len(row)) for row, length in zip(rows, lengths, strict=True)]

    def _span_records(self, outputs: Ragged, values: pl.Series | None) -> list[list[dict[str, Any]]]:
        found = self.taught.read(outputs.values[:, TAG].astype(np.int64), outputs.offsets)
        records: list[list[dict[str, Any]]] = [[] for _ in range(len(outputs))]
        given = [None] * len(outputs) if values is None else values.to_list()
        texts = values is not None and values.dtype == pl.String
        cut = cut_tokens(values, self.cut).to_list() if texts and values is not None else given
        steps = outputs.values.astype(np.float64)
        row_of = np.searchsorted(outputs.offsets, found.start, side="right") - 1
        for row, start, end, kind in zip(row_of.tolist(), *(part.tolist() for part in found), strict=True):
            first = int(outputs.offsets[row])
            record = {"label": self.taught.kinds[kind], "start": start - first, "end": end - first, "text": None}
            record["probability"] = float(steps[start, MARGINAL] * math.prod(steps[start + 1 : end, CONDITIONAL].tolist()))
            if texts:
                where = places(given[row], cut[row][: end - first])
                record["start"], record["end"] = where[start - first][0], where[end - first - 1][1]
                record["text"] = given[row][record["start"] : record["end"]]
            elif given[row] is not None:
                record["text"] = ("" if self.cut == "character" else " ").join(
                    token or "" for token in given[row][start - first : end - first]
                )
            records[row].append(record)
        return records

    def known(self, outputs: Ragged, targets: Ragged) -> np.ndarray:
        """True where a row has a tag for every token that was read."""
        found: np.ndarray = outputs.lengths == targets.lengths
        return found

    def right(self, outputs: Ragged, targets: Ragged) -> np.ndarray:
        """True where every tag is."""
        tokens = token_counts(targets.values.astype(np.int64), outputs.values[:, TAG].astype(np.int64), targets.offsets)
        found: np.ndarray = tokens[:, 0] == tokens[:, 1]
        return found

    def metrics(self, outputs: Ragged, targets: Ragged) -> dict[str, float]:
        """`f1`, `precision` and `recall` of spans as `conlleval` counts, accuracy of tokens and of rows.

        `unknown_tags` are the tokens whose true tag is of a kind that the training rows lack, where there are any: nothing finds them.
        """
        unknown = int((targets.values >= len(self.taught)).sum())
        return {**span_metrics(*self._counts(outputs, targets)), **({"unknown_tags": float(unknown)} if unknown else {})}

    def intervals(self, outputs: Ragged, targets: Ragged, settings: Settings) -> dict[str, tuple[float, float]]:
        """Intervals of the metrics, whole rows drawn; see `Head.intervals`."""
        return span_intervals(
            *self._counts(outputs, targets),
            samples=settings.evaluation.bootstrap_samples,
            confidence=settings.evaluation.confidence,
            seed=settings.training.seed,
        )

    def _counts(self, outputs: Ragged, targets: Ragged) -> tuple[np.ndarray | None, np.ndarray]:
        true, predicted = targets.values.astype(np.int64), outputs.values[:, TAG].astype(np.int64)
        tokens = token_counts(true, predicted, targets.offsets)
        if self.scheme.name == "none":
            return None, tokens
        spans = span_counts(self.spans(true, targets.offsets), self.spans(predicted, targets.offsets), targets.offsets)
        return spans, tokens

    def describe(self) -> str:
        """Kinds and scheme."""
        kinds = f"{len(self.scheme.kinds):,}"
        if self.scheme.name == "none":
            return f"one of {kinds} tags a token"
        broken = f"; {self.invalid:,} training rows broke its rules and were read as conlleval reads them" if self.invalid else ""
        return f"spans of {kinds} kinds, written as {self.scheme.name}{broken}"

    def state(self) -> dict[str, Any]:
        """Schemes, and where the tokens come from."""
        return {
            "scheme": self.scheme.name,
            "kinds": list(self.scheme.kinds),
            "letters": self.scheme.letters,
            "taught": self.taught.name,
            "steps": self.steps,
            "cut": self.cut,
            "max_length": self.max_length,
            "invalid": self.invalid,
        }

    @classmethod
    def from_state(cls, name: str, state: Mapping[str, Any], settings: HeadSettings) -> Self:  # noqa: ARG003
        """The head that `state()` described."""
        scheme = TagScheme(state["scheme"], tuple(state["kinds"]), state["letters"])
        names = ("steps", "cut", "max_length", "invalid")
        return cls(name, scheme, taught=scheme.in_scheme(state["taught"]), **{key: state[key] for key in names})


SPAN = pl.Struct({"label": pl.String, "start": pl.Int64, "end": pl.Int64, "text": pl.String, "probability": pl.Float64})
"""A span of a prediction."""


def as_tags(values: pl.Series) -> pl.Series:
    """A target column as lists of tags; a string is cut at blanks."""
    return as_tokens(values)


def _taught(scheme: TagScheme, settings: Settings) -> TagScheme:
    if scheme.name == "none":
        return scheme.in_scheme("none")
    chosen = settings.tag.scheme
    if chosen == "auto":
        chosen = "bioes" if len(scheme.kinds) <= MOST_BIOES_KINDS else "bio"
    return scheme.in_scheme(chosen)
