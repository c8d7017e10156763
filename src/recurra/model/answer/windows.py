"""From questions and contexts to windows of numbered tokens, and from tokens back to characters."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from recurra.config import AnswerSettings, Settings
from recurra.data.questions import CharacterSpan
from recurra.data.store import Ragged, offsets_of
from recurra.data.tokenize import Tokenizer
from recurra.data.words import Cut, cut_tokens, detect, places, series
from recurra.shapes import Int

__all__ = ["FLAGS", "AnswerEncoder", "Windows"]

FLAGS = 5
"""What a token has beside its number: whether the other text holds it as it is written, in lower case, and its beginning; and, in
hundredths, how much of the question stands around it and in its sentence, each word by how rare it is in the context."""
HUNDREDTHS = 2
"""How many of these are no truth values."""
AROUND = 6
"""Tokens on either side that are around a token."""
ENDS = frozenset(".!?。！？")
"""Tokens that end a sentence."""
BEGINNING = 5
"""Letters of a word's beginning; shorter words have none but themselves."""


@dataclass(frozen=True, eq=False)
class Windows:
    """Questions beside windows of their contexts.

    Attributes:
        inputs: `question` and `context`, (S, 1 + FLAGS) numbers of the tokens of each window.
        question: (N,) number of the question that a window belongs to, ascending.
        start: (N,) token of the context at which it begins.
        spans: first and last step of each reference that lies within it, (K, 2) a window.
        tokens: those of each question's context, as they stand there.
        outside: references that lie within no window.
    """

    inputs: Mapping[str, Ragged]
    question: Int[np.ndarray, " N"]
    start: Int[np.ndarray, " N"]
    spans: Ragged
    tokens: Sequence[Sequence[str]]
    outside: int = 0

    def __len__(self) -> int:
        return len(self.question)

    def questions(self) -> int:
        """How many questions there are."""
        return len(self.tokens)


