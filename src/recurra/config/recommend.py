"""Settings of a recommendation: which columns are clicks, how sequences are held out, what the network is trained by."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from recurra.config.group import Group, Positive, Text

__all__ = ["RECOMMEND_DEFAULTS", "RECOMMEND_UNUSED", "RecommendSettings"]

RECOMMEND_DEFAULTS: dict[str, Any] = {
    "head.task": "recommend",
    "head.dropout": 0.4,
    "embedding.dropout": 0.4,
    "encoder.cell": "gru",
    "encoder.bidirectional": False,
    "optimizer.name": "adagrad_momentum",
    "optimizer.learning_rate": 0.1,
    "optimizer.momentum": 0.0,
    "optimizer.embedding_factor": 1.0,
    "optimizer.weight_decay": 0.0,
    "schedule.name": "constant",
    "schedule.warmup": 0.0,
    "training.batch_size": 32,
    "training.epochs": 20,
    "training.clip_norm": 0.0,
}
"""What a recommendation sets where the user sets nothing."""
RECOMMEND_UNUSED = (
    "target",
    "text",
    "augmentation",
    "data.types",
    "data.join",
    "data.columns",
    "data.group",
    "data.missing_targets",
    "data.ignore_labels",
    "data.label_separator",
    "embedding.start",
    "embedding.character_ngrams",
    "embedding.token_ngrams",
    "embedding.buckets",
    "embedding.sparse",
    "encoder.pooling",
    "encoder.shared",
    "head.hidden_size",
    "head.class_weights",
    "training.batch_tokens",
)
"""Settings that a recommendation does not read."""


class RecommendSettings(Group):
    """Clicks, their split, and the loss. Defaults are those of the official GRU4Rec where it has the option.

    Source: Hidasi et al. 2016 (session-parallel batches); Hidasi & Karatzoglou 2018 (sampled losses); the option names of
    github.com/hidasib/GRU4Rec_PyTorch_Official, `GRU4Rec.__init__`, are given in brackets.
    """

    session: Text | None = None
    """Column that says which clicks belong together: a session, or a user."""
    item: Text | None = None
    """Column of what was clicked, bought or played."""
    split: Literal["time", "leave_one_out"] = "time"
    """time: the latest clicks of all are held out, at one moment for everybody. leave_one_out: of each sequence of three clicks
    or more the last click is the test and the one before it the validation. Files that are given take the place of either; every
    click but the first of their sessions is asked for (leave_one_out: the last one of each)."""
    window: Positive = 8
    """Steps of a batch: back-propagation through time ends at its edge, the state is carried over it."""
    loss: Literal["cross_entropy", "bpr_max", "top1_max"] = "cross_entropy"
    """cross_entropy: softmax over the items. bpr_max and top1_max: pairwise, weighted by the softmax of the negatives [loss]."""
    negatives: Positive | Literal["all"] = 2_048
    """Items drawn for a batch, besides its own answers, that every answer of it is compared with; all: every item [n_sample]."""
    alpha: Annotated[float, Field(ge=0.0, le=2.0)] = 0.5
    """Negatives are drawn by the number of an item's clicks to this power; 0 draws all items alike [sample_alpha]."""
    logq: Annotated[float, Field(ge=0.0, le=1.0)] = 1.0
    """Share of the correction for how probably an item is among the negatives: with 1 the sampled softmax estimates the full
    one without bias, with 0 popular items are pushed down [logq; 0 there]. Of cross_entropy alone."""
    regularization: Annotated[float, Field(ge=0.0)] = 1.0
    """Weight of the squared scores of the negatives. Of bpr_max alone [bpreg]."""
    elu: Annotated[float, Field(ge=0.0)] = 0.5
    """Scores pass an ELU with this alpha; 0 leaves them as they are. Of bpr_max alone [elu_param]."""
    tied: bool = True
    """Items are read and scored by the same vectors [constrained_embedding]."""
    bias: bool = True
    """Each item's score has a number of its own."""
    repeats: bool = True
    """Learn how much more or less probable an item is that the session already holds, by how many clicks ago that was."""
    time_gaps: bool = False
    """The network also reads the time since the click before, in powers of two of the column's unit (of dates a microsecond)."""
    attributes: list[Text] = []
    """Columns of an item's properties (a category, a brand): the vectors of their values are added to the item's own."""

    @model_validator(mode="after")
    def _together(self) -> RecommendSettings:
        defaults = {name: field.default for name, field in type(self).model_fields.items()}
        for names, idle, reason in (
            (("alpha", "logq"), self.negatives == "all", "recommend.negatives=all"),
            (("logq",), self.loss != "cross_entropy", f"recommend.loss={self.loss}"),
            (("regularization", "elu"), self.loss != "bpr_max", f"recommend.loss={self.loss}"),
        ):
            for name in names:
                if idle and getattr(self, name) != defaults[name]:
                    raise ValueError(f"recommend.{name} has no effect with {reason}: leave it out")
        return self
