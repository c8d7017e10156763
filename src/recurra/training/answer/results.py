"""The figures of a model of answers beside its baselines, `run.json`, the model folder and its report."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from recurra.evaluation.answer.baselines import AnswerBaseline, answer_baselines
from recurra.evaluation.comparison import Comparison
from recurra.evaluation.report import AnswerExample, AnswerResults, ColumnSummary, DataSummary, Report
from recurra.metrics.answers import answer_metrics, answer_scores, answerable, fitted_threshold, refused
from recurra.metrics.intervals import bootstrap
from recurra.model.answer.choosing import Ranking, rank
from recurra.model.answer.model import Answer, Answerer
from recurra.model.answer.network import AnswerNetwork
from recurra.model.answer.running import run_windows
from recurra.training.answer.loaders import train_buckets
from recurra.training.answer.prepare import PreparedQuestions
from recurra.training.fit import FitResult
from recurra.training.results import begin_report, run_record
from recurra.training.timings import Timings

__all__ = ["MeasuredAnswers", "answer_report", "choose_threshold", "fill_run", "measure", "validation_figures"]

SHOWN = 24
"""Questions that the report shows."""
MOST_GROUPS = 8
FEWEST_QUESTIONS = 10
"""Of a group that is shown."""


@dataclass(frozen=True)
class MeasuredAnswers:
    """The network on the held-out parts.

    Attributes:
        metrics: flat metrics by part, validation before test.
        part: the part that the report is about: test, or validation where there is no test part, or else train.
        answers: to the questions of that part.
    """

    metrics: dict[str, dict[str, float]]
    part: str
    answers: list[Answer]


def validation_figures(prepared: PreparedQuestions, network: AnswerNetwork, candidates: np.ndarray) -> dict[str, float]:  # noqa: ARG001
    """F1 and exact match of the validation part, with the threshold that is fitted there where none is set."""
    chosen = prepared.settings.answer
    rankings = rank(candidates, prepared.windows["validation"], chosen.choose)
    threshold = _fitted(rankings, prepared, "validation") if chosen.threshold == "auto" else chosen.threshold
    questions = prepared.questions["validation"]
    texts = _texts(rankings, prepared, "validation")
    none = refused(np.array([ranking.nothing for ranking in rankings]), threshold)
    answers = ["" if refuse else text for text, refuse in zip(texts, none, strict=True)]
    found = answer_metrics(answers, [each.texts for each in questions], characters=prepared.encoder.cut == "character")
    return {name: found[name] for name in ("f1", "exact_match")}


def choose_threshold(model: Answerer, prepared: PreparedQuestions) -> float:
    """The probability of no answer from which on none is given: as set, or fitted on the validation part; a half without one."""
    chosen = model.settings.answer
    if chosen.threshold != "auto":
        return chosen.threshold
    if "validation" not in prepared.windows:
        return 0.5
    return _fitted(_rankings(model, prepared, "validation"), prepared, "validation")


def _rankings(model: Answerer, prepared: PreparedQuestions, part: str) -> list[Ranking]:
    windows = prepared.windows[part]
    return rank(run_windows(model.network, windows, model.settings.training), windows, model.settings.answer.choose)


def _fitted(rankings: list[Ranking], prepared: PreparedQuestions, part: str) -> float:
    references = [each.texts for each in prepared.questions[part]]
    known = answerable(references)
    if known.all() and not any(not each.answers for each in prepared.questions["train"]):
        return 1.0  # nobody ever asks what has no answer
    overlap = answer_scores(_texts(rankings, prepared, part), references, characters=prepared.encoder.cut == "character")[1]
    return fitted_threshold(np.array([ranking.nothing for ranking in rankings]), overlap, known)


def _texts(rankings: list[Ranking], prepared: PreparedQuestions, part: str) -> list[str]:
    """The answer to each question if one is given."""
    texts = []
    for ranking, question, tokens in zip(rankings, prepared.questions[part], prepared.windows[part].tokens, strict=True):
        spans = ranking.characters(question.context, list(tokens)) if len(ranking.spans) else []
        texts.append(question.context[spans[0][0] : spans[0][1]] if spans else "")
    return texts


def measure(model: Answerer, prepared: PreparedQuestions) -> MeasuredAnswers:
    """The trained network on the validation and test part (on the training part where nothing was held out)."""
    parts = [part for part in ("validation", "test") if part in prepared.questions] or ["train"]
    metrics: dict[str, dict[str, float]] = {}
    answers: list[Answer] = []
    for part in parts:
        questions = prepared.questions[part]
        answers = [
            model.decide(ranking, question.context, list(tokens))
            for ranking, question, tokens in zip(_rankings(model, prepared, part), questions, prepared.windows[part].tokens, strict=True)
        ]
        metrics[part] = model.measure([each.text or "" for each in answers], questions)
    return MeasuredAnswers(metrics, parts[-1], answers)


def fill_run(
    model: Answerer, prepared: PreparedQuestions, result: FitResult, measured: MeasuredAnswers, *, timings: Timings
) -> dict[str, AnswerBaseline]:
    """Measure the baselines where they are wanted, and fill in `model.run`."""
    settings, part = model.settings, measured.part
    baselines: dict[str, AnswerBaseline] = {}
    if settings.evaluation.baselines and part != "train":
        with timings.stage("baselines"):
            baselines = answer_baselines(
                prepared.questions.get("validation") or prepared.questions["train"],
                prepared.questions[part],
                cut=prepared.encoder.cut,
                settings=settings.evaluation,
                seed=settings.training.seed,
            )
    model.run = run_record(
        settings,
        result,
        data={
            "source": prepared.description,
            "fingerprint": prepared.fingerprint,
            "rows": {part: len(questions) for part, questions in prepared.questions.items()},
            "unanswered": {part: prepared.count(part)[1] for part in prepared.questions},
            "windows": {part: len(windows) for part, windows in prepared.windows.items()},
            "left_out": dict(prepared.left_out),
            "overlap": dict(prepared.overlap),
            "vocabulary": len(prepared.encoder.tokenizer),
        },
        parameters=model.network.parameter_count,
        metrics=measured.metrics,
        baselines={name: {part: baseline.metrics} for name, baseline in baselines.items()},
    )
    model.run["timings"] = timings.rounded()
    return baselines


def answer_report(
    folder: Path,
    model: Answerer,
    prepared: PreparedQuestions,
    result: FitResult,
    measured: MeasuredAnswers,
    *,
    baselines: Mapping[str, AnswerBaseline],
) -> Report:
    """All that the report says.

    Args:
        folder: the model folder, whose name is the title.
        model: the trained model, its `run` filled in.
        prepared: the data it was trained on.
        result: the course of the training.
        measured: the network on the held-out parts.
        baselines: of `fill_run`.
    """
    shown = {name: value for name, value in measured.metrics[measured.part].items() if name != "questions"}
    report = begin_report(folder, model, result, task="answer", target=Path(prepared.description).name, part=measured.part, metrics=shown)
    return replace(
        report,
        baselines=[baseline.result() for baseline in baselines.values()],
        comparison=_comparison(model, prepared, measured, baselines),
        data=_data(prepared),
        results=_results(model, prepared, measured),
    )


def _comparison(
    model: Answerer, prepared: PreparedQuestions, measured: MeasuredAnswers, baselines: Mapping[str, AnswerBaseline]
) -> Comparison | None:
    """The network against the best baseline, in F1 on the same questions."""
    evaluation = model.settings.evaluation
    rival = max(baselines.values(), key=lambda each: each.metrics["f1"], default=None)
    if rival is None or not evaluation.bootstrap_samples:
        return None
    references = [each.texts for each in prepared.questions[measured.part]]
    ours, theirs = (
        answer_scores(answers, references, characters=model.by_character)[1]
        for answers in ([each.text or "" for each in measured.answers], rival.answers)
    )
    bounds = bootstrap(
        lambda counts: {"f1": counts @ (ours - theirs) / counts.sum(axis=1)},
        len(ours),
        samples=evaluation.bootstrap_samples,
        confidence=evaluation.confidence,
        seed=model.settings.training.seed,
    )
    return Comparison("f1", float((ours - theirs).mean()), *bounds["f1"], evaluation.confidence, rival.name)


def _data(prepared: PreparedQuestions) -> DataSummary:
    windows = prepared.windows["train"]
    first = prepared.questions["train"][0]
    chosen = prepared.settings.answer
    counts = {part: prepared.count(part) for part in prepared.questions}
    kinds = {
        chosen.question: ("question", prepared.encoder.reason, first.question),
        chosen.context: ("context", prepared.encoder.reason, first.context[:600]),
        prepared.settings.target or "answer": ("answer", "spans of the context", " | ".join(first.texts)),
    }
    return DataSummary(
        source=prepared.description,
        columns=[ColumnSummary(name, *found) for name, found in kinds.items()],
        rows={part: count for part, (count, _) in counts.items()},
        left_out=dict(prepared.left_out),
        overlap=dict(prepared.overlap),
        padding_waste=train_buckets(prepared).padding_waste(),
        lengths={name: column.lengths for name, column in windows.inputs.items()},
        length_unit="character" if prepared.encoder.cut == "character" else "token",
        notes=[f"{without:,} of the {count:,} {part} questions have no answer." for part, (count, without) in counts.items() if without],
    )


def _results(model: Answerer, prepared: PreparedQuestions, measured: MeasuredAnswers) -> AnswerResults:
    """Questions drawn at random with their answers marked, and figures by the first word of the question."""
    questions = prepared.questions[measured.part]
    overlap = answer_scores(
        [each.text or "" for each in measured.answers], [each.texts for each in questions], characters=model.by_character
    )[1]
    drawn = np.random.default_rng(model.settings.training.seed).permutation(len(questions))[:SHOWN]
    examples = []
    for number in drawn.tolist():
        question, answer = questions[number], measured.answers[number]
        examples.append(
            AnswerExample(
                question.place,
                question.question,
                question.context,
                None if answer.start is None or answer.end is None else (answer.start, answer.end),
                [tuple(span) for span in question.answers],
                answer.probability,
                float(overlap[number]),
            )
        )
    return AnswerResults(examples, _by_question([each.question for each in questions], overlap))


def _by_question(questions: Sequence[str], overlap: np.ndarray) -> list[dict[str, str | float]]:
    """Mean F1 by the first word of the question, the most frequent first."""
    first = [question.split()[0].lower().strip("¿?!.,:;\"'") for question in questions]
    groups = [(word, count) for word, count in Counter(first).most_common(MOST_GROUPS) if count >= FEWEST_QUESTIONS and word]
    return [
        {
            "model": "Recurrent network",
            "group": word,
            "order": order,
            "value": float(overlap[[each == word for each in first]].mean()),
            "count": count,
        }
        for order, (word, count) in enumerate(groups)
    ]