class AnswerEncoder:
    """The vocabulary of questions and contexts, and how they are cut.

    Args:
        tokenizer: fitted on the training part.
        cut: how texts are cut into tokens.
        reason: why they are cut so.
        settings: window and stride.
    """

    def __init__(self, tokenizer: Tokenizer, cut: Cut, reason: str, *, settings: AnswerSettings) -> None:
        self.tokenizer = tokenizer
        self.cut = cut
        self.reason = reason
        self.settings = settings

    @classmethod
    def fit(cls, questions: Iterable[str], contexts: Iterable[str], settings: Settings) -> AnswerEncoder:
        """Learn the vocabulary; a context counts once, however many questions it has.

        Raises:
            EmptyData: every token is rarer than `text.min_frequency`.
        """
        asked, read = list(questions), list(dict.fromkeys(contexts))
        chosen = settings.answer.cut
        cut: Cut = "word"
        if chosen == "auto":
            kind, reason = detect([series(read)])
            cut = "character" if kind == "character" else "word"
        else:
            cut, reason = chosen, f"{chosen}: set"
        # What is never cut off must not be left out of the vocabulary either.
        whole = settings.text.model_copy(update={"max_length": 2**31})
        tokenizer = Tokenizer.fit_tokens((cut_tokens(series(texts), cut) for texts in (asked, read)), whole)
        return cls(tokenizer, cut, reason, settings=settings.answer)

    def encode(
        self, questions: Sequence[str], contexts: Sequence[str], answers: Sequence[Sequence[CharacterSpan]] | None = None
    ) -> Windows:
        """Windows of questions, in their order.

        Args:
            questions: N texts.
            contexts: N texts.
            answers: spans of characters of each context; none to predict.
        """
        asked, read = _Texts(questions, self), _Texts(contexts, self)
        rows: dict[str, list[np.ndarray]] = {"question": [], "context": []}
        numbers, starts, spans, outside = [], [], [], 0
        for number in range(len(questions)):
            question, context = asked.encoded(number, read), read.encoded(number, asked, near_too=True)
            wanted = read.token_spans(number, answers[number]) if answers is not None and answers[number] else np.zeros((0, 2), np.int64)
            held = np.zeros(len(wanted), bool)
            for start in self._starts(len(context)):
                part = context[start : start + self.settings.window]
                inside = (wanted[:, 0] >= start) & (wanted[:, 1] < start + len(part))
                held |= inside
                rows["question"].append(question)
                rows["context"].append(part)
                numbers.append(number)
                starts.append(start)
                spans.append(wanted[inside] - start)
            outside += int((~held).sum())
        inputs = {name: _ragged(parts, 1 + FLAGS, np.int32) for name, parts in rows.items()}
        tokens = [read.tokens(number) for number in range(len(contexts))]
        return Windows(inputs, np.array(numbers, np.int64), np.array(starts, np.int64), _ragged(spans, 2, np.int64), tokens, outside)

    def numbers(self, texts: Iterable[str]) -> Ragged:
        """The numbers of the tokens of each text, as a whole."""
        return self.tokenizer.encode_tokens(cut_tokens(series(list(texts)), self.cut))

    def _starts(self, length: int) -> Sequence[int]:
        """Where windows begin: the last one is the first that reaches the end."""
        window, chosen = self.settings.window, self.settings.stride
        stride = max(window // 2, 1) if chosen == "auto" else chosen
        return range(0, max(length - window, 0) + stride, stride) if length > window else (0,)

    def describe(self) -> str:
        """Vocabulary and cut, in a few words."""
        return f"{self.cut} tokens, vocabulary of {len(self.tokenizer):,}"

    def state(self) -> dict[str, Any]:
        """JSON values that `from_state` reads back."""
        return {"tokenizer": self.tokenizer.to_json(), "cut": self.cut, "reason": self.reason}

    @classmethod
    def from_state(cls, state: Mapping[str, Any], settings: AnswerSettings) -> AnswerEncoder:
        """The encoder that `state()` described."""
        return cls(Tokenizer.from_json(state["tokenizer"]), state["cut"], state["reason"], settings=settings)


class _Texts:
    """Texts cut and numbered, each distinct one once."""

    def __init__(self, texts: Sequence[str], encoder: AnswerEncoder) -> None:
        distinct: dict[str, int] = {}
        self.rows = [distinct.setdefault(text, len(distinct)) for text in texts]
        self.texts = list(distinct)
        lists = cut_tokens(series(self.texts), encoder.cut)
        self.lists: list[list[str]] = lists.to_list()
        self.numbers = encoder.tokenizer.encode_tokens(lists)
        self.forms = [_forms(tokens) for tokens in self.lists]

    def tokens(self, number: int) -> list[str]:
        return self.lists[self.rows[number]]

    def encoded(self, number: int, other: _Texts, *, near_too: bool = False) -> np.ndarray:
        """(S, 1 + FLAGS) numbers of a text's tokens beside what the other text has of them; of a context also what is near."""
        row, partner = self.rows[number], other.rows[number]
        numbers = self.numbers[row]
        sets = [set(form) - {""} for form in other.forms[partner]]
        flags = np.array([[token in known for token in form] for form, known in zip(self.forms[row], sets, strict=True)], np.int32)
        near = _nearness(self.lists[row], self.forms[row][1], flags[1] | flags[2]) if near_too else np.zeros((HUNDREDTHS, len(numbers)))
        return np.concatenate([numbers[None], flags, np.round(100.0 * near)]).T.astype(np.int32)

    def token_spans(self, number: int, spans: Sequence[CharacterSpan]) -> np.ndarray:
        """(K, 2) first and last token of spans of characters."""
        row = self.rows[number]
        where = np.array(places(self.texts[row], self.lists[row])).reshape(-1, 2)
        first = np.searchsorted(where[:, 1], [start for start, _ in spans], side="right")
        last = np.searchsorted(where[:, 0], [end for _, end in spans], side="left") - 1
        found = np.stack([first, last], 1)
        return np.unique(found[first <= last], axis=0)


def _forms(tokens: Sequence[str]) -> tuple[list[str], list[str], list[str]]:
    """As written, in lower case, and the beginning of longer words; signs are no words and match nothing."""
    words = [token if any(map(str.isalnum, token)) else "" for token in tokens]
    lower = [word.lower() for word in words]
    return words, lower, [word[:BEGINNING] if len(word) >= BEGINNING else "" for word in lower]


def _nearness(tokens: Sequence[str], words: Sequence[str], asked: np.ndarray) -> np.ndarray:
    """(2, S) weights of the words of the question around each token and in its sentence.

    A word that stands n times in the context weighs log(1 + 1/n) (Richardson et al. 2013, section 5.1).
    """
    counts = Counter(words)
    weights = np.array([math.log1p(1.0 / counts[word]) for word in words]) * asked
    sums = np.concatenate([[0.0], np.cumsum(weights)])
    places_ = np.arange(len(tokens))
    around = sums[np.minimum(places_ + AROUND + 1, len(tokens))] - sums[np.maximum(places_ - AROUND, 0)]
    ends = np.array([token in ENDS for token in tokens], bool)
    sentence = np.concatenate([[0], np.cumsum(ends)[:-1]]) if len(tokens) else np.zeros(0, int)
    totals = np.bincount(sentence.astype(int), weights=weights, minlength=1)
    return np.stack([around, totals[sentence.astype(int)]])


def _ragged(rows: Sequence[np.ndarray], width: int, dtype: Any) -> Ragged:
    values = np.concatenate([np.zeros((0, width), dtype), *rows]).astype(dtype)
    return Ragged(values, offsets_of([len(row) for row in rows]))
