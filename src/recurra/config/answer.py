"""Settings of answers: which columns hold question, context and answer, how a context is read, and when there is no answer."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from recurra.config.group import Group, Positive, Text

__all__ = ["ANSWER_DEFAULTS", "ANSWER_UNUSED", "AnswerSettings", "HoldOut"]

HoldOut = Literal["contexts", "questions"]


class AnswerSettings(Group):
    """The span of a context that answers a question, or none. Naming any of these makes the task answer."""

    question: Text = "question"
    """Column of questions."""
    context: Text = "context"
    """Column of the texts in which the answers stand."""
    span: Text | None = None
    """Column of where an answer stands: its first character and the one after its last, or its first alone. When not given, the
    column `span` or `answer_start`, where there is one; else the answer is looked for in its context."""
    no_answer: Text | None = None
    """What stands in the column of answers where the context has none. A missing or empty answer always means none. A context that
    ends with it is read without it."""
    hold_out: HoldOut = "contexts"
    """Which rows stay on one side of the split, where no files are given: all questions about one context, or all contexts of which one
    question is asked. questions: for a model that will be asked others than it has learnt."""
    cut: Literal["auto", "whitespace", "word", "character"] = "auto"
    """How texts are cut into tokens, at whose edges answers begin and end: at blanks; words and single signs; every character that is no
    blank. auto: characters for mostly Chinese, Japanese, Korean or Thai contexts, else words."""
    longest_answer: Positive = 30
    """Tokens of the longest answer that is given."""
    window: Positive = 400
    """Tokens of a context that are read at once; a longer one is read in windows."""
    stride: Positive | Literal["auto"] = "auto"
    """Tokens from the start of one window to the start of the next; auto: half a window."""
    matches: bool = True
    """The network sees which words of the context stand in the question, and the other way round: as written, in lower case, and with the
    same beginning (Chen et al. 2017, section 3.2); and how many of them stand around each word and in its sentence."""
    aligned: bool = True
    """Each word of the context is read beside the words of the question that are like it (Chen et al. 2017, section 3.2)."""
    attention: bool = True
    """Context and question attend to each other after they were read, and the context is read once more (Seo et al. 2017)."""
    lengths: bool = True
    """The score of an answer has a part learnt for its number of tokens."""
    choose: Literal["probable", "overlap"] = "overlap"
    """probable: the most probable answer. overlap: the one that shares most tokens with all probable ones (the largest expected F1)."""
    threshold: Annotated[float, Field(ge=0.0, le=1.0)] | Literal["auto"] = "auto"
    """Probability that there is no answer from which on none is given; auto: fitted on the validation part, so that an answer is expected to
    bring more F1 than it costs. With 1 every question is answered, with 0 none."""

    @model_validator(mode="after")
    def _together(self) -> AnswerSettings:
        if self.stride != "auto" and self.stride > self.window:
            raise ValueError(f"answer.stride={self.stride} would step over text: it must be at most answer.window={self.window}")
        if self.longest_answer > self.window:
            raise ValueError(f"answer.longest_answer={self.longest_answer} must be at most answer.window={self.window}")
        return self


ANSWER_DEFAULTS: dict[str, Any] = {
    "head.task": "answer",
    "head.dropout": 0.3,
    "embedding.size": 100,
    "embedding.dropout": 0.3,
    "encoder.hidden_size": 64,
    "encoder.input_dropout": 0.1,
    "augmentation.word_dropout": 0.05,
    "training.batch_size": 32,
    "training.epochs": 20,
    "training.patience": 5,
}
"""What answers set where the user sets nothing."""
ANSWER_UNUSED = (
    "data.types",
    "data.columns",
    "data.group",
    "data.time",
    "data.missing_targets",
    "data.ignore_labels",
    "data.label_separator",
    "text.tokenizer",
    "text.max_length",
    "encoder.pooling",
    "encoder.shared",
    "head.hidden_size",
    "head.label_smoothing",
    "head.class_weights",
    "augmentation.swap",
    "augmentation.character_noise",
    "evaluation.baseline_rows",
)
"""What answers do not read, beside the groups of other tasks."""
