"""Settings of several outputs of one network: the target columns, and how their losses are weighed."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from recurra.config.group import Group, Text

__all__ = ["SEVERAL_DEFAULTS", "SEVERAL_UNUSED", "SeveralSettings"]


class SeveralSettings(Group):
    """Several targets that one encoder learns together, each with a head of its own. Naming two columns or more makes the task several."""

    targets: list[Text] = []
    """The columns to predict; the same as several --target, or a list as target."""
    tasks: dict[Text, Literal["classify", "labels", "regress", "tag"]] = {}
    """The task by target; inferred where not named."""
    weights: dict[Text, Annotated[float, Field(gt=0.0)]] = {}
    """By target, the factor of its loss in the sum that is learnt; 1 where not named."""

    @model_validator(mode="after")
    def _targets(self) -> SeveralSettings:
        if len(set(self.targets)) < len(self.targets):
            raise ValueError(f"{self.targets} names a column twice: name each target once")
        for group, named in (("tasks", self.tasks), ("weights", self.weights)):
            for name in named:
                if self.targets and name not in self.targets:
                    raise ValueError(f"several.{group} names {name!r}, which is no target: several.targets is {self.targets}")
        return self


SEVERAL_DEFAULTS: dict[str, Any] = {"head.task": "several"}
"""What several outputs set where the user sets nothing; where tags are among them, also what tagging sets."""
SEVERAL_UNUSED = ("data.ignore_labels",)
"""What several outputs do not read, beside the groups of other tasks."""
