"""A training of answers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from recurra.data.batch import Batch
from recurra.data.cooccurrence import cooccurrence_vectors
from recurra.data.questions import read_questions
from recurra.data.vectors import read_vectors, vector_size
from recurra.heads.span import SpanScores
from recurra.model.answer.model import Answerer
from recurra.model.answer.network import AnswerNetwork
from recurra.model.answer.running import CANDIDATES
from recurra.training.answer.loaders import loaders
from recurra.training.answer.prepare import PreparedQuestions, prepare
from recurra.training.answer.results import answer_report, choose_threshold, fill_run, measure, validation_figures
from recurra.training.fit import FitResult, fit
from recurra.training.job import Job
from recurra.training.output import WORK
from recurra.training.seeds import seed_everything

__all__ = ["AnswerJob"]


class AnswerJob(Job[PreparedQuestions, AnswerNetwork]):
    """Questions about texts, each with the spans that answer it."""

    def prepare(self) -> PreparedQuestions:
        """Read, place the answers, split, learn the vocabulary, encode."""
        settings = self.settings
        sources = {"train": self.data, "validation": self.validation, "test": self.test}
        given = {
            part: read_questions(source, settings.answer, target=settings.target, on_error=settings.data.on_error)
            for part, source in sources.items()
            if source is not None
        }
        if settings.text.vectors is not None:
            embedding = settings.embedding.model_copy(update={"size": vector_size(Path(settings.text.vectors))})
            settings = settings.model_copy(update={"embedding": embedding})
        prepared = prepare(given, settings)
        self._tell(prepared)
        return prepared

    def _tell(self, prepared: PreparedQuestions) -> None:
        self.say(f"texts: {prepared.encoder.describe()} ({prepared.encoder.reason})")
        for part in prepared.questions:
            count, without = prepared.count(part)
            self.say(f"{part}: {count:,} questions, {without:,} of them without an answer, in {len(prepared.windows[part]):,} windows")
        for reason, count in prepared.left_out.items():
            self.say(f"left out: {count:,} rows ({reason})")
        for part, count in prepared.overlap.items():
            if count:
                self.say(f"warning: {count:,} {part} questions are about a context of the training part; figures on them flatter the model")
        outside = prepared.windows["train"].outside
        if outside:
            self.say(f"note: {outside:,} answers lie within no window: raise answer.window, or lower answer.stride")

    def build(self, prepared: PreparedQuestions) -> AnswerNetwork:
        """The network, from the run's seed."""
        settings = prepared.settings
        seed_everything(settings.training.seed)
        network = AnswerNetwork(prepared.encoder.tokenizer, settings)
        if settings.text.vectors is not None:
            found = read_vectors(Path(settings.text.vectors), prepared.encoder.tokenizer.tokens)
            network.embedding.begin_with(found)
            self.say(f"word vectors for {found.coverage:.1%} of the vocabulary")
        if settings.embedding.start == "cooccurrence":
            train = prepared.questions["train"]
            texts = prepared.encoder.numbers(dict.fromkeys([*(each.question for each in train), *(each.context for each in train)]))
            network.embedding.begin_with(
                cooccurrence_vectors(texts, vocabulary=len(prepared.encoder.tokenizer), size=settings.embedding.size)
            )
        self.say(f"model: {network.parameter_count:,} parameters; {network.explain_backend()}")
        return network

    def fit(self, prepared: PreparedQuestions, network: AnswerNetwork, *, resume: bool) -> FitResult:
        """Train the network on the training part, selected on the validation part."""
        settings = prepared.settings
        train_loader, validation_loader = loaders(prepared)
        self.warn_of_few_steps(len(train_loader))
        self.require_validation(validation_loader)

        def validate(outputs: Iterator[tuple[SpanScores, Batch]]) -> dict[str, float]:
            found = np.zeros((len(prepared.windows["validation"]), 1 + 3 * CANDIDATES))
            for scores, batch in outputs:
                found[batch.rows.cpu().numpy()] = network.head.candidates(scores, CANDIDATES)
            return validation_figures(prepared, network, found)

        return fit(
            network,
            train_loader,
            validation_loader,
            settings=settings,
            folder=self.folder / WORK,
            validate=validate,
            resume=resume,
            begin=self.begin,
            progress=self.show is not None,
        )

    def fingerprint(self, prepared: PreparedQuestions) -> str:
        """Hash of the data."""
        return prepared.fingerprint

    def finish(self, prepared: PreparedQuestions, network: AnswerNetwork, result: FitResult) -> Answerer:
        """Choose the threshold, measure beside the baselines, write the model folder and its report."""
        model = Answerer(prepared.settings, prepared.encoder, network=network.cpu())
        with self.timings.stage("evaluate"):
            model.threshold = choose_threshold(model, prepared)
            measured = measure(model, prepared)
        values = measured.metrics[measured.part]
        self.say(f"no answer from a probability of {model.threshold:.3f} on")
        self.say(f"{measured.part} F1: {values['f1']:.4f}, exact match {values['exact_match']:.4f}")
        baselines = fill_run(model, prepared, result, measured, timings=self.timings)
        for name, baseline in baselines.items():
            found = baseline.metrics
            self.say(f"  {name}, {baseline.description}: F1 {found['f1']:.4f}, exact match {found['exact_match']:.4f}")
        self.write(model, lambda: answer_report(self.folder, model, prepared, result, measured, baselines=baselines))
        return model

    def facts(self, prepared: PreparedQuestions, network: AnswerNetwork) -> dict[str, Any]:
        """Settings, task, vocabulary, questions by part, parameters."""
        return {
            "settings": prepared.settings.model_dump(mode="json"),
            "task": "answer",
            "vocabulary": len(prepared.encoder.tokenizer),
            "questions": {part: len(found) for part, found in prepared.questions.items()},
            "unanswered": {part: prepared.count(part)[1] for part in prepared.questions},
            "windows": {part: len(windows) for part, windows in prepared.windows.items()},
            "parameters": network.parameter_count,
        }
