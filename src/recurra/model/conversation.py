"""A dialogue with trained models: what they make of an utterance, what is answered, and when a person must take over.

Inside: the state of one dialogue and its answers. Not inside: the terminal (`recurra chat`), the training of the models.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import polars as pl

from recurra.config.numbers import require_number, require_whole
from recurra.data.dialogues import HISTORY, history_text
from recurra.data.surrogates import without_surrogates
from recurra.errors import SettingsError, nearest
from recurra.heads import ClassifyHead, LabelsHead, TagHead
from recurra.model.model import Model
from recurra.model.trained import TrainedModel
from recurra.model.translate.model import Translator

__all__ = ["HAND_OVER", "LEAST", "Answer", "Conversation"]

HAND_OVER = "I am not sure about that. Let me hand you over to a colleague."
"""What is answered when no answer is sure enough, where nothing else is said."""
LEAST = 0.3
"""Probability under which nothing is answered: of the label that has an answer, or of a token of a reply (geometric mean)."""


@dataclass(frozen=True)
class Answer:
    """What became of an utterance.

    Attributes:
        text: the answer; None where the models only understand and nothing is known to answer.
        source: where it comes from: a reply that was written, an answer that was given beforehand, or the hand-over.
        reason: why it was handed over.
        probability: of a token of the reply (geometric mean), or of the class that was answered; NaN where it is neither.
        labels: what the classifiers said, with its probability, by target column.
        spans: what was found in the utterance, by target column: records of `label`, `start`, `end`, `text`, `probability`.
    """

    text: str | None
    source: Literal["reply", "answer", "hand over", "none"]
    reason: str = ""
    probability: float = math.nan
    labels: Mapping[str, tuple[Any, float]] = field(default_factory=dict)
    spans: Mapping[str, list[dict[str, Any]]] = field(default_factory=dict)


class Conversation:
    """One dialogue; `TrainedModel.chat` makes it.

    An utterance is first understood: every model of labels or tags reads it, and one that says that it is out of scope hands the
    dialogue over. Then it is answered: with what is known for a label, or else with the reply that the model of replies writes to the
    history. Where that is not sure enough, the dialogue is handed over.

    Args:
        models: a model of replies (`Translator`) at most, and models of an utterance (`Model`) with one input of text or tokens.
        answers: what is answered to a label, by label.
        history: utterances that a reply is written to, the last ones, as in the pairs that it was trained on; `HISTORY` when not
            given. Fewer where all of them together are longer than the model reads (`text.max_length`).
        least: probability under which nothing is answered, see `LEAST`, which is taken when not given. 0 answers always.
        hand_over: what is answered when unsure; `HAND_OVER` when not given.

    Attributes:
        utterances: all that was said, both sides, in order.

    Raises:
        SettingsError: a model can take no part in a dialogue, two write replies, an answer is for no label of the models or for the one
            that is out of scope, or `history` or `least` is given where it has no effect.
    """

    def __init__(
        self,
        models: Sequence[TrainedModel],
        *,
        answers: Mapping[str, str] | None = None,
        history: int | None = None,
        least: float | None = None,
        hand_over: str | None = None,
    ) -> None:
        writers = [model for model in models if isinstance(model, Translator)]
        self._readers = [model for model in models if isinstance(model, Model)]
        for model in models:
            _check(model)
        if len(writers) > 1:
            raise SettingsError("Two of the models write replies: one of them can take part in a dialogue.")
        if not writers and (history is not None or (least is not None and not answers)):
            raise SettingsError(
                "None of the models writes replies, and history is for these, least for these and for answers by label: leave them out, or "
                "add a model of replies or answers."
            )
        history, least = HISTORY if history is None else history, LEAST if least is None else least
        require_whole("history", history, least=1)
        require_number("least", least)
        if not 0.0 <= least <= 1.0:
            raise SettingsError(f"least is {least}: a probability lies in 0 to 1.")
        self._writer = writers[0] if writers else None
        self._answers = dict(answers or {})
        heads = [head for model in self._readers for head in model.head.heads]
        known = {str(name) for head in heads for name in _labels(head)}
        outside = {head.out_of_scope.label for head in heads if isinstance(head, ClassifyHead) and head.out_of_scope is not None}
        for label in self._answers:
            if label in outside:
                raise SettingsError(
                    f"There is an answer to {label!r}, with which an utterance is out of scope and is handed over: give it as hand_over "
                    "(--hand-over), for it would never come."
                )
            if label not in known:
                raise SettingsError(f"There is an answer to {label!r}, which is no label of the models.{nearest(label, known)}")
        self._most, self._least = history, least
        self._hand_over = HAND_OVER if hand_over is None else hand_over
        self.utterances: list[str] = []

    def reset(self) -> None:
        """Begin anew: the next utterance is the first."""
        self.utterances.clear()

    def say(self, text: str) -> Answer:
        """What becomes of an utterance; it and its answer are part of the history from then on.

        Raises:
            SettingsError: it is no text.
        """
        if not isinstance(text, str):
            raise SettingsError(f"An utterance is a text, not {text!r}.")
        text = without_surrogates(text)
        self.utterances.append(text)
        labels: dict[str, tuple[Any, float]] = {}
        spans: dict[str, list[dict[str, Any]]] = {}
        outside = ""
        for model in self._readers:
            # A column holds texts, where a list of "report.csv" would name a table.
            row = model.predict(np.array([text], dtype=object)).row(0, named=True)
            outside = outside or _understand(model, row, labels, spans)
        answer = self._answer(labels, spans, outside)
        if answer.text:
            self.utterances.append(answer.text)
        return answer

    def _answer(self, labels: Mapping[str, tuple[Any, float]], spans: Mapping[str, list[dict[str, Any]]], outside: str) -> Answer:
        understood: dict[str, Any] = {"labels": labels, "spans": spans}
        if outside:
            return Answer(self._hand_over, "hand over", outside, **understood)
        for label, probability in labels.values():
            if str(label) in self._answers:
                if probability < self._least:
                    reason = f"{label} is not sure enough: {probability:.2f}, less than {self._least:.2f}"
                    return Answer(self._hand_over, "hand over", reason, probability, **understood)
                return Answer(self._answers[str(label)], "answer", probability=probability, **understood)
        if self._writer is None:
            if self._answers:
                return Answer(self._hand_over, "hand over", "nothing is known to answer to these labels", **understood)
            return Answer(None, "none", **understood)
        [written] = self._writer.translate([self._history(self._writer)])
        # The mean over the tokens, whatever the search divided by: the end is one of them.
        tokens = _tokens(self._writer, written.text) + int(written.ended)
        probability = math.exp(written.log_probability / max(tokens, 1))
        if not written.text or probability < self._least:
            few = f"the reply is not sure enough: {probability:.2f} a token, less than {self._least:.2f}"
            reason = few if written.text else "the model of replies writes nothing to it"
            return Answer(self._hand_over, "hand over", reason, probability, **understood)
        return Answer(written.text, "reply", probability=probability, **understood)

    def _history(self, writer: Translator) -> str:
        """What a reply is written to: where it is longer than the model reads, the oldest utterances are left out, not the last one."""
        for most in range(min(self._most, len(self.utterances)), 1, -1):
            text = history_text(self.utterances, most)
            if _tokens(writer, text) <= writer.settings.text.max_length:
                return text
        return history_text(self.utterances, 1)


def _tokens(writer: Translator, text: str) -> int:
    return len(writer.codec.encode_rows(pl.Series([text])).values)


def _check(model: TrainedModel) -> None:
    if isinstance(model, Translator):
        return
    if not isinstance(model, Model):
        raise SettingsError(
            "A dialogue needs a model that writes replies (recurra train pairs.csv --source history --target reply) or one that understands "
            f"an utterance (intents, tags); use `recurra {model.command}` for this one."
        )
    if [feature.type for feature in model.features] not in (["text"], ["tokens"]):
        raise SettingsError(
            f"A model that reads {', '.join(model.input_columns)} cannot read an utterance: it must have one input, of text."
        )


def _labels(head: Any) -> Sequence[str]:
    if isinstance(head, ClassifyHead):
        return head.classes
    return head.labels.names if isinstance(head, LabelsHead) else []


def _understand(model: Model, row: Mapping[str, Any], labels: dict[str, tuple[Any, float]], spans: dict[str, list[dict[str, Any]]]) -> str:
    """Add what a model says of an utterance; the reason why it is out of scope, or nothing."""
    reason = ""
    several = len(model.head.heads) > 1
    for head in model.head.heads:
        prefix = f"{head.name}." if several else ""
        if isinstance(head, ClassifyHead):
            label, probability = row[f"{prefix}label"], row[f"{prefix}probability"]
            labels[head.name] = (label, probability)
            if head.out_of_scope is not None and str(label) == head.out_of_scope.label:
                reason = f"{head.name} is {label} ({probability:.2f})"
        elif isinstance(head, LabelsHead):
            labels |= {
                f"{head.name}.{label}": (label, probability)
                for label, probability in zip(row[f"{prefix}labels"], row[f"{prefix}probabilities"], strict=True)
            }
        elif isinstance(head, TagHead) and f"{prefix}spans" in row:
            spans[head.name] = row[f"{prefix}spans"]
        elif f"{prefix}value" in row:
            labels[head.name] = (row[f"{prefix}value"], math.nan)
    return reason
