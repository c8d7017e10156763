"""A trained model that answers questions with spans of their contexts: predict, evaluate, save and load."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
import polars as pl

from recurra.config import Settings
from recurra.config.numbers import require_whole
from recurra.data.questions import Question, Questions, read_asked, read_questions, without_marker
from recurra.data.surrogates import without_surrogates
from recurra.errors import SettingsError
from recurra.metrics.answers import answer_intervals, answer_metrics, refused
from recurra.model.answer.choosing import Ranking, rank
from recurra.model.answer.network import AnswerNetwork
from recurra.model.answer.running import run_windows
from recurra.model.answer.windows import AnswerEncoder
from recurra.model.card import card_page, figures
from recurra.model.model import Prediction, unreadable_rows
from recurra.model.trained import OnError, TrainedModel

__all__ = ["Answer", "Answerer"]

CHUNK = 512
"""Questions that are encoded and answered at a time."""
FRAME = {"answer": pl.String, "start": pl.Int64, "end": pl.Int64, "probability": pl.Float64, "no_answer": pl.Float64}
"""Columns of predictions."""


@dataclass(frozen=True)
class Answer:
    """An answer.

    Attributes:
        text: `context[start:end]`; None where the context holds no answer.
        start: character of the context at which it begins; None without an answer.
        end: character after its last; None without an answer.
        probability: of exactly this span; without an answer, that there is none.
        no_answer: probability that there is none.
        others: the next best answers as texts with their probabilities.
    """

    text: str | None
    start: int | None
    end: int | None
    probability: float
    no_answer: float
    others: tuple[tuple[str, float], ...] = ()


class Answerer(TrainedModel):
    """A trained model that answers questions with spans of their contexts.

    Args:
        settings: of the run.
        encoder: vocabulary and cut.
        network: with trained weights.
        threshold: probability of no answer from which on none is given; with 1 there always is one.
        run: what `run.json` holds.
    """

    command: ClassVar[str] = "predict"
    network: AnswerNetwork

    def __init__(
        self,
        settings: Settings,
        encoder: AnswerEncoder,
        *,
        network: AnswerNetwork,
        threshold: float = 0.5,
        run: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(settings, network, run)
        self.encoder = encoder
        self.threshold = threshold

    def __repr__(self) -> str:
        return f"Answerer({self.encoder.describe()}; {self.network.parameter_count:,} parameters)"

    # --- answers --------------------------------------------------------------------------------------------------

    def answer(self, question: str, context: str, *, top: int = 0) -> Answer:
        """The answer that a text gives to a question.

        Args:
            question: what is asked.
            context: the text, of any length: a long one is read in windows.
            top: further answers that are named.

        Raises:
            SettingsError: question or context is no text, or `top` no number of answers.
        """
        return self.answer_many([question], [context], top=top)[0]

    def answer_many(self, questions: Sequence[str], contexts: Sequence[str], *, top: int = 0) -> list[Answer]:
        """The answers to several questions, each about its own context; see `answer`.

        A surrogate pair, which no Unicode text has, is read as its one character, and counts as one in `start` and `end`.

        Raises:
            SettingsError: something else was given than lists of texts, one context for each question, or `top` is no number of answers.
        """
        require_whole("top", top, least=0)
        questions, contexts = _texts(questions), _texts(contexts)
        if len(questions) != len(contexts):
            raise SettingsError(f"There are {len(questions)} questions and {len(contexts)} contexts: give one context for each question.")
        contexts = [without_marker(context, self.settings.answer.no_answer) for context in contexts]
        asked = [number for number, pair in enumerate(zip(questions, contexts, strict=True)) if all(text.strip() for text in pair)]
        answers = [Answer(None, None, None, 1.0, 1.0) for _ in questions]
        for begin in range(0, len(asked), CHUNK):
            some = asked[begin : begin + CHUNK]
            read_ = [contexts[number] for number in some]
            for number, found in zip(some, self._answers([questions[number] for number in some], read_, top), strict=True):
                answers[number] = found
        return answers

    def _answers(self, questions: Sequence[str], contexts: Sequence[str], top: int) -> list[Answer]:
        windows = self.encoder.encode(questions, contexts)
        rankings = rank(run_windows(self.network, windows, self.settings.training), windows, self.settings.answer.choose)
        return [
            self.decide(ranking, context, list(tokens), top=top)
            for ranking, context, tokens in zip(rankings, contexts, windows.tokens, strict=True)
        ]

    def decide(self, ranking: Ranking, context: str, tokens: list[str], *, top: int = 0) -> Answer:
        """What is answered, given what the network says of a question.

        Args:
            ranking: of the question.
            context: its text.
            tokens: of the context.
            top: further answers that are named.
        """
        spans = ranking.characters(context, tokens)
        texts = [context[start:end] for start, end in spans]
        named = list(zip(texts, ranking.probabilities.tolist(), strict=True))
        if not spans or refused(np.array(ranking.nothing), self.threshold):
            return Answer(None, None, None, ranking.nothing, ranking.nothing, tuple(named[:top]))
        (start, end), probability = spans[0], float(ranking.probabilities[0])
        return Answer(texts[0], start, end, probability, ranking.nothing, tuple(named[1 : 1 + top]))

    def predict(self, data: Any, *, top: int | None = None, on_error: OnError = "fail") -> pl.DataFrame:
        """Answers to the questions of a table.

        Args:
            data: a dict or a list of dicts, a frame, or the path of a table, with the columns of questions and contexts; or of SQuAD's JSON.
            top: also the next best answers, so many.
            on_error: what happens to rows that cannot be read.

        Returns:
            A row for each row of `data`: `answer` (null where the context holds none), `start` and `end` (characters of the
            context), `probability`, `no_answer` (the probability that there is none); with `top` also `other_answers` and
            `other_probabilities`.

        Raises:
            MissingColumn: a column is not there.
            RowError: a row cannot be read.
        """
        parts = [part.outputs for part in self.predict_chunks(data, top=top, on_error=on_error)]
        return pl.concat(parts) if parts else self._frame([], top)

    def predict_chunks(self, data: Any, *, top: int | None = None, on_error: OnError = "fail") -> Iterator[Prediction]:
        """Like `predict`, piece by piece, each beside the rows it belongs to."""
        if isinstance(data, Mapping) and all(isinstance(value, str) for value in data.values()):
            data = [data]
        if top is not None:
            require_whole("top", top, least=1)
        chosen = self.settings.answer
        table = read_asked(data, chosen, on_error=on_error)
        for number, frame in enumerate(table.chunks(size=CHUNK)):
            texts = [["" if value is None else str(value) for value in frame[name]] for name in (chosen.question, chosen.context)]
            answers = self.answer_many(texts[0], texts[1], top=top or 0)
            yield Prediction(frame, self._frame(answers, top), *unreadable_rows(table, first=not number))

    def _frame(self, answers: Sequence[Answer], top: int | None) -> pl.DataFrame:
        rows = [(each.text, each.start, each.end, each.probability, each.no_answer) for each in answers]
        frame = pl.DataFrame(rows, schema=FRAME, orient="row")
        if top is None:
            return frame
        others = {"other_answers": [[text for text, _ in each.others] for each in answers]}
        chances = {"other_probabilities": [[chance for _, chance in each.others] for each in answers]}
        schema = {"other_answers": pl.List(pl.String), "other_probabilities": pl.List(pl.Float64)}
        return frame.hstack(pl.DataFrame({**others, **chances}, schema=schema))

    # --- figures --------------------------------------------------------------------------------------------------

    def evaluate(self, data: Any, *, on_error: OnError = "fail") -> dict[str, float]:
        """Measure on questions with known answers.

        Args:
            data: what `recurra.train` takes for this task; rows with the same question and context are one question.
            on_error: what happens to rows that cannot be read, or whose answer does not stand in its context.

        Returns:
            The figures of `recurra.metrics.answers.answer_metrics`, each with its interval as `NAME_low` and `NAME_high`;
            `questions` measured, and `rows_left_out` where there were any.

        Raises:
            MissingColumn: a column is not there.
            RowError: a row cannot be used.
            EmptyData: there are no questions.
        """
        questions = self.read(data, on_error=on_error)
        answers = self.answer_many([each.question for each in questions.items], [each.context for each in questions.items])
        left_out = sum(questions.left_out.values())
        return self.measure([each.text or "" for each in answers], questions.items) | ({"rows_left_out": left_out} if left_out else {})

    def read(self, data: Any, *, on_error: OnError = "fail") -> Questions:
        """Questions with their answers, of the columns that this model was trained on."""
        return read_questions(data, self.settings.answer, target=self.settings.target, on_error=on_error)

    def measure(self, answers: Sequence[str], questions: Sequence[Question]) -> dict[str, float]:
        """Flat metrics with intervals of answers ("" for none); see `evaluate`."""
        references = [each.texts for each in questions]
        evaluation, characters = self.settings.evaluation, self.by_character
        metrics: dict[str, float] = answer_metrics(answers, references, characters=characters)
        intervals = answer_intervals(
            answers,
            references,
            characters=characters,
            samples=evaluation.bootstrap_samples,
            confidence=evaluation.confidence,
            seed=self.settings.training.seed,
        )
        for name, (low, high) in intervals.items():
            metrics[f"{name}_low"], metrics[f"{name}_high"] = low, high
        return {**metrics, "questions": len(questions)}

    @property
    def by_character(self) -> bool:
        """Whether F1 counts characters: where texts are cut into them."""
        return self.encoder.cut == "character"

    # --- the folder -----------------------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """Vocabulary, cut and threshold as JSON values."""
        return {
            "features": [{"name": self.settings.answer.context, "type": "context", **self.encoder.state()}],
            "head": {"name": self.settings.target or "answer", "task": "answer", "threshold": self.threshold},
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any], settings: Settings, run: Mapping[str, Any]) -> Self:
        """The model that `state()` described, its network as it was before training."""
        encoder = AnswerEncoder.from_state(state["features"][0], settings.answer)
        network = AnswerNetwork(encoder.tokenizer, settings)
        return cls(settings, encoder, network=network, threshold=float(state["head"]["threshold"]), run=run)

    def card(self) -> str:
        """The model card, Markdown."""
        encoder = self.settings.encoder
        said = (
            f"A {encoder.title} network ({encoder.layers} x {encoder.hidden_size} units) that answers a question with a span of "
            f"its context, or says that there is none ({self.encoder.describe()}; none from a probability of {self.threshold:.3f} on)."
        )
        return card_page(
            "Answers to questions about texts",
            [said],
            code='model.answer("What is the case made of?", "The case is made of leather.")',
            run=self.run,
            settings=self.settings,
            measured=figures(self.run),
            pipeline="question-answering",
        )


def _texts(given: Any) -> list[str]:
    """A list of texts as Python's, without half characters, as which bytes that are no UTF-8 reach Python.

    Raises:
        SettingsError: it is something else.
    """
    if isinstance(given, (str, bytes, Mapping)) or not isinstance(given, Iterable):
        raise SettingsError("Questions and contexts are lists of texts: give lists, also of one, or use answer.")
    texts = list(given)
    for number, text in enumerate(texts, 1):
        if not isinstance(text, str):
            raise SettingsError(
                f"Questions and contexts are texts, and number {number} is {type(text).__name__}: give text, and an empty one for none."
            )
    return [without_surrogates(text) for text in texts]
