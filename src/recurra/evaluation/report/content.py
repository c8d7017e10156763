"""What a report says, as frozen dataclasses of plain data. Not inside: how it looks (`page`), what it concludes (`prose`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from recurra.evaluation.comparison import Comparison
from recurra.evaluation.forecast.windows import ForecastWindow
from recurra.evaluation.results import ErrorExample, Result, Task

__all__ = [
    "AnswerExample",
    "AnswerResults",
    "AttentionMap",
    "ClassResults",
    "ColumnSummary",
    "DataSummary",
    "ForecastResults",
    "LabelResults",
    "LanguageResults",
    "NumberResults",
    "RankingExample",
    "RankingResults",
    "Report",
    "SeveralResults",
    "TagResults",
    "Training",
    "TranslateResults",
    "WrittenExample",
]


@dataclass(frozen=True)
class ColumnSummary:
    """A column of the table: its name, its type, why it has that type, and one example value."""

    name: str
    type: str
    reason: str
    example: str = ""


@dataclass(frozen=True)
class DataSummary:
    """The table behind a run.

    Attributes:
        source: path or description of the data.
        columns: all columns, the target included.
        rows: rows by part, such as {"train": 9_600, "validation": 1_200, "test": 1_200}.
        left_out: rows left out, by reason.
        overlap: rows of a part whose input also stands in the training part, by part.
        truncated: texts cut at the longest length read, by part or by column.
        padding_waste: share of a batch's steps that is padding, 0 to 1.
        lengths: steps of each training row, by sequence column.
        max_length: steps after which a text is cut, where there is such a limit.
        length_unit: what a step is: token, character.
        notes: what else a person should know, in sentences.
    """

    source: str = ""
    columns: Sequence[ColumnSummary] = ()
    rows: Mapping[str, int] = field(default_factory=dict)
    left_out: Mapping[str, int] = field(default_factory=dict)
    overlap: Mapping[str, int] = field(default_factory=dict)
    truncated: Mapping[str, int] = field(default_factory=dict)
    padding_waste: float | None = None
    lengths: Mapping[str, Sequence[int] | np.ndarray] = field(default_factory=dict)
    max_length: int | None = None
    length_unit: str = "token"
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class Training:
    """The course of the training.

    Attributes:
        history: one record an epoch: `epoch` (from 1), `train_loss`, `validation_loss`, any `validation_<metric>`, `train_<metric>`,
            `learning_rate`, `seconds`. What is missing or not finite in a record is not drawn.
        monitor: the metric that selected the model, as in `validation_<monitor>`.
        best_epoch: the epoch whose weights were kept.
        gradient_layers: records {"epoch", "layer", "norm"}: norm of the gradient of a layer's weights.
        gradient_distances: records {"epoch", "layer", "distance", "norm"}: norm of the gradient that reaches a recurrent layer so many
            steps before the last one it reads.
    """

    history: Sequence[Mapping[str, float]] = ()
    monitor: str | None = None
    best_epoch: int | None = None
    gradient_layers: Sequence[Mapping[str, float | int | str]] = ()
    gradient_distances: Sequence[Mapping[str, float | int | str]] = ()


@dataclass(frozen=True)
class ClassResults:
    """What a classifier did, class by class.

    Attributes:
        classes: names of the C classes.
        confusion: (C, C) rows by true and predicted class.
        reliability: records of `recurra.metrics.reliability`.
        roc: curves of `recurra.metrics.roc_curves`.
    """

    classes: Sequence[str]
    confusion: np.ndarray
    reliability: Sequence[Mapping[str, float]] = ()
    roc: Mapping[str, Sequence[tuple[float, float]]] = field(default_factory=dict)


@dataclass(frozen=True)
class LabelResults:
    """What a multi-label model did: the records of `recurra.metrics.per_label`, and reliability over all cells."""

    per_label: Mapping[str, Mapping[str, float]]
    reliability: Sequence[Mapping[str, float]] = ()


@dataclass(frozen=True)
class NumberResults:
    """What a regression did: (N,) predictions and (N,) true numbers, in the target's unit."""

    predictions: np.ndarray
    targets: np.ndarray
    unit: str = ""


@dataclass(frozen=True)
class ForecastResults:
    """What a forecaster did.

    Attributes:
        horizon: steps ahead.
        step: what a step is, in the singular: hour, day, step.
        windows: windows that were measured.
        metric: name of the metric of `by_step`.
        by_step: (H,) that metric by steps ahead, by name of the model: `network` first, then baselines.
        coverage: (nominal, actual) share of the answers inside each interval, by name of the model.
        members: metrics by column, or by series where one column is forecast for many.
        kind: what a member is: column or series.
        examples: windows that went neither well nor badly.
        worst: windows with the largest errors, worst first.
        season: the season and what speaks for it, in words.
        left_out: why a baseline is not there, by name.
        drawn: what the intervals draw: origin, or series where there are too few origins.
    """

    horizon: int
    step: str
    windows: int
    metric: str
    by_step: Mapping[str, Sequence[float] | np.ndarray]
    coverage: Mapping[str, Sequence[tuple[float, float]]] = field(default_factory=dict)
    members: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    kind: str = "column"
    examples: Sequence[ForecastWindow] = ()
    worst: Sequence[ForecastWindow] = ()
    season: str = ""
    left_out: Mapping[str, str] = field(default_factory=dict)
    drawn: str = "origin"


@dataclass(frozen=True)
class RankingExample:
    """A click that was to be foreseen.

    Attributes:
        before: clicks of the session before those shown.
        known: names of the items clicked, in order.
        recommended: names of the first items of the ranking, best first.
        answer: name of the item that came next.
        rank: where it stood among all items; infinite where the model does not know it.
    """

    before: int
    known: Sequence[str]
    recommended: Sequence[str]
    answer: str
    rank: float


