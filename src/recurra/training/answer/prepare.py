"""From tables to encoded windows by part, and the vocabulary of the training part."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from recurra.config import Settings
from recurra.config.answer import HoldOut
from recurra.data.cache import cache_key
from recurra.data.questions import Question, Questions
from recurra.errors import EmptyData
from recurra.model.answer.windows import AnswerEncoder, Windows

__all__ = ["PARTS", "PreparedQuestions", "prepare"]

PARTS = ("train", "validation", "test")


@dataclass(frozen=True)
class PreparedQuestions:
    """Questions that are ready to be learnt.

    Attributes:
        settings: of the run.
        encoder: the vocabulary of the training part.
        questions: by part; parts without questions are not there.
        windows: of the same parts.
        fingerprint: hash of the data.
        description: where the training part comes from.
        left_out: rows that cannot be used, by reason.
        overlap: held-out questions whose context also stands in the training part, by part.
    """

    settings: Settings
    encoder: AnswerEncoder
    questions: Mapping[str, list[Question]]
    windows: Mapping[str, Windows]
    fingerprint: str
    description: str
    left_out: Mapping[str, int]
    overlap: Mapping[str, int]

    def count(self, part: str) -> tuple[int, int]:
        """Questions of a part, and those of them without an answer."""
        found = self.questions[part]
        return len(found), sum(not each.answers for each in found)


def prepare(given: Mapping[str, Questions], settings: Settings) -> PreparedQuestions:
    """Split, learn the vocabulary, encode.

    Parts that are not given are shares of the training questions; all about one context are in one part, or all of the same words
    (`answer.hold_out`).

    Args:
        given: questions by part; the training part at least.
        settings: of the run.

    Raises:
        EmptyData: a part has no questions, or no training question has an answer.
    """
    questions = {part: given[part].items for part in PARTS if part in given}
    shares = {"validation": settings.data.validation_share, "test": settings.data.test_share}
    wanted = {part: share for part, share in shares.items() if part not in given}
    parts = _split(questions["train"], wanted, by=settings.answer.hold_out, seed=settings.training.seed)
    questions = {part: found for part in PARTS if (found := {**questions, **parts}.get(part, []))}
    _check(questions, shares, given, by=settings.answer.hold_out)
    train = questions["train"]
    encoder = AnswerEncoder.fit([each.question for each in train], [each.context for each in train], settings)
    windows = {
        part: encoder.encode([each.question for each in some], [each.context for each in some], [each.answers for each in some])
        for part, some in questions.items()
    }
    known = {each.context for each in train}
    left_out: dict[str, int] = {}
    for each in given.values():
        for reason, count in each.left_out.items():
            left_out[reason] = left_out.get(reason, 0) + count
    return PreparedQuestions(
        settings,
        encoder,
        questions,
        windows,
        cache_key({part: each.fingerprint for part, each in given.items()}),
        given["train"].description,
        left_out,
        {part: sum(each.context in known for each in some) for part, some in questions.items() if part != "train"},
    )


def _split(questions: list[Question], shares: Mapping[str, float], *, by: HoldOut, seed: int) -> dict[str, list[Question]]:
    """Contexts (or the words of questions) in a random order, cut by the share of the questions that they hold: test first, training last."""
    alike: dict[str, list[Question]] = {}
    for each in questions:
        alike.setdefault(_group(each, by), []).append(each)
    groups = list(alike.values())
    order = np.random.default_rng(seed).permutation(len(groups)).tolist()
    parts: dict[str, list[Question]] = {part: [] for part in PARTS if part == "train" or shares.get(part)}
    wanted = {part: share * len(questions) for part, share in shares.items()}
    for number in order:
        part = next((name for name in ("test", "validation") if name in parts and len(parts[name]) < wanted[name]), "train")
        parts[part] += groups[number]
    return parts


def _group(question: Question, by: HoldOut) -> str:
    """What questions that stay together have in common."""
    return question.context if by == "contexts" else question.question.casefold()


def _check(questions: Mapping[str, list[Question]], shares: Mapping[str, float], given: Mapping[str, Questions], *, by: HoldOut) -> None:
    for part in PARTS:
        if part not in questions and (part == "train" or part in given or shares[part]):
            groups = len({_group(each, by) for some in questions.values() for each in some})
            raise EmptyData(
                f"The {part} part has no questions: {groups} different {by} are too few to hold any out. Give more, give files for the parts, "
                "or set data.validation_share and data.test_share to 0."
            )
    if not any(each.answers for each in questions["train"]):
        raise EmptyData(
            f"No question of {given['train'].description} has an answer: check the column of answers (--target) and answer.no_answer."
        )