@dataclass(frozen=True)
class RankingResults:
    """What a recommender did, beside its baselines.

    Attributes:
        k: cutoff of the recall by groups.
        curve: records {"model", "k", "recall"}, the network first.
        by_known: recall at k by how many clicks were known: records {"model", "group", "order", "value", "count"}.
        by_clicked: recall at k by how often the answer was clicked in training; the same records.
        shares: how recommendations, and what came next, spread over the items by their popularity; the same records without counts.
        examples: clicks drawn at random.
    """

    k: int
    curve: Sequence[Mapping[str, str | float]]
    by_known: Sequence[Mapping[str, str | float]] = ()
    by_clicked: Sequence[Mapping[str, str | float]] = ()
    shares: Sequence[Mapping[str, str | float]] = ()
    examples: Sequence[RankingExample] = ()


@dataclass(frozen=True)
class TagResults:
    """What a tagger did, kind by kind.

    Attributes:
        per_kind: the records of `recurra.metrics.per_kind`.
        kinds: names of the K kinds of spans.
        confusion: (K + 1, K + 1) spans by true and predicted kind, the last one no span; of `recurra.metrics.span_confusion`.
    """

    per_kind: Mapping[str, Mapping[str, float]]
    kinds: Sequence[str]
    confusion: np.ndarray


@dataclass(frozen=True)
class AnswerExample:
    """A question that was answered.

    Attributes:
        place: where it stands.
        question: what was asked.
        context: the text.
        given: characters of the answer given; None where none was.
        references: characters of the right answers.
        probability: of the answer given.
        f1: of the answer given.
    """

    place: str
    question: str
    context: str
    given: tuple[int, int] | None
    references: Sequence[tuple[int, int]]
    probability: float
    f1: float


@dataclass(frozen=True)
class AnswerResults:
    """What a model of answers did.

    Attributes:
        examples: questions drawn at random.
        by_question: mean F1 by the first word of the question: records {"model", "group", "order", "value", "count"}.
    """

    examples: Sequence[AnswerExample] = ()
    by_question: Sequence[Mapping[str, str | float]] = ()


@dataclass(frozen=True)
class LanguageResults:
    """What a language model did, beside its n-grams.

    Attributes:
        by_frequency: mean loss by how often a token stands in the training text: records {"model", "group", "order", "value", "count"}.
        by_place: mean loss along the text; the same records.
        samples: pairs of how a text was drawn, and the text.
    """

    by_frequency: Sequence[Mapping[str, str | float]] = ()
    by_place: Sequence[Mapping[str, str | float]] = ()
    samples: Sequence[tuple[str, str]] = ()


@dataclass(frozen=True)
class SeveralResults:
    """What several heads did, as a report each of which only figures, baselines, details and errors are shown."""

    heads: Sequence[Report]


@dataclass(frozen=True)
class WrittenExample:
    """A text that was written.

    Attributes:
        source: that was read.
        reference: that should have been written.
        text: that was written.
        chrf: of this text alone, 0 to 100.
    """

    source: str
    reference: str
    text: str
    chrf: float


@dataclass(frozen=True, eq=False)
class AttentionMap:
    """What each token of a text that was written looked at.

    Attributes:
        source: the S tokens that were read.
        output: the T tokens that were written, their end included.
        weights: (T, S).
    """

    source: Sequence[str]
    output: Sequence[str]
    weights: np.ndarray


@dataclass(frozen=True)
class TranslateResults:
    """What a model of text to text wrote, beside its baselines.

    Attributes:
        by_length: BLEU by the length of the source: records {"model", "group", "order", "value", "count"}.
        attention: of some texts.
        examples: texts drawn at random.
        worst: texts that are least like their references.
    """

    by_length: Sequence[Mapping[str, str | float]] = ()
    attention: Sequence[AttentionMap] = ()
    examples: Sequence[WrittenExample] = ()
    worst: Sequence[WrittenExample] = ()


@dataclass(frozen=True)
class Report:
    """All that `write_report` puts on the page; everything but the first four may be left empty.

    Attributes:
        title: name of the run.
        task: what is predicted.
        target: name of the target column.
        model: the recurrent network's metrics on `part`.
        part: what they are measured on: test, or validation where there is no test part.
        baselines: the same metrics of the baselines.
        comparison: the network against the linear baseline.
        confidence: level of all intervals.
        data: the table.
        training: the course of the training.
        results: details by task.
        errors: the most confident errors.
        settings: the run's settings as YAML.
        timings: seconds by stage, in their order.
        facts: versions, seed, fingerprint, device, parameters, date: what it takes to do it again.
        summary: one line on the network, such as "bidirectional LSTM, 128 units, 2.1 million parameters".
    """

    title: str
    task: Task
    target: str
    model: Result
    part: str = "test"
    baselines: Sequence[Result] = ()
    comparison: Comparison | None = None
    confidence: float = 0.95
    data: DataSummary = field(default_factory=DataSummary)
    training: Training = field(default_factory=Training)
    results: (
        AnswerResults
        | ClassResults
        | LabelResults
        | NumberResults
        | ForecastResults
        | LanguageResults
        | RankingResults
        | SeveralResults
        | TagResults
        | TranslateResults
        | None
    ) = None
    errors: Sequence[ErrorExample] = ()
    settings: str = ""
    timings: Mapping[str, float] = field(default_factory=dict)
    facts: Mapping[str, str] = field(default_factory=dict)
    summary: str = ""
